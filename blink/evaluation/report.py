"""Precision, recall and F1 of linked texts, with bootstrap intervals and error labels, as JSON and text.

All averages are micro averages: hits, predictions and gold mentions are summed over the texts before dividing. A report has
three sections: *all* texts; *covered* texts, whose gold entities are all in the catalogue; and *covered mentions*, the gold
mentions in the catalogue of all texts, for long texts of which hardly any is covered. In the first section a gold mention
outside the catalogue counts as gold and is always missed. Reports call texts questions, as the original does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from blink.errors import SettingsError
from blink.evaluation.bootstrap import cluster_sums, f1_of, middle, resample
from blink.evaluation.counts import (
    GOLD_LABELS,
    MATCHINGS,
    PREDICTED_LABELS,
    SPURIOUS,
    Assessment,
    CountRow,
    Counts,
    EvaluatedText,
    Scores,
    assess,
    counts_of,
    covered_mentions,
)
from blink.evaluation.matching import EntitySpan

_Row: TypeAlias = tuple[CountRow, str]


@dataclass(frozen=True, slots=True)
class Section:
    """The scores of one set of texts."""

    questions: int
    weak: Scores
    strong: Scores

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this section in a report."""
        return {"questions": self.questions, "weak": self.weak.to_json(), "strong": self.strong.to_json()}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of ``evaluate``: scores of each section, and counts of each label."""

    overall: Section
    covered: Section
    covered_mentions: Section
    gold_labels: Mapping[str, int]
    predicted_labels: Mapping[str, int]

    def to_json(self, *, threshold: float | None, questions_per_s: float | None) -> dict[str, Any]:
        """The report as a JSON object. JSON has no infinity: an infinite threshold or speed becomes None."""
        return {
            "questions": self.overall.questions,
            "threshold": _finite(threshold),
            "all": self.overall.to_json(),
            "covered": self.covered.to_json(),
            "questions_per_s": _finite(questions_per_s),
            "covered_mentions": self.covered_mentions.to_json(),
            "labels": {"gold": dict(self.gold_labels), "predicted": dict(self.predicted_labels)},
        }


def _sum(rows: Sequence[CountRow]) -> Counts:
    return Counts(*(sum(column) for column in zip(*rows, strict=True)))


def evaluate(texts: Iterable[EvaluatedText], *, n_resamples: int = 1000, seed: int = 0, by_group: bool = False) -> Report:
    """Score texts, weakly and strongly, with 95 % bootstrap intervals of F1.

    The sections are all texts, covered texts, and covered mentions (see `covered_mentions`; texts whose gold mentions are all
    outside the catalogue are omitted there). The result does not depend on the order of the texts.

    Args:
        texts: iterated once; only counts are held in memory.
        n_resamples: bootstrap resamples of the texts.
        seed: of the resampling.
        by_group: resample groups of texts (``EvaluatedText.group``) instead of texts. Paraphrases are not independent
            samples; intervals that treat them as independent are too narrow.

    Raises:
        SettingsError: ``n_resamples`` is less than 1.
    """
    if n_resamples < 1:
        raise SettingsError(f"{n_resamples} bootstrap samples requested; use 1 or more, say 1000")
    rows: dict[str, list[_Row]] = {"overall": [], "covered": [], "covered_mentions": []}
    gold_labels = Counter(dict.fromkeys(GOLD_LABELS, 0))
    predicted_labels = Counter(dict.fromkeys(PREDICTED_LABELS, 0))
    for evaluated in texts:
        assessment = assess(evaluated)
        counts = counts_of(evaluated, assessment)
        rows["overall"].append((counts, evaluated.group))
        if evaluated.covered:
            rows["covered"].append((counts, evaluated.group))
        inside = covered_mentions(evaluated)
        if inside.gold or not evaluated.gold:
            rows["covered_mentions"].append((counts_of(inside, assess(inside)), evaluated.group))
        gold_labels.update(assessment.gold_labels)
        predicted_labels.update(assessment.predicted_labels)
    return Report(
        **{name: _section(section, n_resamples, seed, by_group) for name, section in rows.items()},
        gold_labels=dict(gold_labels),
        predicted_labels=dict(predicted_labels),
    )


def _section(rows: Sequence[_Row], n_resamples: int, seed: int, by_group: bool) -> Section:
    total = _sum([counts for counts, _ in rows])
    if not rows:
        return Section(0, total.scores("weak"), total.scores("strong"))
    counts = np.array([counts for counts, _ in rows], dtype=np.int64)
    resampled = resample(cluster_sums(counts, [group for _, group in rows] if by_group else None), n_resamples, seed)
    weak, strong = (
        total.scores(matching, *middle(f1_of(resampled[:, column], resampled[:, 2] + resampled[:, 3])))
        for column, matching in enumerate(MATCHINGS)
    )
    return Section(len(rows), weak, strong)


def prediction_records(texts: Iterable[EvaluatedText]) -> Iterator[dict[str, Any]]:
    """Yield the prediction record of each text: its mentions with their labels, and its hits.

    ``pairs`` are indices into ``gold`` and ``predicted``.
    """
    for evaluated in texts:
        assessment = assess(evaluated)
        gold = zip(evaluated.gold, assessment.gold_labels, strict=True)
        predicted = zip(evaluated.predicted, assessment.predicted_labels, strict=True)
        yield {
            "id": evaluated.id,
            "text": evaluated.text,
            "covered": evaluated.covered,
            "group": evaluated.group,
            "gold": [_mention_json(evaluated.text, span) | {"label": label} for span, label in gold],
            "predicted": [
                _mention_json(evaluated.text, span) | {"score": span.score, "label": label} for span, label in predicted
            ],
            "weak": {"correct": len(assessment.weak), "pairs": [list(pair) for pair in assessment.weak]},
            "strong": {"correct": len(assessment.strong), "pairs": [list(pair) for pair in assessment.strong]},
            "labels": _label_counts(assessment),
        }


def _label_counts(assessment: Assessment) -> dict[str, int]:
    """Count the labels of the gold mentions and the spurious predictions, without labels that do not occur."""
    spurious = (label for label in assessment.predicted_labels if label == SPURIOUS)
    return dict(Counter([*assessment.gold_labels, *spurious]))


def _mention_json(text: str, span: EntitySpan) -> dict[str, Any]:
    mention = text[span.start : span.end] if span.has_span else None
    return {"id": span.id or None, "start": span.start, "end": span.end, "mention": mention}


def format_report(report: Report) -> str:
    """Format a report for a terminal: one line per section and matching, then the labels.

    The lines begin with ``all weak``, ``all strong``, ``covered weak``, ``covered strong`` and so on. Programs may rely on the
    order of the columns.
    """
    lines = [
        f"questions = {report.overall.questions}",
        f"covered questions = {report.covered.questions}",
        "",
        f"{'':<23}  precision  recall      f1  f1 95 % interval  correct  predicted     gold",
    ]
    sections = (("all", report.overall), ("covered", report.covered), ("covered mentions", report.covered_mentions))
    for name, section in sections:
        lines.append(_score_line(f"{name} weak", section.weak))
        lines.append(_score_line(f"{name} strong", section.strong))
    lines += ["", f"{'label':<16}  {'gold':>8}  {'predicted':>9}"]
    for label in (*GOLD_LABELS, SPURIOUS):
        gold, predicted = (str(side.get(label, "-")) for side in (report.gold_labels, report.predicted_labels))
        lines.append(f"{label:<16}  {gold:>8}  {predicted:>9}")
    return "\n".join(lines)


def _score_line(name: str, s: Scores) -> str:
    averages = f"{s.precision:>9.4f}  {s.recall:>6.4f}  {s.f1:>6.4f}  [{s.f1_low:.4f}, {s.f1_high:.4f}]"
    return f"{name:<23}  {averages}  {s.correct:>7}  {s.predicted:>9}  {s.gold:>7}"


def format_console_metrics(overall: Counts, window: Counts, *, runtime_s: float | None = None) -> str:
    """Format totals as the original ELQ prints them.

    Args:
        overall: counts with all gold mentions.
        window: counts with the gold mentions inside the model's input window, and the same predictions.
        runtime_s: seconds spent linking; None omits the line.
    """
    lines = []
    for matching in MATCHINGS:
        lines += [f"{matching.upper()} MATCHING", *_metric_lines(overall.scores(matching))]
        lines += ["Just entities within input window...", *_metric_lines(window.scores(matching)), "*--------*"]
    if runtime_s is not None:
        lines.append(f"biencoder runtime = {runtime_s:.3f}")
    return "\n".join(lines)


def _metric_lines(scores: Scores) -> list[str]:
    return [
        f"precision = {scores.correct} / {scores.predicted} = {scores.precision:.6f}",
        f"recall = {scores.correct} / {scores.gold} = {scores.recall:.6f}",
        f"f1 = {scores.f1:.6f}",
    ]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
