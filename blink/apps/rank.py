"""``blink rank``: fits the reranker of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import precision_option
from blink.apps.options import settings_options, take_settings
from blink.errors import SettingsError
from blink.files import read_json
from blink.training.settings import Fold, RankSettings

if TYPE_CHECKING:
    from blink.model.reranker import RerankerNetwork
    from blink.training.fit.reranker import LabelledSpans


@click.command()
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
    """
    settings = take_settings(RankSettings, options)
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


def rank_model(settings: RankSettings, request: RankRequest) -> None:
    """Fit a reranker and store it with each of the models."""
    from blink.data.mention_files import labelled_samples
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.model.biencoder import BiEncoder
    from blink.model.folder import CONFIG_FILE
    from blink.model.gold_checks import GoldChecker
    from blink.training.fit.reranker import LabelledSpans
    from blink.training.fit.reranker_texts import LabelledTexts, SpanExtractor, TextSource, model_folder, parse_reranker_mix

    mix = parse_reranker_mix(request.mix)
    targets = [model_folder(model) for model in request.models]
    base = KnowledgeBase.open(request.kb)
    # The folds read the texts, but the reranker is for these models, which have to fit the knowledge base too.
    for target in targets:
        base.require_model(read_json(target / CONFIG_FILE).get("candidate_fingerprint"))
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
    reranker = _fit(LabelledSpans.concatenate(spans), settings)
    for target in targets:
        _store(reranker, target)
        say(f"the reranker is stored with {target}; next: blink calibrate {target} --on {request.kb} DEV.jsonl")


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
    from blink.model.folder import CONFIG_FILE, store_settings

    reranker.save(model)
    config = ModelConfig.from_dict(read_json(model / CONFIG_FILE))
    store_settings(model, config.replace(cutoff=ModelConfig.cutoff))  # the old one was for another reranker
