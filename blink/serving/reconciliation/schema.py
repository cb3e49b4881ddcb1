"""What a knowledge base says of its entities: types, properties and their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blink.data.ids import SYSTEMS, id_or_row, system_of
from blink.data.records import Entity
from blink.errors import SettingsError
from blink.kb.attribute_table import attributes_of, folded
from blink.kb.catalogue_line import entity_from, line_of
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.lines import KEYS

SAMPLE = 1000
"""Entities whose lines are examined for the properties that they have."""
_LINE_KEYS = frozenset((*KEYS.values(), "alias_counts", "popularity", "removed"))
Line = Mapping[str, Any]
Value = str | int | float


@dataclass(frozen=True)
class Property:
    """Something that entities have values of.

    Attributes:
        id: by which clients name it.
        name: for people.
        description: in a few words.
    """

    id: str
    name: str
    description: str

    def to_json(self) -> dict[str, str]:
        """As the protocol has it."""
        return {"id": self.id, "name": self.name, "description": self.description}


NAME, DESCRIPTION, ALIAS, TYPE, TAG, CONTEXT = "name", "description", "alias", "type", "tag", "context"
ID, URL, POPULARITY = "id", "url", "popularity"
_OWN: dict[str, tuple[Property, Callable[[Entity], Iterable[Value | None]]]] = {
    of.id: (of, values)
    for of, values in (
        (Property(NAME, "Name", "the title of the entity"), lambda e: [e.title]),
        (Property(DESCRIPTION, "Description", "what it is, in a few words"), lambda e: [e.text or None]),
        (Property(ALIAS, "Other name", "another name of the entity"), lambda e: e.aliases),
        (Property(TYPE, "Type", "what it is, such as city"), lambda e: e.types),
        (Property(TAG, "Tag", "a label of the owner of the knowledge base"), lambda e: e.tags),
        (Property(ID, "Id", "its id in this knowledge base"), lambda e: [e.kb_id]),
        (Property(URL, "Address", "its page"), lambda e: [e.url]),
        (Property(POPULARITY, "Popularity", "7 - log10 of its rank, where the catalogue says it"), lambda e: [e.popularity]),
    )
}
CONTEXT_PROPERTY = Property(CONTEXT, "Sentence", "the sentence around the name; queries alone have it")
"""What entities have no values of: a query with it is linked in its sentence."""


@dataclass(frozen=True)
class Schema:
    """Types and properties of a state of a knowledge base.

    Attributes:
        types: with the number of entities of each, the most frequent first.
        properties: that entities may have.
        systems: properties that are ids of other systems.
        has_wikidata_ids: whether most ids are those of Wikidata.
    """

    types: Mapping[str, int]
    properties: Mapping[str, Property]
    systems: frozenset[str]
    has_wikidata_ids: bool
    _names: Mapping[str, str] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, kb: KnowledgeBase) -> Schema:
        """The schema of a knowledge base, edits included; keys of lines are those of a sample."""
        entities, lines = _sample(kb)
        systems = dict.fromkeys(system for entity in entities for system in _systems(entity) if system not in _OWN)
        keys = dict.fromkeys(key for line in lines for key in line if key not in _LINE_KEYS)
        extra = {system: Property(system, system, f"its id in {system}") for system in systems}
        extra |= {key: Property(key, key, "a field of the catalogue") for key in keys if key not in _OWN and key not in extra}
        with_id = [entity for entity in entities if entity.kb_id]
        wikidata = sum(system_of(entity.kb_id or "") == "wikidata" for entity in with_id)
        types = _types(kb)
        names = {folded(name): name for name in types}
        properties = {key: of for key, (of, _) in _OWN.items()} | extra
        return cls(types, properties, frozenset(systems), 2 * wikidata > len(with_id), names)

    def type_named(self, name: str) -> str | None:
        """The type of a name, as the first entity that has it writes it; None if none has it."""
        return self._names.get(folded(name))


def values_of(entity: Entity, line: Line, name: str) -> list[Any]:
    """The values of a property of an entity, as text, numbers, or objects of its line.

    Args:
        entity: the entity.
        line: its line of the catalogue.
        name: id of the property.
    """
    if name in _OWN:
        return [value for value in _OWN[name][1](entity) if value is not None]
    normal_form = SYSTEMS.get(name)
    own = None if normal_form is None else normal_form(entity.kb_id or "") or normal_form(entity.url or "")
    values: list[Any] = [own] if own else []
    values += [value for system, value in entity.ids if system == name and value != own]
    extra = line.get(name) if name not in _LINE_KEYS else None
    return values + [value for value in (extra if isinstance(extra, list) else [extra]) if value not in (None, "")]


def line_at(kb: KnowledgeBase, row: int) -> tuple[Entity, Line] | None:
    """The entity of a row and its line, edits included; None if the row is empty."""
    if kb.folder is None:
        entity = kb.catalogue[row]
        return (entity, line_of(entity)) if entity.title else None
    line = kb.state.line(row)
    return None if line is None else (entity_from(row, dict(line)), line)


def row_of_id(kb: KnowledgeBase, kb_id: str) -> int | None:
    """The row of an id in any form, ``row:7`` included; None if no entity has it."""
    row = kb.catalogue.row_of(kb_id) if kb_id.strip() else None
    return None if row is None or kb.catalogue.is_bad(row) else row


def id_of(entity: Entity) -> str:
    """The id by which the protocol names an entity: its own, or its row."""
    return id_or_row(entity.kb_id, entity.row)


def rows_of_type(kb: KnowledgeBase, name: str) -> RowSelector | None:
    """Rows of the entities of a type of `Schema.types`; None where edits took it away from all that had it."""
    try:
        selector = kb.selector({TYPE: [name]})
    except SettingsError:
        return None
    return selector if selector else None  # a filter that was accepted before allows no rows then


def properties_of_type(kb: KnowledgeBase, schema: Schema, type_name: str | None) -> list[Property]:
    """Properties that entities of a type have, by how many of a sample of them do; of all entities for no type."""
    name = None if type_name is None else schema.type_named(type_name)
    rows = None if name is None else rows_of_type(kb, name)
    counts: Counter[str] = Counter()
    for entity, line in _lines(kb, _spread(len(kb.catalogue)) if rows is None else rows.rows[_spread(len(rows))]):
        counts.update(key for key in schema.properties if values_of(entity, line, key))
    return [schema.properties[key] for key, _ in sorted(counts.items(), key=lambda of: (-of[1], of[0]))]


def _systems(entity: Entity) -> Iterator[str]:
    """The systems of ids of an entity, that of its own id and of its page included."""
    yield from (system for system, _ in entity.ids)
    yield from (system for value in (entity.kb_id, entity.url) if value and (system := system_of(value)) is not None)


def _sample(kb: KnowledgeBase) -> tuple[list[Entity], list[Line]]:
    rows = [*_spread(len(kb.catalogue)).tolist(), *list(kb.changes.entities)[-SAMPLE:]]
    lines = list(_lines(kb, dict.fromkeys(rows)))
    return [entity for entity, _ in lines], [line for _, line in lines]


def _lines(kb: KnowledgeBase, rows: Iterable[int]) -> Iterator[tuple[Entity, Line]]:
    yield from (of for row in rows if (of := line_at(kb, int(row))) is not None)


def _spread(n_rows: int) -> np.ndarray:
    """Numbers of at most `SAMPLE` rows, all over. *Shape:* (rows,), int64."""
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, SAMPLE)).astype(np.int64)) if n_rows else np.empty(0, np.int64)


def _types(kb: KnowledgeBase) -> dict[str, int]:
    """Types by the number of entities that have them, those of edits added; what an edit took away still counts."""
    base = kb.view.base
    counts: Counter[str] = Counter()
    if base.attributes is not None:
        counts.update(dict(base.attributes.values("type")))
    names = {folded(name): name for name in counts}
    for entity in kb.changes.entities.values():
        for attribute, value in () if entity is None else attributes_of(entity):
            if attribute == "type":
                counts[names.setdefault(folded(value), value)] += 1
    return dict(sorted(counts.items(), key=lambda of: (-of[1], of[0])))
