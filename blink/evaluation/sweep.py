"""Scores of analyses at many thresholds, without the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blink.data.records import Sample
from blink.errors import SettingsError
from blink.evaluation.counts import (
    CountRow,
    Counts,
    EvaluatedText,
    Prediction,
    assess,
    counted_predictions,
    counts_of,
    gold_spans,
    group_of,
)
from blink.evaluation.matching import Matching
from blink.linking.analysis import Analysis
from blink.linking.decoder import Decoder, Thresholds, mode_named
from blink.linking.scoring import ScoredSpans

THRESHOLDS = tuple(round(float(t), 2) for t in np.arange(-6.0, 0.0, 0.1))
"""Joint scores that are evaluated as threshold."""
PLATEAU = 0.002
"""Largest loss of F1, against the best, of a threshold that counts as best: about one mention of a small set."""


@dataclass(frozen=True)
class SweepPoint:
    """Micro averages at a threshold, under one matching and over one set of texts."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class CurvePoint:
    """Counts over all texts and over covered texts at a threshold."""

    threshold: float
    overall: Counts
    covered: Counts

    def point(self, matching: Matching, *, covered: bool = True) -> SweepPoint:
        """The micro averages under one matching."""
        scores = (self.covered if covered else self.overall).scores(matching)
        return SweepPoint(self.threshold, scores.precision, scores.recall, scores.f1)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this threshold in a report."""
        values: dict[str, Any] = {"threshold": self.threshold}
        for name, covered in (("all", False), ("covered", True)):
            points = {matching: self.point(matching, covered=covered) for matching in _MATCHINGS}
            values[name] = {m: {"precision": p.precision, "recall": p.recall, "f1": p.f1} for m, p in points.items()}
        return values


_MATCHINGS: tuple[Matching, ...] = ("weak", "strong")


def curve(
    decoder: Decoder, analyses: Sequence[Analysis], samples: Sequence[Sample], thresholds: Sequence[float]
) -> list[CurvePoint]:
    """Score samples at each threshold, as `evaluate` scores the links decoded with it; one point per threshold, in order."""
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
    """Counts of a text at each threshold. *Shape:* (thresholds, 4).

    Links are decoded once per level, the number of ranking scores above a threshold: decoding only compares these scores with
    the threshold, so that thresholds of one level give the same links.
    """
    best = best_scores(analysis.spans, decoder.mode)
    # In the dtype of the scores, as in decoding; else ties could be resolved differently.
    above = (best[None, :] > np.asarray(thresholds, dtype=best.dtype)[:, None]).sum(1).tolist()
    counts_by_level: dict[int, CountRow] = {}
    for level, threshold in zip(above, thresholds, strict=True):
        if level not in counts_by_level:
            question = question_at(decoder, analysis, sample, decoder.thresholds.at(threshold))
            counts_by_level[level] = counts_of(question, assess(question))
    return np.array([counts_by_level[level] for level in above], dtype=np.int64).reshape(-1, len(_FIELDS))


def best_scores(spans: ScoredSpans, mode: str) -> np.ndarray:
    """The ranking score of each span, which is that of its best entity. *Shape:* (m,)."""
    return mode_named(mode).scores(spans)[:, 0] if len(spans) else np.empty(0, np.float32)


def question_at(decoder: Decoder, analysis: Analysis, sample: Sample, thresholds: Thresholds | None = None) -> EvaluatedText:
    """Pair a sample with the links decoded from its analysis, as `evaluated_text` does, but without titles of entities."""
    predicted = counted_predictions(sample, predicted_at(decoder, analysis, thresholds))
    return EvaluatedText(sample.id, sample.text, gold_spans(sample), predicted, sample.covered, group_of(sample))


def predicted_at(decoder: Decoder, analysis: Analysis, thresholds: Thresholds | None = None) -> tuple[Prediction, ...]:
    """The decoded links of a text, by position, without titles, whose lookup would take most of the time."""
    return tuple(Prediction(str(d.row), d.start, d.end, d.score) for d in decoder.decode(analysis, thresholds))


def link_outcomes(
    decoder: Decoder, analyses: Sequence[Analysis], samples: Sequence[Sample], thresholds: Thresholds, matching: Matching
) -> tuple[list[float], list[bool]]:
    """The score of every decoded link, and whether it is right, for the measurement of calibration."""
    scores: list[float] = []
    right: list[bool] = []
    for analysis, sample in zip(analyses, samples, strict=True):
        question = question_at(decoder, analysis, sample, thresholds)
        assessment = assess(question)
        hits = {predicted for _, predicted in (assessment.weak if matching == "weak" else assessment.strong)}
        scores += [p.score for p in question.predicted]
        right += [index in hits for index in range(len(question.predicted))]
    return scores, right


def sweep(
    decoder: Decoder, analyses: Sequence[Analysis], samples: Sequence[Sample], thresholds: Sequence[float] = THRESHOLDS
) -> list[SweepPoint]:
    """Score the covered samples at each threshold, under weak matching."""
    pairs = [(r, s) for r, s in zip(analyses, samples, strict=True) if s.covered]
    return [point.point("weak") for point in curve(decoder, [r for r, _ in pairs], [s for _, s in pairs], thresholds)]


def mean_point(points: Sequence[SweepPoint]) -> SweepPoint:
    """The mean of points at one threshold."""
    values = (sum(getattr(p, name) for p in points) / len(points) for name in ("precision", "recall", "f1"))
    return SweepPoint(points[0].threshold, *values)


def best_point(points: Sequence[SweepPoint], tolerance: float = 0.0) -> SweepPoint:
    """The point of highest F1; of those within ``tolerance`` of it the middle one, which is farthest from a drop of F1."""
    top = max(p.f1 for p in points)
    best = [p for p in points if p.f1 >= top - tolerance]
    return best[len(best) // 2]


def grid(analyses: Sequence[Analysis], mode: str, lowest: float = -math.inf, points: int = 60) -> tuple[float, ...]:
    """About ``points`` round thresholds from the lowest to the highest score in the analyses, none below ``lowest``."""
    scores = np.concatenate([np.empty(0), *(best_scores(analysis.spans, mode) for analysis in analyses)])
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return (lowest if math.isfinite(lowest) else 0.0,)
    low, high = max(float(scores.min()), lowest), float(scores.max())
    step = _round_step(max(high - low, 1e-6) / points)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step)
    return tuple(round(i * step, 9) for i in range(first, max(first, last) + 1))


def _round_step(least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def narrowed(analyses: Sequence[Analysis], *, entities: int | None = None, mentions: int | None = None) -> Iterator[Analysis]:
    """Limit the candidates per mention, or the mentions per text.

    Args:
        analyses: with at least as many candidates.
        entities: number of candidates to keep; a joint score is normalized over them.
        mentions: number of mentions to keep, those with the highest mention scores. The linker's option of this name applies
            per window, before later stages change the scores; it is equivalent for texts of one window without such stages.

    Raises:
        SettingsError: the analyses have fewer candidates.
    """
    for analysis in analyses:
        spans = analysis.spans
        if mentions is not None and len(spans) > mentions:
            spans = spans.select(np.sort(np.argsort(-spans.mention_logits, kind="stable")[:mentions]))
        if entities is not None:
            spans = _with_candidates(spans, entities)
        yield analysis if spans is analysis.spans else replace(analysis, spans=spans)


def _with_candidates(spans: ScoredSpans, entities: int) -> ScoredSpans:
    """Drop the columns beyond ``entities`` from every field with a column per candidate."""
    width = spans.rows.shape[1]
    if entities > width:
        raise SettingsError(f"{entities} candidates asked for, but {width} were read; read again with --entities {entities}")
    columns = {name: getattr(spans, name) for name in ScoredSpans.__dataclass_fields__}
    wide = {name: v for name, v in columns.items() if isinstance(v, np.ndarray) and v.ndim > 1 and v.shape[1] == width}
    return replace(spans, **{name: values[:, :entities] for name, values in wide.items()})
