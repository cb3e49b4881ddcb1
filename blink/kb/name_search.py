"""Entities by name, for people who look for one: those of exactly the name, then variants of it, then similar names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from blink.data.records import Entity
from blink.errors import SettingsError
from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, VARIANT
from blink.kb.index.selector import RowSelector
from blink.kb.name_index import NameIndex
from blink.kb.popularity import POPULARITY

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase

MATCHES = {TITLE: "title", BARE_TITLE: "title", ALIAS: "alias", VARIANT: "variant"}
SIMILAR, MEANING = "similar", "meaning"


@dataclass(frozen=True)
class NamedEntity:
    """An entity that was searched for.

    Attributes:
        entity: the entity.
        match: how it has the name: as ``title`` or ``alias``, as a ``variant`` of either, by a ``similar`` name, or by
            its ``meaning``.
        popularity: see `blink.kb.popularity`.
    """

    entity: Entity
    match: str
    popularity: float


def search_names(
    kb: KnowledgeBase, text: str, limit: int = 20, selector: RowSelector | None = None, *, meaning: bool = False
) -> list[NamedEntity]:
    """At most ``limit`` entities by name: titles, aliases, variants, then similar names; of each the most popular first.

    Args:
        kb: the knowledge base.
        text: a name, or a part of one.
        limit: most entities.
        selector: rows that may be returned; None for all.
        meaning: fill up with the entities whose description the encoder finds the nearest to the text.

    Raises:
        SettingsError: the limit is below 1, or the knowledge base has no names, or no encoder for their meaning.
    """
    if limit < 1:
        raise SettingsError(f"{limit} entities were requested; request at least 1")
    if kb.names is None:
        raise SettingsError("the knowledge base has no names; build one with `blink kb build`")
    matches = _ranked(kb.names, text, limit, selector)
    return _described(kb, chain(matches, _near(kb, text, limit, selector)) if meaning else matches, limit)


def _described(kb: KnowledgeBase, matches: Iterable[tuple[int, str]], limit: int) -> list[NamedEntity]:
    """The first ``limit`` distinct entities of rows and how they match."""
    assert kb.names is not None
    of_row: dict[int, str] = {}
    for row, match in matches:
        of_row.setdefault(row, match)
        if len(of_row) == limit:
            break
    popularity = kb.names.popularity[list(of_row)][:, POPULARITY].tolist()
    return [NamedEntity(kb.catalogue[row], match, of) for (row, match), of in zip(of_row.items(), popularity, strict=True)]


def _ranked(names: NameIndex, text: str, limit: int, selector: RowSelector | None) -> Iterator[tuple[int, str]]:
    table = names.alias_table
    exact = [(m.row, m.kind) for m in table.lookup(text, selector=selector)]
    exact += [(m.row, m.kind) for m in table.lookup_variants(text, selector=selector)]
    popularity = names.popularity[[row for row, _ in exact]][:, POPULARITY].tolist() if exact else []
    ranks = {TITLE: 0, BARE_TITLE: 0, ALIAS: 1, VARIANT: 2}
    order = sorted(range(len(exact)), key=lambda i: (ranks[exact[i][1]], -popularity[i], exact[i][0]))
    yield from ((exact[i][0], MATCHES[exact[i][1]]) for i in order)
    yield from ((row, SIMILAR) for row in names.fuzzy_index.similar(text, limit, selector))


def _near(kb: KnowledgeBase, text: str, limit: int, selector: RowSelector | None) -> Iterator[tuple[int, str]]:
    if kb.encode is None:
        raise SettingsError("to search by meaning, give the model that made the vectors of the knowledge base (--model)")
    _, rows = kb.index.search(np.asarray(kb.encode([Entity(0, text)]), np.float32), limit, selector)
    yield from ((row, MEANING) for row in rows[0].tolist() if row >= 0)
