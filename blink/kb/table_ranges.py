"""Whether the numbers in the tables of a knowledge base are in range: rows and positions that exist, keys in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.data.arrays import map_array
from blink.kb import alias_table, attribute_table, fuzzy_index, name_count_table, popularity, title_table

_BLOCK = 1 << 20
"""Numbers that are read at a time."""


@dataclass(frozen=True)
class _Column:
    """What holds of the numbers of a file.

    Attributes:
        below: file whose length they are below, or ``""`` for the rows of the catalogue; None for no limit.
        factor: of that limit: they hold ``factor`` numbers for each row.
        ends_at: they are bounds, of which the last is the length of this file.
        ascending: none is below the one before it.
    """

    below: str | None = None
    factor: int = 1
    ends_at: str | None = None
    ascending: bool = False


def _bounds(file: str) -> _Column:
    return _Column(ends_at=file, ascending=True)


def _columns() -> Mapping[str, _Column]:
    (titles_at, titles, ids_at, ids) = title_table.FILES
    (value_keys, value_bounds, value_rows, values_at, values) = attribute_table.FILES
    spelling = fuzzy_index.file_of
    return {
        alias_table.KEYS_FILE: _Column(ascending=True),
        alias_table.VALUES_FILE: _Column(below="", factor=4),
        titles_at: _bounds(titles),
        ids_at: _bounds(ids),
        value_keys: _Column(ascending=True),
        value_bounds: _bounds(value_rows),
        value_rows: _Column(below=""),
        values_at: _bounds(values),
        name_count_table.KEYS_FILE: _Column(ascending=True),
        spelling("first"): _bounds(spelling("rows")),
        spelling("rows"): _Column(below=""),
        spelling("gram_at"): _bounds(spelling("grams")),
        spelling("keys"): _Column(ascending=True),
        spelling("posting_at"): _bounds(spelling("postings")),
        spelling("postings"): _Column(below=spelling("rows")),
        spelling("word_at"): _bounds(spelling("words")),
        spelling("by_initials"): _Column(below=spelling("rows")),
        spelling("rarities"): _Column(),
        popularity.POPULARITY_FILE: _Column(),
    }


def range_faults(folder: Path, rows: int, advance: Callable[[int], None] = lambda n: None) -> Iterator[str]:
    """The tables of a folder whose numbers are out of range, not in order or not finite, one sentence each.

    Args:
        folder: of the files; those that are missing are passed over.
        rows: of the catalogue.
        advance: called with the number of newly read numbers.

    Raises:
        MismatchError: a file is no array.
    """
    for name, column in _columns().items():
        if (folder / name).is_file() and (fault := _fault(folder, name, column, rows, advance)) is not None:
            yield f"{name} {fault}"


def _fault(folder: Path, name: str, column: _Column, rows: int, advance: Callable[[int], None]) -> str | None:
    values = map_array(folder / name, alias_table.REBUILD)
    limit = None
    if column.below is not None:
        limit = column.factor * (rows if not column.below else len(map_array(folder / column.below, alias_table.REBUILD)))
    last = None
    for start in range(0, len(values), _BLOCK):
        block = np.asarray(values[start : start + _BLOCK])
        if block.dtype.kind == "f":
            if not np.isfinite(block).all():
                return "holds NaN or infinity"
        elif column.ascending and (bool((block[1:] < block[:-1]).any()) or (last is not None and block[0] < last)):
            return "is not in order"
        elif block.dtype.kind == "i" and block.min() < 0:
            return "holds a number below 0"
        elif limit is not None and block.max() >= limit:
            return f"holds {int(block.max()):,}, where there are {limit:,}"
        last = block[-1] if block.ndim == 1 else None
        advance(len(block))
    if column.ends_at is not None:
        end, expected = (int(last) if last is not None else 0), len(map_array(folder / column.ends_at, alias_table.REBUILD))
        if end != expected:
            return f"ends at {end:,}, where there are {expected:,}"
    return None
