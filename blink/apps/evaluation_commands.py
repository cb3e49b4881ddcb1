"""The command that measures a linker: ``blink eval``."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.model_options import model_options


@click.command("eval")
@click.argument("file", metavar="FILE")
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@click.option(
    "--rows",
    "rows_out",
    metavar="OUT",
    help="Write a JSON line per question: gold, predictions, error labels; - is standard output.",
)
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


evaluation_commands: tuple[click.Command, ...] = (evaluate,)
"""What `blink` takes up."""
