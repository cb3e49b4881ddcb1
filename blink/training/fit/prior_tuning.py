"""Tune the weights of a graph prior on labelled texts, and store them in its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blink.data.prior_file import RELATEDNESS, TERMS, PriorTable, PriorWeights, read_prior, write_prior
from blink.errors import SettingsError
from blink.linking.coherence import PriorStages, relatedness_of
from blink.linking.graph_prior import scorer_fingerprint
from blink.linking.starter import starter_model
from blink.model.biencoder import BiEncoder
from blink.model.execution import EXECUTION_KEY, Execution
from blink.model.loading import load_model
from blink.progress import Bars, no_bars
from blink.training.fit.graph_prior import (
    DevPredictions,
    LabelledText,
    fit_coherence,
    fit_weights,
    learn_vectors,
    select_cutoff,
)
from blink.training.fit.graph_prior_texts import PriorTexts
from blink.training.settings import PriorTuneSettings


@dataclass(frozen=True)
class TuneRequest:
    """The options of ``blink kglm tune-prior`` except `PriorTuneSettings` and ``--json``; see its help."""

    file: str
    model: str | None
    rank: bool
    sets: Sequence[tuple[str, str]]
    train_files: Sequence[str]
    kb: str | None
    folds: Sequence[str]
    terms: str | None
    relatedness: str


@dataclass(frozen=True)
class TunedPrior:
    """What tuning gave.

    Attributes:
        weights: as stored in the file.
        execution: how the model ran.
    """

    weights: PriorWeights
    execution: Execution

    def figures(self) -> dict[str, Any]:
        """All numbers, and what they were tuned on."""
        numbers = ("scale", "shift", "popularity", "vector", "coherence", "cutoff", "relatedness")
        return {name: getattr(self.weights, name) for name in numbers} | dict(self.weights.about)

    def report(self) -> str:
        """The numbers as lines for people."""
        weights = self.weights
        kind = f" ({weights.relatedness})" if weights.coherence else ""
        return (
            f"scores are multiplied by {weights.scale:.3f} and moved by {weights.shift:+.3f}\n"
            f"popularity {weights.popularity:.3f}, vector {weights.vector:.3f}, coherence {weights.coherence:g}{kind}\n"
            f"cut-off {weights.cutoff:g}: weak F1 {weights.about['weak_f1']:.4f}"
        )


def tune(
    settings: PriorTuneSettings, request: TuneRequest, say: Callable[[str], None] = lambda line: None, bars: Bars = no_bars
) -> TunedPrior:
    """Fit the weights of a prior, and store them with it.

    Args:
        settings: of the fit.
        request: files and terms.
        say: called with a line of text for the user.
        bars: progress of the stages.

    Raises:
        SettingsError: a term cannot be fitted.
        MissingFileError, DataError, MismatchError: a file is missing, damaged, or of another model.
    """
    prior = read_prior(request.file)
    terms, kinds = _terms(request, prior.table), _listed("--relatedness", request.relatedness, RELATEDNESS)
    for kind in kinds if "coherence" in terms else ():
        relatedness_of(prior.table, kind)  # an error if the table lacks it, before any text is read
    texts = PriorTexts(prior.table, rank=request.rank, bars=bars)
    model = load_model(starter_model() if request.model is None else request.model)
    dev = [texts.open(model, kb, [file]) for kb, file in request.sets]
    reranker = dev[0].linker.stages.reranker
    if request.rank and reranker is None:
        raise SettingsError("no reranker in the model, or no names in the knowledge base; tune for inner products: --no-rank")
    weights = PriorWeights(scorer_fingerprint(model, None if reranker is None else reranker.network), reranker is not None)
    dev_texts = [texts.read(dev_set) for dev_set in dev]
    all_dev_texts = [text for set_texts in dev_texts for text in set_texts]
    if "vector" in terms:
        weights = _learn_vectors(_training_texts(model, texts, request, say), prior.table, settings, weights, bars)
    weights = fit_weights(all_dev_texts, prior.table, weights, terms)
    if "coherence" in terms:
        weights = fit_coherence(all_dev_texts, prior.table, weights, kinds)
    predictions = []
    for dev_set, set_texts in zip(dev, dev_texts, strict=True):
        stages = PriorStages.from_prior(prior.table, weights, texts.alignment(dev_set.kb))
        rescored = [text.with_prior(stages) for text in set_texts]
        predictions.append(DevPredictions(dev_set.linker.decoder, dev_set.samples, rescored))
    cutoff, f1 = select_cutoff(predictions, weights.ranked)
    execution = Execution.of(dev[0].linker.stages.detector.backend)
    about = {
        "on": [Path(file).name for _, file in request.sets],
        "terms": list(terms),
        "weak_f1": f1,
        EXECUTION_KEY: execution.to_json(),
    }
    weights = replace(weights, cutoff=cutoff, about=about)
    write_prior(request.file, prior.with_weights(weights))
    return TunedPrior(weights, execution)


def _learn_vectors(
    texts: Sequence[LabelledText], table: PriorTable, settings: PriorTuneSettings, weights: PriorWeights, bars: Bars
) -> PriorWeights:
    with bars("learning", settings.epochs, "epoch") as progress:

        def report(loss: float) -> None:
            progress.advance()
            progress.note(f"loss {loss:.4f}")

        return learn_vectors(texts, table, settings, weights, report)


def _training_texts(
    model: BiEncoder, texts: PriorTexts, request: TuneRequest, say: Callable[[str], None]
) -> list[LabelledText]:
    """The texts of --train, with folds each is scored by a model that was not trained on it."""
    training = texts.open(model, request.kb or request.sets[0][0], request.train_files)
    if request.folds:
        return texts.read_folds(model, training, request.folds)
    say("no --fold is given: --model scores the texts of --train, and must not have been trained on them")
    return texts.read(training)


def _terms(request: TuneRequest, table: PriorTable) -> list[str]:
    can = {"vector": table.vectors is not None and bool(request.train_files)}
    if request.train_files and table.vectors is None:
        lacks = "the prior has no vectors: make it with --vectors"
        raise SettingsError(f"--train is for the term vector, and {lacks}, or leave --train out")
    if request.terms is None:
        return [term for term in TERMS if can.get(term, True)]
    terms = _listed("--terms", request.terms, TERMS)
    if "vector" in terms and not can["vector"]:
        lacks = "the prior has no vectors: make it with --vectors" if table.vectors is None else "it is learned: give --train"
        raise SettingsError(f"the term vector cannot be fitted: {lacks}, or leave it out of --terms")
    return terms


def _listed(flag: str, text: str, allowed: Sequence[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in allowed:
            raise SettingsError(f"{flag} has {name!r}; allowed are {', '.join(allowed)}")
    return names
