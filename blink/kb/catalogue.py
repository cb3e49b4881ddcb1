"""The catalogue ``entity.jsonl``: one entity a line, whose 0-based line number is the row used everywhere.

The file stays on disk and is memory-mapped; a line is parsed when it is asked for. Where the lines begin, which of them
are broken and which row carries which id stand in a sidecar file beside the catalogue, made by one pass over it. The
sidecar belongs to one state of one catalogue (size and time of change), so two catalogues never share titles.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import operator
import os
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from blink.data.records import Entity
from blink.errors import DataError, MissingFileError
from blink.files import atomic_open, require_file

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes in all) while a catalogue is scanned."""

SIDECAR_SUFFIX = ".offsets"
_MAGIC = b"BLINKCAT"
_FORMAT = 1
_PREFIX = struct.Struct("<8sII")  # magic, length of the JSON header, its CRC-32
_ALIGN = 64
_BLOCK_BYTES = 4 << 20
_LONGEST_LINE_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_MEND = "mend the line, or pass --skip-bad to leave its row empty"


# --- one line -------------------------------------------------------------------------------------------------------


def _parse(line: bytes) -> dict[str, Any]:
    """The object on a line of the catalogue.

    Raises:
        ValueError: the line is broken; the message says what was found.
    """
    if not line.strip():
        raise ValueError("the line is blank")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1} of the line)") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    except (RecursionError, ValueError) as error:  # brackets too deep, or a number of thousands of digits
        raise ValueError("not JSON that can be read (nested too deep, or a number too long)") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    _check(value)
    if b"\\ud" in line or b"\\uD" in line:
        _check_encodable(value)
    return value


def _check(value: dict[str, Any]) -> None:
    title = value.get("title")
    if not isinstance(title, str):
        raise ValueError("no 'title'" if title is None else f"'title' is {type(title).__name__}, not text")
    if not title or title.isspace():
        raise ValueError("'title' is empty")
    for key in ("text", "kb_idx"):
        found = value.get(key)
        if found is not None and not isinstance(found, str):
            raise ValueError(f"{key!r} is {type(found).__name__}, not text")


def _check_encodable(value: dict[str, Any]) -> None:
    """Half of a surrogate pair, written as an escape, is JSON but no text: it could not be tokenised or printed."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair in an escape") from error


def _entity(row: int, value: dict[str, Any]) -> Entity:
    url, aliases = value.get("idx"), value.get("aliases")
    named = isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases)
    return Entity(
        row=row,
        title=value["title"],
        text=(value.get("text") or "").strip(),
        kb_id=value.get("kb_idx") or None,
        url=url if isinstance(url, str) and url else None,
        aliases=tuple(aliases) if isinstance(aliases, list) and named else (),
    )


def _id_key(kb_id: str) -> int:
    """The sort key of an id: the number of ``Q<number>``, which is its own; a negative hash for any other spelling."""
    digits = kb_id[1:]
    if kb_id[0] == "Q" and len(digits) <= 18 and digits.isascii() and digits.isdigit() and digits[0] != "0":
        return int(digits)
    digest = hashlib.blake2b(kb_id.encode("utf-8"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "little") >> 1)


# --- what the sidecar holds -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stamp:
    """One state of the catalogue file."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, handle: IO[bytes]) -> _Stamp:
        status = os.fstat(handle.fileno())
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class _Tables:
    """All that one pass over a catalogue finds out.

    Attributes:
        stamp: the state of the file that was read.
        sha256: hex digest of the catalogue.
        problem: first thing wrong with it, or None; said again when it is opened without ``skip_bad``.
        repeated_ids: rows that lost their id to a later row.
        offsets: where each line begins; the last entry is the end of the last line. *Shape:* (n + 1,), uint64.
        bad: one bit a row, set for broken lines. *Shape:* (ceil(n / 8),), uint8.
        keys: sort keys of the ids, ascending. *Shape:* (ids,), int64.
        rows: row of each key. *Shape:* (ids,), int64.
    """

    stamp: _Stamp
    sha256: str
    problem: str | None
    repeated_ids: int
    offsets: npt.NDArray[np.uint64]
    bad: npt.NDArray[np.uint8]
    keys: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


# --- the sidecar file -----------------------------------------------------------------------------------------------

_ARRAYS = {"offsets": "<u8", "bad": "|u1", "keys": "<i8", "rows": "<i8"}


def _aligned(position: int) -> int:
    return -(-position // _ALIGN) * _ALIGN


def _write_sidecar(path: Path, tables: _Tables) -> None:
    """Write the tables atomically: a prefix, a JSON header, then the raw arrays, each at a multiple of 64 bytes."""
    body, crc = [], 0
    for name, dtype in _ARRAYS.items():
        values = np.ascontiguousarray(getattr(tables, name), dtype=dtype)
        raw = values.view(np.uint8)
        crc = zlib.crc32(raw.data, crc)
        body.append(raw)
    header = json.dumps(
        {
            "format": _FORMAT,
            "size": tables.stamp.size,
            "mtime_ns": tables.stamp.mtime_ns,
            "sha256": tables.sha256,
            "problem": tables.problem,
            "repeated_ids": tables.repeated_ids,
            "bytes": {name: raw.nbytes for name, raw in zip(_ARRAYS, body, strict=True)},
            "crc32": crc,
        }
    ).encode("ascii")
    with atomic_open(path, "wb") as f:
        f.write(_PREFIX.pack(_MAGIC, len(header), zlib.crc32(header)))
        f.write(header)
        for raw in body:
            f.write(b"\0" * (_aligned(f.tell()) - f.tell()))
            f.write(raw.data)


def _read_sidecar(path: Path, stamp: _Stamp) -> _Tables | None:
    """Map a sidecar, or return None where there is none, or it is damaged or of another state of the catalogue."""
    try:
        with path.open("rb") as f:
            raw = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
        return _map_tables(raw, stamp)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        logger.info("%s is not usable (%s); it is made again", path, error)
        return None


def _map_tables(raw: memoryview, stamp: _Stamp) -> _Tables | None:
    magic, length, crc = _PREFIX.unpack_from(raw)
    text = raw[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or len(text) != length or zlib.crc32(text) != crc:
        raise ValueError("its header is damaged")
    header = json.loads(bytes(text))
    if header["format"] != _FORMAT or _Stamp(header["size"], header["mtime_ns"]) != stamp:
        return None
    arrays, position, crc = {}, _PREFIX.size + length, 0
    for name, dtype in _ARRAYS.items():
        begin = _aligned(position)
        position = begin + header["bytes"][name]
        part = raw[begin:position]
        if len(part) != header["bytes"][name]:
            raise ValueError("it is cut short")
        crc = zlib.crc32(part, crc)
        arrays[name] = np.frombuffer(part, dtype=dtype)
    if crc != header["crc32"]:
        raise ValueError("its checksum differs")
    return _Tables(stamp, header["sha256"], header["problem"], header["repeated_ids"], **arrays)


def _sidecar_places(path: Path) -> list[Path]:
    """Where the sidecar of a catalogue may lie: beside it, or in the user's cache if that folder cannot be written."""
    resolved = path.resolve()
    places = [resolved.with_name(resolved.name + SIDECAR_SUFFIX)]
    with contextlib.suppress(RuntimeError):  # no home folder
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blink" / "catalogues"
        name = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:32]
        places.append(cache / f"{name}-{resolved.name}{SIDECAR_SUFFIX}")
    return places


def _store_sidecar(places: list[Path], tables: _Tables) -> _Tables:
    """Write the sidecar to the first place that takes it, and return it mapped; where none does, keep the arrays."""
    for place in places:
        try:
            if place is not places[0]:
                place.parent.mkdir(parents=True, exist_ok=True)
            _write_sidecar(place, tables)
        except OSError as error:
            logger.info("cannot write %s (%s)", place, error)
        else:
            return _read_sidecar(place, tables.stamp) or tables
    logger.warning("cannot write %s nor a copy in the cache; the catalogue is scanned anew at each start", places[0])
    return tables


# --- the pass over the file -----------------------------------------------------------------------------------------


@dataclass
class _Scan:
    """One pass over a catalogue, line by line.

    Blank lines count as broken only once a line with content follows them: those at the end belong to no row.
    """

    path: Path
    skip_bad: bool
    starts: array[int] = field(default_factory=lambda: array("Q"))
    end: int = 0
    blank: int = 0
    bad: list[int] = field(default_factory=list)
    keys: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    problem: str | None = None

    def add_block(self, block: bytes, position: int) -> None:
        """Take in whole lines; ``position`` is the place of the block in the file."""
        first = len(self.starts)
        ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 0x0A).astype(np.uint64) + np.uint64(position + 1)
        self.starts.append(position)
        self.starts.frombytes(ends.tobytes())
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
            self.starts.pop()
        for row, line in enumerate(lines, first):
            try:
                kb_id = _parse(line).get("kb_idx")
            except ValueError as error:
                self._refuse(row, line, str(error))
                continue
            if self.blank:
                self._end_of_blank(row)
            if kb_id:
                self.keys.append(_id_key(kb_id))
                self.rows.append(row)
        self.end = position + len(block)

    def _refuse(self, row: int, line: bytes, found: str) -> None:
        if not line.strip():
            self.blank += 1
            return
        if self.blank:
            self._end_of_blank(row)
        self._note_bad(row, found)

    def _end_of_blank(self, row: int) -> None:
        for blank in range(row - self.blank, row):
            self._note_bad(blank, "the line is blank")
        self.blank = 0

    def _note_bad(self, row: int, found: str) -> None:
        message = f"line {row + 1}: {found}; {_MEND}"
        if not self.skip_bad:
            raise DataError(f"{self.path}, {message}")
        self.bad.append(row)
        self.problem = self.problem or message

    def offsets(self) -> npt.NDArray[np.uint64]:
        """Begin of every line and the end of the last, blank lines at the end of the file left out."""
        self.starts.append(self.end)
        return np.frombuffer(self.starts, dtype=np.uint64)[: len(self.starts) - self.blank]


def _blocks(f: IO[bytes], path: Path) -> Iterator[bytes]:
    """Blocks of whole lines.

    Raises:
        DataError: a line goes on for 64 MiB; such a file is not one object a line.
    """
    while block := f.read(_BLOCK_BYTES):
        if not block.endswith(b"\n"):
            rest = f.readline(_LONGEST_LINE_BYTES)
            if len(rest) == _LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
                limit = f"a line is longer than {_LONGEST_LINE_BYTES >> 20} MiB"
                raise DataError(f"{path}: {limit}; a catalogue holds one JSON object a line, write it so")
            block += rest
        yield block


def _scan(path: Path, f: IO[bytes], skip_bad: bool, progress: Progress | None) -> _Tables:
    """Read the whole catalogue once: check every line, note where it begins and its id, hash the bytes."""
    stamp, scan, digest, position = _Stamp.of(f), _Scan(path, skip_bad), hashlib.sha256(), 0
    for block in _blocks(f, path):
        digest.update(block)
        mark = len(_BOM) if position == 0 and block.startswith(_BOM) else 0
        scan.add_block(block[mark:], position + mark)
        position += len(block)
        if position > stamp.size:
            break  # it grows while it is read
        if progress:
            progress(position, stamp.size)
    if _Stamp.of(f) != stamp or position != stamp.size:
        raise DataError(f"{path} changed while it was read; open it again when it is written")
    offsets = scan.offsets()
    bad = np.zeros(len(offsets) - 1, dtype=bool)
    bad[scan.bad] = True
    keys, rows, lost = _sorted_ids(scan, f, offsets)
    problem = scan.problem
    if lost:
        one, other = min(lost, key=operator.itemgetter(1))
        kb_id = _parse(_line_at(f, offsets, other))["kb_idx"]
        repeated = f"line {other + 1}: kb_idx {kb_id!r} already stands on line {one + 1}"
        message = f"{repeated}; keep one of them, or pass --skip-bad to look it up on its last line"
        if not skip_bad:
            raise DataError(f"{path}, {message}")
        problem = problem or message
    return _Tables(stamp, digest.hexdigest(), problem, len(lost), offsets, np.packbits(bad), keys, rows)


def _line_at(f: IO[bytes], offsets: npt.NDArray[np.uint64], row: int) -> bytes:
    begin, end = int(offsets[row]), int(offsets[row + 1])
    f.seek(begin)
    return f.read(end - begin)


def _sorted_ids(
    scan: _Scan, f: IO[bytes], offsets: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Sort the ids for look-up, and keep of a repeated id the last row only.

    Returns:
        sort keys and rows. *Shape:* (ids,), and for every row that lost its id (that row, the next row with the id).
    """
    keys, rows = np.frombuffer(scan.keys, dtype=np.int64), np.frombuffer(scan.rows, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    keep = np.ones(len(keys), dtype=bool)
    lost: list[tuple[int, int]] = []
    for at in np.flatnonzero(keys[1:] == keys[:-1]).tolist():
        heir = at + 1 if keys[at] >= 0 else _same_hashed_id(f, offsets, keys, rows, at)
        if heir is not None:
            keep[at] = False
            lost.append((int(rows[at]), int(rows[heir])))
    return keys[keep], rows[keep], lost


def _same_hashed_id(
    f: IO[bytes], offsets: npt.NDArray[np.uint64], keys: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], at: int
) -> int | None:
    """The next entry with the same id as entry ``at``: equal hashes may come from different ids."""
    kb_id = _parse(_line_at(f, offsets, int(rows[at])))["kb_idx"]
    for other in range(at + 1, len(keys)):
        if keys[other] != keys[at]:
            return None
        if _parse(_line_at(f, offsets, int(rows[other])))["kb_idx"] == kb_id:
            return other
    return None


# --- the catalogue --------------------------------------------------------------------------------------------------


class Catalogue:
    """The entities of one ``entity.jsonl``, read from disk by row. Made by :meth:`open`; reads are thread-safe.

    With ``skip_bad`` a broken line keeps its row number, so that rows still agree with the vectors; it reads as an
    entity with the title ``""``, :meth:`is_bad` is true for it, and no id leads to it.
    """

    def __init__(self, path: Path, lines: mmap.mmap | bytes, tables: _Tables) -> None:
        self._path = path
        self._lines = lines
        self._tables = tables
        self._n = len(tables.offsets) - 1
        self._bad = (
            frozenset(np.flatnonzero(np.unpackbits(tables.bad, count=self._n)).tolist()) if tables.problem else frozenset()
        )

    @classmethod
    def open(
        cls, path: str | Path, *, skip_bad: bool = False, sidecar: Path | None = None, progress: Progress | None = None
    ) -> Catalogue:
        """Open a catalogue; the first time, or after it changed, this reads all of it and writes the sidecar.

        Args:
            path: ``entity.jsonl``; UTF-8, one JSON object a line with ``title`` and, optionally, ``text``, ``kb_idx``
                (id), ``idx`` (address) and ``aliases``.
            skip_bad: leave the rows of broken lines empty and look up repeated ids on their last line, with a warning.
            sidecar: file for the offsets instead of ``<path>.offsets`` (or the user's cache, if that cannot be written).
            progress: called during the first pass.

        Raises:
            MissingFileError: there is no such file.
            DataError: a line is broken or an id stands on two lines, and ``skip_bad`` is off.
        """
        path = require_file(path, "give the path of a catalogue (entity.jsonl)")
        places = [sidecar] if sidecar is not None else _sidecar_places(path)
        with _open_to_read(path) as f:
            stamp = _Stamp.of(f)
            found = (_read_sidecar(place, stamp) for place in places)
            tables = next((each for each in found if each is not None), None)
            if tables is None:
                tables = _store_sidecar(places, _scan(path, f, skip_bad, progress))
            if tables.problem and not skip_bad:
                raise DataError(f"{path}, {tables.problem}")
            lines = mmap.mmap(f.fileno(), tables.stamp.size, access=mmap.ACCESS_READ) if tables.stamp.size else b""
        catalogue = cls(path, lines, tables)
        catalogue._warn()
        return catalogue

    def _warn(self) -> None:
        if self._tables.problem:
            counts = f"{self.skipped} broken lines left empty, {self.repeated_ids} repeated ids looked up on their last line"
            logger.warning("%s: %s; the first: %s", self._path, counts, self._tables.problem)

    @property
    def path(self) -> Path:
        """The file."""
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
        return _entity(row, self._value(row))

    def __iter__(self) -> Iterator[Entity]:
        return self.iter()

    def iter(self, start: int = 0, stop: int | None = None) -> Iterator[Entity]:
        """Yield the entities of rows ``start`` to ``stop`` (excluded; the end by default) in order, empty rows included."""
        stop = self._n if stop is None else min(stop, self._n)
        for row in range(max(start, 0), stop):
            yield _entity(row, self._value(row))

    def title(self, row: int) -> str:
        """The title of a row; ``""`` for a broken line. Raises as indexing does."""
        title: str = self._value(self._checked(row))["title"]
        return title

    def row_of(self, kb_id: str) -> int | None:
        """The row whose ``kb_idx`` is ``kb_id``, or None."""
        if not kb_id:
            return None
        try:
            key = _id_key(kb_id)
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
            return _parse(self._lines[int(offsets[row]) : int(offsets[row + 1])])
        except ValueError as error:
            if isinstance(self._lines, mmap.mmap) and self._lines.closed:
                raise DataError(f"the catalogue {self._path} was closed; open it again") from error
            raise DataError(f"{self._path} changed on disk since it was opened ({error}); open it again") from error

    def close(self) -> None:
        """Let go of the file."""
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
