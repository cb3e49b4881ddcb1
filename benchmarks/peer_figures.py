"""Figures of links, as `blink eval` has them, for `benchmarks/peers.py`, which imports them when a linker has started."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer_linkers import Linked
from blink.data.mention_files import bind, read_samples
from blink.data.records import Sample
from blink.evaluation.counts import EvaluatedText, Prediction, counted_predictions, gold_spans, group_of
from blink.evaluation.report import Report, evaluate
from blink.kb.knowledge_base import KnowledgeBase

CASED = "text_cased"


@dataclass(frozen=True)
class Texts:
    """Texts with gold, and which figure counts.

    Attributes:
        samples: the texts.
        is_prose: whether mentions count rather than texts that are covered whole.
    """

    samples: list[Sample]
    is_prose: bool

    def report(self, links: Iterable[Sequence[Linked]], threshold: float = -math.inf) -> Report:
        """The evaluation of links above a threshold."""
        return evaluate([_evaluated(s, of, threshold) for s, of in zip(self.samples, links, strict=True)], n_resamples=1000)

    def figure(self, report: Report) -> dict[str, Any]:
        """The scores that count."""
        section = report.covered_mentions.strong if self.is_prose else report.covered.weak
        return section.to_json()


def _evaluated(sample: Sample, links: Sequence[Linked], threshold: float) -> EvaluatedText:
    predicted = [Prediction(str(link.row), link.start, link.end, link.score) for link in links if link.score > threshold]
    counted = counted_predictions(sample, predicted)
    return EvaluatedText(sample.id, sample.text, gold_spans(sample), counted, sample.covered, group_of(sample))


def read_texts(file: Path, kb: KnowledgeBase, *, is_prose: bool, most: int) -> Texts:
    """The first texts of a mention file, cased where it has them so."""
    key = CASED if is_prose and is_cased(file) else "text"
    return Texts(list(bind(itertools.islice(read_samples(file, key), most), kb.catalogue)), is_prose)


def best_threshold(sets: Sequence[Texts], links: Sequence[Sequence[Sequence[Linked]]]) -> float:
    """The threshold with the best mean F1 over some sets; the scores are those of their links."""
    scores = sorted({link.score for of_set in links for of_text in of_set for link in of_text})
    steps = [-math.inf, *scores[:: max(len(scores) // 40, 1)]]

    def mean_f1(threshold: float) -> float:
        figures = [
            texts.figure(_counted(texts, of_set, threshold))["f1"] or 0 for texts, of_set in zip(sets, links, strict=True)
        ]
        return sum(figures) / len(figures)

    return max(steps, key=mean_f1)


def _counted(texts: Texts, links: Sequence[Sequence[Linked]], threshold: float) -> Report:
    """The evaluation without intervals."""
    return evaluate([_evaluated(s, of, threshold) for s, of in zip(texts.samples, links, strict=True)], n_resamples=1)


def is_cased(file: Path) -> bool:
    """Whether a mention file has its texts with their capital letters too: it is prose, and no questions."""
    with file.open(encoding="utf-8") as f:
        return CASED in json.loads(f.readline())
