"""Data extension: the values of properties of entities, as columns of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from blink.data.ids import system_of
from blink.kb.knowledge_base import KnowledgeBase
from blink.serving.reconciliation.queries import ExtensionQuery
from blink.serving.reconciliation.schema import ID, URL, Schema, id_of, line_at, row_of_id, values_of

MAX_IDS = 1000
"""Entities of a request."""
SETTINGS = [
    {"name": "limit", "label": "Values", "type": "number", "default": 0, "help_text": "most values of an entity; 0 for all"}
]
"""What people may set for each property."""


def extension(query: ExtensionQuery, kb: KnowledgeBase, schema: Schema) -> dict[str, Any]:
    """The values of properties by entity; unknown ids and properties have none."""
    properties = [(key, schema.properties[key].name if key in schema.properties else key) for key, _ in query.properties]
    rows = {kb_id: _row(kb_id, query, kb, schema) for kb_id in query.ids}
    return {"meta": [{"id": key, "name": name} for key, name in properties], "rows": rows}


def _row(kb_id: str, query: ExtensionQuery, kb: KnowledgeBase, schema: Schema) -> dict[str, list[dict[str, Any]]]:
    row = row_of_id(kb, kb_id)
    of_row = None if row is None else line_at(kb, row)
    if of_row is None:
        return {key: [] for key, _ in query.properties}
    entity, line = of_row
    return {
        key: [cell_of(value, kb, key, schema) for value in values_of(entity, line, key)[: limit or None]]
        for key, limit in query.properties
    }


def cell_of(value: Any, kb: KnowledgeBase, name: str, schema: Schema) -> dict[str, Any]:
    """A value as the protocol has it: text, a number, or another entity of the knowledge base.

    A field of the catalogue whose value is an id of a known system is that entity, where there is one.
    """
    if isinstance(value, Mapping):
        value = value.get("id") or value.get("name") or value.get("title") or str(dict(value))
    if isinstance(value, bool):
        return {"str": "true" if value else "false"}
    if isinstance(value, int):
        return {"int": value} if abs(value) < 1 << 53 else {"str": str(value)}
    if isinstance(value, float):
        return {"float": value} if math.isfinite(value) else {"str": str(value)}
    text = str(value)
    is_reference = name not in (ID, URL) and name not in schema.systems and system_of(text) is not None
    row = row_of_id(kb, text) if is_reference else None
    if row is None:
        return {"str": text}
    entity = kb.catalogue[row]
    return {"id": id_of(entity), "name": entity.title}
