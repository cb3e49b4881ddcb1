"""Rows of CSV and TSV files: lines of the file may be several in a row, where quotes enclose line breaks."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from blink.decompression import open_stream
from blink.errors import DataError
from blink.kb.sources.columns import ColumnMap
from blink.kb.sources.formats import SourceFormat
from blink.kb.sources.rows import SourceRow, text_lines
from blink.limits import exceeded, limit

_LARGEST_OF_CSV = (1 << 31) - 1
"""What `csv` takes on every system."""


class TableRows:
    """The rows of a table whose first row that is not empty has the names of its columns."""

    def __init__(self, path: Path, written: SourceFormat, requested: Mapping[str, str] | None) -> None:
        self._path, self._written, self._requested = path, written, requested
        self.columns: ColumnMap | None = None

    def __iter__(self) -> Iterator[SourceRow]:
        assert self._written.dialect is not None
        csv.field_size_limit(min(limit("line"), _LARGEST_OF_CSV))
        with open_stream(self._path) as stream:
            lines = text_lines(stream, self._written.encoding, self._path)
            before = sum(1 for _ in zip(range(self._written.dialect.skipped_lines), lines, strict=False))
            reader = csv.reader(lines, **self._written.dialect.csv_options)
            header: list[str] = []
            while True:
                first = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    yield SourceRow(_where(before + first), fault=_named(error), lines=reader.line_num - first + 1)
                    continue
                if header:
                    yield self._row(before + first, reader.line_num - first + 1, header, cells)
                elif any(map(str.strip, cells)):
                    header = cells
                    self.columns = self._map(header, before + first)

    def _map(self, header: list[str], line: int) -> ColumnMap:
        try:
            return ColumnMap.of(header, self._requested)
        except DataError as error:
            remedy = "" if self._requested else ", or add a first line with their names"
            raise DataError(f"{self._path}, line {line} should name the columns: {error}{remedy}") from error

    def _row(self, line: int, lines: int, header: list[str], cells: list[str]) -> SourceRow:
        assert self.columns is not None
        if not any(map(str.strip, cells)):
            return SourceRow(_where(line), lines=lines)
        if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
            return SourceRow(_where(line), fault=f"{len(cells)} fields, the header has {len(header)}", lines=lines)
        try:
            return SourceRow(_where(line), self.columns.line_of(dict(zip(header, cells, strict=False))), lines=lines)
        except ValueError as error:
            return SourceRow(_where(line), fault=str(error), lines=lines)


def _where(line: int) -> str:
    return f"line {line}"


def _named(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a field that begins with a quote has no end; double the quotes that are text"
    if "limit" in str(error):
        return f"{exceeded('line')}, or a quote is not closed"
    return f"not CSV ({error}); double the quotes that are text"
