"""How a table is written: its separator and quotes, by its first rows."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from blink.kb.sources.columns import COLUMN_NAMES, normalized

SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
_ROWS = 100


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        separator: of the fields.
        quotes: whether double quotes enclose fields with separators and line breaks; else they are text.
        skipped_lines: lines before the header: spreadsheets may write ``sep=;`` first.
    """

    separator: str
    quotes: bool = True
    skipped_lines: int = 0

    @property
    def named(self) -> str:
        """The separator for messages."""
        return SEPARATORS[self.separator]

    @property
    def csv_options(self) -> dict[str, Any]:
        """Options of `csv.reader`."""
        quoting = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        return {"delimiter": self.separator, "quoting": quoting, "strict": True}


@dataclass(frozen=True)
class _Reading:
    """The first rows of a table in one dialect."""

    dialect: Dialect
    has_title: bool
    """Whether a column of the header is known to be the title."""
    regular: float
    """Share of rows with as many fields as the header."""
    fields: int
    rows: int


def sniff(text: str, title_column: str | None, *, complete: bool, surely: bool) -> Dialect | None:
    """The dialect of a table; None where the text is hardly a table.

    A dialect whose header names a title is preferred, then the one with the most regular rows.

    Args:
        text: the beginning of the file.
        title_column: name of the column of titles, where the user said it.
        complete: whether the text is the whole file.
        surely: the file is named as a table.
    """
    skipped, text = _separator_line(text)
    if not complete:
        text = text[: text.rfind("\n") + 1] or text
    separators = [skipped] if skipped else list(SEPARATORS)
    # Quotes in tables of tabs and bars may be text, as nothing else needs them.
    dialects = [Dialect(s, quotes, bool(skipped)) for s in separators for quotes in ((True, False) if s in "\t|" else (True,))]
    readings = [reading for d in dialects if (reading := _read(text, d, title_column, complete)) is not None]
    best = max(readings, key=lambda r: (r.has_title, r.fields > 1, r.regular, r.fields), default=None)
    if best is None:
        return Dialect(",") if surely else None
    alone_is_enough = surely or title_column is not None
    is_table = surely or (best.fields > 1 and best.regular > 0.9 and best.rows >= 3)
    return best.dialect if is_table or (best.has_title and (best.fields > 1 or alone_is_enough)) else None


def _separator_line(text: str) -> tuple[str, str]:
    """The separator that a spreadsheet wrote into the first line, and the rest."""
    first, _, rest = text.partition("\n")
    first = first.strip()
    stated = len(first) == 5 and first.lower().startswith("sep=") and first[4] in SEPARATORS
    if first.lower() == "sep=" and text.lower().startswith("sep=\t"):
        return "\t", rest
    return (first[4], rest) if stated else ("", text)


def _read(text: str, dialect: Dialect, title_column: str | None, complete: bool) -> _Reading | None:
    reader = csv.reader(io.StringIO(text, newline=""), **dialect.csv_options)
    rows: list[list[str]] = []
    faults = 0
    while len(rows) < _ROWS:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            faults += complete or "unexpected end" not in str(error)  # the text may end inside quotes
            continue
        if any(map(str.strip, row)):
            rows.append(row)
    if not rows:
        return None
    header = [normalized(name) for name in rows[0]]
    titles = COLUMN_NAMES["title"] if title_column is None else (normalized(title_column),)
    regular = sum(len(row) == len(header) for row in rows) / (len(rows) + faults)
    return _Reading(dialect, any(title in header for title in titles), regular, len(header), len(rows))
