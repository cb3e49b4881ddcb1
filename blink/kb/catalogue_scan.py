"""Scans a catalogue: checks every line, collects offsets and ids, and hashes the bytes."""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from blink.data.ids import PRIMARY
from blink.errors import DataError
from blink.kb.catalogue_line import REMOVED_LINE, LineLimits, claims_from, id_sort_key, parse_line, unusable
from blink.kb.catalogue_sidecar import FileStamp, LineTable
from blink.kb.sources.formats import ALLOWED, file_format
from blink.limits import exceeded, limit

Progress = Callable[[int, int], None]
"""Called with (bytes read, total bytes) during a scan."""

_BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"
_NO_KEY = np.int64(0)
"""No id has this sort key, since ids of Wikidata begin with Q1."""
_REMEDY = "fix the line, or pass --skip-bad to leave its row empty"
_OTHER_FILE = f"give {ALLOWED}"
"""The remedy where not even one of the first lines is an object: the whole file is something else."""


@dataclass
class _LineCollector:
    """Collects offsets, ids and faults of the lines of a catalogue.

    Blank lines are broken only if a line with content follows; those at the end of the file are not rows.
    """

    name: str
    skip_bad: bool
    remedy: str
    starts: array[int] = field(default_factory=lambda: array("Q"))
    end: int = 0
    blank: int = 0
    bad: list[int] = field(default_factory=list)
    keys: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    problem: str | None = None
    unusable: int = 0
    first_unusable: str = ""
    limits: LineLimits = field(default_factory=LineLimits)

    def add_block(self, block: bytes, position: int) -> None:
        """Add whole lines; ``position`` is the offset of the block in the file."""
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
                value = parse_line(line)
                self.limits.require(value, len(line))
            except ValueError as error:
                self._refuse(row, line, str(error))
                continue
            if self.blank:
                self._end_of_blank(row)
            if faults := unusable(value):
                self.unusable += len(faults)
                self.first_unusable = self.first_unusable or f"line {row + 1}: {faults[0]}"
            for normal, claim in claims_from(value):
                self.keys.append(id_sort_key(normal))
                self.rows.append(row << 1 | claim)
        self.end = position + len(block)

    def _refuse(self, row: int, line: bytes, fault: str) -> None:
        if not line.strip():
            self.blank += 1
            return
        if self.blank:
            self._end_of_blank(row)
        if line.strip() == REMOVED_LINE:
            self.bad.append(row)
        else:
            self._note_bad(row, fault)

    def _end_of_blank(self, row: int) -> None:
        for blank in range(row - self.blank, row):
            self._note_bad(blank, "the line is blank")
        self.blank = 0

    def _note_bad(self, row: int, fault: str) -> None:
        message = f"line {row + 1}: {fault}; {self.remedy}"
        if not self.skip_bad:
            raise DataError(f"{self.name}, {message}")
        self.bad.append(row)
        self.problem = self.problem or message

    def offsets(self) -> npt.NDArray[np.uint64]:
        """Start of every line and the end of the last, without blank lines at the end of the file."""
        self.starts.append(self.end)
        return np.frombuffer(self.starts, dtype=np.uint64)[: len(self.starts) - self.blank]


def _blocks(f: IO[bytes], name: str) -> Iterator[bytes]:
    """Blocks of whole lines.

    Raises:
        DataError: a line is longer than the limit ``line``.
    """
    most, lines = limit("line"), 0
    while block := f.read(_BLOCK_BYTES):
        if not block.endswith(b"\n"):
            block += f.readline(most)
        if len(block) > most and (long := [n for n, line in enumerate(block.split(b"\n"), lines + 1) if len(line) > most]):
            raise DataError(f"{name}, line {long[0]:,}: {exceeded('line')}; a catalogue holds one JSON object a line")
        lines += block.count(b"\n")
        yield block


def scan_catalogue(path: Path, f: IO[bytes], skip_bad: bool, progress: Progress | None, name: str) -> LineTable:
    """Read the whole catalogue once: check every line, collect offsets and ids, and hash the bytes.

    Raises:
        DataError: the file is of another format, or changes meanwhile; a line is broken or two lines have the same id and
            ``skip_bad`` is off.
    """
    written = file_format(path)
    if not written.is_catalogue:
        remedy = f"blink kb build {path} --out DIR writes one to DIR/entity.jsonl"
        raise DataError(f"{name} is {written}; a catalogue has one JSON object a line: {remedy}")
    stamp, digest, position = FileStamp.of(f), hashlib.sha256(), 0
    scan = _LineCollector(name, skip_bad, _REMEDY if written.keys else _OTHER_FILE)
    for block in _blocks(f, name):
        digest.update(block)
        bom_bytes = len(_BOM) if position == 0 and block.startswith(_BOM) else 0
        scan.add_block(block[bom_bytes:], position + bom_bytes)
        position += len(block)
        if position > stamp.size:
            break  # the file grows during the scan
        if progress:
            progress(position, stamp.size)
    if FileStamp.of(f) != stamp or position != stamp.size:
        raise DataError(f"{name} changed while it was read; open it again when it is written")
    offsets = scan.offsets()
    bad = np.zeros(len(offsets) - 1, dtype=bool)
    bad[scan.bad] = True
    table = _sorted_ids(scan, f, offsets)
    problem = scan.problem
    if table.lost:
        one, other = min(table.lost, key=operator.itemgetter(1))
        repeated = f"line {other + 1}: kb_idx {_own_id(f, offsets, other)!r} already stands on line {one + 1}"
        message = f"{repeated}; keep one of them, or pass --skip-bad to look it up on its last line"
        if not skip_bad:
            raise DataError(f"{name}, {message}")
        problem = problem or message
    notices = []
    if scan.unusable:
        what = f"{scan.unusable:,} values were left out, as they are neither text nor whole numbers"
        notices.append(f"{what}; the first: {scan.first_unusable}")
    if table.n_shared:
        what = f"{table.n_shared:,} ids under 'ids' belong to several entities and lead to the one whose kb_idx they are"
        notices.append(f"{what}, else to the last; the first: {table.first_shared(f, offsets)}")
    faults = (problem, len(table.lost), tuple(notices))
    return LineTable(stamp, digest.hexdigest(), *faults, offsets, np.packbits(bad), table.keys, table.rows)


def _line_at(f: IO[bytes], offsets: npt.NDArray[np.uint64], row: int) -> bytes:
    begin, end = int(offsets[row]), int(offsets[row + 1])
    f.seek(begin)
    return f.read(end - begin)


def _own_id(f: IO[bytes], offsets: npt.NDArray[np.uint64], row: int) -> str:
    """The ``kb_idx`` of a row, in normal form."""
    value = parse_line(_line_at(f, offsets, row))
    return next(normal for normal, claim in claims_from(value) if claim == PRIMARY)


@dataclass(frozen=True)
class _SortedIds:
    """The ids of a catalogue, sorted for look-up.

    Attributes:
        keys, rows: see `LineTable`.
        lost: every row that lost its ``kb_idx``, with the next row that has it.
        shared: where in ``keys`` an id stands that another row has too. *Shape:* (n,), int64.
    """

    keys: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    lost: list[tuple[int, int]]
    shared: npt.NDArray[np.int64]

    @property
    def n_shared(self) -> int:
        """Number of ids that several rows have."""
        return len(np.unique(self.keys[self.shared]))

    def first_shared(self, f: IO[bytes], offsets: npt.NDArray[np.uint64]) -> str:
        """The first of them, with its lines."""
        at = self.shared[np.argmin(self.rows[self.shared])]
        rows = np.sort(self.rows[self.keys == self.keys[at]] >> 1).tolist()
        value = parse_line(_line_at(f, offsets, rows[0]))
        name = next((normal for normal, _ in claims_from(value) if id_sort_key(normal) == self.keys[at]), "")
        return f"{name!r} on lines {rows[0] + 1} and {rows[1] + 1}"


def _sorted_ids(scan: _LineCollector, f: IO[bytes], offsets: npt.NDArray[np.uint64]) -> _SortedIds:
    """Sort the ids for look-up, equal ones by row. Of a repeated ``kb_idx`` only the last row is kept."""
    keys, rows = np.frombuffer(scan.keys, dtype=np.int64), np.frombuffer(scan.rows, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    own = np.flatnonzero(rows & 1 == PRIMARY)
    own_keys, own_rows = keys[own], rows[own] >> 1
    keep = np.ones(len(keys), dtype=bool)
    lost: list[tuple[int, int]] = []
    for at in np.flatnonzero(own_keys[1:] == own_keys[:-1]).tolist():
        heir = at + 1 if own_keys[at] >= 0 else _same_hashed_id(f, offsets, own_keys, own_rows, at)
        if heir is not None:
            keep[own[at]] = False
            lost.append((int(own_rows[at]), int(own_rows[heir])))
    keys, rows = keys[keep], rows[keep]
    is_same = np.diff(keys, prepend=_NO_KEY, append=_NO_KEY) == 0
    return _SortedIds(keys, rows, lost, np.flatnonzero(is_same[1:] | is_same[:-1]))


def _same_hashed_id(
    f: IO[bytes], offsets: npt.NDArray[np.uint64], keys: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], at: int
) -> int | None:
    """The next entry with the same id as entry ``at``, since different ids may have equal hashes."""
    kb_id = _own_id(f, offsets, int(rows[at]))
    for other in range(at + 1, len(keys)):
        if keys[other] != keys[at]:
            return None
        if _own_id(f, offsets, int(rows[other])) == kb_id:
            return other
    return None
