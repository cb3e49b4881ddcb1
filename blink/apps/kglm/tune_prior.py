"""``blink kglm tune-prior``: fits the weights of a prior beside the scores of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.options import labelled_sets, settings_options, take_settings
from blink.apps.outputs import Outputs
from blink.data.mention_files import labelled_samples
from blink.data.prior_file import RELATEDNESS, PriorTable, PriorWeights, read_prior, write_prior
from blink.data.records import Sample
from blink.errors import SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.starter import starter_model
from blink.training.fit.reranker_texts import fold_readers
from blink.training.settings import PriorTuneSettings

if TYPE_CHECKING:
    from blink.linking.graph_prior import EntityAlignment
    from blink.linking.linker import Linker
    from blink.model.biencoder import BiEncoder
    from blink.training.fit.graph_prior import LabelledText


TERMS = ("popularity", "vector", "coherence")


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--model", metavar="DIR", help="Model whose scores the prior is added to.  [default: the starter]")
@click.option("--rank/--no-rank", default=True, show_default=True, help="Add it to the ranker's scores, or to inner products.")
@labelled_sets("decides the weight of each term")
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
    help="Run folder of `blink train --leave-out`: its model reads the part of --train that it was not trained on.",
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
    """Fit the weights of a prior beside a model's scores, and store them in the prior's file.

    Scale, shift and the weights of popularity and vector are those of the highest likelihood of the development texts, none
    below 0; then the weight of coherence, then the cut-off of the best weak F1. The agreement of vectors with mentions is
    learned from --train, which the model that reads it must not have been trained on (--fold). Weights are stored by the scores
    that they belong to: tune it again for another model, or with --no-rank, and the file has both.

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
    """What ``blink kglm tune-prior`` was asked for, beside `PriorTuneSettings`; see its options."""

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
    """Weigh a prior, and store the weights with it."""
    from blink.linking.coherence import relatedness_of
    from blink.linking.graph_prior import GraphPrior, scorer_fingerprint
    from blink.model.loading import load_model
    from blink.training.fit.graph_prior import DevPredictions, choose_cutoff, fit_coherence, fit_numbers, learn_vectors

    outputs = Outputs(request.json_out)
    outputs.check()
    opened = read_prior(request.file)
    terms, kinds = _terms(request, opened.table), _listed("--relatedness", request.relatedness, RELATEDNESS)
    for kind in kinds if "coherence" in terms else ():
        relatedness_of(opened.table, kind)  # what the table lacks is told before anything is read
    bases = _Bases(opened.table)
    model = load_model(starter_model() if request.model is None else request.model)
    dev = [bases.texts(model, kb, labelled_samples(file, bases[kb].catalogue), request.rank) for kb, file in request.sets]
    first = dev[0].linker
    ranker = getattr(first.refiner, "ranker", None)
    if request.rank and ranker is None:
        raise SettingsError("the model has no ranker (or the knowledge base no names); weigh beside its own scores: --no-rank")
    weights = PriorWeights(scorer_fingerprint(model, ranker), ranker is not None)
    seen = [bases.read(each) for each in dev]
    everything = [text for texts in seen for text in texts]
    if "vector" in terms:
        texts = _training_texts(model, bases, request)
        with bar("learning", settings.epochs, "epoch") as shown:

            def learned(loss: float) -> None:
                shown.advance()
                shown.note(f"loss {loss:.4f}")

            weights = learn_vectors(texts, opened.table, settings, weights, learned)
    weights = fit_numbers(everything, opened.table, weights, terms)
    if "coherence" in terms:
        weights = fit_coherence(everything, opened.table, weights, kinds)
    priors = [GraphPrior(opened.table, weights, bases.places(each.kb)) for each in dev]
    read = [
        DevPredictions(each.linker, each.samples, [text.read_with(prior) for text in texts])
        for each, texts, prior in zip(dev, seen, priors, strict=True)
    ]
    cutoff, f1 = choose_cutoff(read, weights.ranked)
    about = {"on": [Path(file).name for _, file in request.sets], "terms": list(terms), "weak_f1": f1}
    weights = replace(weights, cutoff=cutoff, about=about)
    write_prior(request.file, opened.with_weights(weights))
    outputs.write(_figures(weights), (), _report(weights))
    say(f"stored in {request.file}; next: blink eval DEV.jsonl --prior {request.file}")


@dataclass(frozen=True)
class _Set:
    """Texts, and the linker that reads them."""

    linker: Linker
    kb: str
    samples: Sequence[Sample]


class _Bases:
    """Knowledge bases, each opened and joined to the table once."""

    def __init__(self, table: PriorTable) -> None:
        self._table = table
        self._opened: dict[str, KnowledgeBase] = {}
        self._places: dict[str, EntityAlignment] = {}

    def __getitem__(self, kb: str) -> KnowledgeBase:
        if kb not in self._opened:
            self._opened[kb] = KnowledgeBase.open(kb)
        return self._opened[kb]

    def places(self, kb: str) -> EntityAlignment:
        """Where its entities stand in the table."""
        from blink.linking.graph_prior import EntityAlignment

        if kb not in self._places:
            self._places[kb] = EntityAlignment(self._table, self[kb].catalogue)
        return self._places[kb]

    def texts(self, model: BiEncoder, kb: str, samples: Sequence[Sample], rank: bool) -> _Set:
        """Texts with a linker over one of them, without a prior."""
        from blink.linking.linker import Linker

        return _Set(Linker(model, self[kb], rank=rank), kb, samples)

    def read(self, texts: _Set) -> list[LabelledText]:
        """The texts as the linker sees them."""
        from blink.training.fit.graph_prior import read_labelled

        with bar(f"reading {Path(texts.kb).name}", len(texts.samples), "text") as shown:
            return read_labelled(texts.linker, texts.samples, self.places(texts.kb), progress=shown.advance)


def _training_texts(model: BiEncoder, bases: _Bases, request: TuneRequest) -> list[LabelledText]:
    """The texts of --train, each read by a model that was not trained on it, with the ranker that the weights are for."""
    from blink.model.biencoder import BiEncoder

    kb = request.kb or request.sets[0][0]
    samples = [s for file in request.train_files for s in labelled_samples(file, bases[kb].catalogue)]
    if not request.folds:
        say("no --fold is named: the model reads the texts itself, which must not be those it was trained on")
        return bases.read(bases.texts(model, kb, samples, request.rank))
    texts = []
    for folder, fold in fold_readers(request.folds):
        reader = BiEncoder.from_pretrained(folder)
        reader.reranker = model.reranker
        texts += bases.read(bases.texts(reader, kb, [s for s in samples if s.id in fold], request.rank))
    return texts


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
        raise SettingsError(f"the term vector cannot be weighed, for {lacks}, or leave it out of --terms")
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
