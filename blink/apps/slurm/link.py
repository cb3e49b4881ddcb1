"""``blink slurm link``: the lines of a file linked in shards."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.common import say
from blink.apps.model_options import (
    MODEL_SECTION,
    RECORD_SECTION,
    RECORDS,
    RUN_SECTION,
    SCORE_SECTION,
    model_options,
    record_options,
)
from blink.apps.sections import SectionedCommand
from blink.apps.slurm.follow import follow
from blink.apps.slurm.options import CLUSTER_SECTIONS, cluster_options, merge_option, take_cluster
from blink.cluster.jobs import JOB_SUFFIX, JobFolder

SECTIONS = {
    "Links and shards": ("out", "shards"),
    **CLUSTER_SECTIONS,
    **MODEL_SECTION,
    **SCORE_SECTION,
    **RECORD_SECTION,
    **RUN_SECTION,
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--out", required=True, metavar="LINKS", help="File to write: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .csv or .tsv."
)
@click.option("--shards", type=click.IntRange(1), default=8, show_default=True, help="Jobs that the texts are split into.")
@record_options
@model_options
@merge_option
@cluster_options
def link(files: tuple[str, ...], out: str, shards: int, **options: Any) -> None:
    """Link the lines of files, in shards: the same file as of `blink link --file FILE --out LINKS`.

    \b
    Example:
      blink slurm link questions.txt --shards 20 --out links.jsonl --model experiments/mine/best --kb kb
      blink slurm link news-*.jsonl.gz --text-key body --carry all --shards 100 --out links.parquet
    """
    from blink.cluster.plans import linking_plan

    settings, follow_options = take_cluster(options)
    records = {name: options.pop(name) for name in RECORDS}
    plan, target = linking_plan(files, out, shards, options, records, hashes=not follow_options.dry_run)
    if follow(JobFolder(f"{target}{JOB_SUFFIX}"), plan, settings, follow_options) and follow_options.merge:
        say(f"{target}: {plan.shards[-1][1]:,} texts linked")
