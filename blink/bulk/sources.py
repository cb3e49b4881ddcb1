"""Inputs of a bulk run, plain or compressed: read line by line in chunks, from any position on."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from blink.bulk.records import MAX_LINE_BYTES
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import sample_hash

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
CHUNK_LINES = 256
CHUNK_BYTES = 1 << 17
"""A chunk has at most `CHUNK_LINES` lines, and ends with the line that makes it larger than this."""
_BLOCK_BYTES, _BUFFER_BYTES = 1 << 20, 1 << 16
_ZSTD_BLOCK_BYTES = 1 << 14
"""Compressed bytes that are decompressed at once: what comes of them is in memory, a thousand times as much at worst."""


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
        if path.is_dir() or not path.exists():
            fault = "is a folder, not a file" if path.is_dir() else "does not exist"
            raise MissingFileError(f"{file} {fault}; give a file of texts or of JSON objects, one a line")
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
        lines: with their ends; None for one longer than `MAX_LINE_BYTES`.
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
        self._raw = _Counted(sys.stdin.buffer if path == STDIN else Path(path).open("rb", buffering=0))
        self._plain = io.BufferedReader(self._raw, _BUFFER_BYTES)
        self._stream = decompressed(self._plain)
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
        line = self._stream.readline(MAX_LINE_BYTES + 1)
        self._consume(line)
        too_long = len(line) > MAX_LINE_BYTES
        rest = line if too_long else b""
        while rest and not rest.endswith(b"\n"):
            rest = self._stream.readline(_BLOCK_BYTES)
            self._consume(rest)
        self._line += bool(line)
        return None if too_long else line

    def _consume(self, content: bytes) -> None:
        self._digest.update(content)
        self._offset += len(content)

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError) as error:
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


# -- compression ---------------------------------------------------------------------------------------------------------


class _Zstd(io.RawIOBase):
    """The content of frames of Zstandard. Unlike the library's own reader it reports a frame that is cut off."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._library = require_zstandard()
        self._stream, self._pending, self._content = stream, b"", b""
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        while not self._content:
            block = self._pending or self._stream.read(_ZSTD_BLOCK_BYTES)
            if not block:
                if self._frame is not None:
                    raise EOFError("the last frame has no end")
                return 0
            self._pending = b""
            self._frame = self._frame or self._library.ZstdDecompressor().decompressobj()
            try:
                self._content = self._frame.decompress(block)
            except self._library.ZstdError as error:
                raise EOFError(str(error)) from error
            if self._frame.eof:
                self._pending, self._frame = self._frame.unused_data, None
        n = min(len(view), len(self._content))
        view[:n] = self._content[:n]
        self._content = self._content[n:]
        return n

    def close(self) -> None:
        self._stream.close()
        super().close()


class LineStream(Protocol):
    """What is read line by line."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""

    def readline(self, size: int = -1, /) -> bytes:
        """A line, or ``size`` bytes of it."""

    def close(self) -> None:
        """Close it."""


_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"\x28\xb5\x2f\xfd": lambda stream: io.BufferedReader(_Zstd(stream), _BUFFER_BYTES),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""First bytes of compressed files -> the reader."""


def decompressed(stream: io.BufferedReader[Any]) -> LineStream:
    """A stream of what a compressed stream holds, or itself where its first bytes are none of a compression.

    Raises:
        SettingsError: it is Zstandard, and the library for that is not installed.
    """
    first = stream.peek(8)[:8]
    for magic, reader in _DECOMPRESSORS.items():
        if first.startswith(magic):
            return cast(LineStream, reader(stream))
    return stream


def require_zstandard() -> Any:
    """The library zstandard.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise SettingsError("files of Zstandard (.zst) need an extra; install it: pip install 'blink-linker[bulk]'") from error
    return zstandard
