"""``blink kglm tune-prior``: fits the weights of a prior for the scores of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import model_option
from blink.apps.options import labelled_sets, settings_options, take_settings
from blink.apps.outputs import Outputs
from blink.data.prior_file import RELATEDNESS, PriorTable, PriorWeights, read_prior, write_prior
from blink.errors import SettingsError
from blink.training.settings import PriorTuneSettings

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder
    from blink.training.fit.graph_prior import LabelledText
    from blink.training.fit.graph_prior_texts import PriorTexts

TERMS = ("popularity", "vector", "coherence")


@click.command()
@click.argument("file", metavar="FILE")
@model_option("Model whose scores the prior is added to.  [default: the starter]")
@click.option("--rank/--no-rank", default=True, show_default=True, help="Add it to reranked scores, or to inner products.")
@labelled_sets("determines the weight of each term")
@click.option(
    "--train",
    "train_files",
    multiple=True,
    metavar="FILE",
    help="Labelled mention file, to learn the term vector; may be repeated.",
)
@click.option("--kb", metavar="DIR", help="Knowledge base of --train.  [default: that of the first --on]")
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="RUN",
    help="Run folder of `blink train --leave-out`: its model scores the fold of --train that it was not trained on.",
)
@click.option("--terms", metavar="LIST", help=f"Terms to fit, of {','.join(TERMS)}.  [default: all that can be fitted]")
@click.option(
    "--relatedness",
    default="neighbours",
    show_default=True,
    metavar="LIST",
    help=f"Kinds of relatedness that coherence is tried with, of {','.join(RELATEDNESS)}.",
)
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@settings_options(PriorTuneSettings)
def tune_prior(**options: Any) -> None:
    """Fit the weights of a prior for a model's scores, and store them in the prior's file.

    Scale, shift and the weights of popularity and vector are those of the highest likelihood of the development texts, none
    below 0; then the weight of coherence, then the cut-off of the best weak F1. The agreement of vectors with mentions is
    learned from --train, on which the model that scores it must not have been trained (--fold). Weights are stored with the
    scores that they belong to: tune again for another model, or with --no-rank, and the file has both.

    \b
    Example:
      blink kglm tune-prior prior.safetensors --model models/mine --on kb dev.jsonl
      blink kglm tune-prior prior.safetensors --on kb dev.jsonl --train train.jsonl --fold runs/a --fold runs/b
      blink eval dev.jsonl --model models/mine --kb kb --prior prior.safetensors
    """
    settings = take_settings(PriorTuneSettings, options)
    tune(settings, TuneRequest(**options))


@dataclass(frozen=True)
class TuneRequest:
    """The options of ``blink kglm tune-prior`` except `PriorTuneSettings`; see its help."""

    file: str
    model: str | None
    rank: bool
    sets: Sequence[tuple[str, str]]
    train_files: Sequence[str]
    kb: str | None
    folds: Sequence[str]
    terms: str | None
    relatedness: str
    json_out: str | None


def tune(settings: PriorTuneSettings, request: TuneRequest) -> None:
    """Fit the weights of a prior, and store them with it."""
    from blink.linking.coherence import PriorStages, relatedness_of
    from blink.linking.graph_prior import scorer_fingerprint
    from blink.linking.starter import starter_model
    from blink.model.loading import load_model
    from blink.training.fit.graph_prior import DevPredictions, fit_coherence, fit_weights, select_cutoff
    from blink.training.fit.graph_prior_texts import PriorTexts

    outputs = Outputs(request.json_out)
    outputs.check()
    prior = read_prior(request.file)
    terms, kinds = _terms(request, prior.table), _listed("--relatedness", request.relatedness, RELATEDNESS)
    for kind in kinds if "coherence" in terms else ():
        relatedness_of(prior.table, kind)  # an error if the table lacks it, before any text is read
    texts = PriorTexts(prior.table, rank=request.rank, bars=bar)
    model = load_model(starter_model() if request.model is None else request.model)
    dev = [texts.open(model, kb, [file]) for kb, file in request.sets]
    reranker = dev[0].linker.stages.reranker
    if request.rank and reranker is None:
        raise SettingsError("no reranker in the model, or no names in the knowledge base; tune for inner products: --no-rank")
    weights = PriorWeights(scorer_fingerprint(model, None if reranker is None else reranker.network), reranker is not None)
    dev_texts = [texts.read(dev_set) for dev_set in dev]
    all_dev_texts = [text for set_texts in dev_texts for text in set_texts]
    if "vector" in terms:
        weights = _learn_vectors(_training_texts(model, texts, request), prior.table, settings, weights)
    weights = fit_weights(all_dev_texts, prior.table, weights, terms)
    if "coherence" in terms:
        weights = fit_coherence(all_dev_texts, prior.table, weights, kinds)
    predictions = []
    for dev_set, set_texts in zip(dev, dev_texts, strict=True):
        stages = PriorStages.from_prior(prior.table, weights, texts.alignment(dev_set.kb))
        rescored = [text.with_prior(stages) for text in set_texts]
        predictions.append(DevPredictions(dev_set.linker.decoder, dev_set.samples, rescored))
    cutoff, f1 = select_cutoff(predictions, weights.ranked)
    about = {"on": [Path(file).name for _, file in request.sets], "terms": list(terms), "weak_f1": f1}
    weights = replace(weights, cutoff=cutoff, about=about)
    write_prior(request.file, prior.with_weights(weights))
    outputs.write(_figures(weights), (), _report(weights))
    say(f"stored in {request.file}; next: blink eval DEV.jsonl --prior {request.file}")


def _learn_vectors(
    texts: Sequence[LabelledText], table: PriorTable, settings: PriorTuneSettings, weights: PriorWeights
) -> PriorWeights:
    from blink.training.fit.graph_prior import learn_vectors

    with bar("learning", settings.epochs, "epoch") as progress:

        def report(loss: float) -> None:
            progress.advance()
            progress.note(f"loss {loss:.4f}")

        return learn_vectors(texts, table, settings, weights, report)


def _training_texts(model: BiEncoder, texts: PriorTexts, request: TuneRequest) -> list[LabelledText]:
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


_NUMBERS = ("scale", "shift", "popularity", "vector", "coherence", "cutoff")


def _figures(weights: PriorWeights) -> dict[str, Any]:
    return {name: getattr(weights, name) for name in (*_NUMBERS, "relatedness")} | dict(weights.about)


def _report(weights: PriorWeights) -> str:
    kind = f" ({weights.relatedness})" if weights.coherence else ""
    return (
        f"scores are multiplied by {weights.scale:.3f} and moved by {weights.shift:+.3f}\n"
        f"popularity {weights.popularity:.3f}, vector {weights.vector:.3f}, coherence {weights.coherence:g}{kind}\n"
        f"cut-off {weights.cutoff:g}: weak F1 {weights.about['weak_f1']:.4f}"
    )
