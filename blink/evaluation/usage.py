"""Statistics of links over texts without gold: numbers of links and their scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from blink.evaluation.counts import Prediction


@dataclass(frozen=True, slots=True)
class Usage:
    """Statistics of links over texts without gold.

    Attributes:
        questions: number of texts.
        links: number of links.
        linked: number of texts with at least one link.
        mean_score: mean score of the links; None without links.
        median_score: median score of the links; None without links.
    """

    questions: int
    links: int
    linked: int
    mean_score: float | None
    median_score: float | None

    @property
    def links_per_question(self) -> float:
        """Mean number of links per text."""
        return self.links / self.questions if self.questions else 0.0

    @property
    def share_linked(self) -> float:
        """Share of the texts with at least one link."""
        return self.linked / self.questions if self.questions else 0.0

    def to_json(self, *, threshold: float, questions_per_s: float | None) -> dict[str, Any]:
        """The statistics as a JSON object. JSON has no infinity: an infinite threshold becomes None."""
        shares = {"links_per_question": self.links_per_question, "share_linked": self.share_linked}
        run = {"threshold": threshold if math.isfinite(threshold) else None, "questions_per_s": questions_per_s}
        return asdict(self) | shares | run


def usage_of(predictions: Iterable[Iterable[Prediction]]) -> Usage:
    """Compute the statistics of the links of texts."""
    scores: list[float] = []
    questions = linked = 0
    for of_text in predictions:
        link_scores = [p.score for p in of_text]
        scores += link_scores
        questions += 1
        linked += bool(link_scores)
    mean, median = (statistics.fmean(scores), statistics.median(scores)) if scores else (None, None)
    return Usage(questions, len(scores), linked, mean, median)


def format_usage(usage: Usage) -> str:
    """Format the statistics for a terminal."""
    scores = (usage.mean_score, usage.median_score)
    mean, median = ("-" if score is None else f"{score:.3f}" for score in scores)
    return "\n".join(
        [
            "no gold in this file: how much is linked, not how well",
            f"questions = {usage.questions}",
            f"links = {usage.links}",
            f"links per question = {usage.links_per_question:.3f}",
            f"questions with a link = {usage.linked} ({usage.share_linked:.1%})",
            f"score of a link = {mean} mean, {median} median",
        ]
    )
