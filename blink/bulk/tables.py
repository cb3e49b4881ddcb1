"""Rows of a bulk run as a table of CSV or TSV: a row for each link, and one for each record that could not be linked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from blink.cells import csv_line, safe_cell
from blink.data.link_formats import COLUMNS, SCORE_DIGITS

HEAD = ("text_id", "id", "file", *COLUMNS[1:], "fields", "error")
"""Columns: those of `blink link --format csv`, and what the rows repeat of their records; ``text_id`` counts records from 1."""


def table_lines(rows: Iterable[Mapping[str, Any]], delimiter: str) -> Iterator[str]:
    """The lines of a table.

    Args:
        rows: of the output, as of JSON Lines.
        delimiter: between cells.
    """
    yield csv_line(HEAD, delimiter)
    for number, row in enumerate(rows, 1):
        of_record = {"text_id": number, "file": row.get("file")}
        of_record |= {name: as_text(row[name]) for name in ("id", "fields") if name in row}
        if "error" in row:
            yield _line(of_record | {"error": row["error"]}, delimiter)
        for link in row.get("links", ()):
            score, types = f"{link['score']:.{SCORE_DIGITS}f}", "|".join(link.get("types", ()))
            yield _line({**of_record, **link, "types": types}, delimiter, score)


def _line(values: Mapping[str, Any], delimiter: str, score: str = "") -> str:
    cells = [_cell(values.get(name)) for name in HEAD]
    cells[HEAD.index("score")] = score
    return csv_line(cells, delimiter)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    # A lone surrogate, which JSON may hold as an escape, has no bytes.
    return safe_cell(value.encode("utf-8", "replace").decode()) if isinstance(value, str) else value


def as_text(value: Any) -> str:
    """A string that is well formed as it is, any other value as JSON."""
    if isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value):
        return value
    return json.dumps(value)
