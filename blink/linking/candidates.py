"""The candidate generator: dense candidates by vector, alias candidates by name, fuzzy ones by similar names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blink.data.caches import cached_calls
from blink.data.ranges import Groups, numbers_of
from blink.errors import SettingsError
from blink.kb.catalogue import Catalogue
from blink.kb.index import Index
from blink.kb.index.selector import RowSelector
from blink.kb.live.patched import PatchedMatrix, plain
from blink.kb.name_index import NameIndex
from blink.linking.analysis import DetectedMentions
from blink.linking.features import NO_MATCH, Candidates
from blink.linking.scoring import ScoredSpans

CACHED_STRINGS = 1 << 14
"""Mentions whose names are kept in memory."""
BLOCK = 1 << 10
"""Entity vectors that are copied at a time."""


class CandidateGenerator:
    """Generates candidates.

    Args:
        index: of entity vectors, for dense candidates.
        size: dense candidates of a mention.
        names: of the knowledge base, for alias and fuzzy candidates; None where it has none.
        vectors: entity vectors, for the inner products of alias and fuzzy candidates. *Shape:* (entities, d).
        selector: rows that may be candidates; None for all.
    """

    def __init__(
        self,
        index: Index,
        size: int = 10,
        names: NameIndex | None = None,
        vectors: np.ndarray | PatchedMatrix | None = None,
        selector: RowSelector | None = None,
    ) -> None:
        self.index, self.size, self.names, self.selector = index, size, names, selector
        self.vectors = None if vectors is None else plain(vectors)
        # Long texts repeat their words, and a search for similar names takes the longest.
        self._similar = None if names is None else cached_calls(self._search_similar, CACHED_STRINGS)

    def filtered(self, selector: RowSelector) -> CandidateGenerator:
        """The same for some rows alone."""
        return CandidateGenerator(self.index, self.size, self.names, self.vectors, selector)

    def _search_similar(self, string: str) -> list[int]:
        assert self.names is not None
        return self.names.fuzzy_index.similar(string, selector=self.selector)

    def retrieve(self, mentions: Sequence[DetectedMentions]) -> list[ScoredSpans]:
        """Dense candidates by inner product, one search for all inputs."""
        sizes = [len(m) for m in mentions]
        if not sum(sizes):
            return [ScoredSpans.none(self.size) for _ in mentions]
        scores, rows = self.index.search(np.concatenate([m.vectors for m in mentions]), self.size, self.selector)
        bounds = np.cumsum(sizes)[:-1]
        columns = zip(mentions, np.split(rows, bounds), np.split(scores, bounds), strict=True)
        return [ScoredSpans(m.start, m.end, m.logits, of_rows, of_scores) for m, of_rows, of_scores in columns]

    def expand(self, spans: ScoredSpans, mentions: DetectedMentions, strings: Sequence[str]) -> Candidates:
        """Add alias candidates, or fuzzy ones where a mention has none; all with inner products.

        Args:
            spans: of one or more windows, with dense candidates.
            mentions: with the vectors of the spans.
            strings: text of each span.

        Raises:
            SettingsError: the knowledge base has no names.
        """
        if self.vectors is None:
            raise SettingsError("a reranker needs the names of a knowledge base; build one with `blink kb build`")
        looked_up, of_name, kinds_of_name, namesakes = self._looked_up(strings)
        dense = spans.rows
        same = dense[looked_up.owner] == of_name[:, None]
        match, column = np.nonzero(same)
        dense_kinds = np.full(dense.shape, NO_MATCH)
        dense_kinds[looked_up.owner[match], column] = kinds_of_name[match]
        new = ~same.any(1)
        real = dense >= 0
        n_dense = real.sum(1)
        groups = Groups(n_dense + np.bincount(looked_up.owner[new], minlength=len(spans)))
        added = np.arange(len(groups.owner)) - groups.bounds[groups.owner] >= n_dense[groups.owner]
        rows = _interleaved(added, dense[real], of_name[new])
        kinds = _interleaved(added, dense_kinds[real], kinds_of_name[new])
        owner = groups.owner
        logits = _interleaved(
            added, spans.entity_logits[real], inner_products(mentions.vectors, self.vectors, rows[added], owner[added])
        )
        topics = None if mentions.topics is None else inner_products(mentions.topics, self.vectors, rows, owner)
        return Candidates(spans, groups, rows, logits, kinds, namesakes, topics)

    def _looked_up(self, strings: Sequence[str]) -> tuple[Groups, np.ndarray, np.ndarray, np.ndarray]:
        """Entities of each string: those of its name, or else those of similar names.

        Returns:
            groups of entities, their rows and kinds, *Shape:* (n,), int64, and how many have the string's name, *Shape:* (m,).
        """
        if self.names is None or self._similar is None:
            raise SettingsError("a reranker needs the names of a knowledge base; build one with `blink kb build`")
        distinct = list(dict.fromkeys(strings))
        namesakes, values = self.names.candidates_all(distinct, self.selector)
        begin, sizes = np.cumsum(namesakes) - namesakes, namesakes.copy()
        rows, kinds = [values >> 2], [values & 3]
        past = len(values)
        for i in np.flatnonzero(namesakes == 0).tolist():
            similar = self._similar(distinct[i])
            begin[i], sizes[i] = past, len(similar)
            past += len(similar)
            rows.append(np.array(similar, dtype=np.int64))
            kinds.append(np.full(len(similar), NO_MATCH))
        if len(distinct) < len(strings):
            number = {string: i for i, string in enumerate(distinct)}
            of_span = np.array([number[string] for string in strings])
            begin, sizes, namesakes = begin[of_span], sizes[of_span], namesakes[of_span]
        at = numbers_of(begin, sizes)
        return Groups(sizes), np.concatenate(rows)[at], np.concatenate(kinds)[at], namesakes


def _interleaved(added: np.ndarray, dense: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Values of dense and of added candidates as one array. ``added``: which elements are of added ones. *Shape:* (n,)."""
    values = np.empty(len(added), dtype=dense.dtype)
    values[~added], values[added] = dense, others
    return values


def inner_products(
    vectors: np.ndarray, entities: np.ndarray | PatchedMatrix, rows: np.ndarray, owner: np.ndarray
) -> np.ndarray:
    """Inner products of spans with candidates.

    Args:
        vectors: of the spans. *Shape:* (m, d), float32.
        entities: *Shape:* (entities, d).
        rows: of the candidates. *Shape:* (n,), int64.
        owner: span of each. *Shape:* (n,), int64.

    Returns:
        *Shape:* (n,), float32.
    """
    products = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        of_block = entities[rows[block]].astype(np.float32, copy=False)
        np.einsum("nd,nd->n", of_block, vectors[owner[block]], out=products[block])
    return products


def without_broken_rows(spans: ScoredSpans, catalogue: Catalogue) -> ScoredSpans:
    """Drop candidates whose rows are empty (broken lines, removed entities): their rows become -1 and move to the end."""
    bad_rows = catalogue.bad_rows
    return _without(spans, np.isin(spans.rows, bad_rows)) if bad_rows and len(spans) else spans


def without_rows(spans: ScoredSpans, is_out: np.ndarray) -> ScoredSpans:
    """Drop candidates of some rows: their rows become -1 and move to the end. ``is_out``: *shape* (entities,), bool."""
    return _without(spans, (spans.rows >= 0) & is_out[spans.rows]) if len(spans) else spans


def _without(spans: ScoredSpans, dropped: np.ndarray) -> ScoredSpans:
    if not dropped.any():
        return spans
    logits = np.where(dropped, -np.inf, spans.entity_logits)
    order = np.argsort(-logits, axis=1, kind="stable")
    rows = np.where(dropped, -1, spans.rows)
    return replace(
        spans,
        rows=np.take_along_axis(rows, order, 1),
        entity_logits=np.take_along_axis(logits, order, 1).astype(np.float32),
    )
