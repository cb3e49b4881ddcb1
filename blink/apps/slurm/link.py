"""``blink slurm link``: the lines of a file linked in shards."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.common import say
from blink.apps.model_options import model_options
from blink.apps.slurm.follow import follow
from blink.apps.slurm.options import cluster_options, merge_option, take_cluster
from blink.cluster.jobs import JOB_SUFFIX, JobFolder


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--out", required=True, metavar="LINKS.jsonl", help="File to write: a JSON object per text, in their order.")
@click.option("--shards", type=click.IntRange(1), default=8, show_default=True, help="Jobs that the texts are split into.")
@model_options
@merge_option
@cluster_options
def link(file: str, out: str, shards: int, **options: Any) -> None:
    """Link the lines of a file, in shards: the same as `blink link --file FILE --json`.

    \b
    Example:
      blink slurm link questions.txt --shards 20 --out links.jsonl --model experiments/mine/best --kb kb
    """
    from blink.cluster.plans import linking_plan

    settings, follow_options = take_cluster(options)
    plan, target = linking_plan(file, out, shards, options, hashes=not follow_options.dry_run)
    if follow(JobFolder(f"{target}{JOB_SUFFIX}"), plan, settings, follow_options) and follow_options.merge:
        say(f"{target}: {plan.shards[-1][1]:,} texts linked")
