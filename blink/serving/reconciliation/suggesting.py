"""Suggestions for what people type: entities, types and properties, those that begin with it first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from blink.data.records import Entity
from blink.kb.attribute_table import folded
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.name_search import search_names
from blink.kb.title_prefix import rows_with_prefix
from blink.serving.reconciliation.candidates import LONGEST_DESCRIPTION
from blink.serving.reconciliation.pages import counted
from blink.serving.reconciliation.schema import CONTEXT_PROPERTY, Property, Schema, id_of, row_of_id

PAGE = 20
"""Suggestions of an answer; ``cursor`` skips those of earlier ones."""
MAX_CURSOR = 1000


def suggested_entities(kb: KnowledgeBase, prefix: str, cursor: int = 0) -> list[dict[str, Any]]:
    """Entities with an id, a name or the beginning of a title, those of the id and of exactly the name first.

    Args:
        kb: the knowledge base.
        prefix: what was typed.
        cursor: suggestions to skip.
    """
    most = cursor + PAGE
    rows = dict.fromkeys(islice(_rows(kb, prefix, most), most))
    entities = (kb.catalogue[row] for row in list(rows)[cursor:])
    return [_entity_json(entity) for entity in entities if entity.title]


def _rows(kb: KnowledgeBase, prefix: str, limit: int) -> Iterator[int]:
    row = row_of_id(kb, prefix)
    named = search_names(kb, prefix, limit) if kb.names is not None and prefix.strip() else []
    equal = [of.entity.row for of in named if of.match in ("title", "alias")]
    others = [of.entity.row for of in named]
    unique = dict.fromkeys(chain([] if row is None else [row], equal, rows_with_prefix(kb, prefix, limit), others))
    yield from unique


def _entity_json(entity: Entity) -> dict[str, Any]:
    types = [{"id": name, "name": name} for name in entity.types]
    return {
        "id": id_of(entity), "name": entity.title, "description": entity.text[:LONGEST_DESCRIPTION], "notable": types,
    }  # fmt: skip


def suggested_types(schema: Schema, prefix: str, cursor: int = 0) -> list[dict[str, Any]]:
    """Types that begin with what was typed, then those with a word that does; of each the most frequent first."""
    names = _ranked([(name, folded(name)) for name in schema.types], prefix)
    return [{"id": name, "name": name, "description": counted(schema.types[name])} for name in names[cursor:][:PAGE]]


def suggested_properties(schema: Schema, prefix: str, cursor: int = 0) -> list[dict[str, str]]:
    """Properties whose id or name begins with what was typed, or has a word that does."""
    properties: dict[str, Property] = {**schema.properties, CONTEXT_PROPERTY.id: CONTEXT_PROPERTY}
    keys = _ranked([(key, folded(f"{key} {of.name}")) for key, of in properties.items()], prefix)
    return [properties[key].to_json() for key in keys[cursor:][:PAGE]]


def _ranked(named: list[tuple[str, str]], prefix: str) -> list[str]:
    form = folded(prefix)
    first = [key for key, text in named if text.startswith(form)]
    later = [key for key, text in named if not text.startswith(form) and any(w.startswith(form) for w in text.split())]
    return first + later
