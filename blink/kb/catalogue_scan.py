"""Scans a catalogue: checks every line, collects offsets and ids, and hashes the bytes."""

from __future__ import annotations

import hashlib
import json
import operator
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from blink.errors import DataError
from blink.kb.catalogue_line import id_sort_key, parse_line
from blink.kb.catalogue_sidecar import FileStamp, LineTable

Progress = Callable[[int, int], None]
"""Called with (bytes read, total bytes) during a scan."""

_BLOCK_BYTES = 4 << 20
_LONGEST_LINE_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_REMEDY = "fix the line, or pass --skip-bad to leave its row empty"


@dataclass
class _LineCollector:
    """Collects offsets, ids and faults of the lines of a catalogue.

    Blank lines are broken only if a line with content follows; those at the end of the file are not rows.
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
                kb_id = parse_line(line).get("kb_idx")
            except ValueError as error:
                self._refuse(row, line, str(error))
                continue
            if self.blank:
                self._end_of_blank(row)
            if kb_id:
                self.keys.append(id_sort_key(kb_id))
                self.rows.append(row)
        self.end = position + len(block)

    def _refuse(self, row: int, line: bytes, fault: str) -> None:
        if not line.strip():
            self.blank += 1
            return
        if self.blank:
            self._end_of_blank(row)
        self._note_bad(row, fault)

    def _end_of_blank(self, row: int) -> None:
        for blank in range(row - self.blank, row):
            self._note_bad(blank, "the line is blank")
        self.blank = 0

    def _note_bad(self, row: int, fault: str) -> None:
        message = f"line {row + 1}: {fault}; {_REMEDY}"
        if not self.skip_bad:
            raise DataError(f"{self.path}, {message}")
        self.bad.append(row)
        self.problem = self.problem or message

    def offsets(self) -> npt.NDArray[np.uint64]:
        """Start of every line and the end of the last, without blank lines at the end of the file."""
        self.starts.append(self.end)
        return np.frombuffer(self.starts, dtype=np.uint64)[: len(self.starts) - self.blank]


def _blocks(f: IO[bytes], path: Path) -> Iterator[bytes]:
    """Blocks of whole lines.

    Raises:
        DataError: a line is longer than 64 MiB.
    """
    while block := f.read(_BLOCK_BYTES):
        if not block.endswith(b"\n"):
            rest = f.readline(_LONGEST_LINE_BYTES)
            if len(rest) == _LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
                limit = f"a line is longer than {_LONGEST_LINE_BYTES >> 20} MiB"
                raise DataError(f"{path}: {limit}; a catalogue holds one JSON object a line, write it so")
            block += rest
        yield block


def scan_catalogue(path: Path, f: IO[bytes], skip_bad: bool, progress: Progress | None) -> LineTable:
    """Read the whole catalogue once: check every line, collect offsets and ids, and hash the bytes.

    Raises:
        DataError: a line is broken or two lines have the same id and ``skip_bad`` is off, or the file changes meanwhile.
    """
    stamp, scan, digest, position = FileStamp.of(f), _LineCollector(path, skip_bad), hashlib.sha256(), 0
    for block in _blocks(f, path):
        digest.update(block)
        bom_bytes = len(_BOM) if position == 0 and block.startswith(_BOM) else 0
        if position == 0 and _begins_array(block[bom_bytes:]):
            remedy = "write each of its objects on a line, as by: jq -c '.[]'"
            raise DataError(f"{path} is one JSON array; a catalogue has one JSON object a line: {remedy}")
        scan.add_block(block[bom_bytes:], position + bom_bytes)
        position += len(block)
        if position > stamp.size:
            break  # the file grows during the scan
        if progress:
            progress(position, stamp.size)
    if FileStamp.of(f) != stamp or position != stamp.size:
        raise DataError(f"{path} changed while it was read; open it again when it is written")
    offsets = scan.offsets()
    bad = np.zeros(len(offsets) - 1, dtype=bool)
    bad[scan.bad] = True
    keys, rows, lost = _sorted_ids(scan, f, offsets)
    problem = scan.problem
    if lost:
        one, other = min(lost, key=operator.itemgetter(1))
        kb_id = parse_line(_line_at(f, offsets, other))["kb_idx"]
        repeated = f"line {other + 1}: kb_idx {kb_id!r} already stands on line {one + 1}"
        message = f"{repeated}; keep one of them, or pass --skip-bad to look it up on its last line"
        if not skip_bad:
            raise DataError(f"{path}, {message}")
        problem = problem or message
    return LineTable(stamp, digest.hexdigest(), problem, len(lost), offsets, np.packbits(bad), keys, rows)


def _begins_array(block: bytes) -> bool:
    """Whether a file begins as one array of objects. A line that is an array of its own is a broken line instead."""
    first, _, others = block.lstrip().partition(b"\n")
    if not re.fullmatch(rb"\[\s*(\{.*)?", first.strip(), re.DOTALL):
        return False
    try:
        json.loads(first)
    except ValueError:
        return True
    return not others.strip()


def _line_at(f: IO[bytes], offsets: npt.NDArray[np.uint64], row: int) -> bytes:
    begin, end = int(offsets[row]), int(offsets[row + 1])
    f.seek(begin)
    return f.read(end - begin)


def _sorted_ids(
    scan: _LineCollector, f: IO[bytes], offsets: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Sort the ids for look-up. Of a repeated id only the last row is kept.

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
    """The next entry with the same id as entry ``at``, since different ids may have equal hashes."""
    kb_id = parse_line(_line_at(f, offsets, int(rows[at])))["kb_idx"]
    for other in range(at + 1, len(keys)):
        if keys[other] != keys[at]:
            return None
        if parse_line(_line_at(f, offsets, int(rows[other])))["kb_idx"] == kb_id:
            return other
    return None
