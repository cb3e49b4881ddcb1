"""The entities of a file of any known format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blink.errors import DataError
from blink.files import require_file
from blink.kb.catalogue_line import LineLimits, parse_line
from blink.kb.sources.columns import checked_columns
from blink.kb.sources.formats import ALLOWED, JSON, LINES, PARQUET, TABLE, SourceFormat, file_format
from blink.kb.sources.json_rows import JsonRows, LineRows
from blink.kb.sources.parquet import ParquetRows
from blink.kb.sources.rows import RowSource, SourceRow
from blink.kb.sources.tables import TableRows

_READERS: dict[str, Callable[[Path, SourceFormat, Mapping[str, str] | None], RowSource]] = {
    LINES: LineRows,
    JSON: JsonRows,
    TABLE: TableRows,
    PARQUET: ParquetRows,
}
"""Format -> its reader."""


def entity_lines(
    path: str | Path, columns: Mapping[str, str] | None = None, encoding: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the entities of a file, as the objects of a catalogue's lines; empty rows are passed over.

    Args:
        path: a file of JSON lines, a JSON array, CSV, TSV or Parquet, compressed or not.
        columns: key of a line -> column that holds it; by default columns of known names, see
            `blink.kb.sources.columns.COLUMN_NAMES`.
        encoding: of its text; recognised by default.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is of another format, or a row is no entity; the message names line and column.
        SettingsError: a key of ``columns`` or the encoding is unknown, or Parquet is read without its extra.
    """
    path = require_file(path, f"give a file of entities: {ALLOWED}")
    for row, line in encoded_rows(open_rows(path, file_format(path, encoding, (columns or {}).get("title")), columns)):
        if row.fault is not None:
            raise DataError(f"{path}, {row.where}: {row.fault}; fix or remove it")
        if line is not None:
            yield parse_line(line)


def open_rows(path: Path, written: SourceFormat, columns: Mapping[str, str] | None) -> RowSource:
    """The rows of a file of a format; arguments and errors as of `entity_lines`."""
    return _READERS[written.kind](path, written, checked_columns(columns or {}))


def encoded_rows(rows: RowSource) -> Iterator[tuple[SourceRow, bytes | None]]:
    """Each row with its line of a catalogue, checked as lines are; None where it is empty or has a fault."""
    limits = LineLimits()
    for row in rows:
        if row.value is None:
            yield row, None
            continue
        try:
            line = json.dumps(row.value, ensure_ascii=False, default=str).encode()
            limits.require(parse_line(line), len(line))
        except UnicodeEncodeError:
            yield replace(row, value=None, fault="half of a surrogate pair, which is no text"), None
        except (ValueError, RecursionError) as error:
            yield replace(row, value=None, fault=str(error)), None
        else:
            yield row, line + b"\n"
