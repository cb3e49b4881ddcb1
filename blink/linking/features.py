"""Evidence from names: whether a mention is spelt as a title or an alias of an entity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blink.kb.forms import ALIAS, TITLE, FormMatch, SurfaceForms
from blink.linking.scoring import ScoredSpans


@dataclass(frozen=True)
class NameWeights:
    """What is added to scores for a match of names; all zero is the bi-encoder's score as it is.

    Attributes:
        title: to an entity's inner product when the mention is its title.
        alias: the same for an alias.
        known: to a mention's score when it is a title or alias of anything in the catalogue.
    """

    title: float = 0.0
    alias: float = 0.0
    known: float = 0.0

    @property
    def active(self) -> bool:
        """Whether any weight changes a score."""
        return any((self.title, self.alias, self.known))

    def of_kinds(self) -> np.ndarray:
        """Weights by kind of match. *Shape:* (3,): none, alias, title."""
        weights = np.zeros(3, dtype=np.float32)
        weights[ALIAS], weights[TITLE] = self.alias, self.title
        return weights


@dataclass(frozen=True)
class NameEvidence:
    """Spans with every candidate, by vector and by name, before any weight.

    Attributes:
        spans: candidates found by vector, then those added by name; unordered beyond that.
        kinds: kind of match of each candidate: 0, `ALIAS` or `TITLE`. *Shape:* (m, candidates), int64.
        known: whether the mention is a name of anything. *Shape:* (m,), bool.
    """

    spans: ScoredSpans
    kinds: np.ndarray
    known: np.ndarray

    def weigh(self, weights: NameWeights, k: int) -> ScoredSpans:
        """Add the weights to the scores and keep the ``k`` best candidates of each span."""
        spans = self.spans
        logits = np.where(spans.rows >= 0, spans.entity_logits + weights.of_kinds()[self.kinds], -np.inf)
        order = np.lexsort((spans.rows, -logits), axis=1)[:, :k]
        return replace(
            spans,
            mention_logits=(spans.mention_logits + weights.known * self.known).astype(np.float32),
            rows=np.take_along_axis(spans.rows, order, 1),
            entity_logits=np.take_along_axis(logits, order, 1).astype(np.float32),
        )


class NameFeatures:
    """Adds entities whose name the mention is to its candidates, and weighs matches into the scores.

    Args:
        forms: the catalogue's surface forms.
        vectors: entity vectors, for the scores of added candidates. *Shape:* (entities, d).
        weights: of the features.
    """

    def __init__(self, forms: SurfaceForms, vectors: np.ndarray, weights: NameWeights) -> None:
        self.forms, self.vectors, self.weights = forms, vectors, weights

    def refine(self, spans: ScoredSpans, mentions: np.ndarray, strings: Sequence[str]) -> ScoredSpans:
        """Rescore candidates; as many are kept as came in. Arguments as of `gather`."""
        return self.gather(spans, mentions, strings).weigh(self.weights, spans.rows.shape[1]) if len(spans) else spans

    def gather(self, spans: ScoredSpans, mentions: np.ndarray, strings: Sequence[str]) -> NameEvidence:
        """Look up names and add the entities they belong to.

        Args:
            spans: at least one, with candidates found by vector.
            mentions: vectors of the spans. *Shape:* (m, d).
            strings: text of each span.
        """
        matches = [self.forms.find(s) for s in strings]
        wide = self._with_named(spans, mentions, matches)
        kinds = np.zeros(wide.rows.shape, dtype=np.int64)
        for i, found in enumerate(matches):
            for match in found:
                kinds[i, wide.rows[i] == match.row] = match.kind
        return NameEvidence(wide, kinds, np.array([bool(found) for found in matches]))

    def _with_named(self, spans: ScoredSpans, mentions: np.ndarray, matches: Sequence[Sequence[FormMatch]]) -> ScoredSpans:
        retrieved = [set(row) for row in spans.rows.tolist()]
        new = [[m.row for m in found if m.row not in seen] for found, seen in zip(matches, retrieved, strict=True)]
        width = max(map(len, new))
        if not width:
            return spans
        rows = np.full((len(new), width), -1, dtype=np.int64)
        logits = np.full(rows.shape, -np.inf, dtype=np.float32)
        for i, added in enumerate(new):
            if added:
                rows[i, : len(added)] = added
                logits[i, : len(added)] = self.vectors[added].astype(np.float32) @ mentions[i]
        return replace(
            spans, rows=np.concatenate([spans.rows, rows], 1), entity_logits=np.concatenate([spans.entity_logits, logits], 1)
        )
