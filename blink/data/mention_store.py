"""Mention files read from disk row by row: ``store[i]`` parses one line, for training on millions of rows."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from blink.data.arrays import is_stamped, map_array, save_stamped
from blink.data.mention_files import MAX_ROWS_FOR_UNIT, Rows, bind, offset_unit, parse_row, require_rows
from blink.data.offsets import Unit
from blink.data.records import Sample
from blink.decompression import decompressed
from blink.errors import DataError
from blink.files import parse_json_line, require_file, sample_hash
from blink.input_files import has_file
from blink.limits import exceeded, limit

BLOCK_BYTES = 1 << 24
OFFSETS_FOLDER = "offsets"


class MentionStore(Sequence[Sample]):
    """The rows of mention files with one JSON object per line, bound to a catalogue.

    One scan stores the offsets of the lines in the caller's folder. The files themselves are not changed.

    Args:
        paths: the files, concatenated in this order.
        catalogue: of the rows of gold mentions.
        folder: of the memory-mapped tables of line offsets.

    Attributes:
        line_bytes: length of each row's line. *Shape:* (rows,), int64.

    Raises:
        MissingFileError: a file is missing.
        DataError: a file has no rows, or is one JSON array.
    """

    def __init__(self, paths: Sequence[str | Path], catalogue: Rows, folder: str | Path) -> None:
        self._paths = [require_file(p, "give a mention file: JSON lines with 'text' or 'tokenized_text_ids'") for p in paths]
        self._catalogue = catalogue
        self._tables = [line_table(path, Path(folder)) for path in self._paths]
        self._first = np.cumsum([0, *(len(t) for t in self._tables)])
        self._handles = [path.open("rb") for path in self._paths]
        self._units = [self._unit(file) for file in range(len(self._paths))]
        self.line_bytes = np.concatenate([t[:, 1] for t in self._tables])

    def __len__(self) -> int:
        return int(self._first[-1])

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """The sample of a row.

        Raises:
            DataError: its line is malformed, or the file has changed; the message names file and row.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = int(np.searchsorted(self._first, index, side="right")) - 1
        row = index - int(self._first[file])
        (sample,) = bind([self._parsed(file, row)], self._catalogue)
        require_rows([sample], len(self._catalogue))
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def close(self) -> None:
        """Close the files."""
        for handle in self._handles:
            handle.close()

    def _unit(self, file: int) -> Unit:
        rows = len(self._tables[file])
        sampled = np.linspace(0, rows - 1, min(rows, MAX_ROWS_FOR_UNIT), dtype=np.int64).tolist()
        return offset_unit((self._decoded(file, row) for row in sampled), self._paths[file])

    def _decoded(self, file: int, row: int) -> Any:
        start, length = self._tables[file][row]
        self._handles[file].seek(int(start))
        line = self._handles[file].read(int(length)).removeprefix(codecs.BOM_UTF8)
        return parse_json_line(line, self._paths[file], row + 1)

    def _parsed(self, file: int, row: int) -> Sample:
        path, number = self._paths[file], row + 1
        try:
            return parse_row(self._decoded(file, row), default_id=str(row), unit=self._units[file])
        except DataError as error:
            raise DataError(str(error) if str(error).startswith(str(path)) else f"{path}, row {number}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            problem = f"malformed row ({type(error).__name__}: {error})"
            raise DataError(f"{path}, row {number}: {problem}; see the mention file layout") from error


def line_table(path: Path, folder: Path) -> npt.NDArray[np.int64]:
    """Offsets and lengths of the non-blank lines of a file, memory-mapped from ``folder``, where they are written at first.

    A table that is damaged is written again.

    Returns:
        first byte and number of bytes. *Shape:* (rows, 2), int64.

    Raises:
        DataError: the file has no rows, is one JSON array, or is compressed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stat = path.stat()
    # The name contains hash and time of the file, so that a changed file gets a new table.
    table = folder / f"{path.stem}-{sample_hash(path)[:16]}-{stat.st_mtime_ns:x}.npy"
    made_of = f"{table.name} {stat.st_size}"
    if not has_file(table, "remove it") or not is_stamped(table, made_of):
        with path.open("rb") as f:
            if decompressed(f) is not f:
                raise DataError(f"{path} is compressed, and its lines are read in any order; decompress it first")
            if f.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                raise DataError(f"{path} is one JSON array, which cannot be read in parts; write it as JSON lines")
        save_stamped(table, _lines(path), made_of)
    lines: npt.NDArray[np.int64] = map_array(table, "give the same command again")
    if not len(lines):
        raise DataError(f"{path} is empty; a mention file has one JSON object a line")
    return lines


def _lines(path: Path) -> npt.NDArray[np.int64]:
    ends = [np.zeros(1, dtype=np.int64)]
    number, last, position = 1, 0, 0
    with path.open("rb") as f:
        while block := f.read(BLOCK_BYTES):
            found = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + position + 1
            position += len(block)
            _require_short(path, number, np.diff(np.concatenate([[last], found, [position]])))
            ends.append(found)
            number, last = number + len(found), int(found[-1]) if len(found) else last
    bounds = np.unique(np.concatenate([*ends, np.array([position], dtype=np.int64)]))
    lines = np.stack([bounds[:-1], np.diff(bounds)], axis=1)
    return lines[~_blank(path, lines)]


def _require_short(path: Path, first: int, lengths: npt.NDArray[np.int64]) -> None:
    """Check that lines from number ``first`` on are within the limit.

    Raises:
        DataError: one is longer.
    """
    long = np.flatnonzero(lengths > limit("line"))
    if len(long):
        raise DataError(f"{path}, line {first + int(long[0])}: {exceeded('line')}")


def _blank(path: Path, lines: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mask of blank lines. Only short lines are read; longer ones are assumed to have content."""
    blank = np.zeros(len(lines), dtype=bool)
    with path.open("rb") as f:
        for i in np.flatnonzero(lines[:, 1] < 64):
            f.seek(int(lines[i, 0]))
            blank[i] = not f.read(int(lines[i, 1])).strip(b"\xef\xbb\xbf \t\r\n")
    return blank
