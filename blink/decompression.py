"""Compressed files (gzip, Zstandard, bzip2, xz), recognised by their first bytes."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from blink.errors import DataError
from blink.extras import require_extra
from blink.input_files import open_file
from blink.limits import RATIO_FROM, exceeded, exceeds, limit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 1 << 16
_MOST_ZEROS = 1 << 24
"""Zeros that are passed over behind gzip: blocks of tapes are padded to a few megabytes at most."""
_GZIP = b"\x1f\x8b"
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError)
"""Errors of a compressed file that is damaged or cut off; an ``OSError`` with a number is one of the disk."""


class _Frames(io.RawIOBase):
    """The content of what is compressed in frames, one behind the other; one that is cut off is an error."""

    _block_bytes = 1 << 14
    """Compressed bytes that are decompressed at once: what comes of them is in memory, a thousand times as much at worst."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._pending, self._content = stream, b"", b""
        self._frame: Any = None

    def _begin(self, block: bytes) -> tuple[Any, bytes]:
        """What decompresses a frame, and the bytes of it; None where none begins."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        while not self._content:
            block = self._pending or self._stream.read(self._block_bytes)
            if not block:
                if self._frame is not None:
                    raise EOFError("the last frame has no end")
                return 0
            self._pending = b""
            if self._frame is None:
                self._frame, block = self._begin(block)
            if self._frame is not None:
                self._content = self._frame.decompress(block)
                if self._frame.eof:
                    self._pending, self._frame = self._frame.unused_data, None
        n = min(len(view), len(self._content))
        view[:n] = self._content[:n]
        self._content = self._content[n:]
        return n

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Gzip(_Frames):
    """The members of a gzip file. Zeros that pad it are passed over by blocks, and only so many: holes seem endless."""

    _zeros = _frame_count = 0

    def _begin(self, block: bytes) -> tuple[Any, bytes]:
        if self._frame_count:
            size = len(block)
            block = block.lstrip(b"\0")
            self._zeros += size - len(block)
            if self._zeros > _MOST_ZEROS:
                raise gzip.BadGzipFile(f"more than {_MOST_ZEROS >> 20} MiB of zeros follow")
        if len(block) == 1:
            block += self._stream.read(1)
        if block and not block.startswith(_GZIP):
            raise gzip.BadGzipFile(f"what follows is no gzip: {block[:2]!r}")
        self._frame_count += 1
        return (zlib.decompressobj(zlib.MAX_WBITS | 16) if block else None), block


class _Zstd(_Frames):
    """The frames of a Zstandard file. Unlike the library's own reader it reports a frame that is cut off."""

    _block_bytes = 1 << 11  # what comes of them is thirty thousand times as much at worst

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self._library = require_zstandard()

    def _begin(self, block: bytes) -> tuple[Any, bytes]:
        return self._library.ZstdDecompressor().decompressobj(), block

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return super().readinto(buffer)
        except self._library.ZstdError as error:
            raise EOFError(str(error)) from error


class LineStream(Protocol):
    """What is read line by line."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""

    def readline(self, size: int = -1, /) -> bytes:
        """A line, or ``size`` bytes of it."""

    def close(self) -> None:
        """Close it."""


_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    _GZIP: _Gzip,
    b"\x28\xb5\x2f\xfd": _Zstd,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""First bytes of compressed files -> the reader."""
FIRST_BYTES = tuple(_DECOMPRESSORS)
"""By which compressed files are recognised."""
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
"""The beginning of a bzip2 file: a text may begin with its first three characters."""


class _Bounded(io.RawIOBase):
    """What a decompressor gives, up to the limits of the content of a compressed file."""

    def __init__(self, content: Any, stored: io.BufferedReader, name: str) -> None:
        self._content, self._stored, self._name = content, stored, name
        self._fill = getattr(content, "readinto1", content.readinto)  # what precedes damage is kept
        self._size, self._most = 0, limit("decompressed")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        n = int(self._fill(buffer))
        self._size += n
        if self._size > RATIO_FROM or self._size > self._most:
            self._check()
        return n

    def _check(self) -> None:
        if self._size > self._most:
            raise DataError(f"{self._name}: {exceeded('decompressed')}")
        try:
            stored = self._stored.tell()
        except (OSError, ValueError):  # of a pipe
            return
        fault = exceeds("ratio", self._size // max(stored, 1))
        if fault is not None:
            raise DataError(f"{self._name}: {fault}")

    def close(self) -> None:
        self._content.close()
        super().close()


def decompressed(stream: IO[bytes], name: str | Path = "the input") -> LineStream:
    """A stream of what a compressed stream holds, or itself where its first bytes are none of a compression.

    Args:
        stream: the stored bytes.
        name: of the file, for messages.

    Raises:
        SettingsError: it is Zstandard, and the library for that is not installed.
        DataError: while it is read: more comes out than the limits ``decompressed`` and ``ratio`` of `blink.limits` allow.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream))
    first = buffered.peek(10)[:10]
    for magic, reader in _DECOMPRESSORS.items():
        if first.startswith(magic) and (magic != b"BZh" or _BZIP2.match(first)):
            return io.BufferedReader(_Bounded(reader(buffered), buffered, str(name)), BUFFER_BYTES)
    return buffered


@contextlib.contextmanager
def open_stream(path: Path, remedy: str = "check the path", *, streams: bool = False) -> Iterator[LineStream]:
    """The bytes of a file, decompressed; arguments as of `blink.input_files.open_file`.

    Raises:
        MissingFileError: it is no file.
        DataError: it is damaged or cut off, or more than the limits of a compressed file.
    """
    with open_file(path, remedy, streams=streams) as raw, damage_named(path):
        yield decompressed(raw, path)


@contextlib.contextmanager
def damage_named(name: str | Path) -> Iterator[None]:
    """Errors of a damaged file as a `DataError` that names it."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        raise DataError(f"{name} is damaged or cut off ({error}); get the file again") from error


def lines_of(stream: LineStream, name: str | Path = "the input") -> Iterator[bytes]:
    """The lines of a stream, with their ends.

    Args:
        stream: the stream.
        name: of the file, for the message.

    Raises:
        DataError: a line is longer than the limit ``line`` of `blink.limits`; no more of it is read.
    """
    most = limit("line")
    number = 0
    while line := stream.readline(most + 1):
        number += 1
        if len(line) > most:
            raise DataError(f"{name}, line {number}: {exceeded('line')}")
        yield line


def require_zstandard() -> Any:
    """The library zstandard.

    Raises:
        SettingsError: it is not installed.
    """
    return require_extra("zstandard", "files of Zstandard (.zst)", "bulk")
