"""Matched and labelled mentions of one text, and counts from which micro averages follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from blink.data.records import NOT_IN_CATALOGUE, LinkedText, Sample
from blink.errors import DataError, MismatchError
from blink.evaluation.matching import EntitySpan, Matching, match_pairs, overlapping, same_entity

CORRECT = "correct"
WRONG_SPAN = "wrong_span"
WRONG_ENTITY = "wrong_entity"
MISSED_SPAN = "missed_span"
UNKNOWN_ENTITY = "not_in_catalogue"
SPURIOUS = "spurious"

GOLD_LABELS = (CORRECT, WRONG_SPAN, WRONG_ENTITY, MISSED_SPAN, UNKNOWN_ENTITY)
"""Labels of gold mentions. Every gold mention has exactly one."""
PREDICTED_LABELS = (CORRECT, WRONG_SPAN, WRONG_ENTITY, SPURIOUS)
"""Labels of predictions. Every prediction has exactly one."""

MATCHINGS: tuple[Matching, ...] = ("weak", "strong")
CountRow: TypeAlias = tuple[int, int, int, int]
"""The fields of `Counts`, in order."""


@dataclass(frozen=True, slots=True)
class Prediction(EntitySpan):
    """A predicted mention and its score."""

    score: float = 0.0


@dataclass(frozen=True, slots=True)
class EvaluatedText:
    """A text with its gold and its predicted mentions.

    The ``id`` of a gold mention outside the catalogue is None or ``""``. ``covered`` says that there is no such mention.
    ``group`` is the same for texts with the same gold entities, see `group_of`.
    """

    id: str
    text: str
    gold: tuple[EntitySpan, ...]
    predicted: tuple[Prediction, ...]
    covered: bool = True
    group: str = ""


@dataclass(frozen=True, slots=True)
class Assessment:
    """The mentions of one text, matched and labelled.

    ``weak`` and ``strong`` are the hits as ``(gold index, predicted index)``; the labels run parallel to
    ``EvaluatedText.gold`` and ``EvaluatedText.predicted``.
    """

    weak: tuple[tuple[int, int], ...]
    strong: tuple[tuple[int, int], ...]
    gold_labels: tuple[str, ...]
    predicted_labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over texts, from which the micro averages follow."""

    weak: int = 0
    strong: int = 0
    predicted: int = 0
    gold: int = 0

    def scores(self, matching: Matching, f1_low: float = 0.0, f1_high: float = 0.0) -> Scores:
        """The averages under one matching."""
        return Scores(self.weak if matching == "weak" else self.strong, self.predicted, self.gold, f1_low, f1_high)


@dataclass(frozen=True, slots=True)
class Scores:
    """Micro averages of one set of texts under one matching; an undefined average is 0."""

    correct: int
    predicted: int
    gold: int
    f1_low: float
    f1_high: float

    @property
    def precision(self) -> float:
        """Share of the predictions that are hits."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold mentions that are hit."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.correct / (self.predicted + self.gold) if self.correct else 0.0

    def to_json(self) -> dict[str, Any]:
        """The JSON object of these scores in a report."""
        keys = ("precision", "recall", "f1", "f1_low", "f1_high", "correct", "predicted", "gold")
        return {key: getattr(self, key) for key in keys}


def evaluated_text(sample: Sample, linked: LinkedText) -> EvaluatedText:
    """Pair a labelled sample with the links of its text. Ids are catalogue rows as strings.

    Raises:
        DataError: the sample has no gold mentions with character offsets.
        MismatchError: the linked text is not the sample's.
    """
    if sample.mentions is None:
        raise DataError(f"sample {sample.id!r} has no gold mentions with character offsets; evaluate on a labelled file")
    if sample.text != linked.text:
        raise MismatchError(f"sample {sample.id!r} was paired with the links of another text; link the sample's own text")
    predicted = (Prediction(str(link.row), link.start, link.end, link.score) for link in linked.links)
    counted = counted_predictions(sample, predicted)
    return EvaluatedText(sample.id, sample.text, gold_spans(sample), counted, sample.covered, group_of(sample))


def counted_predictions(sample: Sample, predicted: Iterable[Prediction]) -> tuple[Prediction, ...]:
    """The predictions that gold can judge: where a text is labelled in part, such as by corrections, others may be right."""
    if not sample.partial and not sample.unlabelled:
        return tuple(predicted)
    gold = {(m.start, m.end) for m in sample.mentions or ()}

    def is_judged(start: int | None, end: int | None) -> bool:
        return start is None or end is None or (start, end) in gold or not sample.may_be_unlabelled(start, end)

    return tuple(p for p in predicted if is_judged(p.start, p.end))


def group_of(sample: Sample) -> str:
    """A key shared by samples with the same set of gold entities, which are most likely paraphrases of one question.

    An entity is identified by its Wikidata id, else by its row, else by its mention. A sample without gold forms its own group.
    """
    entities = (
        m.kb_id or (str(m.row) if m.row != NOT_IN_CATALOGUE else sample.text[m.start : m.end].lower())
        for m in sample.mentions or ()
    )
    return " ".join(sorted(set(entities))) or f"id {sample.id}"


def gold_spans(sample: Sample) -> tuple[EntitySpan, ...]:
    """A sample's gold mentions in characters; one whose entity the catalogue lacks has no id."""
    return tuple(EntitySpan(None if m.row == NOT_IN_CATALOGUE else str(m.row), m.start, m.end) for m in sample.mentions or ())


def assess(evaluated: EvaluatedText) -> Assessment:
    """Match the mentions of one text and label each of them.

    The first label that applies is assigned. A gold mention is ``not_in_catalogue`` if its entity is not in the catalogue,
    ``correct`` if it is a strong hit, ``wrong_span`` if a prediction of its entity overlaps it, ``wrong_entity`` if any
    prediction overlaps it, and else ``missed_span``. A prediction is ``correct``, ``wrong_span`` or ``wrong_entity`` by the
    same rules, and ``spurious`` if it overlaps no gold mention. ``correct`` sums to the strong hits. ``wrong_span`` covers the
    other weak hits and, rarely, a mention whose overlapping partner is matched with another mention.
    """
    with_id = [i for i, span in enumerate(evaluated.gold) if span.id]
    gold = [evaluated.gold[i] for i in with_id]
    weak, strong = (
        tuple((with_id[g], p) for g, p in match_pairs(gold, evaluated.predicted, matching)) for matching in MATCHINGS
    )
    overlap = overlapping(evaluated.gold, evaluated.predicted)
    return Assessment(weak, strong, _gold_labels(evaluated, overlap, strong), _predicted_labels(evaluated, overlap, strong))


def _gold_labels(evaluated: EvaluatedText, overlap: list[list[bool]], strong: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    hit = {g for g, _ in strong}
    labels = []
    for g, span in enumerate(evaluated.gold):
        partners = [p for p, touches in zip(evaluated.predicted, overlap[g], strict=True) if touches]
        if not span.id:
            labels.append(UNKNOWN_ENTITY)
        else:
            labels.append(CORRECT if g in hit else _miss(span, partners, MISSED_SPAN))
    return tuple(labels)


def _predicted_labels(
    evaluated: EvaluatedText, overlap: list[list[bool]], strong: tuple[tuple[int, int], ...]
) -> tuple[str, ...]:
    hit = {p for _, p in strong}
    labels = []
    for p, span in enumerate(evaluated.predicted):
        partners = [gold for gold, row in zip(evaluated.gold, overlap, strict=True) if row[p]]
        labels.append(CORRECT if p in hit else _miss(span, partners, SPURIOUS))
    return tuple(labels)


def covered_mentions(evaluated: EvaluatedText) -> EvaluatedText:
    """The text without the gold mentions outside the catalogue, and without the predictions that overlap only those."""
    if all(span.id for span in evaluated.gold):
        return evaluated
    overlap = overlapping(evaluated.gold, evaluated.predicted)
    inside = [g for g, span in enumerate(evaluated.gold) if span.id]
    predictions = (
        predicted
        for p, predicted in enumerate(evaluated.predicted)
        if any(overlap[g][p] for g in inside) or not any(row[p] for row in overlap)
    )
    return replace(evaluated, gold=tuple(evaluated.gold[g] for g in inside), predicted=tuple(predictions), covered=True)


def _miss(span: EntitySpan, partners: Sequence[EntitySpan], label_alone: str) -> str:
    """Label a mention that is not a strong hit by the mentions of the other side that overlap it."""
    if not partners:
        return label_alone
    return WRONG_SPAN if span.id and any(same_entity(span, other) for other in partners) else WRONG_ENTITY


def counts_of(evaluated: EvaluatedText, assessment: Assessment) -> CountRow:
    """Weak hits, strong hits, predictions, gold mentions: the fields of ``Counts``, in order."""
    return len(assessment.weak), len(assessment.strong), len(evaluated.predicted), len(evaluated.gold)
