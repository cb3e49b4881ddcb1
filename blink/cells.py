"""Text of others in tables and figures: no formula of a spreadsheet, and in Markdown no markup, link or HTML.

A cell of text that begins with one of ``= + - @ '``, a tab or a line end would be a formula in spreadsheets, or look like the
mark of one: it gets an apostrophe before it. Programs take the first character of a cell of text away where it is an
apostrophe, see `plain_cell`, and have every character again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from blink.terminal import escaped

_SIGNS = tuple("=+-@＝＋－＠")
"""What formulas begin with, perhaps behind blanks."""
_MARKUP = re.compile(r"[\\`|\[\]<&*_]")
_CHARACTER_REFERENCES = {"<": "&lt;", "&": "&amp;"}


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; `plain_cell` undoes it."""
    return f"'{text}" if text.startswith(("'", "\t", "\r", "\n")) or text.lstrip().startswith(_SIGNS) else text


def plain_cell(cell: str) -> str:
    """The text of a cell, whether `safe_cell` wrote it or a program that leaves text as it is."""
    return cell[1:] if cell[:1] == "'" and safe_cell(cell[1:]) == cell else cell


def csv_line(cells: Sequence[Any], delimiter: str) -> str:
    """A line of a table, with its end."""
    buffer = io.StringIO()
    # With both line ends as the end of a row, cells with either are quoted in all versions of Python.
    csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()[:-2] + "\n"


def figure_text(text: str) -> str:
    """``text`` as titles and labels of matplotlib show it: dollar signs begin no formula, and no control reaches a font."""
    return escaped(text).replace("$", r"\$")


def markdown_text(text: object) -> str:
    """``text`` on one line of Markdown, shown as it is: no markup, no link, no HTML, no end of a table's cell."""
    return _MARKUP.sub(_unmarked, escaped(" ".join(str(text).split())))


def _unmarked(match: re.Match[str]) -> str:
    character = match[0]
    start, end = match.start(), match.end()
    if character == "_" and match.string[start - 1 : start].isalnum() and match.string[end : end + 1].isalnum():
        return character  # inside a word it is no mark
    return _CHARACTER_REFERENCES.get(character, f"\\{character}")


def markdown_code(text: object) -> str:
    """``text`` as code on one line, in a cell too; backticks, which would end it, become apostrophes."""
    line = escaped(" ".join(str(text).split())).replace("`", "'")
    return f"`{line.replace('|', chr(92) + '|')}`"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table of Markdown; cells are `markdown_text` or `markdown_code`."""
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' for _ in columns)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
