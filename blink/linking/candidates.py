"""The candidate generator: dense candidates by vector, alias candidates by name, fuzzy ones by similar names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from blink.errors import SettingsError
from blink.kb.alias_table import AliasMatch
from blink.kb.catalogue import Catalogue
from blink.kb.index import CoarseIndex, ExactIndex, Index
from blink.kb.knowledge_base import NameIndex
from blink.linking.analysis import DetectedMentions
from blink.linking.features import Candidates
from blink.linking.scoring import ScoredSpans

CACHED_STRINGS = 1 << 14
"""Mentions whose names are kept in memory."""
LARGEST_COPY = 1 << 31
"""Bytes that a copy of the entity vectors in bfloat16 may take."""


@dataclass(frozen=True)
class _NameLookup:
    """Result of the name index for a mention.

    Attributes:
        matches: entities of exactly that name, or of a variant of it.
        rows: entities to add as candidates: the matches, or else those of similar names.
    """

    matches: Sequence[AliasMatch]
    rows: Sequence[int]


class CandidateGenerator:
    """Generates candidates.

    Args:
        index: of entity vectors, for dense candidates.
        size: dense candidates of a mention.
        names: of the knowledge base, for alias and fuzzy candidates; None where it has none.
        vectors: entity vectors, for the inner products of alias and fuzzy candidates. *Shape:* (entities, d).
    """

    def __init__(self, index: Index, size: int = 10, names: NameIndex | None = None, vectors: np.ndarray | None = None) -> None:
        self.index, self.size, self.names, self.vectors = index, size, names, vectors
        # Long texts repeat their words, and a lookup without a match is the slowest.
        self._cached_lookup = lru_cache(maxsize=CACHED_STRINGS)(self._lookup)

    def retrieve(self, mentions: Sequence[DetectedMentions]) -> list[ScoredSpans]:
        """Dense candidates by inner product, one search for all inputs."""
        sizes = [len(m) for m in mentions]
        if not sum(sizes):
            return [ScoredSpans.none(self.size) for _ in mentions]
        scores, rows = self.index.search(np.concatenate([m.vectors for m in mentions]), self.size)
        bounds = np.cumsum(sizes)[:-1]
        columns = zip(mentions, np.split(rows, bounds), np.split(scores, bounds), strict=True)
        return [ScoredSpans(m.start, m.end, m.logits, of_rows, of_scores) for m, of_rows, of_scores in columns]

    def expand(self, spans: ScoredSpans, mentions: DetectedMentions, strings: Sequence[str]) -> Candidates:
        """Add alias candidates, or fuzzy ones where a mention has none; all with inner products.

        Args:
            spans: at least one, with dense candidates.
            mentions: with the vectors of the spans.
            strings: text of each span.

        Raises:
            SettingsError: the knowledge base has no names.
        """
        if self.names is None or self.vectors is None:
            raise SettingsError("a reranker needs the names of a knowledge base; build one with `blink kb build`")
        lookups = [self._cached_lookup(string) for string in strings]
        dense = [set(row) for row in spans.rows.tolist()]
        added = [[r for r in lookup.rows if r not in known] for lookup, known in zip(lookups, dense, strict=True)]
        spans = self._widened(spans, mentions.vectors, self.vectors, added)
        topic_logits = None if mentions.topics is None else inner_products(mentions.topics, self.vectors, spans.rows)
        return Candidates(spans, [lookup.matches for lookup in lookups], topic_logits)

    def _lookup(self, string: str) -> _NameLookup:
        assert self.names is not None
        matches = self.names.candidates(string)
        return _NameLookup(matches, [m.row for m in matches] or self.names.fuzzy_index.similar(string))

    @staticmethod
    def _widened(spans: ScoredSpans, vectors: np.ndarray, entities: np.ndarray, added: Sequence[Sequence[int]]) -> ScoredSpans:
        width = max(map(len, added))
        if not width:
            return spans
        rows = np.full((len(added), width), -1, dtype=np.int64)
        logits = np.full(rows.shape, -np.inf, dtype=np.float32)
        for i, new in enumerate(added):
            if new:
                rows[i, : len(new)] = new
                logits[i, : len(new)] = entities[new].astype(np.float32) @ vectors[i]
        return replace(
            spans, rows=np.concatenate([spans.rows, rows], 1), entity_logits=np.concatenate([spans.entity_logits, logits], 1)
        )


def inner_products(vectors: np.ndarray, entities: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products of each span with its candidates; where there is none (row -1), anything.

    Args:
        vectors: *Shape:* (m, d), float32.
        entities: *Shape:* (entities, d).
        rows: *Shape:* (m, candidates), int64.

    Returns:
        *Shape:* (m, candidates), float32.
    """
    products: np.ndarray = np.matmul(entities[rows].astype(np.float32, copy=False), vectors[:, :, None])[..., 0]
    return products


def coarse_index(index: Index) -> Index:
    """For an exact index a search over bfloat16 copies before the exact one, see `CoarseIndex`; others unchanged."""
    small = index.size * index.dim * 2 <= LARGEST_COPY
    return CoarseIndex(index) if isinstance(index, ExactIndex) and small else index


def without_broken_rows(spans: ScoredSpans, catalogue: Catalogue) -> ScoredSpans:
    """Drop candidates that are broken lines of the catalogue: their rows become -1 and move to the end."""
    if not catalogue.skipped or not len(spans):
        return spans
    broken = np.array([[r >= 0 and catalogue.is_bad(r) for r in rows] for rows in spans.rows.tolist()])
    logits = np.where(broken, -np.inf, spans.entity_logits)
    order = np.argsort(-logits, axis=1, kind="stable")
    rows = np.where(broken, -1, spans.rows)
    return replace(
        spans,
        rows=np.take_along_axis(rows, order, 1),
        entity_logits=np.take_along_axis(logits, order, 1).astype(np.float32),
    )
