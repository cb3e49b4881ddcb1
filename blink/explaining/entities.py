"""Entities as people and programs read them: in full, or on a line."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from blink.data.display import one_line
from blink.data.ids import id_or_row
from blink.data.records import Entity
from blink.kb.catalogue_line import line_of
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.shown import history, transaction_text
from blink.kb.name_search import NamedEntity
from blink.kb.popularity import POPULARITY

_INDENT = 14
_SHOWN_KEYS = frozenset(("title", "text", "kb_idx", "idx", "aliases", "types", "tags", "ids", "entity"))


def shortened(text: str, longest: int) -> str:
    """``text`` on one line of at most ``longest`` characters, cut behind a word where it has blanks."""
    line = one_line(text, longest)
    head, blank, _ = line.rpartition(" ")
    return f"{head.rstrip(' ,;:.')}…" if line.endswith("…") and blank and 2 * len(head) > longest else line


def entity_line(entity: Entity, width: int, match: str = "") -> str:
    """An entity on one line: its id, title, how it matched, types, and its description as far as there is room."""
    head = f"{one_line(id_or_row(entity.kb_id, entity.row)):<10}  {one_line(entity.title)}"
    notes = [match] if match and match != "title" else []
    notes += [one_line(of) for of in entity.types[:2]]
    head += f"  [{', '.join(notes)}]" if notes else ""
    room = width - len(head) - 2
    return f"{head}  {shortened(entity.text, room)}" if entity.text and room >= 20 else head


def entity_object(kb: KnowledgeBase, entity: Entity, match: str | None = None) -> dict[str, Any]:
    """The JSON object of an entity: its row, how it matched, what its line holds, and its popularity."""
    value: dict[str, Any] = {"row": entity.row} | ({} if match is None else {"match": match})
    return value | line_of(entity) | {"popularity": _popularity(kb, entity.row)} | _other_keys(kb, entity)


def entity_lines(kb: KnowledgeBase, entity: Entity, width: int) -> Iterator[str]:
    """The lines of an entity in full: ids, types, tags, aliases, popularity, description, and where it is from."""
    yield one_line(entity.title)
    fields = [("id", entity.kb_id), ("row", str(entity.row)), ("address", entity.url), *entity.ids]
    fields += [(name, ", ".join(getattr(entity, name))) for name in ("types", "tags", "aliases")]
    popularity = _popularity(kb, entity.row)
    fields += [("popularity", None if popularity is None else f"{popularity:.2f}"), ("text", entity.text)]
    fields += [
        (name, value if isinstance(value, str) else json.dumps(value)) for name, value in _other_keys(kb, entity).items()
    ]
    fields.append(("from", _origin(kb, entity.row)))
    for name, value in fields:
        if value:
            head = f"  {one_line(name, _INDENT - 3):<{_INDENT - 2}}"
            yield textwrap.fill(one_line(value), max(width, 40), initial_indent=head, subsequent_indent=" " * _INDENT)


def found_lines(kb: KnowledgeBase, entities: list[NamedEntity], width: int, *, as_json: bool) -> Iterator[str]:
    """A line for each entity of a search."""
    for named in entities:
        if as_json:
            yield json.dumps(entity_object(kb, named.entity, named.match), ensure_ascii=False)
        else:
            yield entity_line(named.entity, width, named.match)


def _popularity(kb: KnowledgeBase, row: int) -> float | None:
    return None if kb.names is None else round(float(kb.names.popularity[[row]][0, POPULARITY]), 4)


def _other_keys(kb: KnowledgeBase, entity: Entity) -> dict[str, Any]:
    """What else the line of an entity holds, such as its source and licence."""
    line = json.loads(kb.catalogue.line(entity.row))
    return {key: value for key, value in line.items() if key not in _SHOWN_KEYS and value not in (None, "", [], {})}


def _origin(kb: KnowledgeBase, row: int) -> str:
    """Where an entity is from: its line in the catalogue, or its last edit."""
    if row in kb.changes.entities:
        edits = (transaction for transaction, _ in history(kb.state) if any(edit.row == row for edit in transaction.edits))
        *_, last = edits
        return f"edit {next(transaction_text(last))}"
    return f"{kb.catalogue.path}, line {row + 1:,}"
