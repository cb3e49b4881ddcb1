"""Ambiguity strata: gold mentions, grouped by the entities that the alias table lists for their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.evaluation.counts import EvaluatedText, assess
from blink.kb.alias_table import AliasTable

UNAMBIGUOUS, AMBIGUOUS, UNLISTED, OTHERS = "unambiguous", "ambiguous", "not_listed", "only_others"
STRATA = {
    UNAMBIGUOUS: "a name of the right entity alone",
    AMBIGUOUS: "a name of the right entity and of others",
    UNLISTED: "no name of any entity",
    OTHERS: "a name of other entities only",
}
"""Stratum -> description. Each gold mention in the catalogue is in one stratum."""

SampleStrata: TypeAlias = tuple["str | None", ...]
"""The stratum of each gold mention of a sample; None if its entity is not in the catalogue."""


@dataclass(frozen=True, slots=True)
class StratumScores:
    """Numbers of gold mentions of one stratum, and of their weak and strong hits."""

    gold: int
    weak: int
    strong: int

    @property
    def weak_recall(self) -> float | None:
        """Share of the gold mentions that are weak hits; None without gold."""
        return self.weak / self.gold if self.gold else None

    @property
    def strong_recall(self) -> float | None:
        """Share of the gold mentions that are strong hits; None without gold."""
        return self.strong / self.gold if self.gold else None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this stratum in a report."""
        keys = ("gold", "weak", "strong", "weak_recall", "strong_recall")
        return {key: getattr(self, key) for key in keys}


def stratum_of(aliases: AliasTable, mention: str, row: int) -> str:
    """The stratum of a mention of the entity in ``row``."""
    rows = {match.row for match in aliases.lookup(mention)}
    if not rows:
        return UNLISTED
    if row not in rows:
        return OTHERS
    return UNAMBIGUOUS if len(rows) == 1 else AMBIGUOUS


def strata_of(sample: Sample, aliases: AliasTable) -> SampleStrata:
    """The strata of a sample's gold mentions; their rows must be those of the catalogue of ``aliases``."""
    return tuple(
        None if m.row == NOT_IN_CATALOGUE else stratum_of(aliases, sample.text[m.start : m.end], m.row)
        for m in sample.mentions or ()
    )


def stratum_scores(texts: Sequence[EvaluatedText], strata: Sequence[SampleStrata]) -> dict[str, StratumScores]:
    """Hits by stratum over the covered texts. There is no precision: a wrong prediction belongs to no gold mention.

    Args:
        texts: with gold and predictions.
        strata: per text, those of its gold mentions.
    """
    counts = {name: [0, 0, 0] for name in STRATA}
    for evaluated, names in zip(texts, strata, strict=True):
        if not evaluated.covered:
            continue
        assessment = assess(evaluated)
        hits = [{gold for gold, _ in pairs} for pairs in (assessment.weak, assessment.strong)]
        for index, name in enumerate(names):
            if name is not None:
                counts[name][0] += 1
                for column, hit in enumerate(hits, 1):
                    counts[name][column] += index in hit
    return {name: StratumScores(*values) for name, values in counts.items()}


def format_strata(scores: Mapping[str, StratumScores]) -> str:
    """Format the strata for a terminal."""
    lines = [f"{'covered mention is':<40}  {'gold':>6}  {'weak recall':>11}  {'strong recall':>13}"]
    for name, stratum in scores.items():
        weak, strong = ("-" if s is None else f"{s:.4f}" for s in (stratum.weak_recall, stratum.strong_recall))
        lines.append(f"{STRATA[name]:<40}  {stratum.gold:>6}  {weak:>11}  {strong:>13}")
    return "\n".join(lines)
