"""Puts candidates in the order of everything that speaks for them, with the probability of each."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from blink.errors import MismatchError
from blink.linking.features import FEATURES, CandidateFeaturizer, TextContext
from blink.linking.scoring import ScoredSpans
from blink.model.config import FEATURE_GROUPS
from blink.model.reranker import RerankerNetwork

SEPARATORS = frozenset(',;:?!)]}”»“„«"')
"""What no mention begins with; a span that does is never linked."""


class Refiner(Protocol):
    """Rescores the spans of a text, or of a window of it."""

    def refine(self, spans: ScoredSpans, mentions: np.ndarray, around: TextContext) -> ScoredSpans:
        """Return as many spans, with as many candidates each.

        Args:
            spans: with candidates found by vector.
            mentions: vectors of the spans. *Shape:* (m, d).
            around: the text they stand in.
        """


class Reranker:
    """Adds candidates by name, and replaces inner products by the scores of a fitted ranker.

    Args:
        gatherer: of the knowledge base.
        ranker: of the model.

    Raises:
        MismatchError: the ranker was fitted on other evidence than this version gathers.
    """

    def __init__(self, gatherer: CandidateFeaturizer, ranker: RerankerNetwork) -> None:
        if ranker.features != FEATURES:
            unlike = sorted(set(ranker.features) ^ set(FEATURES)) or ["their order"]
            raise MismatchError(f"the model's ranker weighs other evidence ({unlike[0]}); fit it again: blink rank MODEL ...")
        self.gatherer, self.ranker = gatherer, ranker
        # How sure a model is of a mention, and of its rivals, says nothing about mentions that are given.
        self._of_given = ranker.without(FEATURE_GROUPS["mention"])

    def refine(self, spans: ScoredSpans, mentions: np.ndarray, around: TextContext) -> ScoredSpans:
        """Rank; see `Refiner`."""
        if not len(spans):
            return spans
        evidence = self.gatherer.gather(spans, mentions, around)
        given = np.isposinf(spans.mention_logits)
        ranker = self._of_given if given.all() else self.ranker
        scores = ranker.scores(evidence.features, evidence.spans.rows >= 0)
        scores[~given & [string[:1] in SEPARATORS for string in around.strings]] = -np.inf
        return evidence.spans.reordered(scores, keep=spans.rows.shape[1])
