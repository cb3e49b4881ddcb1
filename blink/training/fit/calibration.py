"""Calibrates the scores of a reranker to probabilities, and selects the cut-off below which a span is not linked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from blink.data.records import Sample
from blink.errors import DataError, SettingsError
from blink.evaluation.calibration import Calibration, calibration_of
from blink.evaluation.report import Report, evaluate
from blink.evaluation.sweep import PLATEAU, SweepPoint, best_point, curve, link_outcomes, mean_point, question_at
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import Analysis
from blink.linking.decoder import Decoder, Thresholds
from blink.linking.linker import Linker
from blink.linking.reranker import Reranker
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder
from blink.model.execution import Execution
from blink.model.reranker import RerankerNetwork, Scaling
from blink.training.fit.reranker import LabelledSpans, fit_scaling, label_spans
from blink.training.settings import Fold

CUTOFFS = tuple(round(0.02 * i, 2) for i in range(1, 48))
"""Probabilities that are tried as the cut-off."""
HALVES = (Fold(0, 2), Fold(1, 2))
"""Folds of the texts. Probabilities fitted on one are measured on the other."""


@dataclass(frozen=True)
class DevSet:
    """Labelled texts, and the knowledge base that they are linked to."""

    kb: KnowledgeBase
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Calibrated:
    """The result of `calibrate`.

    Attributes:
        scaling: of the reranker's scores, fitted on all texts.
        point: the best cut-off, with the F1 that was maximized.
        held_out: calibration of probabilities that were fitted on one half of the texts, measured on every link of the other
            half that any cut-off gives.
        held_out_links: the same for the links above the cut-off, which are those that users get.
        reports: scores of each set at the cut-off, with intervals.
        execution: how the encoder ran.
    """

    scaling: Scaling
    point: SweepPoint
    held_out: Calibration
    held_out_links: Calibration
    reports: tuple[Report, ...]
    execution: Execution


def calibrate(
    model: BiEncoder, sets: Sequence[DevSet], *, precision: str = "auto", progress: Callable[[int], None] = lambda texts: None
) -> Calibrated:
    """Calibrate a model's reranker on development texts. Sets the scaling and the cut-off of ``model``.

    The scaling is fitted on each half of the texts (by their ids) and measured on the links of the other half, and then fitted
    on all texts. The cut-off has the largest weak F1, averaged over the sets and over covered and all texts, so that mentions
    without an entity in the knowledge base count too. Of equally good cut-offs the middle one is used.

    Every text is analyzed once, since a scaling only transforms the scores.

    Raises:
        SettingsError: the model has no reranker.
        DataError: a half of the texts has no spans.
    """
    if model.reranker is None:
        raise SettingsError("the model has no reranker, whose scores could be calibrated; fit one first: blink rank MODEL ...")
    if not all(any(s.id in half for dev in sets for s in dev.samples) for half in HALVES):
        raise DataError("one half of the development texts is empty; give more of them")
    reranker = model.reranker
    sets_read = [_read(model, dev, precision, progress) for dev in sets]
    probabilities: list[float] = []
    right: list[bool] = []
    for half, other in (HALVES, HALVES[::-1]):
        scaling = _fitted(reranker, [of_set.fold(half) for of_set in sets_read])
        for dev in sets_read:
            # Every link that any cut-off gives, not only those above the selected one.
            scores, hits = _outcomes(dev.fold(other), scaling)
            probabilities += scores
            right += hits
    if not probabilities:
        raise DataError("the model links nothing in the development texts; give more of them")
    scaling = _fitted(reranker, sets_read)
    point = _best_cutoff(sets_read, scaling)
    model.reranker = reranker.scaled(scaling)
    model.config = model.config.replace(cutoff=point.threshold)
    links = [(p, hit) for p, hit in zip(probabilities, right, strict=True) if p > point.threshold]
    links_or_all = links or list(zip(probabilities, right, strict=True))
    on_links = calibration_of([p for p, _ in links_or_all], [hit for _, hit in links_or_all])
    reports = tuple(_report(of_set, scaling, point.threshold) for of_set in sets_read)
    return Calibrated(scaling, point, calibration_of(probabilities, right), on_links, reports, sets_read[0].execution)


@dataclass(frozen=True)
class _Read:
    """A development set with its analyses.

    Attributes:
        decoder: of links.
        samples: the texts.
        analyses: one per text, with the reranker's unscaled scores.
        spans: one per text, with the features and targets that the scaling is fitted to.
        execution: how the encoder ran.
    """

    decoder: Decoder
    samples: Sequence[Sample]
    analyses: Sequence[Analysis]
    spans: Sequence[LabelledSpans]
    execution: Execution

    def fold(self, half: Fold) -> _Read:
        """The texts of one half."""
        indices = [i for i, sample in enumerate(self.samples) if sample.id in half]
        return _Read(
            self.decoder,
            [self.samples[i] for i in indices],
            [self.analyses[i] for i in indices],
            [self.spans[i] for i in indices],
            self.execution,
        )

    def scaled(self, scaling: Scaling) -> list[Analysis]:
        """The analyses of a reranker with this scaling. A scale above 0 keeps the order of the candidates."""
        return [replace(analysis, spans=_rescaled(analysis, scaling)) for analysis in self.analyses]


def _read(model: BiEncoder, dev: DevSet, precision: str, progress: Callable[[int], None]) -> _Read:
    assert model.reranker is not None
    unscaled = Reranker(model.reranker.scaled(Scaling()))
    linker = Linker(model, dev.kb, precision=precision, document=False, stages={"reranker": unscaled})
    analyses, spans = [], []
    for sample, analysis in zip(dev.samples, linker.analyze([s.text for s in dev.samples], keep=("features",)), strict=True):
        spans.append(label_spans(sample, analysis))
        analyses.append(replace(analysis, features=None))
        progress(1)
    return _Read(linker.decoder, dev.samples, analyses, spans, Execution.of(linker.stages.detector.backend))


def _report(read: _Read, scaling: Scaling, cutoff: float) -> Report:
    thresholds = Thresholds(cutoff)
    pairs = zip(read.scaled(scaling), read.samples, strict=True)
    return evaluate(question_at(read.decoder, *pair, thresholds) for pair in pairs)


def _rescaled(analysis: Analysis, scaling: Scaling) -> ScoredSpans:
    is_cased = any(map(str.isupper, analysis.text))
    return replace(analysis.spans, entity_logits=scaling.apply(analysis.spans.entity_logits, is_cased))


def _fitted(reranker: RerankerNetwork, read: Sequence[_Read]) -> Scaling:
    return fit_scaling(reranker, LabelledSpans.concatenate([spans for dev in read for spans in dev.spans]))


def _outcomes(read: _Read, scaling: Scaling) -> tuple[list[float], list[bool]]:
    return link_outcomes(read.decoder, read.scaled(scaling), read.samples, Thresholds(0.0), "strong")


def _best_cutoff(read: Sequence[_Read], scaling: Scaling) -> SweepPoint:
    sweeps = []
    for dev in read:
        by_cutoff = curve(dev.decoder, dev.scaled(scaling), dev.samples, CUTOFFS)
        sweeps += [[p.point("weak", covered=covered) for p in by_cutoff] for covered in (True, False)]
    means = [mean_point(points) for points in zip(*sweeps, strict=True)]
    # F1 is flat around its maximum, and the ends of the plateau depend on a mention or two.
    return best_point(means, PLATEAU)
