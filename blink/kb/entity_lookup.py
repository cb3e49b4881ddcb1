"""Entities by what people type for one: an id in any form, a row, or a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blink.data.ids import id_or_row
from blink.data.records import Entity
from blink.errors import DataError
from blink.kb.name_search import search_names

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase

_NEAR = 3


def entities_of(kb: KnowledgeBase, text: str) -> list[Entity]:
    """The entity with an id, or else that of a row, or else all of a name, the most popular first.

    Raises:
        DataError: there is none; the message names similar ones.
    """
    row = kb.catalogue.row_of(text)
    if row is None and text.isascii() and text.isdigit() and len(text) < 20:
        row = kb.catalogue.row_of(f"row:{text}")
    if row is not None:
        return [kb.catalogue[row]]
    named = search_names(kb, text, len(kb.catalogue))
    exact = [of.entity for of in named if of.match in ("title", "alias")]
    if exact:
        return exact
    near = ", ".join(f"{of.entity.title} ({id_or_row(of.entity.kb_id, of.entity.row)})" for of in named[:_NEAR])
    remedy = f"similar: {near}" if near else "blink kb list KB shows what there is"
    raise DataError(f"no entity has the id, row or name {text!r}; {remedy}")
