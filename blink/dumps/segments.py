"""A dump as segments that are read independently of each other where its compression allows that.

Segments are cut anywhere: records that run over a boundary are joined by who reads them in order, see `blink.dumps.mapping`.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blink.decompression import DAMAGE, FIRST_BYTES, decompressed, lines_of, open_stream
from blink.dumps.bzip2 import decompress_range, decompress_streams
from blink.errors import DataError, MissingFileError
from blink.files import sample_hash

PLAIN_BYTES, BZIP2_BYTES, TEXT_BYTES = 1 << 22, 1 << 20, 1 << 22
"""Bytes of a segment: of a plain file, of a bzip2 file as it is stored, and of the text of a file of another compression."""
_BZIP2 = b"BZh"
_OTHERS = tuple(first for first in FIRST_BYTES if first != _BZIP2)
_DUMP_ENDING, _INDEX_ENDING = ".xml.bz2", "-index.txt.bz2"
_REMEDY = "give a dump of https://dumps.wikimedia.org, compressed or not"


@dataclass(frozen=True)
class Segment:
    """A range of a dump.

    Attributes:
        number: from 0.
        start: first byte of the file, as it is stored.
        end: byte behind the last one.
        content: its text, where it was read already.
    """

    number: int
    start: int
    end: int
    content: bytes | None = None


@dataclass(frozen=True)
class Dump:
    """A dump: a file as it was when it was opened.

    Attributes:
        path: the file.
        size: its bytes.
        sample: `blink.files.sample_hash` of it.
        streams: where the streams of a multistream file begin, from its index; empty without one.
        records: number of records that the index lists; None without one.
    """

    path: Path
    size: int
    sample: str
    streams: tuple[int, ...] = ()
    records: int | None = None

    @classmethod
    def open(cls, file: str | Path, index: str | Path | None = None) -> Dump:
        """Look at a file.

        Args:
            file: the path.
            index: of a multistream file; by default the one beside it, if there is one.

        Raises:
            MissingFileError: there is no such file.
            DataError: it is empty, or its index is of another file.
        """
        path = Path(file)
        if not path.is_file():
            raise MissingFileError(f"{file} {'is no file' if path.exists() else 'does not exist'}; {_REMEDY}")
        size = path.stat().st_size
        if not size:
            raise DataError(f"{file} is empty; {_REMEDY}")
        beside = path.with_name(path.name.removesuffix(_DUMP_ENDING) + _INDEX_ENDING)
        if index is None and path.name.endswith(_DUMP_ENDING) and beside.is_file():
            index = beside
        streams, records = ((), None) if index is None else _read_index(Path(index))
        if streams and streams[-1] >= size:
            fault = f"{index} is the index of another file: it names byte {streams[-1]:,} of {size:,}"
            raise DataError(f"{fault}; give the one of {path}")
        return cls(path.resolve(), size, sample_hash(path), streams, records)

    def segments(self, first: int = 0) -> Iterator[Segment]:
        """The segments from number ``first`` on.

        Raises:
            DataError: the file is damaged; raised after the segments before that.
        """
        head = self._head()
        if head.startswith(_OTHERS):
            yield from self._read_through(first)
            return
        bounds = self._stream_bounds() or self._even_bounds(BZIP2_BYTES if head.startswith(_BZIP2) else PLAIN_BYTES)
        for number in range(first, len(bounds) - 1):
            yield Segment(number, bounds[number], bounds[number + 1])

    def read(self, segment: Segment) -> bytes:
        """The text of a segment.

        Raises:
            DataError: the file is damaged there.
        """
        if segment.content is not None:
            return segment.content
        if not self._head().startswith(_BZIP2):
            with self.path.open("rb") as f:
                f.seek(segment.start)
                return f.read(segment.end - segment.start)
        if not self.streams:
            return decompress_range(self.path, segment.start, segment.end)
        try:
            return decompress_streams(self.path, segment.start, segment.end)
        except DataError:
            raise
        except (OSError, ValueError) as error:
            where = f"between bytes {segment.start:,} and {segment.end:,}"
            raise DataError(f"{self.path} is damaged {where}, or its index is of another file ({error})") from error

    def _head(self) -> bytes:
        with self.path.open("rb") as f:
            return f.read(8)

    def _even_bounds(self, step: int) -> list[int]:
        return [*range(0, self.size, step), self.size]

    def _stream_bounds(self) -> list[int]:
        """Bounds of groups of whole streams, of about `BZIP2_BYTES`."""
        bounds = [0] if self.streams else []
        for start in self.streams:
            if start - bounds[-1] >= BZIP2_BYTES:
                bounds.append(start)
        return [*bounds, self.size] if bounds else []

    def _read_through(self, first: int) -> Iterator[Segment]:
        """Segments of a file that can only be decompressed from its beginning."""
        with self.path.open("rb", buffering=0) as raw:
            buffered = io.BufferedReader(raw, 1 << 16)
            stream, number, start = decompressed(buffered, self.path), 0, 0
            while True:
                try:
                    content = _read_all(stream, TEXT_BYTES)
                except DAMAGE as error:
                    if isinstance(error, OSError) and error.errno is not None:
                        raise  # of the disk
                    raise DataError(
                        f"{self.path} is damaged or cut off behind byte {start:,} ({error}); get it again"
                    ) from error
                if not content:
                    return
                end = raw.tell()
                if number >= first:
                    yield Segment(number, start, end, content)
                number, start = number + 1, end


def _read_index(index: Path) -> tuple[tuple[int, ...], int]:
    """Where streams begin, and the number of records, of lines ``byte:page:title``.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is damaged, or is no index.
    """
    starts, records = array("q"), 0
    try:
        with open_stream(index, "give the index of the dump, such as ...-multistream-index.txt.bz2") as stream:
            for line in lines_of(stream, index):
                start, records = int(line[: line.index(b":")]), records + 1
                if not starts or start != starts[-1]:
                    starts.append(start)
    except DAMAGE as error:
        raise DataError(f"{index} is damaged or cut off ({error}); get the file again") from error
    except ValueError as error:
        fault = f"{index}, line {records + 1}: no line of an index, as 600:12:Title"
        raise DataError(f"{fault}; give the index of the dump") from error
    return tuple(sorted(starts)), records


def _read_all(stream: object, size: int) -> bytes:
    """``size`` bytes, or fewer at the end."""
    blocks, left = [], size
    while left and (block := stream.read(left)):  # type: ignore[attr-defined]
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)
