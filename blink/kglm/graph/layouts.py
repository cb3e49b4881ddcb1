"""How a file of triples is written: what separates its fields, and whether its first line is a header."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from blink.errors import DataError
from blink.kglm.settings import GraphFiles

SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "blank": " "}
"""Values of ``data.separator`` and what they stand for; ``auto`` takes the first of `TRIED` that makes three fields."""
TRIED = ("tab", "comma", "semicolon", "pipe")
"""A blank is not tried: names contain blanks."""
COLUMNS = {
    "head": {"head", "h", "subject", "subj", "s", "source", "src", "from", "start"},
    "relation": {
        "relation", "rel", "r", "predicate", "pred", "p", "property", "relationship", "edge", "edgetype", "relationtype",
        "type", "label",
    },
    "tail": {"tail", "t", "object", "obj", "o", "target", "tgt", "dst", "destination", "to", "end"},
}  # fmt: skip
"""Role of a column -> names of such columns in a header, without blanks, ``_``, ``-`` and a final ``id`` or ``name``."""
ROLES = tuple(COLUMNS)
BREAKS = frozenset("\t\n\r\0")
"""Characters that no id may have: files of ids have one a line."""

Row = tuple[str, str, str]
"""Head, relation and tail ids in a file."""
Lines = Iterator[tuple[int, str]]
"""Number and text of each line."""


@dataclass(frozen=True)
class Layout:
    """How files of triples are written.

    Attributes:
        separator: ``auto``, or a key of `SEPARATORS`.
        first_line: ``auto``, ``header`` or ``triple``. ``auto`` is a header if its words are names of the three columns
            and the relation column has that word in no other line.
    """

    separator: str = "auto"
    first_line: str = "auto"

    @classmethod
    def of(cls, data: GraphFiles) -> Layout:
        """The layout in the section ``data``."""
        return cls(data.separator, data.first_line)


@dataclass(frozen=True)
class Fields:
    """The triples of a file. *Lengths:* that of ``lines``.

    Attributes:
        rows: the triples.
        lines: line number of each, from 1.
        notes: what was recognised, one line each.
    """

    rows: list[Row]
    lines: list[int]
    notes: tuple[str, ...]


def parse(path: Path, lines: Lines, layout: Layout) -> Fields:
    """Split the lines of a file into triples.

    Args:
        path: of the file, for messages.
        lines: its lines that are not blank.
        layout: as the user says.

    Raises:
        DataError: a line does not have three fields.
    """
    first = next(lines, None)
    if first is None:
        return Fields([], [], ())
    separator = recognised(first[1]) if layout.separator == "auto" else layout.separator
    notes = [] if separator == "tab" or layout.separator != "auto" else [f"{path}: fields are separated by a {separator}"]
    rows: list[Row] = []
    numbers: list[int] = []
    shared: dict[str, str] = {}  # an id is in many lines, and in memory once
    one, quoted = shared.setdefault, separator not in ("tab", "blank")
    for number, fields in _split(path, chain([first], lines), separator):
        stripped = [field.strip() for field in fields]
        if len(stripped) != 3 or not all(stripped) or (quoted and not BREAKS.isdisjoint("".join(stripped))):
            raise DataError(f"{path}, line {number}: {_problem(stripped, separator)}")
        head, relation, tail = stripped
        rows.append((one(head, head), one(relation, relation), one(tail, tail)))
        numbers.append(number)
    return _after_header(path, Fields(rows, numbers, tuple(notes)), layout.first_line)


def _after_header(path: Path, fields: Fields, first_line: str) -> Fields:
    """The triples of a file without its header, if it has one."""
    if first_line == "triple" or not fields.rows:
        return fields
    first, roles = fields.rows[0], roles_of(fields.rows[0])
    if roles is None and first_line == "auto":
        return fields
    shown = f"{path}: line {fields.lines[0]} ({', '.join(first)})"
    if first_line == "header":
        return _without_first(fields, roles or ROLES, f"{shown} is a header")
    assert roles is not None
    column = roles.index("relation")
    if any(row[column] == first[column] for row in fields.rows[1:]):
        why = f"is a triple, for other lines have the relation {first[column]!r} too"
        why += "; if it is a header, set data.first_line header"
        return Fields(fields.rows, fields.lines, (*fields.notes, f"{shown} {why}"))
    note = f"{shown} is a header, 1 line that is no triple; if it is one, set data.first_line triple"
    return _without_first(fields, roles, note)


def _without_first(fields: Fields, roles: tuple[str, ...], note: str) -> Fields:
    head, relation, tail = (roles.index(role) for role in ROLES)
    rows = fields.rows[1:]
    if (head, relation, tail) != (0, 1, 2):
        note += f"; the columns are {', '.join(roles)}"
        rows = [(row[head], row[relation], row[tail]) for row in rows]
    return Fields(rows, fields.lines[1:], (*fields.notes, note))


def recognised(line: str) -> str:
    """The separator that makes three fields of a line, a key of `SEPARATORS`; the tab if none does.

    Blanks around a comma are those of prose.
    """
    for name in TRIED:
        with contextlib.suppress(csv.Error):
            fields = next(_delimited(iter([line]), SEPARATORS[name]), [])
            if len(fields) == 3 and (name == "tab" or all(field == field.strip() for field in fields)):
                return name
    return "tab"


def roles_of(fields: Row) -> tuple[str, ...] | None:
    """The roles of the columns of a header, such as ``("head", "relation", "tail")``; None if the fields are no header."""
    roles = tuple(next((role for role, names in COLUMNS.items() if _plain(field) in names), "") for field in fields)
    return roles if sorted(roles) == sorted(ROLES) else None


def _plain(field: str) -> str:
    word = field.lower().strip("#:@?\"' ").replace(" ", "").replace("_", "").replace("-", "")
    for suffix in ("id", "name", "entity"):
        word = word.removesuffix(suffix) or word
    return word


def _split(path: Path, lines: Lines, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Number of each line, and its fields; a field in quotes may span several lines."""
    if separator == "tab":
        yield from ((number, line.split("\t")) for number, line in lines)
    elif separator == "blank":
        yield from ((number, line.split()) for number, line in lines)
    else:
        number = 0

        def texts() -> Iterator[str]:
            nonlocal number
            for number, line in lines:  # noqa: B007 - of the line that the fields come from
                yield f"{line}\n"

        try:
            for fields in _delimited(texts(), SEPARATORS[separator], strip=True):
                yield number, fields
        except csv.Error as error:
            raise DataError(f"{path}, line {number}: {error}; fix or remove the line") from error


def _delimited(lines: Iterator[str], delimiter: str, *, strip: bool = False) -> Iterator[list[str]]:
    if delimiter == "\t":
        return (line.split("\t") for line in lines)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=strip, strict=True)


def _problem(fields: list[str], separator: str) -> str:
    layout = SEPARATORS[separator].replace("\t", "<TAB>").join(ROLES)
    if len(fields) == 3:
        problem = "a tab or line break in an id" if all(fields) else "an empty field"
        return f"{problem}; a triple is {layout}, fix or remove the line"
    problem = f"{len(fields)} field{'s' * (len(fields) != 1)}; a triple is {layout}, fix or remove the line"
    other = next((name for name, mark in SEPARATORS.items() if len(fields) == 1 and len(fields[0].split(mark)) == 3), None)
    return f"{problem}, or set data.separator {other}" if other else problem
