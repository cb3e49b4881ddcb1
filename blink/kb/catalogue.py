"""The catalogue ``entity.jsonl``: one entity per line, whose 0-based line number is its row.

The file is memory-mapped, and a line is parsed when it is requested. A sidecar file next to the catalogue, written by one scan,
holds the offsets of the lines, the broken lines and the rows of the ids. It is valid for one state of the catalogue (size and
modification time).
"""

from __future__ import annotations

import logging
import mmap
import operator
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from blink.data.ids import ROW, id_in_system, normal_id
from blink.data.records import Entity
from blink.errors import DataError, MissingFileError
from blink.files import require_file
from blink.input_files import open_file
from blink.kb.catalogue_line import REMOVED_LINE, claims_from, entity_from, id_sort_key, parse_line
from blink.kb.catalogue_scan import Progress, scan_catalogue
from blink.kb.catalogue_sidecar import FileStamp, LineTable, read_sidecar, sidecar_paths, store_sidecar

logger = logging.getLogger(__name__)


class Catalogue:
    """The entities of one ``entity.jsonl``, read from disk by row. Use :meth:`open`; reads are thread-safe.

    With ``skip_bad`` a broken line keeps its row, so that rows agree with the vectors. It reads as an entity with the title
    ``""``, :meth:`is_bad` is true for it, and no id maps to it. So does the row of an entity that was removed, always.
    """

    def __init__(self, path: Path, lines: mmap.mmap | bytes, table: LineTable) -> None:
        self._path = path
        self._lines = lines
        self._tables = table
        self._n = len(table.offsets) - 1
        self._bad = frozenset(np.flatnonzero(np.unpackbits(table.bad, count=self._n)).tolist() if table.bad.any() else ())

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        skip_bad: bool = False,
        sidecar: Path | None = None,
        progress: Progress | None = None,
        name: str | None = None,
        warn: bool = True,
        verify: bool = False,
    ) -> Catalogue:
        """Open a catalogue. The first call, and the first after a change, scans the file and writes the sidecar.

        Args:
            path: ``entity.jsonl``; UTF-8, one JSON object per line with ``title`` and, optionally, ``text``, ``kb_idx``
                (id, text or a whole number), ``idx`` (address), ``ids`` (ids by system), and the lists ``aliases``, ``types``
                and ``tags``.
            skip_bad: leave the rows of broken lines empty and look up repeated ids on their last line, with a warning.
            sidecar: file for the offsets instead of ``<path>.offsets`` (or the user's cache, if that cannot be written).
            progress: called during the scan.
            name: what messages call the file; by default its path.
            warn: log what ``skip_bad`` lets pass.
            verify: read all of the sidecar, and scan the catalogue again if it is damaged.

        Raises:
            MissingFileError: there is no such file.
            DataError: it is of another format; or a line is broken or two lines have the same id, and ``skip_bad`` is off.
        """
        path = require_file(path, "give the path of a catalogue (entity.jsonl)")
        sidecars = [sidecar] if sidecar is not None else sidecar_paths(path)
        with _open_to_read(path) as f:
            stamp = FileStamp.of(f)
            stored = (read_sidecar(candidate, stamp, whole=verify) for candidate in sidecars)
            table = next((usable for usable in stored if usable is not None), None)
            if table is None:
                table = store_sidecar(sidecars, scan_catalogue(path, f, skip_bad, progress, name or str(path)))
                for notice in table.notices if warn else ():
                    logger.warning("%s: %s", name or path, notice)
            if table.problem and not skip_bad:
                raise DataError(f"{name or path}, {table.problem}")
            lines = mmap.mmap(f.fileno(), table.stamp.size, access=mmap.ACCESS_READ) if table.stamp.size else b""
        catalogue = cls(path, lines, table)
        if warn:
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
        return len(self._bad) - len(self.removed_rows)

    @cached_property
    def removed_rows(self) -> list[int]:
        """Rows of removed entities, ascending."""
        return [row for row in self.bad_rows if self.line(row).strip() == REMOVED_LINE]

    @cached_property
    def bad_rows(self) -> list[int]:
        """Rows of broken lines and of removed entities, ascending."""
        return sorted(self._bad)

    @property
    def problem(self) -> str | None:
        """The first fault, with its line; None where there is none."""
        return self._tables.problem

    @property
    def repeated_ids(self) -> int:
        """Number of rows whose id is looked up on a later row."""
        return self._tables.repeated_ids

    @property
    def notices(self) -> tuple[str, ...]:
        """What is odd and was accepted, a line each; logged when the file is scanned."""
        return self._tables.notices

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
        """The row that has an id, or None.

        Ids of Wikidata, Wikipedia and Freebase match in any form, such as ``wd:Q42`` and ``Q42``. The entity whose ``kb_idx``
        it is comes first, then those that have it among their ``ids``; of several the last. An id with its system before it
        (``geonames:2988507``) is of that system, and ``row:7`` is row 7.
        """
        return next(self.rows_of(kb_id), None)

    def rows_of(self, kb_id: str) -> Iterator[int]:
        """All rows that have an id, in the order in which `row_of` prefers them."""
        normal = normal_id(kb_id)
        yield from self._rows_with(normal, lambda value: any(of == normal for of, _ in claims_from(value)), exact=True)
        system, colon, rest = kb_id.partition(":")
        if colon and system == ROW and rest.isascii() and rest.isdigit():
            row = int(rest[:20])
            yield from [row] if row < self._n and row not in self._bad else []
        elif colon and (of_system := id_in_system(system, rest)) is not None:
            pair = (system.casefold(), of_system)
            has_pair = lambda value: any((key.casefold(), of) == pair for key, of in entity_from(0, value).ids)  # noqa: E731
            yield from self._rows_with(normal_id(of_system), has_pair)

    def _rows_with(self, normal: str, has_id: Callable[[dict[str, Any]], bool], *, exact: bool = False) -> Iterator[int]:
        """Rows by the key of an id. ``exact``: a key that is no hash says all."""
        try:
            key = id_sort_key(normal) if normal else None
        except UnicodeEncodeError:
            key = None
        if key is None:
            return
        keys, at = self._tables.keys, int(np.searchsorted(self._tables.keys, np.int64(key)))
        claimed = []
        while at < len(keys) and int(keys[at]) == key:  # few entities share an id: faster than a second search
            claimed.append(int(self._tables.rows[at]))
            at += 1
        for row in (x >> 1 for x in sorted(claimed, key=lambda x: (x & 1, x), reverse=True)):
            if (exact and key >= 0) or has_id(self._value(row)):
                yield row

    def is_bad(self, row: int) -> bool:
        """Whether a row is empty, since its line is broken or its entity was removed."""
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
        return open_file(path)
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
