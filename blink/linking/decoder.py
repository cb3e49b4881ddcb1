"""The decoder: turns scored spans into links by a mode and thresholds, without a model or a knowledge base."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from blink.errors import SettingsError
from blink.linking.scoring import ScoredSpans, entity_scores, joint_scores, link_probabilities

if TYPE_CHECKING:
    from blink.linking.analysis import Analysis

PROBABILITY = "probability"
JOINT = "joint"


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the filters; which of them counts depends on the mode."""

    score: float
    mention: float | None = None

    def at(self, score: float | None) -> Thresholds:
        """These with another threshold of scores; None keeps it."""
        return self if score is None else replace(self, score=score)


@dataclass(frozen=True)
class Mode:
    """How links are decoded from scored spans.

    Attributes:
        scores: what ranks a span and is reported.
        keep: the filter, from spans, their best score and the thresholds to a mask. *Shape:* (m,), bool.
        overlaps: emit overlapping links too.
        once: emit an entity only once per text.
        needs_mention_threshold: whether `Thresholds.mention` must be set.
    """

    scores: Callable[[ScoredSpans], np.ndarray]
    keep: Callable[[ScoredSpans, np.ndarray, Thresholds], np.ndarray]
    overlaps: bool = False
    once: bool = False
    needs_mention_threshold: bool = False

    @property
    def filtered(self) -> bool:
        """Whether a score above `Thresholds.score` is the only condition of a link."""
        return self.keep is _above_score


def _above_score(spans: ScoredSpans, best: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    # As doubles, which is how scores are reported: a link is there if and only if its score is above the threshold.
    above: np.ndarray = best.astype(np.float64) > thresholds.score
    return above


def _mention_above(spans: ScoredSpans, best: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    return spans.mention_logits > thresholds.mention


def _both_above(spans: ScoredSpans, best: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    return _above_score(spans, best, thresholds) & _mention_above(spans, best, thresholds)


def _every(spans: ScoredSpans, best: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    return np.isfinite(best)


MODES: dict[str, Mode] = {
    PROBABILITY: Mode(link_probabilities, _above_score),
    JOINT: Mode(joint_scores, _above_score),
    "joint_0": Mode(joint_scores, _above_score),
    "top_entity_by_mention": Mode(entity_scores, _mention_above, overlaps=True, needs_mention_threshold=True),
    "thresholded_entity_by_mention": Mode(entity_scores, _both_above, needs_mention_threshold=True),
    "top_joint_by_mention": Mode(joint_scores, _every, once=True),
    "best_entity_by_mention": Mode(entity_scores, _every, once=True),
}
"""All modes, by name. The last two are those of the original's older ``--final_thresholding top_joint_by_mention``
and ``top_entity_by_mention``, which crash there: the best entity of every predicted span, by descending score, each entity
once."""


def mode_named(name: str) -> Mode:
    """Look a mode up.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in MODES:
        raise SettingsError(f"thresholding is {name!r}; allowed are {', '.join(MODES)}")
    return MODES[name]


@dataclass(frozen=True)
class Decision:
    """A kept span: its index in the `ScoredSpans`, the entity's row and the score that ranked it."""

    span: int
    row: int
    score: float


def decide(spans: ScoredSpans, mode: str, thresholds: Thresholds) -> list[Decision]:
    """Select the links among scored spans.

    Spans compete with their best entity, by descending score; ties go to the smaller start, then end, then row. One
    that shares a position with an earlier one is dropped (unless the mode keeps overlaps).

    Returns:
        decisions by descending score.

    Raises:
        SettingsError: the mode is unknown, or lacks its mention threshold.
    """
    bounds = np.stack([spans.start, spans.end + 1], axis=1)
    return _emit(spans, mode_named(mode), competing(spans, mode, thresholds), bounds)


def competing(spans: ScoredSpans, mode: str, thresholds: Thresholds) -> np.ndarray:
    """Indices of the spans that have an entity and pass the filter of a mode, in the order in which they compete; errors as of
    `decide`. *Shape:* (n,), int64.
    """
    rules = mode_named(mode)
    if rules.needs_mention_threshold and thresholds.mention is None:
        raise SettingsError(f"thresholding {mode} needs a mention threshold (a raw mention score); give --mention_threshold")
    if not len(spans):
        return np.empty(0, dtype=np.int64)
    best, rows = rules.scores(spans)[:, 0], spans.rows[:, 0]
    linked = np.flatnonzero(rules.keep(spans, best, thresholds) & (rows >= 0))
    return linked[np.lexsort((rows[linked], spans.end[linked], spans.start[linked], -best[linked].astype(np.float64)))]


def _emit(spans: ScoredSpans, mode: Mode, order: np.ndarray, bounds: np.ndarray) -> list[Decision]:
    """The spans that no earlier one overlaps. ``bounds``: where each begins and ends (past the end), (m, 2)."""
    covered: set[int] = set()
    emitted: set[int] = set()
    decisions = []
    best = mode.scores(spans)[:, 0] if len(order) else np.empty(0)
    for i in order.tolist():
        positions, row = range(*bounds[i].tolist()), int(spans.rows[i, 0])
        if not mode.overlaps and not covered.isdisjoint(positions):
            continue
        if mode.once and row in emitted:
            continue
        covered.update(positions)
        emitted.add(row)
        decisions.append(Decision(i, row, float(best[i])))
    return decisions


@dataclass(frozen=True)
class DecodedSpan:
    """A link without titles.

    Attributes:
        span: index in ``Analysis.spans``.
        start, end: characters ``[start, end)`` of the text.
        row: catalogue row of the entity.
        score: of the link.
    """

    span: int
    start: int
    end: int
    row: int
    score: float


class Decoder:
    """Decodes analyses.

    Args:
        mode: one of `MODES`.
        thresholds: used unless a call gives others.

    Raises:
        SettingsError: there is no such mode, or the threshold is not a number.
    """

    def __init__(self, mode: str, thresholds: Thresholds) -> None:
        mode_named(mode)
        if math.isnan(thresholds.score):
            raise SettingsError("the threshold is not a number; give one such as 0.5, or -inf to keep everything")
        self.mode, self.thresholds = mode, thresholds

    @property
    def min_mention_log_prob(self) -> float:
        """Log probability that a mention must exceed to become a link, whatever its entity."""
        mode = MODES[self.mode]
        # A joint score never exceeds the log probability of its mention; other scores have no such bound.
        return self.thresholds.score if mode.scores is joint_scores and mode.filtered else float("-inf")

    def scores(self, analysis: Analysis) -> np.ndarray:
        """Scores of all candidates, as links report them. *Shape:* (m, k), float32."""
        if analysis.requested is None:
            return MODES[self.mode].scores(analysis.spans)
        scores = joint_scores(analysis.spans)  # requested mentions are certain: only the entity's term remains
        return np.exp(scores) if self.mode == PROBABILITY else scores

    def decode(self, analysis: Analysis, thresholds: Thresholds | None = None) -> list[DecodedSpan]:
        """The links of a text, by position; all requested mentions are linked, whatever their score.

        Raises:
            SettingsError: the mode lacks its mention threshold.
        """
        return sorted(self._decoded(analysis, thresholds or self.thresholds), key=lambda d: (d.start, d.end))

    def _decoded(self, analysis: Analysis, thresholds: Thresholds) -> list[DecodedSpan]:
        spans = analysis.spans
        if analysis.requested is not None:
            best, rows = self.scores(analysis), spans.rows
            # Without a row, all candidates are broken lines of the catalogue.
            return [
                DecodedSpan(i, start, end, int(rows[i, 0]), float(best[i, 0]))
                for i, (start, end) in enumerate(analysis.requested)
                if rows[i, 0] >= 0
            ]
        order = competing(spans, self.mode, thresholds)
        bounds = np.zeros((len(spans), 2), dtype=np.int64)
        for i in order.tolist():
            bounds[i] = analysis.characters(int(spans.start[i]), int(spans.end[i]))
        # Spans compete for characters rather than tokens: one character (a Hangul syllable) may be several tokens.
        order = order[bounds[order, 0] < bounds[order, 1]]
        emitted = _emit(spans, mode_named(self.mode), order, bounds)
        return [DecodedSpan(d.span, int(bounds[d.span, 0]), int(bounds[d.span, 1]), d.row, d.score) for d in emitted]
