"""``blink kglm tune-prior``: fits the weights of a prior for the scores of a model."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.model_options import model_option
from blink.apps.options import labelled_sets, settings_options, take_settings
from blink.data.prior_file import RELATEDNESS, TERMS
from blink.training.settings import PriorTuneSettings


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
    from blink.apps.common import bar, say
    from blink.apps.outputs import Outputs
    from blink.model.execution import execution_line
    from blink.training.fit.prior_tuning import TuneRequest, tune

    settings = take_settings(PriorTuneSettings, options)
    outputs = Outputs(options.pop("json_out"))
    outputs.check()
    request = TuneRequest(**options)
    tuned = tune(settings, request, say, bar)
    outputs.write(tuned.figures(), (), f"{tuned.report()}\n{execution_line(tuned.execution)}")
    say(f"stored in {request.file}; next: blink eval DEV.jsonl --prior {request.file}")
