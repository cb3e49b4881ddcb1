"""Chooses, on development texts, the weights of name matches and the threshold; the model itself does not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from blink.data.records import Sample
from blink.errors import SettingsError
from blink.evaluation.sweep import THRESHOLDS, SweepPoint, best_point, sweep
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.features import NameEvidence, NameFeatures, NameWeights
from blink.linking.linker import Linker, Reading
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder

GRID = {
    "title": (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
    "alias": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0),
    "known": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
}
"""Values that are tried for each weight."""

ROUNDS = 2
TRIALS = ROUNDS * sum(map(len, GRID.values())) + 2
"""Choices that are scored at most."""

COARSE = tuple(round(float(t), 2) for t in np.arange(-4.0, 0.0, 0.2))
"""Thresholds that are tried for each choice of weights; the last choice is swept finely."""


def tune(
    model: BiEncoder,
    kb: KnowledgeBase,
    dev: Sequence[Sample],
    *,
    precision: str = "auto",
    progress: Callable[[NameWeights, SweepPoint], None] = lambda weights, point: None,
) -> SweepPoint:
    """Set the name weights and the threshold of ``model`` to what gives the best covered weak F1 on ``dev``.

    Each weight in turn is moved over `GRID` while the others stay, twice; ties keep the smaller weight.

    Returns:
        the best point; ``model.config`` holds its weights and threshold.

    Raises:
        SettingsError: the knowledge base has no surface forms.
    """
    if kb.forms is None or kb.vectors is None:
        raise SettingsError("tuning needs the surface forms of a knowledge base; build one with `blink kb build`")
    linker, readings, evidence = _gather(model, kb, dev, precision)

    def score(weights: NameWeights, thresholds: Sequence[float] = COARSE) -> SweepPoint:
        k = linker.options.entities
        weighed = [r if e is None else replace(r, spans=e.weigh(weights, k)) for r, e in zip(readings, evidence, strict=True)]
        point = best_point(sweep(linker, weighed, dev, thresholds))
        progress(weights, point)
        return point

    best, weights = score(NameWeights()), NameWeights()
    for _ in range(ROUNDS):
        for name, values in GRID.items():
            for value in values:
                trial = replace(weights, **{name: value})
                point = score(trial) if trial != weights else best
                if point.f1 > best.f1:
                    best, weights = point, trial
    best = score(weights, THRESHOLDS)
    model.config = model.config.replace(
        title_weight=weights.title, alias_weight=weights.alias, known_weight=weights.known, threshold=best.threshold
    )
    return best


class _Recorder(NameFeatures):
    """Keeps the evidence of each text instead of weighing it."""

    def __init__(self, features: NameFeatures) -> None:
        super().__init__(features.forms, features.vectors, NameWeights(known=max(GRID["known"])))
        self.evidence: list[NameEvidence | None] = []

    def refine(self, spans: ScoredSpans, mentions: np.ndarray, strings: Sequence[str]) -> ScoredSpans:
        self.evidence.append(self.gather(spans, mentions, strings) if len(spans) else None)
        return spans


def _gather(
    model: BiEncoder, kb: KnowledgeBase, dev: Sequence[Sample], precision: str
) -> tuple[Linker, list[Reading], list[NameEvidence | None]]:
    assert kb.forms is not None
    assert kb.vectors is not None
    linker = Linker(model, kb, names=False, precision=precision)
    recorder = _Recorder(NameFeatures(kb.forms, kb.vectors, NameWeights()))
    linker.names = recorder
    readings = list(linker.read([s.text for s in dev], floor=min(THRESHOLDS)))
    if len(recorder.evidence) != len(readings):
        raise SettingsError("a development text is empty or longer than one window; tune on questions or sentences")
    # Evidence counts positions with [CLS]; readings do not.
    shifted = [None if e is None else replace(e, spans=e.spans.shift(-1)) for e in recorder.evidence]
    return linker, readings, shifted
