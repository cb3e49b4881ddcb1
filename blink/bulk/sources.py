"""Inputs of a bulk run, plain or compressed: read line by line in chunks, from any position on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.decompression import BUFFER_BYTES, DAMAGE, decompressed
from blink.errors import DataError, MismatchError, MissingFileError
from blink.files import sample_hash
from blink.input_files import open_file, stream_fault
from blink.limits import exceeded, limit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
CHUNK_LINES = 256
CHUNK_BYTES = 1 << 17
"""A chunk has at most `CHUNK_LINES` lines, and ends with the line that makes it larger than this."""
_BLOCK_BYTES = 1 << 20
_REMEDY = "give a file of texts or of JSON objects, one a line"


@dataclass(frozen=True)
class Input:
    """A file as it was when the run began, or some lines of it.

    Attributes:
        path: absolute path, or ``-`` for standard input.
        size: bytes; None where they are unknown, as of a pipe.
        sample: `blink.files.sample_hash` of it; empty for what is no regular file.
        start: lines before the first.
        end: number of the last line; None for the end of the file.
        offset: bytes before the first line, decompressed.
    """

    path: str
    size: int | None
    sample: str
    start: int = 0
    end: int | None = None
    offset: int = 0

    @classmethod
    def of(cls, file: str) -> Input:
        """Look at a file.

        Raises:
            MissingFileError: there is no such file.
        """
        if file == STDIN:
            return cls(STDIN, None, "")
        path = Path(file)
        if (fault := stream_fault(path)) is not None:
            raise MissingFileError(f"{file} {fault}; {_REMEDY}")
        regular = path.is_file()
        size = path.stat().st_size if regular else None
        return cls(str(path.resolve()), size, sample_hash(path) if regular else "")

    @property
    def name(self) -> str:
        """The path as text, or ``standard input``."""
        return "standard input" if self.path == STDIN else self.path.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Position:
    """How far the inputs are worked off.

    Attributes:
        file: number of the input, from 0.
        line: lines of the file that are behind.
        offset: bytes of the input that are behind, decompressed.
        digest: SHA-256 of these bytes.
        stored: bytes of the file behind, as it is stored (compressed), for the progress alone.
    """

    file: int = 0
    line: int = 0
    offset: int = 0
    digest: str = hashlib.sha256().hexdigest()
    stored: int = 0


BEGINNING = Position()


@dataclass(frozen=True)
class Chunk:
    """Lines that are worked off together; where chunks end follows from the input alone.

    Attributes:
        file: number of the input.
        first_line: number of the first line, from 1.
        lines: with their ends; None for one longer than the limit ``line`` of `blink.limits`.
        end: position behind the chunk.
    """

    file: int
    first_line: int
    lines: tuple[bytes | None, ...]
    end: Position


def read_chunks(
    inputs: Sequence[Input],
    start: Position = BEGINNING,
    *,
    chunk_lines: int | None = None,
) -> Iterator[Chunk]:
    """The chunks of several inputs, one input after the other.

    Args:
        inputs: the inputs.
        start: where to begin, which must be where a chunk ended.
        chunk_lines: most lines of a chunk; by default `CHUNK_LINES`.

    Raises:
        MismatchError: the bytes before ``start`` are not those that were read before.
        DataError: a compressed file is damaged or cut off. The chunks before that were yielded.
    """
    for number in range(start.file, len(inputs)):
        begin = start if number == start.file and start.offset else Position(file=number, line=inputs[number].start)
        with _LineReader(inputs[number], begin) as reader:
            yield from reader.chunks(chunk_lines or CHUNK_LINES)


class _LineReader:
    """The lines of one input behind a position."""

    def __init__(self, source: Input, start: Position) -> None:
        self._source, self._start = source, start
        self._line, self._offset, self._digest = start.line, start.offset, hashlib.sha256()

    def __enter__(self) -> _LineReader:
        path = self._source.path
        stored = sys.stdin.buffer if path == STDIN else open_file(path, _REMEDY, streams=True, buffering=0)
        self._raw = _Counted(stored)
        self._plain = io.BufferedReader(self._raw, BUFFER_BYTES)
        self._stream = decompressed(self._plain, self._source.name)
        self._go_to_start()
        self._skip()
        return self

    def __exit__(self, *error: object) -> None:
        if self._source.path != STDIN:
            self._stream.close()
            self._raw.close()

    def _go_to_start(self) -> None:
        """Go to the first line of the input."""
        left = self._source.offset
        if left and self._stream is self._plain and self._source.size is not None:
            self._plain.seek(left)
            return
        with self._damage_named():
            while left and (block := self._stream.read(min(left, _BLOCK_BYTES))):
                left -= len(block)

    def _skip(self) -> None:
        """Read what is behind already, and check that it is the same."""
        left = self._start.offset
        with self._damage_named():
            while left and (block := self._stream.read(min(left, _BLOCK_BYTES))):
                self._digest.update(block)
                left -= len(block)
        if self._digest.hexdigest() != self._start.digest:
            raise MismatchError(
                f"the first {self._start.line:,} lines of {self._source.name} are not those that were linked before; "
                "give the same input, or another --out to link this one"
            )

    def chunks(self, chunk_lines: int) -> Iterator[Chunk]:
        """The chunks behind the position."""
        lines: list[bytes | None] = []
        n_bytes, failure = 0, None
        while True:
            line: bytes | None = b""
            if self._source.end is None or self._line < self._source.end:
                try:
                    with self._damage_named():
                        line = self._next_line()
                except DataError as error:
                    failure = error
            if line != b"":
                lines.append(line)
                n_bytes += len(line or b"")
            if lines and (line == b"" or len(lines) == chunk_lines or n_bytes >= CHUNK_BYTES):
                yield Chunk(self._start.file, self._line - len(lines) + 1, tuple(lines), self._position())
                lines, n_bytes = [], 0
            if failure is not None:
                raise failure
            if line == b"":
                return

    def _position(self) -> Position:
        stored = self._offset if self._stream is self._plain else self._raw.count
        return Position(self._start.file, self._line, self._offset, self._digest.hexdigest(), stored)

    def _next_line(self) -> bytes | None:
        """The next line; empty at the end, None for one that is too long."""
        most = limit("line")
        line = self._stream.readline(most + 1)
        self._consume(line)
        too_long = len(line) > most
        rest, end = line if too_long else b"", self._offset + limit("document")
        while rest and not rest.endswith(b"\n"):
            rest = self._stream.readline(_BLOCK_BYTES)
            self._consume(rest)
            if self._offset > end:  # what has no line ends may have no end
                raise DataError(
                    f"{self._source.name}, line {self._line + 1}: {exceeded('line')}, and no end; give one text a line"
                )
        self._line += bool(line)
        return None if too_long else line

    def _consume(self, content: bytes) -> None:
        self._digest.update(content)
        self._offset += len(content)

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            fault = f"{self._source.name} is damaged or cut off behind line {self._line:,} ({error})"
            raise DataError(f"{fault}; get the file again; what was linked before is kept") from error


class _Counted(io.RawIOBase):
    """A stream that counts the bytes read."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.count = stream, 0
        self._fill = getattr(stream, "readinto1", stream.readinto)  # what a pipe holds now, not all that will come

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        n = int(self._fill(buffer) or 0)
        self.count += n
        return n

    def seekable(self) -> bool:
        return self._stream is not sys.stdin.buffer

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def close(self) -> None:
        if self._stream is not sys.stdin.buffer:
            self._stream.close()
        super().close()
