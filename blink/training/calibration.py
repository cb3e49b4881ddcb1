"""Makes the scores of a ranker probabilities, and finds the one below which a span is better left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blink.data.records import Sample
from blink.errors import DataError, SettingsError
from blink.evaluation.calibration import Calibration, calibration_of
from blink.evaluation.sweep import PLATEAU, SweepPoint, best_point, link_outcomes, sweep
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker, Reading
from blink.linking.scoring import Thresholds
from blink.model.biencoder import BiEncoder
from blink.model.ranker import Ranker, Scaling
from blink.training.ranking import LabelledSpans, fit_scaling, labelled_spans
from blink.training.settings import Fold

CUTOFFS = tuple(round(0.02 * i, 2) for i in range(1, 48))
"""Probabilities that are tried as the cut-off."""


@dataclass(frozen=True)
class DevSet:
    """Labelled texts and the knowledge base they are linked to."""

    kb: KnowledgeBase
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` found.

    Attributes:
        scaling: of the ranker's scores, fitted on all texts.
        point: the cut-off that is best, with its scores averaged over the sets.
        held_out: how well probabilities hold that were fitted on one half of the texts, on the links of the other.
    """

    scaling: Scaling
    point: SweepPoint
    held_out: Calibration


def calibrate(
    model: BiEncoder, sets: Sequence[DevSet], *, precision: str = "auto", progress: Callable[[int], None] = lambda texts: None
) -> Calibrated:
    """Fit the probabilities of a model's ranker on development texts; ``model`` gets them, and the cut-off.

    The probabilities are fitted twice, on each half of the texts (which half is decided by ids), and measured on the links
    that the other half would get; then on all of them. The cut-off is that of the largest covered weak F1, averaged over
    the sets.

    Raises:
        SettingsError: the model has no ranker.
        DataError: half of the texts has no spans.
    """
    if model.ranker is None:
        raise SettingsError("the model has no ranker, whose scores could be calibrated; fit one first: blink rank MODEL ...")
    ranker = model.ranker
    probabilities: list[float] = []
    right: list[bool] = []
    for half, other in ((0, 1), (1, 0)):
        model.ranker = ranker.scaled(fit_scaling(ranker, _spans(model, _parts(sets, half), ranker, precision)))
        for dev in _parts(sets, other):
            scores, hits = _outcomes(model, dev, precision, progress)
            probabilities += scores
            right += hits
    if not probabilities:
        raise DataError("the model links nothing in the development texts; give more of them")
    scaling = fit_scaling(ranker, _spans(model, sets, ranker, precision))
    model.ranker = ranker.scaled(scaling)
    point = _best_cutoff(model, sets, precision)
    model.config = model.config.replace(cutoff=point.threshold)
    return Calibrated(scaling, point, calibration_of(probabilities, right))


def _parts(sets: Sequence[DevSet], part: int) -> list[DevSet]:
    return [DevSet(dev.kb, [s for s in dev.samples if s.id in Fold(part, 2)]) for dev in sets]


def _spans(model: BiEncoder, sets: Sequence[DevSet], ranker: Ranker, precision: str) -> LabelledSpans:
    return LabelledSpans.concatenate(
        [labelled_spans(model, dev.kb, dev.samples, floor=ranker.floor, precision=precision) for dev in sets]
    )


def _outcomes(model: BiEncoder, dev: DevSet, precision: str, progress: Callable[[int], None]) -> tuple[list[float], list[bool]]:
    linker, readings = _read(model, dev, precision)
    progress(len(readings))
    # Every link that some cut-off would give, not only those above the one that is chosen in the end.
    return link_outcomes(linker, readings, dev.samples, Thresholds(0.0), "strong")


def _read(model: BiEncoder, dev: DevSet, precision: str) -> tuple[Linker, list[Reading]]:
    linker = Linker(model, dev.kb, precision=precision)
    return linker, list(linker.read([s.text for s in dev.samples]))


def _best_cutoff(model: BiEncoder, sets: Sequence[DevSet], precision: str) -> SweepPoint:
    read = [(*_read(model, dev, precision), dev.samples) for dev in sets]
    sweeps = [sweep(linker, readings, samples, CUTOFFS) for linker, readings, samples in read]
    return best_point([_mean(points) for points in zip(*sweeps, strict=True)], PLATEAU)


def _mean(points: Sequence[SweepPoint]) -> SweepPoint:
    values = (sum(getattr(p, name) for p in points) / len(points) for name in ("precision", "recall", "f1"))
    return SweepPoint(points[0].threshold, *values)
