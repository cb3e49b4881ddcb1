"""Precision, recall and F1 of linked questions, with bootstrap intervals, a label for every error, and text forms.

Micro averages: hits, predictions and gold mentions are summed over the questions before dividing. Figures come three times:
over *all* questions; over the *covered* ones, those whose gold entities are all in the catalogue; and over *covered
mentions*, those in the catalogue, of all questions, for texts of many mentions of which hardly one is covered. In the first a
gold mention outside the catalogue counts as gold and can never be found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from blink.data.records import NOT_IN_CATALOGUE, LinkedText, Sample
from blink.errors import DataError, MismatchError, SettingsError
from blink.evaluation.bootstrap import cluster_sums, f1_of, middle, resample
from blink.evaluation.matching import Matching, Triple, match_pairs, overlapping, same_entity

CORRECT = "correct"
WRONG_SPAN = "wrong_span"
WRONG_ENTITY = "wrong_entity"
MISSED_SPAN = "missed_span"
UNKNOWN_ENTITY = "not_in_catalogue"
SPURIOUS = "spurious"

GOLD_LABELS = (CORRECT, WRONG_SPAN, WRONG_ENTITY, MISSED_SPAN, UNKNOWN_ENTITY)
"""Labels of gold mentions; every mention has exactly one."""
PREDICTED_LABELS = (CORRECT, WRONG_SPAN, WRONG_ENTITY, SPURIOUS)
"""Labels of predictions; every prediction has exactly one."""

_MATCHINGS: tuple[Matching, ...] = ("weak", "strong")
CountRow: TypeAlias = tuple[int, int, int, int]
"""The fields of `Counts`, in order."""
_Row: TypeAlias = tuple[CountRow, str]


@dataclass(frozen=True, slots=True)
class Prediction(Triple):
    """A predicted mention and its score."""

    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """A text with its gold and its predicted mentions.

    ``id`` of a gold mention outside the catalogue is None or ``""``. ``covered`` is whether there is no such mention.
    ``group`` is the same for questions that ask about the same gold entities, see `group_of`.
    """

    id: str
    text: str
    gold: tuple[Triple, ...]
    predicted: tuple[Prediction, ...]
    covered: bool = True
    group: str = ""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What became of each mention of one question.

    ``weak`` and ``strong`` are the hits as ``(gold index, predicted index)``; the labels run parallel to
    ``Question.gold`` and ``Question.predicted``.
    """

    weak: tuple[tuple[int, int], ...]
    strong: tuple[tuple[int, int], ...]
    gold_labels: tuple[str, ...]
    predicted_labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over questions from which all averages follow."""

    weak: int = 0
    strong: int = 0
    predicted: int = 0
    gold: int = 0

    def scores(self, matching: Matching, f1_low: float = 0.0, f1_high: float = 0.0) -> Scores:
        """The averages under one matching."""
        return Scores(self.weak if matching == "weak" else self.strong, self.predicted, self.gold, f1_low, f1_high)


@dataclass(frozen=True, slots=True)
class Scores:
    """Micro averages of one set of questions under one matching; an undefined average is 0."""

    correct: int
    predicted: int
    gold: int
    f1_low: float
    f1_high: float

    @property
    def precision(self) -> float:
        """Share of the predictions that hit."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold mentions that were hit."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.correct / (self.predicted + self.gold) if self.correct else 0.0

    def to_json(self) -> dict[str, Any]:
        """The object that stands for these scores in a report."""
        keys = ("precision", "recall", "f1", "f1_low", "f1_high", "correct", "predicted", "gold")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True, slots=True)
class Section:
    """The scores of one set of questions."""

    questions: int
    weak: Scores
    strong: Scores

    def to_json(self) -> dict[str, Any]:
        """The object that stands for this set of questions in a report."""
        return {"questions": self.questions, "weak": self.weak.to_json(), "strong": self.strong.to_json()}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of ``evaluate``: scores of each section, and how often each label was given."""

    overall: Section
    covered: Section
    covered_mentions: Section
    gold_labels: Mapping[str, int]
    predicted_labels: Mapping[str, int]

    def to_json(self, *, threshold: float | None, questions_per_s: float | None) -> dict[str, Any]:
        """The report as an object of plain values. JSON has no infinity: such a threshold or speed becomes None."""
        return {
            "questions": self.overall.questions,
            "threshold": _finite(threshold),
            "all": self.overall.to_json(),
            "covered": self.covered.to_json(),
            "questions_per_s": _finite(questions_per_s),
            "covered_mentions": self.covered_mentions.to_json(),
            "labels": {"gold": dict(self.gold_labels), "predicted": dict(self.predicted_labels)},
        }


def question_from(sample: Sample, linked: LinkedText) -> Question:
    """Pair a labelled sample with what the linker made of its text. Ids are catalogue rows as strings.

    Raises:
        DataError: the sample carries no gold mentions in characters.
        MismatchError: the linked text is not the sample's.
    """
    if sample.mentions is None:
        raise DataError(f"sample {sample.id!r} has no gold mentions with character offsets; evaluate on a labelled file")
    if sample.text != linked.text:
        raise MismatchError(f"sample {sample.id!r} was paired with the links of another text; link the sample's own text")
    predicted = (Prediction(str(link.row), link.start, link.end, link.score) for link in linked.links)
    return Question(sample.id, sample.text, gold_triples(sample), tuple(predicted), sample.covered, group_of(sample))


def group_of(sample: Sample) -> str:
    """A key that samples with the same set of gold entities share: most likely they are paraphrases of one question.

    An entity is known by its Wikidata id, else by its row, else by its mention. A sample without gold is a group of its own.
    """
    found = (
        m.kb_id or (str(m.row) if m.row != NOT_IN_CATALOGUE else sample.text[m.start : m.end].lower())
        for m in sample.mentions or ()
    )
    return " ".join(sorted(set(found))) or f"id {sample.id}"


def gold_triples(sample: Sample) -> tuple[Triple, ...]:
    """A sample's gold mentions in characters; one whose entity the catalogue lacks has no id."""
    return tuple(Triple(None if m.row == NOT_IN_CATALOGUE else str(m.row), m.start, m.end) for m in sample.mentions or ())


def assess(question: Question) -> Assessment:
    """Match one question's mentions and label each of them.

    A gold mention is ``not_in_catalogue``, whatever was predicted; or ``correct`` if hit strongly; or ``wrong_span`` if a
    prediction of its entity overlaps it; or ``wrong_entity`` if any prediction overlaps it; or ``missed_span``.
    A prediction is ``correct``, ``wrong_span`` or ``wrong_entity`` in the same way, or ``spurious`` if it overlaps no gold
    mention. So ``correct`` adds up to the strong hits; ``wrong_span`` is the weak hits that are not strong and, rarely, a
    mention whose overlapping partner was already taken by another.
    """
    known = [i for i, triple in enumerate(question.gold) if triple.id]
    gold = [question.gold[i] for i in known]
    weak, strong = (tuple((known[g], p) for g, p in match_pairs(gold, question.predicted, matching)) for matching in _MATCHINGS)
    overlap = overlapping(question.gold, question.predicted)
    return Assessment(weak, strong, _gold_labels(question, overlap, strong), _predicted_labels(question, overlap, strong))


def _gold_labels(question: Question, overlap: list[list[bool]], strong: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    hit = {g for g, _ in strong}
    labels = []
    for g, triple in enumerate(question.gold):
        partners = [p for p, touches in zip(question.predicted, overlap[g], strict=True) if touches]
        if not triple.id:
            labels.append(UNKNOWN_ENTITY)
        else:
            labels.append(CORRECT if g in hit else _miss(triple, partners, MISSED_SPAN))
    return tuple(labels)


def _predicted_labels(question: Question, overlap: list[list[bool]], strong: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    hit = {p for _, p in strong}
    labels = []
    for p, triple in enumerate(question.predicted):
        partners = [gold for gold, row in zip(question.gold, overlap, strict=True) if row[p]]
        labels.append(CORRECT if p in hit else _miss(triple, partners, SPURIOUS))
    return tuple(labels)


def covered_part(question: Question) -> Question:
    """The question without its gold mentions outside the catalogue, and without what was predicted there.

    A prediction is left out that shares a position with such a mention and with no other gold mention.
    """
    if all(triple.id for triple in question.gold):
        return question
    overlap = overlapping(question.gold, question.predicted)
    inside = [g for g, triple in enumerate(question.gold) if triple.id]
    kept = (
        predicted
        for p, predicted in enumerate(question.predicted)
        if any(overlap[g][p] for g in inside) or not any(row[p] for row in overlap)
    )
    return replace(question, gold=tuple(question.gold[g] for g in inside), predicted=tuple(kept), covered=True)


def _miss(triple: Triple, partners: Sequence[Triple], alone: str) -> str:
    """Label a mention that is no strong hit by the mentions of the other side that overlap it."""
    if not partners:
        return alone
    return WRONG_SPAN if triple.id and any(same_entity(triple, other) for other in partners) else WRONG_ENTITY


def counts_of(question: Question, assessment: Assessment) -> CountRow:
    """Weak hits, strong hits, predictions, gold mentions: the fields of ``Counts``, in order."""
    return len(assessment.weak), len(assessment.strong), len(question.predicted), len(question.gold)


def _sum(rows: Sequence[CountRow]) -> Counts:
    return Counts(*(sum(column) for column in zip(*rows, strict=True)))


def evaluate(questions: Iterable[Question], *, samples: int = 1000, seed: int = 0, by_group: bool = False) -> Report:
    """Score questions, weakly and strongly, with 95 % bootstrap intervals of F1.

    The sections are all questions, covered questions, and covered mentions: what `covered_part` leaves of each question,
    but for questions of whose gold it leaves nothing.

    The result depends neither on the order of the questions nor on anything but them, ``samples`` and ``seed``.

    Args:
        questions: read once; only their counts are kept.
        samples: bootstrap resamples of the questions.
        seed: of the resampling.
        by_group: draw groups of questions (``Question.group``) rather than questions: paraphrases are no independent
            evidence, and intervals that count them as such are too narrow.

    Raises:
        SettingsError: ``samples`` is less than 1.
    """
    if samples < 1:
        raise SettingsError(f"{samples} bootstrap samples asked for; use 1 or more, say 1000")
    everything: list[_Row] = []
    covered: list[_Row] = []
    mentions: list[_Row] = []
    gold_labels = Counter(dict.fromkeys(GOLD_LABELS, 0))
    predicted_labels = Counter(dict.fromkeys(PREDICTED_LABELS, 0))
    for question in questions:
        assessment = assess(question)
        counts = counts_of(question, assessment)
        everything.append((counts, question.group))
        if question.covered:
            covered.append((counts, question.group))
        inside = covered_part(question)
        if inside.gold or not question.gold:
            mentions.append((counts_of(inside, assess(inside)), question.group))
        gold_labels.update(assessment.gold_labels)
        predicted_labels.update(assessment.predicted_labels)
    return Report(
        overall=_section(everything, samples, seed, by_group),
        covered=_section(covered, samples, seed, by_group),
        covered_mentions=_section(mentions, samples, seed, by_group),
        gold_labels=dict(gold_labels),
        predicted_labels=dict(predicted_labels),
    )


def _section(rows: Sequence[_Row], samples: int, seed: int, by_group: bool) -> Section:
    total = _sum([counts for counts, _ in rows])
    if not rows:
        return Section(0, total.scores("weak"), total.scores("strong"))
    counts = np.array([counts for counts, _ in rows], dtype=np.int64)
    resampled = resample(cluster_sums(counts, [group for _, group in rows] if by_group else None), samples, seed)
    weak, strong = (
        total.scores(matching, *middle(f1_of(resampled[:, column], resampled[:, 2] + resampled[:, 3])))
        for column, matching in enumerate(_MATCHINGS)
    )
    return Section(len(rows), weak, strong)


def question_rows(questions: Iterable[Question]) -> Iterator[dict[str, Any]]:
    """Yield one object per question for a file of JSON lines: its mentions, each with its label, and its hits.

    ``pairs`` are indices into ``gold`` and ``predicted``.
    """
    for question in questions:
        assessment = assess(question)
        gold = zip(question.gold, assessment.gold_labels, strict=True)
        predicted = zip(question.predicted, assessment.predicted_labels, strict=True)
        yield {
            "id": question.id,
            "text": question.text,
            "covered": question.covered,
            "group": question.group,
            "gold": [_mention_json(question.text, triple) | {"label": label} for triple, label in gold],
            "predicted": [
                _mention_json(question.text, triple) | {"score": triple.score, "label": label} for triple, label in predicted
            ],
            "weak": {"correct": len(assessment.weak), "pairs": [list(pair) for pair in assessment.weak]},
            "strong": {"correct": len(assessment.strong), "pairs": [list(pair) for pair in assessment.strong]},
            "labels": _label_counts(assessment),
        }


def _label_counts(assessment: Assessment) -> dict[str, int]:
    """Count the labels of the gold mentions and the spurious predictions, leaving out labels that do not occur."""
    spurious = (label for label in assessment.predicted_labels if label == SPURIOUS)
    return dict(Counter([*assessment.gold_labels, *spurious]))


def _mention_json(text: str, triple: Triple) -> dict[str, Any]:
    mention = text[triple.start : triple.end] if triple.has_span else None
    return {"id": triple.id or None, "start": triple.start, "end": triple.end, "mention": mention}


def format_report(report: Report) -> str:
    """Lay out a report for a terminal: one line for each set of questions and matching, then the labels.

    The lines begin with ``all weak``, ``all strong``, ``covered weak``, ``covered strong`` and so on, and their columns keep
    their order.
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
    """Lay out totals in the lines that the original ELQ printed, whatever the counts.

    Args:
        overall: against all gold mentions.
        window: against the gold mentions inside the model's input window; the predictions are the same.
        runtime_s: seconds spent linking; None leaves its line out.
    """
    lines = []
    for matching in _MATCHINGS:
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
