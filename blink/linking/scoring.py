"""Scores of (mention, entity) pairs, the filters that decide which are links, and the resolution of overlaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from blink.errors import SettingsError


@dataclass(frozen=True)
class ScoredSpans:
    """Spans of one text with the entities retrieved for each.

    Attributes:
        start: first position. *Shape:* (m,), int64.
        end: last position, inclusive. *Shape:* (m,), int64.
        mention_logits: score as a mention. *Shape:* (m,), float32.
        rows: catalogue rows, best first, -1 where there are fewer than k. *Shape:* (m, k), int64.
        entity_logits: inner products, or the ranker's log-odds; descending, -inf where there is no entity.
            *Shape:* (m, k), float32.
    """

    start: np.ndarray
    end: np.ndarray
    mention_logits: np.ndarray
    rows: np.ndarray
    entity_logits: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def select(self, chosen: np.ndarray) -> ScoredSpans:
        """The spans at the given places (a mask or indices)."""
        return ScoredSpans(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

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
    def concatenate(cls, parts: list[ScoredSpans]) -> ScoredSpans:
        """The spans of several windows in one."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))

    @classmethod
    def none(cls, k: int) -> ScoredSpans:
        """No spans at all."""
        empty = np.empty(0, dtype=np.int64)
        return cls(empty, empty, np.empty(0, np.float32), np.empty((0, k), np.int64), np.empty((0, k), np.float32))


@dataclass(frozen=True)
class Decision:
    """A kept span: its place in the `ScoredSpans`, the entity's row and the score that ranked it."""

    span: int
    row: int
    score: float


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
    # The sum is at least 1, the top's own share, unless every one of the row is -inf.
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
    """The bare inner products. *Shape:* (m, k), float32."""
    return spans.entity_logits


def link_probabilities(spans: ScoredSpans) -> np.ndarray:
    """Probability that a span names each of its entities, where the ranker's scores stand for inner products.

    A softmax over the entities and "nothing in the knowledge base", which has score 0: so what a row lacks to 1 is the
    probability that the span is not to be linked.

    Returns:
        *Shape:* (m, k), float32.
    """
    nothing = np.zeros((len(spans), 1), dtype=np.float32)
    return np.exp(log_softmax(np.concatenate([spans.entity_logits, nothing], axis=1))[:, :-1])


@dataclass(frozen=True)
class Thresholds:
    """Cuts of the filters; which of them counts is the mode's matter."""

    score: float
    mention: float | None = None


@dataclass(frozen=True)
class Mode:
    """How links are chosen among scored spans.

    Attributes:
        scores: what ranks a span and is reported.
        keep: the filter, from spans, their best score and the thresholds to a mask. *Shape:* (m,), bool.
        overlaps: emit overlapping links too.
        once: emit an entity only once per text.
        needs_mention_threshold: whether `Thresholds.mention` must be given.
    """

    scores: Callable[[ScoredSpans], np.ndarray]
    keep: Callable[[ScoredSpans, np.ndarray, Thresholds], np.ndarray]
    overlaps: bool = False
    once: bool = False
    needs_mention_threshold: bool = False

    @property
    def filtered(self) -> bool:
        """Whether links must score above `Thresholds.score`, and nothing else is asked of them."""
        return self.keep is _above_score


def _above_score(spans: ScoredSpans, best: np.ndarray, cut: Thresholds) -> np.ndarray:
    return best > cut.score


def _mention_above(spans: ScoredSpans, best: np.ndarray, cut: Thresholds) -> np.ndarray:
    return spans.mention_logits > cut.mention


def _both_above(spans: ScoredSpans, best: np.ndarray, cut: Thresholds) -> np.ndarray:
    return _above_score(spans, best, cut) & _mention_above(spans, best, cut)


def _every(spans: ScoredSpans, best: np.ndarray, cut: Thresholds) -> np.ndarray:
    return np.isfinite(best)


MODES: dict[str, Mode] = {
    "probability": Mode(link_probabilities, _above_score),
    "joint": Mode(joint_scores, _above_score),
    "joint_0": Mode(joint_scores, _above_score),
    "top_entity_by_mention": Mode(entity_scores, _mention_above, overlaps=True, needs_mention_threshold=True),
    "thresholded_entity_by_mention": Mode(entity_scores, _both_above, needs_mention_threshold=True),
    "top_joint_by_mention": Mode(joint_scores, _every, once=True),
    "best_entity_by_mention": Mode(entity_scores, _every, once=True),
}
"""Every way to filter, by name. The last two are what the original meant by its older ``--final_thresholding
top_joint_by_mention`` and ``top_entity_by_mention``, which crash there: the best entity of every predicted span, by
descending score, each entity once."""


def mode_named(name: str) -> Mode:
    """Look a mode up.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in MODES:
        raise SettingsError(f"thresholding is {name!r}; allowed are {', '.join(MODES)}")
    return MODES[name]


def decide(spans: ScoredSpans, mode: str, cut: Thresholds) -> list[Decision]:
    """Choose the links among scored spans.

    Spans compete with their best entity, by descending score; ties go to the smaller start, then end, then row. One
    that shares a position with a chosen one is dropped (unless the mode keeps overlaps).

    Returns:
        decisions by descending score.

    Raises:
        SettingsError: the mode is unknown, or lacks its mention threshold.
    """
    chosen_mode = mode_named(mode)
    if chosen_mode.needs_mention_threshold and cut.mention is None:
        raise SettingsError(f"thresholding {mode} needs a mention threshold (a raw mention score); give --mention_threshold")
    if not len(spans):
        return []
    best = chosen_mode.scores(spans)[:, 0]
    rows = spans.rows[:, 0]
    kept = np.flatnonzero(chosen_mode.keep(spans, best, cut) & (rows >= 0))
    order = kept[np.lexsort((rows[kept], spans.end[kept], spans.start[kept], -best[kept].astype(np.float64)))]
    return _emit(spans, chosen_mode, order, best, rows)


def _emit(spans: ScoredSpans, mode: Mode, order: np.ndarray, best: np.ndarray, rows: np.ndarray) -> list[Decision]:
    taken: set[int] = set()
    seen: set[int] = set()
    decisions = []
    for i in order.tolist():
        positions = range(int(spans.start[i]), int(spans.end[i]) + 1)
        if not mode.overlaps and not taken.isdisjoint(positions):
            continue
        if mode.once and rows[i] in seen:
            continue
        taken.update(positions)
        seen.add(int(rows[i]))
        decisions.append(Decision(i, int(rows[i]), float(best[i])))
    return decisions
