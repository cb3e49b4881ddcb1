"""The commands that measure linkers: ``blink eval`` and ``blink compare``."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.model_options import model_options

cluster_option = click.option(
    "--cluster",
    type=click.Choice(["none", "paraphrase"]),
    default="none",
    show_default=True,
    help="What intervals draw: single questions, or all questions with the same gold entities at once.",
)


@click.command("eval")
@click.argument("file", metavar="FILE")
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@click.option(
    "--rows",
    "rows_out",
    metavar="OUT",
    help="Write a JSON line per question: gold, predictions, error labels; - is standard output.",
)
@cluster_option
@model_options
def evaluate(file: str, json_out: str | None, rows_out: str | None, **options: Any) -> None:
    """Evaluate on a mention file: micro precision, recall and F1, weak and strong, with 95 % intervals.

    Weak: the spans overlap and the entity is right. Strong: the span is exactly right too. Given twice: over all gold
    mentions, and over the questions whose gold entities are all in the catalogue ("covered").

    \b
    Example:
      blink eval dev.jsonl --model models/starter --kb my-kb --json scores.json --rows rows.jsonl
    """
    from blink.apps.evaluating import evaluate_file

    evaluate_file(file, json_out, rows_out, **options)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--gold", metavar="FILE", help="Mention file whose gold counts, instead of what the rows say.")
@click.option("--kb", metavar="DIR", help="Knowledge base that was evaluated: names entities by title, and binds --gold to it.")
@click.option("--show", type=click.IntRange(0), default=0, show_default=True, help="Print so many questions won and lost.")
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@cluster_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the resampling.")
def compare(a: str, b: str, **options: Any) -> None:
    """Compare two systems on the same questions: is B better than A, and where?

    A and B are files written by `blink eval --rows`. Printed are the differences of F1 with 95 % intervals and p values
    (paired bootstrap, 10,000 resamples), the questions that B won and lost, the errors of either by kind, and what each
    mention was in A (down) and became in B (across).

    \b
    Example:
      blink eval dev.jsonl --no-names --rows plain.jsonl
      blink eval dev.jsonl --rows names.jsonl
      blink compare plain.jsonl names.jsonl --show 5
    """
    from blink.apps.comparing import compare_files

    compare_files(a, b, **options)


evaluation_commands: tuple[click.Command, ...] = (evaluate, compare)
"""What `blink` takes up."""
