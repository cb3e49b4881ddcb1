"""Columns of tables and keys of records, mapped onto the keys of a catalogue's line, and their cells."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from blink.errors import DataError, SettingsError

COLUMN_NAMES = {
    "title": ("title", "name", "label", "entity", "term"),
    "text": ("text", "description", "desc", "definition", "summary", "abstract"),
    "kb_idx": ("kbidx", "id", "kbid", "qid", "wikidataid", "wikidata", "identifier"),
    "idx": ("idx", "url", "uri", "link", "website"),
    "aliases": ("aliases", "alias", "synonyms", "synonym", "alternativenames", "altlabels", "altlabel", "alsoknownas", "aka"),
    "types": ("types", "type", "class", "instanceof"),
    "tags": ("tags", "tag", "keywords"),
    "ids": ("ids",),
}
"""Key of a line -> the columns that hold it, `normalized`, the first that is there."""
_CONFUSED = ("title", "name")
"""Where both are there, ``title`` may be that of a person."""
_IDS = "ids."
"""``ids.freebase`` is an id in another system."""


def normalized(column: str) -> str:
    """The name of a column without letter case, blanks, underscores and hyphens."""
    return re.sub(r"[\s_\-]+", "", column.casefold())


def parse_columns(text: str) -> dict[str, str]:
    """Key -> column, of ``title=Name,text=Beschreibung``.

    Raises:
        SettingsError: it is something else.
    """
    pairs = [pair.partition("=") for pair in text.split(",")]
    columns = {key.strip(): column.strip() for key, _, column in pairs}
    if not all(separator and column.strip() for _, separator, column in pairs) or len(columns) != len(pairs):
        raise SettingsError(f"columns are given as title=Name,text=Description, not {text!r}")
    return checked_columns(columns)


def checked_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """The same columns.

    Raises:
        SettingsError: a key is none of a catalogue's line.
    """
    for key in columns:
        if key not in COLUMN_NAMES and not (key.startswith(_IDS) and key != _IDS):
            raise SettingsError(f"a line of a catalogue has no {key!r}; columns hold {', '.join(COLUMN_NAMES)} or ids.SYSTEM")
    return dict(columns)


@dataclass(frozen=True)
class ColumnMap:
    """Which column holds which key.

    Attributes:
        of_key: key of a line, or ``ids.SYSTEM`` -> column.
        unused: the other columns.
    """

    of_key: Mapping[str, str]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """Such as ``title=Name, text=description``."""
        return ", ".join(f"{key}={column}" for key, column in self.of_key.items())

    @classmethod
    def of(cls, names: Sequence[str], requested: Mapping[str, str] | None = None) -> ColumnMap:
        """Map the columns of a table, or the keys of a record.

        Args:
            names: of the columns.
            requested: key -> column, by the user.

        Raises:
            DataError: no column is the title, two could be, or a requested one is missing.
        """
        of_key: dict[str, str] = {}
        free = [name for name in names if name.strip()]
        for key, column in (requested or {}).items():
            match = [n for n in free if n.strip() == column] or [n for n in free if normalized(n) == normalized(column)]
            if len(match) != 1:
                problem = "none is" if not match else f"{len(match)} are"
                raise DataError(f"{problem} named {column!r} among {_listed(names)}; correct --columns {key}={column}")
            of_key[key] = match[0]
        free = [name for name in free if name not in of_key.values()]
        for key, known in COLUMN_NAMES.items():
            if key not in of_key:
                named = [n for form in known for n in free if normalized(n) == form]
                if key == "title" and all(any(normalized(n) == form for n in named) for form in _CONFUSED):
                    raise DataError(f"both {named[0]!r} and {named[1]!r} could be the title; say which: --columns title=NAME")
                if len(named) > 1 and normalized(named[0]) == normalized(named[1]):
                    raise DataError(f"two are named {named[0]!r}; rename one of them")
                of_key |= dict.fromkeys([key], named[0]) if named else {}
        of_key |= {n.strip(): n for n in free if n.strip().startswith(_IDS) and n.strip() != _IDS}
        if "title" not in of_key:
            raise DataError(
                f"none is named as a title ({', '.join(COLUMN_NAMES['title'])}) among {_listed(names) or 'no names'}; "
                "say which it is: --columns title=NAME"
            )
        used = set(of_key.values())
        return cls(of_key, tuple(name for name in names if name.strip() and name not in used))

    def line_of(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """The object of a catalogue's line, without what is empty.

        Raises:
            ValueError: a cell does not hold what it should; the message names the column.
        """
        line: dict[str, Any] = {}
        for key, column in self.of_key.items():
            try:
                value = _CELLS[key if key in _CELLS else _IDS](cells.get(column))
            except ValueError as error:
                raise ValueError(f"column {column!r} holds {error}") from error
            if value and key.startswith(_IDS):
                line["ids"] = {**line.get("ids", {}), key.removeprefix(_IDS): value}
            elif value:
                line[key] = value
        if "title" not in line:
            raise ValueError(f"column {self.of_key['title']!r} is empty")
        return line


def is_missing(value: Any) -> bool:
    """Whether a cell is empty, among them what pandas has for it (NaN, NaT, NA)."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value = int(float(value))  # where a column of integers has empty cells, it is one of floats
    if isinstance(value, bool) or not isinstance(value, (str, Real)):
        raise ValueError(f"{type(value).__name__}, not text")
    return str(value).strip()


def _title(value: Any) -> str:
    return " ".join(_text(value).split())


def _strings(value: Any) -> list[str]:
    """A list, or its form in a cell: JSON, or values between ``|`` or ``;``."""
    if isinstance(value, str):
        items = _literal(value, list)
        value = re.split(r"[|\n]" if "|" in value else r"[;\n]", value) if items is None else items
    elif is_missing(value):
        return []
    elif not isinstance(value, Iterable) or isinstance(value, (bytes, Mapping)):
        value = [value]
    return list(dict.fromkeys(text for item in value if (text := _title(item))))


def _ids(value: Any) -> dict[str, str]:
    if isinstance(value, str) and value.strip():
        value = _literal(value, dict) or value
    if isinstance(value, Mapping):
        return {str(system): text for system, of_system in value.items() if (text := _text(of_system))}
    if is_missing(value) or value == "":
        return {}
    raise ValueError('no ids by system, such as {"freebase": "/m/04jpl"}')


def _literal(text: str, kind: type) -> Any:
    """A list or an object in JSON, or as Python writes it; None where the text is none."""
    if text.strip()[:1] == ("[" if kind is list else "{"):
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(text.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(value, kind):
                return value
    return None


_CELLS: dict[str, Callable[[Any], Any]] = {
    "title": _title,
    "text": _text,
    "kb_idx": _text,
    "idx": _text,
    "aliases": _strings,
    "types": _strings,
    "tags": _strings,
    "ids": _ids,
    _IDS: _text,
}


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name[:40]) for name in names[:8])
    return listed + (f" and {len(names) - 8} more" if len(names) > 8 else "")
