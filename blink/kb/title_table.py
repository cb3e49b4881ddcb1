"""Titles and ids of a catalogue as memory-mapped columns: read by row without parsing lines of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.data.arrays import array_writer, map_array, offsets_writer
from blink.errors import MismatchError
from blink.kb.alias_table import REBUILD

_TITLES, _IDS = ("names.title_at.npy", "names.titles.npy"), ("names.id_at.npy", "names.ids.npy")
FILES = (*_TITLES, *_IDS)

Rows = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class TextColumn:
    """A string for each row: UTF-8, one after the other.

    Attributes:
        at: first byte of each row's string, and the end of the last. *Shape:* (rows + 1,), int32 or int64.
        text: the bytes. *Shape:* (bytes,), uint8.
    """

    at: np.ndarray
    text: np.ndarray

    @classmethod
    def open(cls, folder: Path, files: tuple[str, str]) -> TextColumn:
        """Map a column written by `text_column_writer`.

        Raises:
            MissingFileError: a file is missing.
            MismatchError: the files are damaged or do not belong together.
        """
        at, text = (np.asarray(map_array(folder / name, REBUILD)) for name in files)
        if at.ndim != 1 or not len(at) or at.dtype not in (np.int32, np.int64) or text.dtype != np.uint8 or at[-1] != len(text):
            raise MismatchError(f"{folder / files[0]} and {files[1]} are damaged or of different catalogues; {REBUILD}")
        return cls(at, text)

    def __len__(self) -> int:
        return len(self.at) - 1

    def of(self, rows: Rows) -> list[str]:
        """The strings of rows (from 0)."""
        rows, text = np.asarray(rows, dtype=np.int64), self.text.data
        bounds = zip(self.at[rows].tolist(), self.at[rows + 1].tolist(), strict=True)
        return [str(text[begin:end], "utf-8") for begin, end in bounds]


@dataclass(frozen=True)
class TitleTable:
    """Title and id of each row; a broken line has the title ``""`` and no id."""

    title_column: TextColumn
    id_column: TextColumn

    @classmethod
    def open(cls, folder: str | Path, rows: int) -> TitleTable:
        """Map the table of a knowledge base of ``rows`` entities.

        Raises:
            MissingFileError: a file is missing.
            MismatchError: the files are damaged, or of another catalogue.
        """
        table = cls(*(TextColumn.open(Path(folder), files) for files in (_TITLES, _IDS)))
        if len(table.title_column) != rows or len(table.id_column) != rows:
            raise MismatchError(f"{folder} has {len(table.title_column)} titles, the catalogue {rows} entities; {REBUILD}")
        return table

    @staticmethod
    def is_in(folder: str | Path) -> bool:
        """Whether a folder holds a table; knowledge bases of earlier versions do not."""
        return (Path(folder) / _TITLES[0]).is_file()

    def titles(self, rows: Rows) -> list[str]:
        """Titles of rows."""
        return self.title_column.of(rows)

    def kb_ids(self, rows: Rows) -> list[str | None]:
        """Ids of rows; None where an entity has none."""
        return [kb_id or None for kb_id in self.id_column.of(rows)]


@contextmanager
def title_table_writer(folder: str | Path) -> Iterator[Callable[[Sequence[str], Sequence[str | None]], None]]:
    """Write a table: yields a function that appends titles and ids of the next rows."""
    with text_column_writer(Path(folder), _TITLES) as add_titles, text_column_writer(Path(folder), _IDS) as add_ids:

        def append(titles: Sequence[str], kb_ids: Sequence[str | None]) -> None:
            add_titles(titles)
            add_ids([kb_id or "" for kb_id in kb_ids])

        yield append


@contextmanager
def text_column_writer(folder: Path, files: tuple[str, str]) -> Iterator[Callable[[Sequence[str]], None]]:
    """Write a column: yields a function that appends the strings of the next rows."""
    with offsets_writer(folder / files[0]) as add_sizes, array_writer(folder / files[1], np.uint8) as add_bytes:

        def append(strings: Sequence[str]) -> None:
            encoded = [string.encode() for string in strings]
            add_sizes(np.fromiter(map(len, encoded), np.int64, len(encoded)))
            add_bytes(np.frombuffer(b"".join(encoded), dtype=np.uint8))

        yield append
