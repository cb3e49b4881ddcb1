"""Evidence from names: whether a mention is spelt as a title or an alias of an entity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from blink.kb.forms import ALIAS, BARE_TITLE, TITLE, FormMatch, SurfaceForms
from blink.linking.scoring import ScoredSpans


@dataclass(frozen=True)
class NameWeights:
    """What is added to scores for a match of names; all zero is the bi-encoder's score as it is.

    Attributes:
        alias: to an entity's inner product when the mention is one of its names.
        bare: to that, if the name is its title, perhaps without what stands in brackets behind it.
        title: to that, if the name is its whole title. So a title never counts less than an alias.
        only: to that of the only entity of the catalogue that has the mention as a name.
        known: to a mention's score when it is a name of anything in the catalogue.
        lower: taken from a mention's score when it begins with a small letter in a text that has capitals.
    """

    title: float = 0.0
    bare: float = 0.0
    alias: float = 0.0
    only: float = 0.0
    known: float = 0.0
    lower: float = 0.0

    @property
    def active(self) -> bool:
        """Whether any weight changes a score."""
        return any(astuple(self))

    @property
    def lift(self) -> float:
        """The most that is added to a mention's score."""
        return max(0.0, self.known) + max(0.0, -self.lower)

    def of_kinds(self) -> np.ndarray:
        """Weights by kind of match, 0 for none. *Shape:* (4,)."""
        weights = np.zeros(4, dtype=np.float32)
        weights[[ALIAS, BARE_TITLE, TITLE]] = np.cumsum([self.alias, self.bare, self.title])
        return weights


@dataclass(frozen=True)
class NameEvidence:
    """Spans with every candidate, by vector and by name, before any weight.

    Attributes:
        spans: candidates found by vector, then those added by name; unordered beyond that.
        kinds: kind of match of each candidate, 0 for none. *Shape:* (m, candidates), int64.
        known: number of entities that have the mention as a name. *Shape:* (m,), int64.
        lower: whether the mention is in small letters where capitals are in use. *Shape:* (m,), bool.
    """

    spans: ScoredSpans
    kinds: np.ndarray
    known: np.ndarray
    lower: np.ndarray

    def weigh(self, weights: NameWeights, k: int) -> ScoredSpans:
        """Add the weights to the scores and keep the ``k`` best candidates of each span."""
        spans = self.spans
        only = (self.kinds > 0) & (self.known == 1)[:, None]
        added = weights.of_kinds()[self.kinds] + weights.only * only
        logits = np.where(spans.rows >= 0, spans.entity_logits + added, -np.inf)
        order = np.lexsort((spans.rows, -logits), axis=1)[:, :k]
        mention_logits = spans.mention_logits + weights.known * (self.known > 0) - weights.lower * self.lower
        return replace(
            spans,
            mention_logits=mention_logits.astype(np.float32),
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

    def refine(self, spans: ScoredSpans, mentions: np.ndarray, strings: Sequence[str], cased: bool) -> ScoredSpans:
        """Rescore candidates; as many are kept as came in. Arguments as of `gather`."""
        return self.gather(spans, mentions, strings, cased).weigh(self.weights, spans.rows.shape[1]) if len(spans) else spans

    def gather(self, spans: ScoredSpans, mentions: np.ndarray, strings: Sequence[str], cased: bool) -> NameEvidence:
        """Look up names and add the entities they belong to.

        Args:
            spans: at least one, with candidates found by vector.
            mentions: vectors of the spans. *Shape:* (m, d).
            strings: text of each span.
            cased: whether the text they stand in has capital letters.
        """
        matches = [self.forms.find(s) for s in strings]
        wide = self._with_named(spans, mentions, matches)
        kinds = np.zeros(wide.rows.shape, dtype=np.int64)
        for i, found in enumerate(matches):
            for match in found:
                kinds[i, wide.rows[i] == match.row] = match.kind
        lower = np.array([cased and s[:1].islower() for s in strings])
        return NameEvidence(wide, kinds, np.array([len(found) for found in matches]), lower)

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
