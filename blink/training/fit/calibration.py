"""Makes the scores of a ranker probabilities, and finds the one below which a span is better left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from blink.data.records import Sample
from blink.errors import DataError, SettingsError
from blink.evaluation.calibration import Calibration, calibration_of
from blink.evaluation.sweep import PLATEAU, SweepPoint, curve, link_outcomes
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import Analysis
from blink.linking.decoder import Decoder, Thresholds
from blink.linking.linker import Linker
from blink.linking.reranker import Reranker
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder
from blink.model.reranker import RerankerNetwork, Scaling
from blink.training.fit.reranker import LabelledSpans, fit_scaling, label_spans, require_one_window
from blink.training.settings import Fold

CUTOFFS = tuple(round(0.02 * i, 2) for i in range(1, 48))
"""Probabilities that are tried as the cut-off."""
HALVES = (Fold(0, 2), Fold(1, 2))
"""Of the texts; probabilities that are fitted on one are measured on the other."""


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

    The model reads every text once: other probabilities are other multiples of the same scores.

    Raises:
        SettingsError: the model has no ranker.
        DataError: half of the texts has no spans.
    """
    if model.reranker is None:
        raise SettingsError("the model has no ranker, whose scores could be calibrated; fit one first: blink rank MODEL ...")
    if not all(any(s.id in half for dev in sets for s in dev.samples) for half in HALVES):
        raise DataError("one half of the development texts is empty; give more of them")
    ranker = model.reranker
    read = [_read(model, dev, precision, progress) for dev in sets]
    probabilities: list[float] = []
    right: list[bool] = []
    for half, other in (HALVES, HALVES[::-1]):
        scaling = _fitted(ranker, [each.part(half) for each in read])
        for each in read:
            # Every link that some cut-off would give, not only those above the one that is chosen in the end.
            scores, hits = _outcomes(each.part(other), scaling)
            probabilities += scores
            right += hits
    if not probabilities:
        raise DataError("the model links nothing in the development texts; give more of them")
    scaling = _fitted(ranker, read)
    point = _best_cutoff(read, scaling)
    model.reranker = ranker.scaled(scaling)
    model.config = model.config.replace(cutoff=point.threshold)
    links = [(p, hit) for p, hit in zip(probabilities, right, strict=True) if p > point.threshold]
    seen = links or list(zip(probabilities, right, strict=True))
    shown = calibration_of([p for p, _ in seen], [hit for _, hit in seen])
    return Calibrated(scaling, point, calibration_of(probabilities, right), shown)


@dataclass(frozen=True)
class _Read:
    """A set as a model read it.

    Attributes:
        decoder: of links.
        samples: the texts.
        analyses: of each, with the ranker's scores as they are before any scaling.
        spans: of each, with what the scaling is fitted to.
    """

    decoder: Decoder
    samples: Sequence[Sample]
    analyses: Sequence[Analysis]
    spans: Sequence[LabelledSpans]

    def part(self, half: Fold) -> _Read:
        """One half of it."""
        chosen = [i for i, sample in enumerate(self.samples) if sample.id in half]
        return _Read(
            self.decoder,
            [self.samples[i] for i in chosen],
            [self.analyses[i] for i in chosen],
            [self.spans[i] for i in chosen],
        )

    def scaled(self, scaling: Scaling) -> list[Analysis]:
        """The analyses that a ranker with this scaling would give: a scale above 0 leaves candidates in their order."""
        return [replace(analysis, spans=_rescaled(analysis.spans, scaling)) for analysis in self.analyses]


def _read(model: BiEncoder, dev: DevSet, precision: str, progress: Callable[[int], None]) -> _Read:
    assert model.reranker is not None
    require_one_window(model, dev.samples)
    unscaled = Reranker(model.reranker.scaled(Scaling()))
    linker = Linker(model, dev.kb, precision=precision, stages={"reranker": unscaled})
    analyses, spans = [], []
    for sample, analysis in zip(dev.samples, linker.analyze([s.text for s in dev.samples], keep=("features",)), strict=True):
        spans.append(label_spans(sample, analysis))
        analyses.append(replace(analysis, features=None))
        progress(1)
    return _Read(linker.decoder, dev.samples, analyses, spans)


def _rescaled(spans: ScoredSpans, scaling: Scaling) -> ScoredSpans:
    return replace(spans, entity_logits=spans.entity_logits * scaling.scale + scaling.shift)


def _fitted(ranker: RerankerNetwork, read: Sequence[_Read]) -> Scaling:
    return fit_scaling(ranker, LabelledSpans.concatenate([spans for each in read for spans in each.spans]))


def _outcomes(read: _Read, scaling: Scaling) -> tuple[list[float], list[bool]]:
    return link_outcomes(read.decoder, read.scaled(scaling), read.samples, Thresholds(0.0), "strong")


def _best_cutoff(read: Sequence[_Read], scaling: Scaling) -> SweepPoint:
    sweeps = []
    for each in read:
        found = curve(each.decoder, each.scaled(scaling), each.samples, CUTOFFS)
        sweeps += [[p.point("weak", covered=covered) for p in found] for covered in (True, False)]
    means = [_mean(points) for points in zip(*sweeps, strict=True)]
    # F1 is flat around its best: there the most careful cut-off costs nothing.
    return [p for p in means if p.f1 >= max(point.f1 for point in means) - PLATEAU][-1]


def _mean(points: Sequence[SweepPoint]) -> SweepPoint:
    values = (sum(getattr(p, name) for p in points) / len(points) for name in ("precision", "recall", "f1"))
    return SweepPoint(points[0].threshold, *values)
