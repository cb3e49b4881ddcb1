"""Entities by title and alias: alias table, fuzzy index and popularity together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.data.ranges import bounds_of
from blink.kb.alias_table import AliasMatch, AliasTable
from blink.kb.fuzzy_index import FuzzyIndex, SimilarNames
from blink.kb.index.selector import RowSelector
from blink.kb.live.patched import PatchedMatrix
from blink.kb.name_count_table import NameCountTable
from blink.kb.popularity import POPULARITY, open_popularity

MAX_CANDIDATES_PER_ALIAS = 16
"""Most entities of one name that are candidates of a mention."""


@dataclass(frozen=True)
class NameIndex:
    """Entities by title and alias.

    Attributes:
        alias_table: look-up up to case, accents and punctuation.
        fuzzy_index: look-up of similar names.
        popularity: see `blink.kb.popularity`. *Shape:* (entities, 4), float32.
        name_counts: numbers of links by name; None where the catalogue has none.
    """

    alias_table: AliasTable
    fuzzy_index: SimilarNames
    popularity: np.ndarray | PatchedMatrix
    name_counts: NameCountTable | None = None

    @classmethod
    def open(cls, folder: str | Path, rows: int) -> NameIndex:
        """Map the tables of a knowledge base of ``rows`` entities. Raises as opening each of them does."""
        popularity = open_popularity(folder, rows)
        return cls(AliasTable.open(folder), FuzzyIndex.open(folder), popularity, NameCountTable.open(folder))

    def candidates(self, text: str, selector: RowSelector | None = None) -> list[AliasMatch]:
        """The entities named ``text``, else those with it as a variant; titles first, then by row.

        At most `MAX_CANDIDATES_PER_ALIAS` are returned: those that most links call so, then titles before aliases, then the
        most popular ones. With a selector they are of its rows.
        """
        table = self.alias_table
        matches = table.lookup(text, selector=selector) or table.lookup_variants(text, selector=selector)
        if len(matches) <= MAX_CANDIDATES_PER_ALIAS:
            return matches
        best = self._best(text, np.array([match.row for match in matches]), np.array([match.kind for match in matches]))
        return [matches[i] for i in sorted(best.tolist())]

    def candidates_all(self, texts: Sequence[str], selector: RowSelector | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`candidates` of several strings.

        Returns:
            the number of entities of each, and row * 4 + kind of all of them, in the same order. *Shape:* (texts,) and
            (matches,), int64.
        """
        counts, values = self.alias_table.lookup_all(texts, selector)
        many = np.flatnonzero(counts > MAX_CANDIDATES_PER_ALIAS).tolist()
        if not many:
            return counts, values
        kept, bounds = np.ones(len(values), dtype=bool), bounds_of(counts).tolist()
        for i in many:
            of_text = values[bounds[i] : bounds[i + 1]]
            kept[bounds[i] : bounds[i + 1]] = False
            kept[bounds[i] + self._best(texts[i], of_text >> 2, of_text & 3)] = True
            counts[i] = MAX_CANDIDATES_PER_ALIAS
        return counts, values[kept]

    def _best(self, text: str, rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Which `MAX_CANDIDATES_PER_ALIAS` of the entities of a name are its candidates. *Shape:* (candidates,), int64."""
        links = np.zeros(len(rows)) if self.name_counts is None else self.name_counts.links(text, rows)
        order: np.ndarray = np.lexsort((-self.popularity[rows][:, POPULARITY], -kinds, -links))
        return order[:MAX_CANDIDATES_PER_ALIAS]
