"""``blink slurm task``: what the scripts of jobs call."""

from __future__ import annotations

import click

from blink.apps.common import say


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--shard", type=click.IntRange(0), metavar="N", help="Shard to process.  [default: what Slurm says]")
@click.option("--merge", is_flag=True, help="Merge the shards instead.")
def task(folder: str, shard: int | None, merge: bool) -> None:
    """Run one task of the job in DIR; the scripts of `blink slurm` call this."""
    from blink.cluster.tasks import run_task

    run_task(folder, shard, merge, say)
