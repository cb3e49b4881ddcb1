"""The commands ``blink slurm ...`` and their options."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.evaluation_commands import evaluate
from blink.apps.model_options import model_options
from blink.apps.options import settings_options
from blink.cluster.settings import DRY_RUN_VARIABLE, ClusterSettings, SlurmSettings, load_settings

if TYPE_CHECKING:
    from blink.apps.slurm import How

FLAGS = tuple(name for name in SlurmSettings.model_fields if name != "setup")
"""Settings that a flag can replace; lines of shell are for the file."""
EVALUATION = ("cluster", "mode", "mention_threshold", "entities", "mentions", "text_key")
"""Options of ``blink eval`` that ``blink slurm eval`` has too, beside those of models."""


def cluster_options(command: Any) -> Any:
    """The options of every command that submits: settings of the cluster, and how to go about it."""
    switches = (
        ("--dry-run", f"Print the scripts for sbatch, and do nothing. The variable {DRY_RUN_VARIABLE}=1 says the same."),
        ("--detach", "Submit and return; the same command waits for the jobs and shows how they stand."),
    )
    for name, text in reversed(switches):
        command = click.option(name, is_flag=True, help=text)(command)
    command = settings_options(SlurmSettings, without=("setup",), defaults=dict.fromkeys(FLAGS))(command)
    file = click.option(
        "--settings", "settings_file", metavar="FILE", help="Settings of the cluster.  [default: see blink slurm --help]"
    )
    return file(command)


def merge_option(command: Any) -> Any:
    """Of commands whose shards are made one whole."""
    text = "Make one whole of the shards when all are done.  [default: yes]"
    return click.option("--merge/--no-merge", default=True, help=text)(command)


def take_cluster(options: MutableMapping[str, Any]) -> tuple[ClusterSettings, How]:
    """The settings and the way to go, taken out of a command's options."""
    from blink.apps.slurm import How

    flags = {name: options.pop(name) for name in FLAGS}
    settings = load_settings(file=options.pop("settings_file"), **flags)
    dry_run = options.pop("dry_run") or os.environ.get(DRY_RUN_VARIABLE, "") not in ("", "0")
    return settings, How(dry_run, options.pop("detach"), options.pop("merge", True))


@click.group()
def slurm() -> None:
    """Train, encode, evaluate and link as jobs of a Slurm cluster.

    Where there is no Slurm the same commands do the same on this machine. A command waits for its jobs and shows how
    they stand; interrupted or given again, it goes on: what is done is kept, jobs that wait or run are left alone, and
    only what is missing is submitted. Jobs save and queue themselves again when their time is up or they are pre-empted.

    Partition, account, GPUs, time and so on come from flags, else from the environment (BLINK_PARTITION ...), else from a
    file: that which BLINK_CLUSTER names, or cluster.ini here, or ~/.config/blink/cluster.ini; see examples/cluster.ini.

    \b
    Try:
      blink slurm settings                                        what is set, and where
      blink slurm encode entity.jsonl --model M --out my-kb       a knowledge base, a job a million entities
      blink slurm link texts.txt --shards 100 --out links.jsonl   links of many texts
      blink slurm encode entity.jsonl --model M --out my-kb --dry-run
    """


@slurm.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGUMENTS OF blink train ...")
@cluster_options
@click.pass_context
def train(context: click.Context, /, arguments: tuple[str, ...], **options: Any) -> None:
    """Train on --nodes nodes, in a process per GPU on each.

    Everything else is handed to `blink train`, flags of the original included; --out DIR must be named. A run that is
    there is gone on with.

    \b
    Examples:
      blink slurm train --nodes 2 --gpus 8 --train train.jsonl --dev dev.jsonl --kb kb --out experiments/mine
      blink slurm train --processes 2 --submit local --train train.jsonl --dev dev.jsonl --kb kb --out experiments/mine
    """
    from blink.apps.slurm import train_on_cluster

    root = context.find_root()
    command = root.command.get_command(root, "train") if isinstance(root.command, click.Group) else None
    assert command is not None, "`blink train` stands beside `blink slurm`"
    train_on_cluster(command, arguments, *take_cluster(options))


@slurm.command()
@click.argument("catalogue", metavar="ENTITY.jsonl")
@click.option("--out", required=True, metavar="DIR", help="Folder of the result; jobs leave their logs in DIR/slurm.")
@click.option("--model", metavar="DIR", help="Model whose candidate encoder reads the entities.  [default: the starter]")
@click.option(
    "--layout",
    type=click.Choice(["kb", "t7"]),
    default="kb",
    show_default=True,
    help="kb makes a knowledge base; t7 makes the files of the original, START_END.t7 and all.t7.",
)
@click.option(
    "--chunk", type=int, nargs=2, metavar="START END", help="With t7: encode these rows alone, here; END -1: to the last."
)
@click.option(
    "--index", type=click.Choice(["flat", "hnsw", "ivfflat"]), default="flat", show_default=True, help="As of kb build."
)
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="How vectors are stored.")
@click.option("--skip-bad", is_flag=True, help="Pass over broken lines; they keep their row and are never linked.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Entities at once in the model.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True, help="Of the encoder."
)
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
@merge_option
@cluster_options
def encode(catalogue: str, out: str, chunk: tuple[int, int] | None, **options: Any) -> None:
    """Encode a catalogue in shards of --shard-rows entities, check them, and make a knowledge base of them.

    A shard that is missing, short or damaged is named, and is made anew by the same command.

    \b
    Examples:
      blink slurm encode entity.jsonl --model M --out my-kb --index hnsw --shard-rows 500000 --parallel 8
      blink slurm encode models/entity.jsonl --model M --out models/entity_encodings/mine --layout t7
    """
    from blink.apps.slurm import encode_catalogue

    settings, how = take_cluster(options)
    model = options.pop("model")
    named = None if model is None else str(Path(model).resolve()) if Path(model).is_dir() else model
    encoder = {"model": named, **{name: options.pop(name) for name in ("precision", "device", "batch_size")}}
    encode_catalogue(catalogue, out, settings, how, chunk=chunk, encoder=encoder, **options)


@slurm.command("eval")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--out", required=True, metavar="DIR", help="Folder for NAME.json and NAME.rows.jsonl of each file, and scores.json."
)
@click.option("--save-preds", is_flag=True, help="Keep what the model saw too, as NAME.npz; see `blink eval --preds`.")
@model_options
@merge_option
@cluster_options
def evaluate_files(files: tuple[str, ...], out: str, **options: Any) -> None:
    """Evaluate on mention files, a job for each; see `blink eval`.

    \b
    Example:
      blink slurm eval dev.jsonl test.jsonl --model experiments/mine/best --kb kb --out scores
    """
    from blink.apps.slurm import evaluate_files

    settings, how = take_cluster(options)
    evaluate_files(files, out, settings, how, options)


evaluate_files.params[-1:-1] = [option for option in evaluate.params if option.name in EVALUATION]


@slurm.command()
@click.argument("file", metavar="FILE")
@click.option("--out", required=True, metavar="LINKS.jsonl", help="File to write: a JSON object per text, in their order.")
@click.option("--shards", type=click.IntRange(1), default=8, show_default=True, help="Jobs that the texts are dealt out to.")
@model_options
@merge_option
@cluster_options
def link(file: str, out: str, shards: int, **options: Any) -> None:
    """Link the lines of a file, in shards: the same as `blink link --file FILE --json`.

    \b
    Example:
      blink slurm link questions.txt --shards 20 --out links.jsonl --model experiments/mine/best --kb kb
    """
    from blink.apps.slurm import link_file

    settings, how = take_cluster(options)
    link_file(file, out, shards, settings, how, options)


@slurm.command(hidden=True)
@click.argument("folder", metavar="DIR")
@click.option("--shard", type=click.IntRange(0), metavar="N", help="Shard to work off.  [default: what Slurm says]")
@click.option("--merge", is_flag=True, help="Make one whole of the shards instead.")
def task(folder: str, shard: int | None, merge: bool) -> None:
    """Do one task of the job in DIR: what the scripts of `blink slurm` call."""
    from blink.apps.slurm_tasks import run_task

    run_task(folder, shard, merge)


@slurm.command()
@click.option("--settings", "settings_file", metavar="FILE", help="Settings of the cluster.  [default: see blink slurm --help]")
@click.option("--export", is_flag=True, help="Print lines for a shell that make any sbatch obey the settings.")
def settings(settings_file: str | None, export: bool) -> None:
    """Print each setting of the cluster, its value, and where it comes from.

    \b
    Example:
      eval "$(blink slurm settings --export)"; sbatch examples/train_biencoder.sh ...
    """
    from blink.apps.slurm import print_settings

    print_settings(load_settings(file=settings_file), export)
