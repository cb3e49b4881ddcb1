"""The reranker: replaces inner products by the log-odds of a fitted network, and orders candidates by them."""

from __future__ import annotations

import numpy as np

from blink.errors import MismatchError
from blink.linking.features import FEATURES, CandidateFeatures, TextContext
from blink.linking.scoring import ScoredSpans
from blink.model.config import FEATURE_GROUPS
from blink.model.reranker import RerankerNetwork

SEPARATORS = frozenset(',;:?!)]}”»“„«"')
"""No mention begins with one of these; a span that does is never linked."""

_NAME_COLUMNS = tuple(FEATURES.index(name) for name in ("alias", "words_found", "initials", "dice"))
LEAST_DICE = 0.3
"""Similarity of letters from which a name may be a misspelling of another."""


def _strangers(values: np.ndarray) -> np.ndarray:
    """Candidates whose names have nothing of the mention: no word, no initials, hardly a letter.

    Args:
        values: features. *Shape:* (m, candidates, features).

    Returns:
        *Shape:* (m, candidates), bool.
    """
    alias, words, initials, dice = (values[..., column] for column in _NAME_COLUMNS)
    stranger: np.ndarray = (alias == 0) & (words == 0) & (initials == 0) & (dice < LEAST_DICE)
    return stranger


class Reranker:
    """Reranks candidates.

    Attributes:
        reads_topics: whether features need the vectors of the text around mentions.

    Args:
        network: of the model.

    Raises:
        MismatchError: the network was fitted on features that this version does not measure.
    """

    def __init__(self, network: RerankerNetwork) -> None:
        unknown = sorted(set(network.features) - set(FEATURES))
        if unknown:
            raise MismatchError(f"the model's reranker has other features ({unknown[0]}); fit it again: blink rank MODEL ...")
        self.network = network
        self.reads_topics = bool(set(FEATURE_GROUPS["topic"]) & (set(network.features) - network.off))
        self._columns = [FEATURES.index(name) for name in network.features]
        # Mention scores of the span and of those that overlap it carry no information about requested mentions.
        self._for_requested = network.without([name for name in FEATURE_GROUPS["mention"] if name in network.features])

    def rerank(self, features: CandidateFeatures, context: TextContext, size: int) -> ScoredSpans:
        """Order candidates by log-odds against "nothing".

        Args:
            features: of at least one span.
            context: the text of the spans.
            size: candidates that are kept of each span.
        """
        spans = features.spans
        requested = np.isposinf(spans.mention_logits)
        network = self._for_requested if requested.all() else self.network
        scores = network.scores(features.values[..., self._columns], spans.rows >= 0)
        if self.reads_topics:  # what the text is about may outweigh any name, and must not stand in for one
            scores[_strangers(features.values) & ~requested[:, None]] = -np.inf
        scores[~requested & [string[:1] in SEPARATORS for string in context.strings]] = -np.inf
        return spans.reordered(scores, keep=size)
