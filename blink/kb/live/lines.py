"""Lines of entities as callers give them, checked as strictly as those of a catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blink.data.records import Entity
from blink.errors import DataError, SettingsError
from blink.kb.catalogue_line import LineLimits, line_of, parse_line
from blink.kb.live.changes import Line
from blink.limits import exceeds

TEXTS, LISTS, OBJECTS = ("title", "text", "kb_idx", "idx"), ("aliases", "types", "tags"), ("ids",)
KEYS = {"kb_id": "kb_idx", "url": "idx"} | {key: key for key in (*TEXTS, *LISTS, *OBJECTS)}
"""Names of what an entity has, as in `Entity` and as on a line, to those of a line."""


def line_from(entity: Entity | Mapping[str, Any]) -> Line:
    """The line of an entity, without what is empty. Keys that BLINK does not know stay as they are.

    Raises:
        DataError: it has no title, or a value is of a wrong type.
    """
    if isinstance(entity, Entity):
        return checked(line_of(entity))
    if not isinstance(entity, Mapping):
        raise DataError(f"an entity is {type(entity).__name__}; give an Entity, or an object with a title")
    wrong = next((key for key in entity if not isinstance(key, str)), None)
    if wrong is not None:
        raise DataError(f"an entity has the key {wrong!r}; keys are texts, such as 'title'")
    return checked({KEYS.get(key, key): value for key, value in entity.items()})


def changed_line(line: Line, changes: Mapping[str, Any]) -> Line:
    """A line with some values replaced; an empty value removes what was there.

    Raises:
        DataError: there is no such value of an entity, or it is of a wrong type.
    """
    unknown = next((key for key in changes if key not in KEYS), None)
    if unknown is not None:
        raise DataError(f"an entity has no {unknown!r}; allowed are {', '.join(KEYS)}")
    return checked({**line, **{KEYS[key]: value for key, value in changes.items()}}, line)


def fields_from(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that options of a command give: ``ids`` as ``SYSTEM=ID``; an empty text clears a field.

    Raises:
        SettingsError: an id has no system.
    """
    fields = {name: value for name, value in options.items() if value not in (None, ())}
    for name in LISTS:
        if name in fields:
            fields[name] = [value for value in fields[name] if value]
    if "ids" in fields:
        pairs = [pair.partition("=") for pair in fields["ids"] if pair]
        wrong = next(("".join(pair) for pair in pairs if not all(pair)), None)
        if wrong is not None:
            raise SettingsError(f"--same-as is {wrong!r}; give a system and an id, such as freebase=/m/04jpl")
        fields["ids"] = {system: kb_id for system, _, kb_id in pairs}
    return fields


def checked(values: Mapping[str, Any], before: Line | None = None) -> Line:
    """A line whose values are those of an entity, without what is empty.

    Args:
        values: of the line.
        before: an earlier line of the entity; what it has too stays as it is.

    Raises:
        DataError: there is no title, or a value is of a wrong type.
    """
    known = before or {}
    line = {key: value if key in known and known[key] == value else _plain(key, value) for key, value in values.items()}
    line = {key: value for key, value in line.items() if key == "title" or value not in (None, "", [], {})}
    try:
        content = json.dumps(line).encode()  # escapes, in which `parse_line` sees half of a surrogate pair
        if fault := exceeds("line", len(content)):
            raise ValueError(fault)
        parsed = parse_line(content)
        LineLimits().require(parsed, len(content))
        return parsed
    except (TypeError, ValueError, RecursionError) as error:
        name = str(line.get("title") or line.get("kb_idx") or "")[:80]
        raise DataError(f"the entity{f' {name!r}' if name else ''} cannot be stored: {error}") from error


def _plain(key: str, value: Any) -> Any:
    """A value as JSON has it: whole numbers among texts and ids as text, a text alone as a list of it."""
    if value is None:
        return None
    if key in TEXTS:
        return _text(key, value, number=key == "kb_idx")
    if key in LISTS:
        if not isinstance(value, list | tuple | str):
            raise DataError(f"{key!r} of an entity is {value!r:.60}; give a list of texts")
        names = [_text(key, name, number=True) for name in ([value] if isinstance(value, str) else value)]
        return [name for name in dict.fromkeys(names) if name.strip()]
    if key in OBJECTS:
        if not isinstance(value, Mapping):
            example = '{"freebase": "/m/04jpl"}'
            raise DataError(f"{key!r} of an entity is {value!r:.60}; give an object of texts, such as {example}")
        return {_text(key, system): _text(key, kb_id, number=True) for system, kb_id in value.items()}
    return value


def _text(key: str, value: Any, *, number: bool = False) -> str:
    if number and type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{key!r} of an entity is {value!r:.60}; give a text")
    return value
