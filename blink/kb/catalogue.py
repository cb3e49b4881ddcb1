"""The catalogue ``entity.jsonl``: one entity per line, whose 0-based line number is its row.

The file is memory-mapped, and a line is parsed when it is requested. A sidecar file next to the catalogue, written by one scan,
holds the offsets of the lines, the broken lines and the rows of the ids. It is valid for one state of the catalogue (size and
modification time).
"""

from __future__ import annotations

import logging
import mmap
import operator
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from blink.data.ids import wikidata_id
from blink.data.records import Entity
from blink.errors import DataError, MissingFileError
from blink.files import require_file
from blink.kb.catalogue_line import entity_from, id_sort_key, parse_line
from blink.kb.catalogue_scan import Progress, scan_catalogue
from blink.kb.catalogue_sidecar import FileStamp, LineTable, read_sidecar, sidecar_paths, store_sidecar

logger = logging.getLogger(__name__)

_ROWS_FOR_ID_PREFIX = 1000


class Catalogue:
    """The entities of one ``entity.jsonl``, read from disk by row. Use :meth:`open`; reads are thread-safe.

    With ``skip_bad`` a broken line keeps its row, so that rows agree with the vectors. It reads as an entity with the title
    ``""``, :meth:`is_bad` is true for it, and no id maps to it.
    """

    def __init__(self, path: Path, lines: mmap.mmap | bytes, table: LineTable) -> None:
        self._path = path
        self._lines = lines
        self._tables = table
        self._n = len(table.offsets) - 1
        self._bad = (
            frozenset(np.flatnonzero(np.unpackbits(table.bad, count=self._n)).tolist()) if table.problem else frozenset()
        )

    @classmethod
    def open(
        cls, path: str | Path, *, skip_bad: bool = False, sidecar: Path | None = None, progress: Progress | None = None
    ) -> Catalogue:
        """Open a catalogue. The first call, and the first after a change, scans the file and writes the sidecar.

        Args:
            path: ``entity.jsonl``; UTF-8, one JSON object per line with ``title`` and, optionally, ``text``, ``kb_idx``
                (id), ``idx`` (address) and ``aliases``.
            skip_bad: leave the rows of broken lines empty and look up repeated ids on their last line, with a warning.
            sidecar: file for the offsets instead of ``<path>.offsets`` (or the user's cache, if that cannot be written).
            progress: called during the scan.

        Raises:
            MissingFileError: there is no such file.
            DataError: a line is broken or two lines have the same id, and ``skip_bad`` is off.
        """
        path = require_file(path, "give the path of a catalogue (entity.jsonl)")
        sidecars = [sidecar] if sidecar is not None else sidecar_paths(path)
        with _open_to_read(path) as f:
            stamp = FileStamp.of(f)
            stored = (read_sidecar(candidate, stamp) for candidate in sidecars)
            table = next((usable for usable in stored if usable is not None), None)
            if table is None:
                table = store_sidecar(sidecars, scan_catalogue(path, f, skip_bad, progress))
            if table.problem and not skip_bad:
                raise DataError(f"{path}, {table.problem}")
            lines = mmap.mmap(f.fileno(), table.stamp.size, access=mmap.ACCESS_READ) if table.stamp.size else b""
        catalogue = cls(path, lines, table)
        catalogue._warn()
        return catalogue

    def _warn(self) -> None:
        if self._tables.problem:
            counts = f"{self.skipped} broken lines left empty, {self.repeated_ids} repeated ids looked up on their last line"
            logger.warning("%s: %s; the first: %s", self._path, counts, self._tables.problem)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._path

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the file's bytes."""
        return self._tables.sha256

    @property
    def skipped(self) -> int:
        """Number of broken lines whose rows were left empty."""
        return len(self._bad)

    @property
    def bad_rows(self) -> list[int]:
        """Rows of broken lines, ascending."""
        return sorted(self._bad)

    @property
    def repeated_ids(self) -> int:
        """Number of rows whose id is looked up on a later row."""
        return self._tables.repeated_ids

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, row: int) -> Entity:
        """The entity of a row.

        Raises:
            DataError: there is no such row (negative rows included), or the file changed on disk.
        """
        row = self._checked(row)
        return entity_from(row, self._value(row))

    def __iter__(self) -> Iterator[Entity]:
        return self.iter()

    def iter(self, start: int = 0, stop: int | None = None) -> Iterator[Entity]:
        """Yield the entities of rows ``start`` to ``stop`` (excluded; the end by default) in order, empty rows included."""
        stop = self._n if stop is None else min(stop, self._n)
        for row in range(max(start, 0), stop):
            yield entity_from(row, self._value(row))

    def title(self, row: int) -> str:
        """The title of a row; ``""`` for a broken line. Raises as indexing does."""
        title: str = self._value(self._checked(row))["title"]
        return title

    def line(self, row: int) -> bytes:
        """The line of a row as it is in the file, without the line end. Raises as indexing does."""
        row = self._checked(row)
        return self._lines[int(self._tables.offsets[row]) : int(self._tables.offsets[row + 1])].rstrip(b"\r\n")

    def row_of(self, kb_id: str) -> int | None:
        """The row whose ``kb_idx`` is ``kb_id``, or None; ids of Wikidata match in any form, such as ``wd:Q42`` and ``Q42``."""
        if not kb_id:
            return None
        row = self._row_of(kb_id)
        if row is None and (plain := wikidata_id(kb_id)) is not None and (form := self._id_prefix + plain) != kb_id:
            row = self._row_of(form)
        return row

    @cached_property
    def _id_prefix(self) -> str:
        """What precedes the ids of Wikidata here; nothing, as a rule."""
        ids = (entity.kb_id for entity in self.iter(stop=_ROWS_FOR_ID_PREFIX) if entity.kb_id)
        forms = ((kb_id, wikidata_id(kb_id)) for kb_id in ids)
        return next((kb_id.removesuffix(plain) for kb_id, plain in forms if plain is not None and kb_id.endswith(plain)), "")

    def _row_of(self, kb_id: str) -> int | None:
        try:
            key = id_sort_key(kb_id)
        except UnicodeEncodeError:
            return None
        keys, rows = self._tables.keys, self._tables.rows
        for at in range(int(np.searchsorted(keys, np.int64(key))), len(keys)):
            if keys[at] != key:
                return None
            row = int(rows[at])
            if key >= 0 or self._value(row).get("kb_idx") == kb_id:
                return row
        return None

    def is_bad(self, row: int) -> bool:
        """Whether the line of a row is broken, so that the row is empty."""
        return self._checked(row) in self._bad

    def _checked(self, row: int) -> int:
        row = operator.index(row)
        if not 0 <= row < self._n:
            allowed = f"rows 0 to {self._n - 1} exist" if self._n else "it is empty"
            raise DataError(f"{self._path} has no row {row}: {allowed}; check that ids and catalogue belong together")
        return row

    def _value(self, row: int) -> dict[str, Any]:
        if row in self._bad:
            return {"title": ""}
        offsets = self._tables.offsets
        try:
            return parse_line(self._lines[int(offsets[row]) : int(offsets[row + 1])])
        except ValueError as error:
            if isinstance(self._lines, mmap.mmap) and self._lines.closed:
                raise DataError(f"the catalogue {self._path} was closed; open it again") from error
            raise DataError(f"{self._path} changed on disk since it was opened ({error}); open it again") from error

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._lines, mmap.mmap):
            self._lines.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _open_to_read(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
