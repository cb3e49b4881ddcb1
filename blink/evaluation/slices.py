"""Gold mentions by how much their spelling gives away, according to the surface forms of the knowledge base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.evaluation.report import Question, assess
from blink.kb.alias_table import AliasTable

UNAMBIGUOUS, AMBIGUOUS, UNLISTED, OTHERS = "unambiguous", "ambiguous", "not_listed", "only_others"
SLICES = {
    UNAMBIGUOUS: "a name of the right entity alone",
    AMBIGUOUS: "a name of the right entity and of others",
    UNLISTED: "no name of any entity",
    OTHERS: "a name of other entities only",
}
"""Each gold mention in the catalogue is in one of these."""

_EVERY = 1 << 30  # most entities a name may have
SampleSlices: TypeAlias = tuple["str | None", ...]
"""The slice of each gold mention of a sample; None where its entity is not in the catalogue."""


@dataclass(frozen=True, slots=True)
class SliceScores:
    """Gold mentions of one slice, and how many of them were hit."""

    gold: int
    weak: int
    strong: int

    @property
    def weak_recall(self) -> float | None:
        """The share of them that was hit; None of none."""
        return self.weak / self.gold if self.gold else None

    @property
    def strong_recall(self) -> float | None:
        """The share of them that was hit with the span exactly right; None of none."""
        return self.strong / self.gold if self.gold else None

    def to_json(self) -> dict[str, Any]:
        """The object that stands for a slice in a report."""
        keys = ("gold", "weak", "strong", "weak_recall", "strong_recall")
        return {key: getattr(self, key) for key in keys}


def slice_of(forms: AliasTable, mention: str, row: int) -> str:
    """The slice of a mention of the entity in ``row``."""
    named = {match.row for match in forms.lookup(mention, limit=_EVERY)}
    if not named:
        return UNLISTED
    if row not in named:
        return OTHERS
    return UNAMBIGUOUS if len(named) == 1 else AMBIGUOUS


def slices_of(sample: Sample, forms: AliasTable) -> SampleSlices:
    """The slices of a sample's gold mentions, whose rows are those of the catalogue that ``forms`` belong to."""
    return tuple(
        None if m.row == NOT_IN_CATALOGUE else slice_of(forms, sample.text[m.start : m.end], m.row)
        for m in sample.mentions or ()
    )


def slice_scores(questions: Sequence[Question], slices: Sequence[SampleSlices]) -> dict[str, SliceScores]:
    """Hits by slice over the covered questions; recall only, for a wrong prediction belongs to no gold mention.

    Args:
        questions: with gold and predictions.
        slices: for each question, those of its gold mentions.
    """
    counts = {name: [0, 0, 0] for name in SLICES}
    for question, names in zip(questions, slices, strict=True):
        if not question.covered:
            continue
        found = assess(question)
        hits = [{gold for gold, _ in pairs} for pairs in (found.weak, found.strong)]
        for place, name in enumerate(names):
            if name is not None:
                counts[name][0] += 1
                for column, hit in enumerate(hits, 1):
                    counts[name][column] += place in hit
    return {name: SliceScores(*numbers) for name, numbers in counts.items()}


def format_slices(scores: Mapping[str, SliceScores]) -> str:
    """Lay out the slices for a terminal."""
    lines = [f"{'covered mention is':<40}  {'gold':>6}  {'weak recall':>11}  {'strong recall':>13}"]
    for name, found in scores.items():
        weak, strong = ("-" if s is None else f"{s:.4f}" for s in (found.weak_recall, found.strong_recall))
        lines.append(f"{SLICES[name]:<40}  {found.gold:>6}  {weak:>11}  {strong:>13}")
    return "\n".join(lines)
