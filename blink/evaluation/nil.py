"""Gold mentions outside the catalogue, which are right if nothing is linked there, and the spans that a model detects.

*Unlinked* is a gold mention that no link overlaps. NIL recall is the share of the gold mentions outside the catalogue that are
unlinked; NIL precision is the share of the unlinked gold mentions that are outside the catalogue. Span recall counts all gold
mentions, in the catalogue or not, whose exact span the model detects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from blink.data.records import Sample
from blink.evaluation.counts import EvaluatedText, assess
from blink.evaluation.matching import overlapping
from blink.linking.analysis import Analysis


@dataclass(frozen=True)
class NilScores:
    """Counts of gold mentions, from which the scores follow; an undefined score is 0.

    Attributes:
        mentions: all gold mentions.
        nil: those outside the catalogue.
        unlinked: those that no link overlaps.
        correct: those outside the catalogue that no link overlaps.
        weak: those in the catalogue that are weak hits.
        strong: those in the catalogue that are strong hits.
    """

    mentions: int
    nil: int
    unlinked: int
    correct: int
    weak: int
    strong: int

    @classmethod
    def of(cls, texts: Iterable[EvaluatedText]) -> NilScores:
        """Count the gold mentions of texts."""
        mentions = nil = unlinked = correct = weak = strong = 0
        for evaluated in texts:
            assessment = assess(evaluated)
            linked = [any(row) for row in overlapping(evaluated.gold, evaluated.predicted)]
            is_nil = [not span.id for span in evaluated.gold]
            mentions += len(evaluated.gold)
            nil += sum(is_nil)
            unlinked += linked.count(False)
            correct += sum(outside and not some for outside, some in zip(is_nil, linked, strict=True))
            weak += len(assessment.weak)
            strong += len(assessment.strong)
        return cls(mentions, nil, unlinked, correct, weak, strong)

    @property
    def precision(self) -> float:
        """Share of the unlinked gold mentions that are outside the catalogue."""
        return _share(self.correct, self.unlinked)

    @property
    def recall(self) -> float:
        """Share of the gold mentions outside the catalogue that are unlinked."""
        return _share(self.correct, self.nil)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _share(2 * self.correct, self.unlinked + self.nil)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of these scores in a report."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "correct": self.correct,
            "unlinked": self.unlinked,
            "gold": self.nil,
            "wrong_links": self.nil - self.correct,
            "right": {"weak": self.weak + self.correct, "strong": self.strong + self.correct, "gold": self.mentions},
        }


@dataclass(frozen=True)
class SpanRecall:
    """How many gold mentions have their exact span detected.

    Attributes:
        mentions: all gold mentions, in the catalogue or not.
        proposed: those whose span is among the spans that are ranked and decoded.
        likely: those whose span has a mention probability above 0.5.
    """

    mentions: int
    proposed: int
    likely: int

    @classmethod
    def of(cls, analyses: Iterable[Analysis], samples: Iterable[Sample]) -> SpanRecall:
        """Count the gold mentions of samples whose span is in their analysis."""
        mentions = proposed = likely = 0
        for analysis, sample in zip(analyses, samples, strict=True):
            logits = dict(zip(analysis.span_characters(), analysis.spans.mention_logits.tolist(), strict=True))
            of_gold = [logits.get((m.start, m.end)) for m in sample.mentions or ()]
            mentions += len(of_gold)
            proposed += sum(logit is not None for logit in of_gold)
            likely += sum(logit is not None and logit > 0 for logit in of_gold)
        return cls(mentions, proposed, likely)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of these counts in a report."""
        shares = {"recall_proposed": _share(self.proposed, self.mentions), "recall_likely": _share(self.likely, self.mentions)}
        return {"gold": self.mentions, "proposed": self.proposed, "likely": self.likely, **shares}


def nil_report(
    texts: Sequence[EvaluatedText], analyses: Sequence[Analysis], samples: Sequence[Sample]
) -> tuple[dict[str, Any], str]:
    """Figures as a JSON object, ``nil`` and ``spans``, and the lines of a report for a terminal."""
    nil, spans = NilScores.of(texts), SpanRecall.of(analyses, samples)
    right = [
        f"{name} {_share(hits + nil.correct, nil.mentions):.4f}" for name, hits in (("weak", nil.weak), ("strong", nil.strong))
    ]
    lines = [
        f"{'gold mentions':<23}  precision  recall      f1  correct  unlinked     gold  wrong links",
        f"{'outside the catalogue':<23}  {nil.precision:>9.4f}  {nil.recall:>6.4f}  {nil.f1:>6.4f}  {nil.correct:>7}  "
        f"{nil.unlinked:>8}  {nil.nil:>7}  {nil.nil - nil.correct:>11}",
        f"right, or outside the catalogue and unlinked = {', '.join(right)} of {nil.mentions}",
        f"exact spans proposed = {_share(spans.proposed, spans.mentions):.4f}, "
        f"of probability above 0.5 = {_share(spans.likely, spans.mentions):.4f} of {spans.mentions}",
    ]
    return {"nil": nil.to_json(), "spans": spans.to_json()}, "\n".join(lines)


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0
