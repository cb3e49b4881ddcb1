"""``blink slurm train``: a training on several nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from blink.apps.common import say
from blink.apps.options import take_settings
from blink.apps.sections import PassingCommand, SectionedCommand
from blink.apps.slurm.follow import follow
from blink.apps.slurm.options import CLUSTER_SECTIONS, cluster_options, take_cluster
from blink.cluster.jobs import JOB_FOLDER, JobFolder
from blink.cluster.plans import training_plan
from blink.errors import SettingsError
from blink.training.settings import TrainSettings


class _Train(PassingCommand, SectionedCommand):
    """Its arguments are those of another command."""


@click.command(cls=_Train, sections=CLUSTER_SECTIONS, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGUMENTS OF blink train ...")
@cluster_options
@click.pass_context
def train(context: click.Context, /, arguments: tuple[str, ...], **options: Any) -> None:
    """Train on --nodes nodes, in a process per GPU on each.

    All other arguments are those of `blink train`, flags of the original included; --out DIR must be named. An existing run
    is resumed.

    \b
    Examples:
      blink slurm train --nodes 2 --gpus 8 --train train.jsonl --dev dev.jsonl --kb kb --out experiments/mine
      blink slurm train --processes 2 --submit local --train train.jsonl --dev dev.jsonl --kb kb --out experiments/mine
    """
    root = context.find_root()
    command = root.command.get_command(root, "train") if isinstance(root.command, click.Group) else None
    assert command is not None, "`blink train` is registered"
    settings, follow_options = take_cluster(options)
    out = read_train_out(command, arguments)
    plan = training_plan(arguments, out)
    if follow(JobFolder(out / JOB_FOLDER), plan, settings, follow_options, nodes=settings.slurm.nodes):
        say(f"the best model is in {out / 'best'}")


def read_train_out(train_command: click.Command, arguments: Sequence[str]) -> Path:
    """The folder of a run, from the arguments of ``blink train``, all of which are checked.

    Raises:
        click.UsageError: an argument is unknown or its value not allowed.
        SettingsError: no folder is named.
    """
    context = train_command.make_context("blink slurm train", list(arguments))
    options = dict(context.params)
    take_settings(TrainSettings, options)
    if options["out"] is None:
        raise SettingsError("a training on a cluster needs a folder that all its machines see; give --out DIR")
    return Path(options["out"]).resolve()
