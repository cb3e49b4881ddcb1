"""Records: what a source says of a thing, such as a mention with its sentence, a row of a table or the output of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from blink.data.records import Entity
from blink.data.text_lines import text_fault
from blink.errors import DataError
from blink.linking.spans import character_spans

NAMES, DESCRIPTIONS, TYPES = ("name", "mention", "title", "text"), ("description", "summary"), ("type", "types", "label")
"""Keys that a name, a description and types may have, the first one that is there."""
KNOWN = frozenset((*NAMES, *DESCRIPTIONS, *TYPES, "context", "aliases", "id", "source", "spans"))
RecordLike: TypeAlias = "Record | Mapping[str, Any] | str"


@dataclass(frozen=True)
class Record:
    """What a source says of a thing.

    Attributes:
        name: as the source writes it.
        description: what it is, in a few words or sentences.
        context: the sentence around a mention.
        types: what it is, such as ``person``.
        aliases: other names.
        id: of the thing, where the source knows one: records with one id are one thing, and with different ids of one source
            different things.
        source: where the record comes from, such as the name of a file.
        span: characters ``[start, end)`` of ``context`` that are the name.
        extra: other fields, which are repeated in the output.
    """

    name: str
    description: str = ""
    context: str = ""
    types: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    id: str | None = None
    source: str = ""
    span: tuple[int, int] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def text(self) -> str:
        """Description and context together."""
        return " ".join(filter(None, (self.description, self.context)))

    @property
    def id_system(self) -> str:
        """The system of its id: its source."""
        return self.source or "record"

    def entity(self, row: int = -1, kb_id: str | None = None) -> Entity:
        """The entity that the record describes."""
        return Entity(row, self.name, self.description or self.context, kb_id, aliases=self.aliases, types=self.types)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that follow from all that is compared; sources and other fields are not."""
        values = [self.name, self.description, self.context, self.types, self.aliases, self.id]
        return hashlib.blake2b(json.dumps(values, ensure_ascii=False).encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The fields that have a value."""
        types = self.types[0] if len(self.types) == 1 else list(self.types)
        values: dict[str, Any] = {"name": self.name, "description": self.description, "context": self.context, "type": types}
        values |= {"aliases": list(self.aliases), "id": self.id, "source": self.source}
        values |= {"span": None if self.span is None else list(self.span)}
        return {key: value for key, value in values.items() if value} | dict(self.extra)


def records_from(values: Iterable[RecordLike], where: str = "record") -> Iterator[Record]:
    """The records of strings, mappings and records; a text with ``spans`` gives one record a span.

    Args:
        values: in any order; a string is a name.
        where: what to call them in messages, before their number.

    Raises:
        DataError: one is no record; the message names it.
    """
    for number, value in enumerate(values, 1):
        if isinstance(value, Record):
            yield value
        else:
            yield from _parsed(value, f"{where} {number}")


def _parsed(value: Any, where: str) -> Iterator[Record]:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is {type(value).__name__}; give a name, or an object with 'name'")
    spans = value.get("spans")
    if spans is None:
        yield _record(value, where)
        return
    text = _string(value, ("text", "context"), where)
    if isinstance(spans, str) or not isinstance(spans, Sequence):
        raise DataError(f"{where}: 'spans' is {type(spans).__name__}; give a list of [start, end] or [start, end, type]")
    shared = {key: item for key, item in value.items() if key not in ("text", "context", "spans")}
    for (start, end), span in zip(character_spans(spans), spans, strict=True):
        if not 0 <= start < end <= len(text):
            raise DataError(f"{where}: span [{start}, {end}] is outside the text of {len(text)} characters; count characters")
        label = span.get("label", span.get("type")) if isinstance(span, Mapping) else span[2] if len(span) > 2 else None
        of_span = shared | {"name": text[start:end], "context": text} | ({"type": label} if isinstance(label, str) else {})
        yield _record(of_span, where, (start, end))


def _record(value: Mapping[str, Any], where: str, span: tuple[int, int] | None = None) -> Record:
    name = " ".join(_string(value, NAMES, where).split())
    if not name:
        keys = ", ".join(map(repr, list(value)[:6])) or "nothing"
        raise DataError(f"{where} has no name (it has {keys}); give one of {', '.join(map(repr, NAMES))}")
    of_id = value.get("id")
    if of_id is not None and (isinstance(of_id, bool) or not isinstance(of_id, str | int)):
        raise DataError(f"{where}: 'id' is {type(of_id).__name__}; give text or a whole number")
    # "text" is the name where there is no other, and the sentence around it where there is one.
    has_name = any(value.get(key) for key in NAMES if key != "text")
    context = _string(value, ("context", "text") if has_name else ("context",), where)
    return Record(
        name=name,
        description=_string(value, DESCRIPTIONS, where),
        context=context,
        types=_strings(value, TYPES, where),
        aliases=_strings(value, ("aliases",), where),
        id=str(of_id) if of_id not in (None, "") else None,
        source=_string(value, ("source",), where),
        span=span,
        extra={key: item for key, item in value.items() if key not in KNOWN},
    )


def _string(value: Mapping[str, Any], keys: Sequence[str], where: str) -> str:
    for key in keys:
        item = value.get(key)
        if item is None or item == "":
            continue
        if not isinstance(item, str):
            raise DataError(f"{where}: {key!r} is {type(item).__name__}; give text")
        if (fault := text_fault(item)) is not None:
            raise DataError(f"{where}: {key!r} has {fault}; give well-formed text")
        return item.strip()
    return ""


def _strings(value: Mapping[str, Any], keys: Sequence[str], where: str) -> tuple[str, ...]:
    for key in keys:
        item = value.get(key)
        if item is None or item == "" or item == []:
            continue
        items = [item] if isinstance(item, str) else item
        if not isinstance(items, Sequence) or not all(isinstance(text, str) for text in items):
            raise DataError(f"{where}: {key!r} is {type(item).__name__}; give text, or a list of texts")
        for text in items:
            if (fault := text_fault(text)) is not None:
                raise DataError(f"{where}: {key!r} has {fault}; give well-formed text")
        return tuple(dict.fromkeys(text.strip() for text in items if text.strip()))
    return ()
