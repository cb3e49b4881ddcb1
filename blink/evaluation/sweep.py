"""Thresholds over readings that are at hand: the model does not run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blink.data.records import Sample
from blink.evaluation.report import Prediction, Question, gold_triples, total_counts
from blink.linking.linker import Linker, Reading
from blink.linking.scoring import Thresholds

THRESHOLDS = tuple(round(float(t), 2) for t in np.arange(-6.0, 0.0, 0.1))
"""Joint scores that are tried."""


@dataclass(frozen=True)
class SweepPoint:
    """Weak micro scores over covered questions at a threshold."""

    threshold: float
    precision: float
    recall: float
    f1: float


def sweep(
    linker: Linker, readings: Sequence[Reading], samples: Sequence[Sample], thresholds: Sequence[float] = THRESHOLDS
) -> list[SweepPoint]:
    """Score the covered samples at each threshold."""
    pairs = [(r, s, gold_triples(s)) for r, s in zip(readings, samples, strict=True) if s.covered]
    points = []
    for threshold in thresholds:
        cut = Thresholds(threshold, linker.cut.mention)
        questions = (Question(s.id, s.text, gold, _predicted(linker, r, cut)) for r, s, gold in pairs)
        scores = total_counts(questions).scores("weak")
        points.append(SweepPoint(threshold, scores.precision, scores.recall, scores.f1))
    return points


def _predicted(linker: Linker, reading: Reading, cut: Thresholds) -> tuple[Prediction, ...]:
    # Without titles: looking up what nobody reads would take most of the time.
    best = reading.spans.rows[:, 0] if len(reading.spans) else ()
    return tuple(Prediction(str(int(best[i])), *bounds) for i, bounds in linker.pick(reading, cut))


def best_point(points: Sequence[SweepPoint], tolerance: float = 0.0) -> SweepPoint:
    """The point of highest F1; of those within ``tolerance`` of it the middle one, which lies farthest from where F1 falls."""
    top = max(p.f1 for p in points)
    best = [p for p in points if p.f1 >= top - tolerance]
    return best[len(best) // 2]
