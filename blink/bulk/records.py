"""Records of text files and JSON Lines: one line of input to a text with its id and fields, or to what is wrong with it."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from typing import Any

from blink.data.text_lines import text_fault
from blink.errors import SettingsError
from blink.limits import limit

NOT_JSON, NO_TEXT, NOT_UNICODE, TOO_LONG, NOT_LINKED = "not JSON", "no text", "not Unicode", "too long", "not linked"
"""Kinds of errors of a record, for the counts at the end."""

ALL_FIELDS = ("all",)


@dataclass(frozen=True)
class RecordLayout:
    """What the lines of the input hold, and what the rows of the output repeat of it.

    Attributes:
        text_key: key of the text in a line of JSON; None where a line is a text.
        id_key: key of the id; None takes ``id`` where a record has it.
        carry: fields that the output repeats; `ALL_FIELDS` for all but text and id.
        keep_text: whether the output repeats the text.
        candidates: whether a link has its candidates.
        descriptions: whether a link has the description of its entity.
    """

    text_key: str | None = None
    id_key: str | None = None
    carry: tuple[str, ...] = ()
    keep_text: bool = True
    candidates: bool = True
    descriptions: bool = False

    def __post_init__(self) -> None:
        if self.text_key is None and (self.id_key is not None or self.carry):
            option = "--id-key" if self.id_key is not None else "--carry"
            raise SettingsError(f"{option} is given, and lines of text have no fields; give --text-key for lines of JSON")


@dataclass(frozen=True)
class Record:
    """A record of the input.

    Attributes:
        line: its line, from 1.
        text: its text; empty where there is an error.
        id: its id, any JSON value; None where it has none.
        fields: the carried fields.
        error: what is wrong with it, or None.
        kind: the kind of the error.
    """

    line: int
    text: str = ""
    id: Any = None
    fields: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    kind: str = ""


def parse_record(raw: bytes | None, line: int, layout: RecordLayout) -> Record | None:
    """The record of a line.

    Args:
        raw: the line with or without its end; None for one longer than the limit ``line`` of `blink.limits`.
        line: its number, from 1.
        layout: see `RecordLayout`.

    Returns:
        the record; None for a blank line between lines of JSON.
    """
    if raw is None:
        return Record(line, error=f"the line is longer than {limit('line'):,} bytes", kind=TOO_LONG)
    content = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
    try:
        decoded = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Record(line, error=f"not UTF-8 (byte {error.start})", kind=NOT_UNICODE)
    if layout.text_key is None:
        text = decoded.rstrip("\r\n")
        fault = text_fault(text)
        return Record(line, text) if fault is None else Record(line, error=fault, kind=NOT_UNICODE)
    return _parse_json(decoded, line, layout) if decoded.strip() else None


def _parse_json(content: str, line: int, layout: RecordLayout) -> Record:
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        return Record(line, error=f"not JSON ({error.msg} at column {error.colno})", kind=NOT_JSON)
    except (ValueError, RecursionError):
        return Record(line, error="not JSON that can be read (nested too deep, or a number too long)", kind=NOT_JSON)
    if not isinstance(value, dict):
        return Record(line, error=f"not a JSON object but {_json_type(value)}", kind=NOT_JSON)
    key = layout.text_key
    identity = value.get(layout.id_key or "id")
    names = [name for name in value if name not in (key, layout.id_key or "id")] if layout.carry == ALL_FIELDS else layout.carry
    carried = {name: value[name] for name in names if name in value}
    text = value.get(key)
    if not isinstance(text, str):
        keys = ", ".join(map(repr, list(value)[:8]))
        fault = f"{key!r} is {_json_type(text)}, not a string" if key in value else f"no key {key!r} (keys: {keys or 'none'})"
        return Record(line, id=identity, fields=carried, error=fault, kind=NO_TEXT)
    wrong = text_fault(text)
    if wrong is not None:
        return Record(line, id=identity, fields=carried, error=wrong, kind=NOT_UNICODE)
    return Record(line, text, identity, carried)


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
