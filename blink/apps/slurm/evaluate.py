"""``blink slurm eval``: mention files evaluated in jobs."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.common import say
from blink.apps.evaluate import evaluate
from blink.apps.model_options import MODEL_SECTION, RUN_SECTION, SCORE_SECTION, model_options
from blink.apps.sections import SectionedCommand
from blink.apps.slurm.follow import follow
from blink.apps.slurm.options import CLUSTER_SECTIONS, cluster_options, merge_option, take_cluster
from blink.cluster.jobs import JOB_FOLDER, JobFolder

EVALUATION = ("cluster", "mode", "mention_threshold", "entities", "mentions", "text_key")
"""Options of ``blink eval`` that ``blink slurm eval`` has too, in addition to those of models."""


SECTIONS = {
    "Results": ("out", "save_preds"),
    **CLUSTER_SECTIONS,
    **MODEL_SECTION,
    **SCORE_SECTION,
    **RUN_SECTION,
    "How links are selected": EVALUATION,
}


@click.command("eval", cls=SectionedCommand, sections=SECTIONS)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--out", required=True, metavar="DIR", help="Folder for NAME.json and NAME.rows.jsonl of each file, and scores.json."
)
@click.option("--save-preds", is_flag=True, help="Keep the predictions too, as NAME.npz; see `blink eval --preds`.")
@model_options
@merge_option
@cluster_options
def evaluate_files(files: tuple[str, ...], out: str, **options: Any) -> None:
    """Evaluate on mention files, a job for each; see `blink eval`.

    \b
    Example:
      blink slurm eval dev.jsonl test.jsonl --model experiments/mine/best --kb kb --out scores
    """
    from blink.cluster.plans import evaluation_plan

    settings, follow_options = take_cluster(options)
    plan, folder = evaluation_plan(files, out, options, hashes=not follow_options.dry_run)
    if follow(JobFolder(folder / JOB_FOLDER), plan, settings, follow_options) and follow_options.merge:
        say(f"{folder / 'scores.json'}: the figures of {len(files)} files")


evaluate_files.params[-1:-1] = [option for option in evaluate.params if option.name in EVALUATION]
