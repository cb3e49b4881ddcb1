"""Makes the scores of a ranker probabilities, and finds the one below which a span is better left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blink.data.records import Sample
from blink.errors import DataError, SettingsError
from blink.evaluation.calibration import Calibration, calibration_of
from blink.evaluation.sweep import PLATEAU, SweepPoint, curve, link_outcomes
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
        point: the cut-off that is best; its F1 is what was maximised.
        held_out: how well probabilities hold that were fitted on one half of the texts, on every link of the other that some
            cut-off would give.
        held_out_links: the same on the links above the cut-off alone, which is what users see.
    """

    scaling: Scaling
    point: SweepPoint
    held_out: Calibration
    held_out_links: Calibration


def calibrate(
    model: BiEncoder, sets: Sequence[DevSet], *, precision: str = "auto", progress: Callable[[int], None] = lambda texts: None
) -> Calibrated:
    """Fit the probabilities of a model's ranker on development texts; ``model`` gets them, and the cut-off.

    The probabilities are fitted twice, on each half of the texts (which half is decided by ids), and measured on the links
    that the other half would get; then on all of them. The cut-off is that of the largest weak F1, averaged over the sets
    and over covered and all questions: where an entity is lacking nothing should be linked. Of cut-offs that are as good the
    highest is taken.

    Raises:
        SettingsError: the model has no ranker.
        DataError: half of the texts has no spans.
    """
    if model.ranker is None:
        raise SettingsError("the model has no ranker, whose scores could be calibrated; fit one first: blink rank MODEL ...")
    if not all(any(dev.samples for dev in _parts(sets, half)) for half in (0, 1)):
        raise DataError("one half of the development texts is empty; give more of them")
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
    links = [(p, hit) for p, hit in zip(probabilities, right, strict=True) if p > point.threshold]
    seen = links or list(zip(probabilities, right, strict=True))
    shown = calibration_of([p for p, _ in seen], [hit for _, hit in seen])
    return Calibrated(scaling, point, calibration_of(probabilities, right), shown)


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
    sweeps = []
    for dev in sets:
        linker, readings = _read(model, dev, precision)
        found = curve(linker, readings, dev.samples, CUTOFFS)
        sweeps += [[p.point("weak", covered=covered) for p in found] for covered in (True, False)]
    means = [_mean(points) for points in zip(*sweeps, strict=True)]
    # F1 is flat around its best: there the most careful cut-off costs nothing.
    return [p for p in means if p.f1 >= max(point.f1 for point in means) - PLATEAU][-1]


def _mean(points: Sequence[SweepPoint]) -> SweepPoint:
    values = (sum(getattr(p, name) for p in points) / len(points) for name in ("precision", "recall", "f1"))
    return SweepPoint(points[0].threshold, *values)
