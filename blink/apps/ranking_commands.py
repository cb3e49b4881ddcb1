"""The ``rank``, ``calibrate`` and ``label`` commands and their options."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.model_options import model_options
from blink.apps.options import labelled_sets, settings_options, take_settings
from blink.training.settings import RankSettings

PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Number format of the encoder that reads the texts.",
)


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="DIR...")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base that the texts are linked to.")
@click.option(
    "--train", "train_files", multiple=True, required=True, metavar="FILE", help="Labelled mention file; may be repeated."
)
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="RUN",
    help="Run folder of `blink train --leave-out`: its model reads the texts that it left out. Give all parts.",
)
@click.option("--also", multiple=True, metavar="DIR", help="A further knowledge base, for made texts; may be repeated.")
@click.option(
    "--mix",
    default="questions=1",
    show_default=True,
    help="Made texts per question of each source, as for `blink train`, without pseudo; questions a whole number of times.",
)
@click.option("--triples", metavar="FILE", help="head<TAB>relation<TAB>tail with Wikidata ids, for --mix.")
@click.option("--damage", type=click.FloatRange(0, 1), default=0.15, show_default=True, help="As for `blink train`.")
@PRECISION
@settings_options(RankSettings)
def rank(**options: Any) -> None:
    """Fit the ranker of a model: how much names, spelling, popularity and the encoder's scores count.

    Of several models, seeds of one recipe, each gets the same.

    The ranker must learn from texts that the reading model was not trained on, or it would trust that model too much. So
    the questions are trained on in parts, each time leaving one out, and the ranker learns from the parts left out.

    \b
    Example:
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out runs/a --leave-out 0/2
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out runs/b --leave-out 1/2
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out runs/all
      blink rank runs/all/best --kb kb --train train.jsonl --fold runs/a --fold runs/b
      blink calibrate runs/all/best --on kb dev.jsonl
    """
    from blink.apps.ranking import RankRequest, rank_model

    settings = take_settings(RankSettings, options)
    rank_model(settings, RankRequest(**options))


@click.command()
@click.argument("model", metavar="DIR")
@labelled_sets("counts the same for the cut-off as each other")
@click.option(
    "--json", "json_out", metavar="OUT", help="Write the figures and the reliability table as JSON; - is standard output."
)
@click.option("--plots", metavar="DIR", help="Draw the reliability diagram as PNG.")
@PRECISION
def calibrate(model: str, sets: tuple[tuple[str, str], ...], json_out: str | None, plots: str | None, precision: str) -> None:
    """Make a ranked model's scores probabilities, and choose its cut-off, on development files.

    Afterwards --threshold 0.5 keeps links that are right at least every other time; without it the cut-off holds, below
    which a mention is taken to name nothing in the knowledge base. Both are stored with the model. How well the
    probabilities hold is measured on the half of the texts that they were not fitted on.

    \b
    Example:
      blink calibrate experiments/mine/best --on kb dev.jsonl --on my-kb my-dev.jsonl --plots plots
    """
    from blink.apps.outputs import Outputs
    from blink.apps.ranking import calibrate_model

    calibrate_model(model, sets, precision, Outputs(json_out), plots)


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--out", required=True, metavar="OUT", help="Labelled mention file to write; - is standard output.")
@click.option(
    "--sure", type=click.FloatRange(0, 1), default=0.9, show_default=True, help="Spans of a higher probability become gold."
)
@click.option(
    "--doubtful",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Texts with a span between this probability and --sure are left out.",
)
@model_options
def label(file: str, out: str, **options: Any) -> None:
    """Let a calibrated model label texts, for training on them.

    Only texts are kept about which the model is certain as a whole: every span is clearly a mention or clearly none.

    \b
    Example:
      blink label texts.jsonl --model experiments/mine/best --kb kb --out labelled.jsonl
      blink train --train train.jsonl --dev dev.jsonl --kb kb --pseudo labelled.jsonl --mix questions=1,pseudo=0.5
    """
    from blink.apps.labelling import label_file

    label_file(file, out, **options)
