"""A row of a source of entities, whatever its format, and the text of files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from blink.decompression import LineStream, lines_of
from blink.errors import DataError
from blink.kb.sources.columns import COLUMN_NAMES, ColumnMap, checked_columns
from blink.limits import exceeded, limit

_PIECE_CHARACTERS = 1 << 18
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of a table, or a record.

    Attributes:
        where: such as ``line 7``.
        value: the object of a catalogue's line; None where there is a fault, or where the row is empty.
        fault: what is wrong with it.
        lines: lines of the file that it takes.
    """

    where: str
    value: dict[str, Any] | None = None
    fault: str | None = None
    lines: int = 1


class RowSource(Protocol):
    """The rows of a source; iterating sets ``columns`` to what holds what, and ``unused`` to the other columns."""

    columns: ColumnMap | None

    def __iter__(self) -> Iterator[SourceRow]:
        """The rows in order, empty ones included."""


class RecordMap:
    """Maps records, whose keys may differ, onto lines of a catalogue; keys that are none of a line's are kept as they are.

    Args:
        requested: key -> column, by the user.
    """

    def __init__(self, requested: Mapping[str, str] | None) -> None:
        self._requested = checked_columns(requested or {})
        self._map_of = lru_cache(256)(self._map)
        self.columns: ColumnMap | None = None

    def line_of(self, record: Any) -> dict[str, Any]:
        """The object of a catalogue's line.

        Raises:
            ValueError: the record is none, or does not hold what it should.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"expected an object, found {type(record).__name__}")
        columns = self._map_of(tuple(map(str, record)))
        self.columns = self.columns or columns
        return {key: record[key] for key in columns.unused if key not in COLUMN_NAMES} | columns.line_of(record)

    def _map(self, names: Sequence[str]) -> ColumnMap:
        requested = {key: column for key, column in self._requested.items() if column in names or key == "title"}
        try:
            return ColumnMap.of(names, requested)
        except DataError as error:
            raise ValueError(str(error)) from error


def text_lines(stream: LineStream, encoding: str, path: Path) -> Iterator[str]:
    """The lines of a text with their ends.

    Raises:
        DataError: a line is not in this encoding, or longer than the limit ``line``; the message names it and the remedy.
    """
    if encoding.startswith(("utf-16", "utf-32")):
        yield from _wrapped_lines(stream, encoding, path)
        return
    for number, line in enumerate(lines_of(stream, path), 1):
        try:
            text = line.decode("utf-8-sig" if encoding == "utf-8" and number == 1 else encoding)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: {_remedy(line, encoding, error)}") from error
        yield from text.splitlines(keepends=True) if "\r" in text[:-2] else (text,)


def _wrapped_lines(stream: LineStream, encoding: str, path: Path) -> Iterator[str]:
    number, most = 0, limit("line")
    wrapper = io.TextIOWrapper(stream, encoding, newline="")  # type: ignore[type-var]
    try:
        while line := wrapper.readline(most + 1):
            number += 1
            if len(line) > most:
                raise DataError(f"{path}, line {number}: {exceeded('line')}")
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        raise DataError(f"{path} is not {encoding} after line {number} ({error}); save the file as UTF-8") from error


def text_pieces(stream: LineStream, encoding: str, path: Path) -> Iterator[str]:
    """The text in pieces, whatever its lines. Errors as of `text_lines`."""
    wrapper = io.TextIOWrapper(stream, "utf-8-sig" if encoding == "utf-8" else encoding)  # type: ignore[type-var]
    lines = 0
    try:
        while piece := wrapper.read(_PIECE_CHARACTERS):
            lines += piece.count("\n")
            yield piece
    except UnicodeError as error:
        raise DataError(f"{path} is not {encoding} behind line {lines + 1} ({error}); save the file as UTF-8") from error


def _remedy(line: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    fault = f"not {encoding.removesuffix('-sig')} (byte {error.start + 1} of the line)"
    try:
        shown = line[max(error.start - _SHOWN_CHARACTERS // 2, 0) :][:_SHOWN_CHARACTERS].decode("cp1252").strip()
    except UnicodeDecodeError:
        return f"{fault}; save the file as UTF-8, or name its encoding: --encoding NAME"
    remedy = "save the file as UTF-8, or name its encoding"
    return f"{fault}; {remedy}; if {shown!r} reads right it is that of Windows: --encoding cp1252"
