"""Thresholds over saved analyses, without the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blink.data.records import Sample
from blink.errors import SettingsError
from blink.evaluation.counts import CountRow, Counts, EvaluatedText, Prediction, assess, counts_of, gold_spans, group_of
from blink.evaluation.matching import Matching
from blink.linking.analysis import Analysis
from blink.linking.decoder import Decoder, Thresholds, mode_named
from blink.linking.scoring import ScoredSpans

THRESHOLDS = tuple(round(float(t), 2) for t in np.arange(-6.0, 0.0, 0.1))
"""Joint scores that are tried."""
PLATEAU = 0.002
"""F1 below the best that still counts as best when a threshold is chosen: about one mention of a small set."""


@dataclass(frozen=True)
class SweepPoint:
    """Weak micro scores over covered questions at a threshold."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class CurvePoint:
    """Sums over all and over covered questions at a threshold."""

    threshold: float
    overall: Counts
    covered: Counts

    def point(self, matching: Matching, *, covered: bool = True) -> SweepPoint:
        """The averages under one matching."""
        scores = (self.covered if covered else self.overall).scores(matching)
        return SweepPoint(self.threshold, scores.precision, scores.recall, scores.f1)

    def to_json(self) -> dict[str, Any]:
        """The object that stands for this threshold in a report."""
        values: dict[str, Any] = {"threshold": self.threshold}
        for name, covered in (("all", False), ("covered", True)):
            points = {matching: self.point(matching, covered=covered) for matching in _MATCHINGS}
            values[name] = {m: {"precision": p.precision, "recall": p.recall, "f1": p.f1} for m, p in points.items()}
        return values


_MATCHINGS: tuple[Matching, ...] = ("weak", "strong")


def curve(
    decoder: Decoder, analyses: Sequence[Analysis], samples: Sequence[Sample], thresholds: Sequence[float]
) -> list[CurvePoint]:
    """Score samples at each threshold, as `evaluate` would score the links chosen there; one point a threshold, in order."""
    overall = np.zeros((len(thresholds), len(_FIELDS)), dtype=np.int64)
    covered = np.zeros_like(overall)
    for analysis, sample in zip(analyses, samples, strict=True):
        counts = _counts_at(decoder, analysis, sample, thresholds)
        overall += counts
        if sample.covered:
            covered += counts
    return [
        CurvePoint(threshold, Counts(*of_all), Counts(*of_covered))
        for threshold, of_all, of_covered in zip(thresholds, overall.tolist(), covered.tolist(), strict=True)
    ]


_FIELDS = Counts.__dataclass_fields__


def _counts_at(decoder: Decoder, analysis: Analysis, sample: Sample, thresholds: Sequence[float]) -> np.ndarray:
    """Counts of a question at each threshold. *Shape:* (thresholds, 4).

    Filters compare the ranking scores with the threshold and ask nothing else of it, so thresholds that as many scores
    exceed choose the same links.
    """
    best = best_scores(analysis.spans, decoder.mode)
    # In the type of the scores, as the filters compare: otherwise a tie could fall either way.
    above = (best[None, :] > np.asarray(thresholds, dtype=best.dtype)[:, None]).sum(1).tolist()
    known: dict[int, CountRow] = {}
    for level, threshold in zip(above, thresholds, strict=True):
        if level not in known:
            question = question_at(decoder, analysis, sample, Thresholds(threshold, decoder.thresholds.mention))
            known[level] = counts_of(question, assess(question))
    return np.array([known[level] for level in above], dtype=np.int64).reshape(-1, len(_FIELDS))


def best_scores(spans: ScoredSpans, mode: str) -> np.ndarray:
    """What ranks each span: the score of its best entity. *Shape:* (m,)."""
    return mode_named(mode).scores(spans)[:, 0] if len(spans) else np.empty(0, np.float32)


def question_at(decoder: Decoder, analysis: Analysis, sample: Sample, thresholds: Thresholds | None = None) -> EvaluatedText:
    """Pair a sample with what is chosen of its analysis: as `evaluated_text`, without looking up what entities are called."""
    predicted = predicted_at(decoder, analysis, thresholds)
    return EvaluatedText(sample.id, sample.text, gold_spans(sample), predicted, sample.covered, group_of(sample))


def predicted_at(decoder: Decoder, analysis: Analysis, thresholds: Thresholds | None = None) -> tuple[Prediction, ...]:
    """The decoded links of a text, by position."""
    # Without titles: looking up what nobody reads would take most of the time.
    return tuple(Prediction(str(d.row), d.start, d.end, d.score) for d in decoder.decode(analysis, thresholds))


def link_outcomes(
    decoder: Decoder, analyses: Sequence[Analysis], samples: Sequence[Sample], thresholds: Thresholds, matching: Matching
) -> tuple[list[float], list[bool]]:
    """The score of every link that is chosen, and whether it is right: what calibration is measured on."""
    scores: list[float] = []
    right: list[bool] = []
    for analysis, sample in zip(analyses, samples, strict=True):
        question = question_at(decoder, analysis, sample, thresholds)
        found = assess(question)
        hits = {predicted for _, predicted in (found.weak if matching == "weak" else found.strong)}
        scores += [p.score for p in question.predicted]
        right += [place in hits for place in range(len(question.predicted))]
    return scores, right


def sweep(
    decoder: Decoder, analyses: Sequence[Analysis], samples: Sequence[Sample], thresholds: Sequence[float] = THRESHOLDS
) -> list[SweepPoint]:
    """Score the covered samples, weakly, at each threshold."""
    pairs = [(r, s) for r, s in zip(analyses, samples, strict=True) if s.covered]
    return [point.point("weak") for point in curve(decoder, [r for r, _ in pairs], [s for _, s in pairs], thresholds)]


def best_point(points: Sequence[SweepPoint], tolerance: float = 0.0) -> SweepPoint:
    """The point of highest F1; of those within ``tolerance`` of it the middle one, which lies farthest from where F1 falls."""
    top = max(p.f1 for p in points)
    best = [p for p in points if p.f1 >= top - tolerance]
    return best[len(best) // 2]


def grid(analyses: Sequence[Analysis], mode: str, floor: float = -math.inf, points: int = 60) -> tuple[float, ...]:
    """About so many thresholds at round numbers, from the lowest to the highest score that occurs, none below ``floor``."""
    scores = np.concatenate([np.empty(0), *(best_scores(analysis.spans, mode) for analysis in analyses)])
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return (floor if math.isfinite(floor) else 0.0,)
    low, high = max(float(scores.min()), floor), float(scores.max())
    step = _round_step(max(high - low, 1e-6) / points)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step)
    return tuple(round(i * step, 9) for i in range(first, max(first, last) + 1))


def _round_step(least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def narrowed(analyses: Sequence[Analysis], *, entities: int | None = None, mentions: int | None = None) -> Iterator[Analysis]:
    """Readings with fewer candidates a mention, or fewer mentions a text.

    Args:
        analyses: as read.
        entities: candidates that are kept, and that a joint score is normalised over.
        mentions: mentions that are kept, those with the highest mention scores. The linker's own option of this name
            counts for each window of a text, before other evidence changes the scores: on texts of one window, and
            without such evidence, it is this.

    Raises:
        SettingsError: fewer candidates were read.
    """
    for analysis in analyses:
        spans = analysis.spans
        if mentions is not None and len(spans) > mentions:
            spans = spans.select(np.sort(np.argsort(-spans.mention_logits, kind="stable")[:mentions]))
        if entities is not None:
            spans = _with_candidates(spans, entities)
        yield analysis if spans is analysis.spans else replace(analysis, spans=spans)


def _with_candidates(spans: ScoredSpans, entities: int) -> ScoredSpans:
    """Whatever has a column for each candidate loses those beyond ``entities``."""
    width = spans.rows.shape[1]
    if entities > width:
        raise SettingsError(f"{entities} candidates asked for, but {width} were read; read again with --entities {entities}")
    columns = {name: getattr(spans, name) for name in ScoredSpans.__dataclass_fields__}
    wide = {name: v for name, v in columns.items() if isinstance(v, np.ndarray) and v.ndim > 1 and v.shape[1] == width}
    return replace(spans, **{name: values[:, :entities] for name, values in wide.items()})
