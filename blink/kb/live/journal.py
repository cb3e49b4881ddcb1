"""The journal of a knowledge base: a file that only grows, with a transaction on each line.

A line is a checksum of 16 hexadecimal digits, a space and a JSON object. The checksum covers the one of the line before as
well, so that a line which is missing or moved is noticed. The first line is the header: it names the files that the journal
follows. What a killed writer leaves behind is a last line without its end: readers ignore it, and the next writer cuts it off.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blink.errors import DataError, MismatchError, MissingFileError
from blink.files import append_at, atomic_open, sync_folder
from blink.input_files import open_file, read_bytes, require_file
from blink.kb.live.changes import Edit, Transaction

JOURNAL_FILE = "edits.jsonl"
FORMAT = 1
_CHECKSUM_DIGITS = 16
_RESTORE = "restore the journal from a copy"


@dataclass(frozen=True)
class Header:
    """What a journal follows.

    Attributes:
        catalogue: SHA-256 of the catalogue.
        model: fingerprint of the candidate encoder.
        rows: of the files.
        dim: dimension of the vectors.
        after: number of the last transaction that is part of the files; 0 for none.
        format: version of the journal.
    """

    catalogue: str
    model: str
    rows: int
    dim: int
    after: int = 0
    format: int = FORMAT


@dataclass(frozen=True)
class Record:
    """A transaction with the vectors of its entities.

    Attributes:
        transaction: the edits.
        vectors: of the edits that do not remove their entity, in order; None where they are no longer kept. *Shape:*
            (edits, d), float32.
    """

    transaction: Transaction
    vectors: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Position:
    """How far a journal was read.

    Attributes:
        offset: end of the last line that was read.
        last: start of that line.
        checksum: of that line.
        lines: number of lines, the header included.
    """

    offset: int = 0
    last: int = 0
    checksum: str = ""
    lines: int = 0


START = Position()


@dataclass(frozen=True)
class Read:
    """What a reading of a journal gave.

    Attributes:
        records: the new transactions.
        spans: start and end of the line of each.
        position: how far the journal is whole.
        rewound: the lines that were read before are no longer there, and ``records`` begin with the first.
        tail: bytes after ``position`` that are no whole line.
    """

    records: list[Record]
    spans: list[tuple[int, int]]
    position: Position
    rewound: bool = False
    tail: int = 0


_BLOCK_BYTES = 1 << 26


def _content(f: BinaryIO) -> bytes:
    """The rest of a journal, up to a block of zeros: lines hold none, and what did not reach the disk may seem endless."""
    blocks = []
    while block := f.read(_BLOCK_BYTES):
        blocks.append(block)
        if not block.strip(b"\0"):
            break
    return b"".join(blocks)


class Journal:
    """A journal. Who appends holds the lock of the knowledge base; readers need none.

    Args:
        path: its file, which need not exist.
        header: of the files that it must follow.
        any_header: follow whatever files; ``header`` is then that of the journal after it was read.
    """

    def __init__(self, path: Path, header: Header, *, any_header: bool = False) -> None:
        self.path, self.header, self._any_header = path, header, any_header

    def stamp(self) -> tuple[int, int, int] | None:
        """What changes whenever the file does; None where there is no file."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            if self.path.is_symlink():  # the edits are elsewhere, and no longer there
                require_file(self.path, _RESTORE)
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def read(self, position: Position = START) -> Read:
        """Read what was appended after ``position``.

        Raises:
            DataError: a line is damaged.
            MismatchError: the journal follows other files.
        """
        try:
            with open_file(self.path, _RESTORE) as f:
                if position.offset:
                    f.seek(position.last)
                    seen = f.read(position.offset - position.last)
                    if seen[:_CHECKSUM_DIGITS] != position.checksum.encode() or not seen.endswith(b"\n"):
                        f.seek(0)
                        return self._read(_content(f), START, rewound=True)
                return self._read(_content(f), position)
        except MissingFileError:
            if os.path.lexists(self.path):
                raise
            return Read([], [], START, rewound=bool(position.offset))

    def _read(self, content: bytes, position: Position, *, rewound: bool = False) -> Read:
        records, spans, base = list[Record](), list[tuple[int, int]](), position.offset
        start = 0
        while (end := content.find(b"\n", start) + 1) > 0:
            try:
                checksum, value = _checked(content[start:end], position.checksum)
                if position.lines:
                    records.append(record_from(value, self.header.dim))
                    spans.append((base + start, base + end))
                else:
                    self._check_header(value)
            except ValueError as error:
                if base and not rewound and position.offset == base:  # it was written anew while it was read
                    return self._read(read_bytes(self.path, _RESTORE), START, rewound=True)
                fault = f"{self.path}, line {position.lines + 1}: damaged ({error})"
                remedy = f"restore it from a copy, or keep only the lines before: head -n {position.lines}"
                raise DataError(f"{fault}; {remedy}") from error
            position = Position(base + end, base + start, checksum, position.lines + 1)
            start = end
        return Read(records, spans, position, rewound, len(content) - start)

    def _check_header(self, value: dict[str, Any]) -> None:
        if value.get("format") != FORMAT:
            raise MismatchError(f"{self.path} is of another version; install the version of BLINK that wrote it")
        if self._any_header:
            self.header = Header(**value)
        if value != asdict(self.header):
            fault = f"{self.path} holds edits of other files than those beside it"
            raise MismatchError(f"{fault}; restore the files that it belongs to, or move it away")

    def record_at(self, span: tuple[int, int]) -> Record:
        """Read one transaction by the span of its line.

        Raises:
            DataError: it is not there.
        """
        with open_file(self.path, _RESTORE) as f:
            f.seek(span[0])
            line = f.read(span[1] - span[0])
        try:
            return record_from(json.loads(line[_CHECKSUM_DIGITS + 1 :]), self.header.dim)
        except ValueError as error:
            raise DataError(f"{self.path} changed while it was read ({error}); try again") from error

    def append(self, position: Position, records: Sequence[Record]) -> tuple[Position, list[tuple[int, int]]]:
        """Append transactions. They are on the disk when this returns; if it raises, none of them is in the journal.

        Args:
            position: end of the journal; what follows it, left by a writer that was killed, is cut off.
            records: the transactions, all written and synchronized together. A kill may leave the first of them without the
                others.

        Returns:
            the new end, and the span of each line.

        Raises:
            OSError: the disk is full or broken.
        """
        if not position.offset:
            position = self._create()
        lines, spans = bytearray(), []
        end = position
        for record in records:
            line, checksum = _line(_json_of(record), end.checksum)
            lines += line
            end = Position(end.offset + len(line), end.offset, checksum, end.lines + 1)
            spans.append((end.last, end.offset))
        append_at(self.path, position.offset, lines)
        return end, spans

    def _create(self) -> Position:
        line, checksum = _line(asdict(self.header), "")
        with atomic_open(self.path, "wb") as f:
            f.write(line)
        sync_folder(self.path.parent)
        return Position(len(line), 0, checksum, 1)


def write_history(path: Path, header: Header, records: Iterator[Record]) -> None:
    """Write transactions without their vectors as a journal of their own, atomically."""
    with atomic_open(path, "wb") as f:
        line, checksum = _line(asdict(header), "")
        f.write(line)
        for record in records:
            line, checksum = _line(_json_of(Record(record.transaction)), checksum)
            f.write(line)


def _line(value: dict[str, Any], previous: str) -> tuple[bytes, str]:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    checksum = _checksum(previous, content)
    return b"%b %b\n" % (checksum.encode(), content), checksum


def _checksum(previous: str, content: bytes) -> str:
    return hashlib.blake2b(previous.encode() + content, digest_size=_CHECKSUM_DIGITS // 2).hexdigest()


def _checked(line: bytes, previous: str) -> tuple[str, dict[str, Any]]:
    """Checksum and object of a line.

    Raises:
        ValueError: it is not whole, or does not follow the line with the checksum ``previous``.
    """
    checksum, content = line[:_CHECKSUM_DIGITS], line[_CHECKSUM_DIGITS + 1 : -1]
    expected = _checksum(previous, content)
    if checksum != expected.encode() or line[_CHECKSUM_DIGITS : _CHECKSUM_DIGITS + 1] != b" ":
        raise ValueError("its checksum differs")
    return expected, json.loads(content)


def _json_of(record: Record) -> dict[str, Any]:
    transaction = record.transaction
    value: dict[str, Any] = {"number": transaction.number, "time": transaction.time, "kind": transaction.kind}
    value |= {"note": transaction.note} if transaction.note else {}
    value |= {"undoes": list(transaction.undoes)} if transaction.undoes else {}
    value["edits"] = [[edit.row, edit.before, edit.after] for edit in transaction.edits]
    if record.vectors is not None and record.vectors.size:
        value["vectors"] = base64.b64encode(np.ascontiguousarray(record.vectors, dtype="<f4").tobytes()).decode()
    return value


def record_from(value: dict[str, Any], dim: int) -> Record:
    """The transaction of a line's object.

    Raises:
        ValueError: it is not one.
    """
    try:
        edits = tuple(Edit(int(row), before, after) for row, before, after in value["edits"])
        transaction = Transaction(
            value["number"], value["time"], value["kind"], edits, value.get("note", ""), tuple(value.get("undoes", ()))
        )
        stored = value.get("vectors")
        n_entities = sum(edit.after is not None for edit in edits)
        if stored is None:
            return Record(transaction, None if n_entities else np.empty((0, dim), np.float32))
        vectors = np.frombuffer(base64.b64decode(stored, validate=True), dtype="<f4").reshape(n_entities, dim)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"it is no transaction: {error}") from error
    return Record(transaction, vectors.astype(np.float32, copy=False))
