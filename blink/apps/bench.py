"""``blink bench``: how fast a linker is on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import MODEL_SECTION, RUN_SECTION, SCORE_SECTION, model_options
from blink.apps.sections import SectionedCommand
from blink.errors import SettingsError

AGAINST = ("original-way",)


SECTIONS = {
    "What is measured": ("limit", "rounds", "single", "starts", "threads", "against", "padding"),
    "Results": ("out", "as_json"),
    **MODEL_SECTION,
    **SCORE_SECTION,
    **RUN_SECTION,
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("file", required=False)
@click.option("--limit", type=click.IntRange(1), default=600, show_default=True, help="Texts at most.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each side, which alternate.")
@click.option("--single", type=click.IntRange(1), default=100, show_default=True, help="Texts of a round linked one by one.")
@click.option("--starts", type=click.IntRange(0), default=3, show_default=True, help="Fresh processes for the time of a start.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads of each process.  [default: all cores]")
@click.option(
    "--against",
    type=click.Choice(AGAINST),
    help="Compare with the original's way, same weights: texts padded, encoded twice, and multiplied with all entities.",
)
@click.option("--padding", multiple=True, type=click.IntRange(8), help="Padding of the original's way.  [default: 128 and 32]")
@click.option("--out", type=click.Path(path_type=Path), metavar="F", help="Write all figures to F as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON instead of a table.")
@model_options
def bench(file: str | None, **options: Any) -> None:
    """Measure a linker on this machine: start, time of a call, texts a second, memory, and what each stage takes.

    FILE has a text a line, or is a mention file; without it texts are made of titles of the knowledge base. Every side runs in
    a process of its own, and the runs of several sides alternate, so that ratios hold on a machine that is shared.

    \b
    Examples:
      blink bench
      blink bench questions.txt --kb my-kb --model my-model --threads 1 --out bench.json
      blink bench questions.txt --against original-way
    """
    run_bench(file, **options)


def run_bench(
    file: str | None,
    *,
    limit: int,
    rounds: int,
    single: int,
    starts: int,
    threads: int,
    against: str | None,
    padding: Sequence[int],
    out: Path | None,
    as_json: bool,
    batch_size: int,
    model: str | None,
    kb: str | None,
    **options: Any,
) -> None:
    """Measure, and print the figures."""
    from blink.evaluation.speed.bench import BenchPlan, SideRequest, measure, original_sides, texts_of_catalogue, texts_of_file
    from blink.evaluation.speed.table import as_table
    from blink.files import write_json
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.linking.starter import require_kb, starter_kb, starter_model

    require_kb(model, kb)
    if padding and against is None:
        raise SettingsError("--padding is of the original's way; give --against original-way too")
    folders = (Path(model) if model is not None else starter_model(), Path(kb) if kb is not None else starter_kb(bar))
    texts = texts_of_catalogue(KnowledgeBase.open(folders[1]).catalogue, limit) if file is None else texts_of_file(file, limit)
    sides = [SideRequest("blink", "blink", {"model": model, "kb": kb, **options})]
    sides += original_sides(folders, padding or (128, 32)) if against else []
    plan = BenchPlan(texts, batch_size, rounds, single, starts, threads)
    result = measure(plan, sides, folders, say)
    if out is not None:
        write_json(out, result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if as_json else as_table(result))
