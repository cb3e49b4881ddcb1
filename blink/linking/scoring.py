"""Scored spans, and the scores of (mention, entity) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class ScoredSpans:
    """Spans of one text with the entities retrieved for each.

    Attributes:
        start: first position. *Shape:* (m,), int64.
        end: last position, inclusive. *Shape:* (m,), int64.
        mention_logits: score as a mention. *Shape:* (m,), float32.
        rows: catalogue rows, best first, -1 where there are fewer than k. *Shape:* (m, k), int64.
        entity_logits: inner products, or the reranker's log-odds; descending, -inf where there is no entity.
            *Shape:* (m, k), float32.
    """

    start: np.ndarray
    end: np.ndarray
    mention_logits: np.ndarray
    rows: np.ndarray
    entity_logits: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def select(self, indices: np.ndarray | slice) -> ScoredSpans:
        """Select spans by a mask, indices or a slice."""
        return ScoredSpans(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))

    def shift(self, by: int) -> ScoredSpans:
        """The same spans with all positions moved."""
        return replace(self, start=self.start + by, end=self.end + by)

    def reordered(self, logits: np.ndarray, keep: int | None = None) -> ScoredSpans:
        """The spans with other scores of their candidates, best first; of equal ones the smaller row.

        Args:
            logits: *Shape:* (m, k), float32.
            keep: candidates that are kept; by default all.
        """
        order = np.lexsort((self.rows, -logits), axis=1)[:, :keep]
        rows, scores = (np.take_along_axis(values, order, 1) for values in (self.rows, logits))
        return replace(self, rows=rows, entity_logits=scores)

    @classmethod
    def concatenate(cls, spans: Sequence[ScoredSpans]) -> ScoredSpans:
        """Concatenate the spans of several windows."""
        if len(spans) == 1:
            return spans[0]
        return cls(*(np.concatenate([getattr(p, name) for p in spans]) for name in cls.__dataclass_fields__))

    @classmethod
    def none(cls, k: int) -> ScoredSpans:
        """Empty spans."""
        empty = np.empty(0, dtype=np.int64)
        return cls(empty, empty, np.empty(0, np.float32), np.empty((0, k), np.int64), np.empty((0, k), np.float32))


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """log(1 / (1 + exp(-x))), stable for any x; -inf at -inf."""
    return -np.logaddexp(np.float32(0), -logits)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax over the last axis; rows that are all -inf stay -inf."""
    if logits.shape[-1] == 0:
        return logits
    top = logits.max(-1, keepdims=True)
    shifted = logits - np.where(np.isfinite(top), top, 0)
    total = np.exp(shifted).sum(-1, keepdims=True)
    # The sum is at least 1, the term of the maximum, unless the whole row is -inf.
    return shifted - np.log(np.where(total > 0, total, 1))


def joint_scores(spans: ScoredSpans) -> np.ndarray:
    """Score of each span with each of its entities (Li et al. 2020, section 4.3).

    log softmax of the inner products, over the retrieved entities only, plus log sigmoid of the mention score. It is at
    most 0, and depends on how many entities are retrieved.

    Returns:
        *Shape:* (m, k), float32.
    """
    return log_softmax(spans.entity_logits) + log_sigmoid(spans.mention_logits)[:, None]


def entity_scores(spans: ScoredSpans) -> np.ndarray:
    """The inner products. *Shape:* (m, k), float32."""
    return spans.entity_logits


def link_probabilities(spans: ScoredSpans) -> np.ndarray:
    """Probability that a span names each of its entities, where the reranker's scores replace inner products.

    A softmax over the entities and "nothing in the knowledge base", which has score 0: so what a row lacks to 1 is the
    probability that the span is not to be linked.

    Returns:
        *Shape:* (m, k), float32.
    """
    nothing = np.zeros((len(spans), 1), dtype=np.float32)
    return np.exp(log_softmax(np.concatenate([spans.entity_logits, nothing], axis=1))[:, :-1])
