"""The reranker: replaces inner products by the log-odds of a fitted network, and orders candidates by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blink.errors import MismatchError
from blink.linking.features import FEATURES, MeasuredCandidates
from blink.linking.scoring import ScoredSpans
from blink.linking.surroundings import TextContext
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
        values: features. *Shape:* (n, features).

    Returns:
        *Shape:* (n,), bool.
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
        # Most networks have all features, in order: nothing to copy.
        self._columns = None if network.features == FEATURES else [FEATURES.index(name) for name in network.features]
        # Mention scores of the span and of those that overlap it carry no information about requested mentions.
        self._for_requested = network.without([name for name in FEATURE_GROUPS["mention"] if name in network.features])

    def rerank(self, features: MeasuredCandidates, contexts: Sequence[TextContext], size: int) -> ScoredSpans:
        """Order candidates by log-odds against "nothing", of equal ones the smaller row; those that are ruled out are dropped.

        Args:
            features: of the candidates of the spans of some windows.
            contexts: of these windows.
            size: candidates that are kept of each span.
        """
        candidates = features.candidates
        spans, groups, rows = candidates.spans, candidates.groups, candidates.rows
        requested = np.isposinf(spans.mention_logits)
        network = self._for_requested if requested.all() else self.network
        values = features.values if self._columns is None else features.values[:, self._columns]
        scores = network.scores(values, np.ones(len(values), dtype=bool))
        first = [string[:1] in SEPARATORS for context in contexts for string in context.strings]
        ruled_out = (~requested & first)[groups.owner]
        if self.reads_topics:  # what the text is about may outweigh any name, and must not stand in for one
            ruled_out |= _strangers(features.values) & ~requested[groups.owner]
        scores[ruled_out] = -np.inf
        order = np.lexsort((rows, -scores, groups.owner))
        rank = np.arange(len(order)) - groups.bounds[groups.owner]
        kept = (rank < size) & (scores[order] > -np.inf)
        at, best = (groups.owner[kept], rank[kept]), order[kept]
        best_rows = np.full((len(spans), size), -1, dtype=np.int64)
        best_scores = np.full((len(spans), size), -np.inf, dtype=np.float32)
        best_rows[at], best_scores[at] = rows[best], scores[best]
        return replace(spans, rows=best_rows, entity_logits=best_scores)
