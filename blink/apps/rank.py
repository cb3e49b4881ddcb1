"""``blink rank``: fits the reranker of a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import precision_option
from blink.apps.options import settings_options, take_settings
from blink.apps.sections import SectionedCommand
from blink.errors import SettingsError
from blink.training.settings import Fold, RankSettings

if TYPE_CHECKING:
    from blink.model.reranker import RerankerNetwork
    from blink.training.fit.reranker import LabelledSpans


SECTIONS = {
    "Texts and knowledge base": ("kb", "train_files", "folds", "repeats"),
    "Adapting a reranker": ("update", "held_out", "out"),
    "Fitting": ("epochs", "batch_size", "learning_rate", "weight_decay", "hidden", "members", "dropout", "seed", "precision"),
    "Synthetic texts": ("mix", "also", "triples", "damage"),
    "Variations of texts and knowledge bases": (
        "absent",
        "recase",
        "typed",
        "small",
        "contrary",
        "left_out",
        "min_mention_log_prob",
    ),
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("models", nargs=-1, required=True, metavar="DIR...")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base that the texts are linked to.")
@click.option(
    "--train", "train_files", multiple=True, required=True, metavar="FILE", help="Labelled mention file; may be repeated."
)
@click.option(
    "--repeat",
    "repeats",
    nargs=2,
    type=(str, click.IntRange(1)),
    multiple=True,
    metavar="FILE N",
    help="Count the texts of a --train file N times; may be repeated.",
)
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="RUN",
    help="Run folder of `blink train --leave-out`: its model scores the fold that it was not trained on. Give all folds.",
)
@click.option("--also", multiple=True, metavar="DIR", help="A further knowledge base, for synthetic texts; may be repeated.")
@click.option(
    "--mix",
    default="questions=1",
    show_default=True,
    help="Synthetic texts per question of each source, as for `blink train`, without pseudo; questions is an integer.",
)
@click.option("--triples", metavar="FILE", help="head<TAB>relation<TAB>tail with Wikidata ids, for --mix.")
@click.option("--damage", type=click.FloatRange(0, 1), default=0.15, show_default=True, help="As for `blink train`.")
@click.option(
    "--update",
    is_flag=True,
    help="Adapt the reranker that the model has to --train, such as corrections of its links, in seconds; the old one stays if "
    "links of --held-out get worse.",
)
@click.option(
    "--held-out",
    nargs=2,
    multiple=True,
    metavar="KB FILE",
    help="With --update: labelled texts over a knowledge base whose links must not get worse; may be repeated.  [default: "
    "halves of --train]",
)
@click.option("--out", metavar="DIR", help="With --update: copy the model with its new reranker there, and leave DIR as it is.")
@precision_option
@settings_options(RankSettings, earlier={"min_mention_log_prob": "--floor"})
def rank(**options: Any) -> None:
    """Fit the reranker of a model: how much names, spelling, popularity and the encoder's scores count.

    Several models (seeds of one recipe) all get the same reranker.

    The reranker must learn from texts that the model was not trained on, or it trusts that model's scores too much. So one
    model is trained without each fold of the questions, and the reranker learns from its scores on that fold.

    \b
    Example:
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out runs/a --leave-out 0/2
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out runs/b --leave-out 1/2
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out runs/all
      blink rank runs/all/best --kb kb --train train.jsonl --fold runs/a --fold runs/b
      blink calibrate runs/all/best --on kb dev.jsonl
      blink rank my-model --kb my-kb --update --train corrections.jsonl --held-out my-kb dev.jsonl
    """
    settings = take_settings(RankSettings, options)
    update, held_out, out = (options.pop(name) for name in ("update", "held_out", "out"))
    if update:
        update_model(RankRequest(**options), held_out, out)
        return
    if held_out or out is not None:
        raise SettingsError("--held-out and --out are of an update; give --update too")
    from blink.training.fit.reranker_texts import locked_models

    with locked_models(options["models"]):
        rank_model(settings, RankRequest(**options))


@dataclass(frozen=True)
class RankRequest:
    """The options of ``blink rank`` except `RankSettings`; see its help."""

    models: Sequence[str]
    kb: str
    train_files: Sequence[str]
    repeats: Sequence[tuple[str, int]]
    folds: Sequence[str]
    also: Sequence[str]
    mix: str
    triples: str | None
    damage: float
    precision: str

    def sources(self) -> dict[str, Any]:
        """What differs from the defaults of the options that select and change texts."""
        folds = [Path(fold).name for fold in self.folds]
        values: dict[str, Any] = {"mix": self.mix, "fold": folds, "also": [Path(kb).name for kb in self.also]}
        return {name: value for name, value in values.items() if value and value != "questions=1"}


def rank_model(settings: RankSettings, request: RankRequest) -> None:
    """Fit a reranker and store it with each of the models."""
    from blink.data.mention_files import labelled_samples
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.model.biencoder import BiEncoder
    from blink.model.folder import read_settings
    from blink.model.gold_checks import GoldChecker
    from blink.training.cards import write_reranker_card
    from blink.training.fit.reranker import LabelledSpans
    from blink.training.fit.reranker_texts import LabelledTexts, SpanExtractor, TextSource, model_folder, parse_reranker_mix

    mix, started = parse_reranker_mix(request.mix), time.perf_counter()
    targets = [model_folder(model) for model in request.models]
    base = KnowledgeBase.open(request.kb)
    # The folds read the texts, but the reranker is for these models, which have to fit the knowledge base too.
    for target in targets:
        base.require_model(read_settings(target).get("candidate_fingerprint"))
    check = GoldChecker.of(BiEncoder.from_pretrained(targets[0]), base.catalogue, say)
    repeats = dict(request.repeats)
    if unused := sorted(repeats.keys() - set(request.train_files)):
        raise SettingsError(f"--repeat names {unused[0]}, which is no file of --train; name the file as there")
    files = [LabelledTexts(labelled_samples(f, base.catalogue, check), repeats.get(f, 1)) for f in request.train_files]
    bases = [base, *map(KnowledgeBase.open, request.also)]
    sources = [TextSource.of(kb, mix, request.triples, request.damage) for kb in bases]
    spans = []
    for i, (folder, fold) in enumerate(_readers(request)):
        unseen = [replace(f, samples=[s for s in f.samples if fold is None or s.id in fold]) for f in files]
        if not any(f.samples for f in unseen):
            raise SettingsError(f"{folder} left out no text of --train; give the files that it was trained on")
        spans += list(SpanExtractor(folder, settings, request.precision, bar, draw=i).extract(sources, unseen, mix))
    labelled = LabelledSpans.concatenate(spans)
    reranker = _fit(labelled, settings)
    facts = {"precision": request.precision, "spans": len(labelled), "sources": request.sources()}
    for target in targets:
        _store(reranker, target)
        named = {"train": request.train_files, "triples": [request.triples] if request.triples else []}
        samples = [s for file in files for s in file.samples]
        write_reranker_card(target, settings, base, named, samples, **facts, seconds=time.perf_counter() - started)
        say(f"the reranker is stored with {target}; next: blink calibrate {target} --on {request.kb} DEV.jsonl")


def update_model(request: RankRequest, held_out: Sequence[tuple[str, str]], out: str | None) -> None:
    """Adapt a model's reranker to labelled texts, and store it where held-out links do not get worse."""
    from blink.training.fit.updating import UpdateRequest, update_stored

    if len(request.models) > 1 or request.folds or request.also:
        raise SettingsError("--update adapts one model to --train; leave out other models, --fold and --also")
    update = UpdateRequest(request.models[0], request.kb, request.train_files, held_out, out)
    for line in update_stored(update, bar, say):
        print(line)


def _readers(request: RankRequest) -> Sequence[tuple[Path, Fold | None]]:
    """The models that score the questions, each with the fold that it was not trained on."""
    from blink.training.fit.reranker_texts import out_of_fold_models

    if not request.folds and len(request.models) > 1:
        raise SettingsError("several models are given without --fold; give the folds, or one model")
    if not request.folds:
        say("no --fold is given: the model scores the texts itself, and must not have been trained on them")
        return [(Path(request.models[0]), None)]
    return out_of_fold_models(request.folds)


def _fit(spans: LabelledSpans, settings: RankSettings) -> RerankerNetwork:
    from blink.training.fit.reranker import fit_reranker

    say(f"{len(spans):,} spans, {int((spans.target >= 0).sum()):,} of them name an entity")
    with bar("fitting", settings.epochs * settings.members, "epoch") as progress:

        def report(loss: float) -> None:
            progress.advance()
            progress.note(f"loss {loss:.4f}")

        return fit_reranker(spans, settings, report)


def _store(reranker: RerankerNetwork, model: Path) -> None:
    from blink.model.config import ModelConfig
    from blink.model.folder import read_settings
    from blink.model.stored_files import store_settings

    config = ModelConfig.from_dict(read_settings(model))
    store_settings(model, config.replace(cutoff=ModelConfig.cutoff), reranker)  # the old one was for another reranker
