"""Chooses, on development texts, the weights of name matches and the threshold; the model itself does not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from blink.data.records import Sample
from blink.errors import SettingsError
from blink.evaluation.sweep import THRESHOLDS, SweepPoint, best_point, sweep
from blink.kb.forms import SurfaceForms
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.features import NameEvidence, NameFeatures, NameWeights
from blink.linking.linker import Linker, Reading
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder

GRID = {
    "alias": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
    "bare": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0),
    "title": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0),
    "only": (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0),
    "known": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0),
    "lower": (0.0, 1.0, 2.0, 3.0, 4.0, 6.0),
}
"""Values that are tried for each weight."""

ROUNDS = 2
STARTS = (NameWeights(), NameWeights(alias=4.0, only=2.0, known=2.0))
"""Where the climbs begin: names for nothing, and names for much. Moving one weight at a time does not lead across."""

TRIALS = len(STARTS) * (ROUNDS * sum(map(len, GRID.values())) + 1) + 1
"""Choices that are scored at most."""

PLATEAU = 0.002
"""F1 below the best that still counts as best when the threshold is chosen: about one mention of a small set."""

COARSE = tuple(round(float(t), 2) for t in np.arange(-4.0, 0.0, 0.2))
"""Thresholds that are tried for each choice of weights; the last choice is swept finely."""


@dataclass(frozen=True)
class DevSet:
    """Labelled texts and the knowledge base they are linked to."""

    kb: KnowledgeBase
    samples: Sequence[Sample]


def tune(
    model: BiEncoder,
    sets: Sequence[DevSet],
    *,
    precision: str = "auto",
    progress: Callable[[NameWeights, SweepPoint], None] = lambda weights, point: None,
) -> SweepPoint:
    """Set the name weights and the threshold of ``model`` to what is best on development sets.

    Best is the largest covered weak F1, averaged over the sets. From each of `STARTS` each weight in turn is
    moved over `GRID` while the others stay, twice; ties keep the earlier choice.

    Returns:
        the best point, averaged over the sets; ``model.config`` holds its weights and threshold.

    Raises:
        SettingsError: a knowledge base has no surface forms, or a text is longer than one window.
    """
    gathered = [_Gathered.read(model, dev, precision) for dev in sets]

    def score(weights: NameWeights, thresholds: Sequence[float] = COARSE, tolerance: float = 0.0) -> SweepPoint:
        point = best_point(_averaged([g.sweep(weights, thresholds) for g in gathered]), tolerance)
        progress(weights, point)
        return point

    climbed = [_climb(start, score) for start in STARTS]
    weights = max(climbed, key=lambda end: end[1].f1)[0]
    best = score(weights, THRESHOLDS, PLATEAU)
    model.config = model.config.replace(
        threshold=best.threshold, **{f"{name}_weight": value for name, value in asdict(weights).items()}
    )
    return best


def _climb(weights: NameWeights, score: Callable[[NameWeights], SweepPoint]) -> tuple[NameWeights, SweepPoint]:
    best = score(weights)
    for _ in range(ROUNDS):
        for name, values in GRID.items():
            for value in values:
                trial = replace(weights, **{name: value})
                point = score(trial)
                if point.f1 > best.f1:
                    best, weights = point, trial
    return weights, best


def _averaged(sweeps: Sequence[Sequence[SweepPoint]]) -> list[SweepPoint]:
    def mean(points: Sequence[SweepPoint], name: str) -> float:
        return sum(getattr(p, name) for p in points) / len(points)

    return [
        SweepPoint(points[0].threshold, *(mean(points, n) for n in ("precision", "recall", "f1")))
        for points in zip(*sweeps, strict=True)
    ]


@dataclass(frozen=True)
class _Gathered:
    """A development set as the model read it, once, with the evidence that weights apply to."""

    linker: Linker
    samples: Sequence[Sample]
    readings: list[Reading]
    evidence: list[NameEvidence | None]

    @classmethod
    def read(cls, model: BiEncoder, dev: DevSet, precision: str) -> _Gathered:
        if dev.kb.forms is None or dev.kb.vectors is None:
            raise SettingsError("tuning needs the surface forms of a knowledge base; build one with `blink kb build`")
        linker = Linker(model, dev.kb, names=False, precision=precision)
        recorder = _Recorder(dev.kb.forms, dev.kb.vectors, NameWeights(known=max(GRID["known"])))
        linker.names = recorder
        readings = list(linker.read([s.text for s in dev.samples], floor=min(THRESHOLDS)))
        if len(recorder.evidence) != len(readings):
            raise SettingsError("a development text is empty or longer than one window; tune on questions or sentences")
        # Evidence counts positions with [CLS]; readings do not.
        shifted = [None if e is None else replace(e, spans=e.spans.shift(-1)) for e in recorder.evidence]
        return cls(linker, dev.samples, readings, shifted)

    def sweep(self, weights: NameWeights, thresholds: Sequence[float]) -> list[SweepPoint]:
        k = self.linker.options.entities
        pairs = zip(self.readings, self.evidence, strict=True)
        weighed = [r if e is None else replace(r, spans=e.weigh(weights, k)) for r, e in pairs]
        return sweep(self.linker, weighed, self.samples, thresholds)


class _Recorder(NameFeatures):
    """Keeps the evidence of each text instead of weighing it."""

    def __init__(self, forms: SurfaceForms, vectors: np.ndarray, weights: NameWeights) -> None:
        super().__init__(forms, vectors, weights)
        self.evidence: list[NameEvidence | None] = []

    def refine(self, spans: ScoredSpans, mentions: np.ndarray, strings: Sequence[str], cased: bool) -> ScoredSpans:
        self.evidence.append(self.gather(spans, mentions, strings, cased) if len(spans) else None)
        return spans
