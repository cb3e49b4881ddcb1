"""``blink resolve``: records to existing or new entities, and merges of entities that look like one."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.common import bar, say
from blink.apps.lazy import HelpfulGroup
from blink.apps.model_options import model_option

threshold = click.option(
    "--threshold", type=float, metavar="P", help="From which two things are one.  [default: the fitted one]"
)
scorer = click.option("--scorer", metavar="FILE", help="Made by `blink resolve fit`.  [default: the one of BLINK]")
model = model_option("Model that made the knowledge base.  [default: the starter]")
review = click.option("--review", type=float, metavar="P", help="Least probability that a person should see.")


@click.group(cls=HelpfulGroup)
def resolve() -> None:
    """Resolve records to entities: existing ones, or new ones that are added; merge entities that are one.

    \b
    Example:
      blink resolve run my-kb people.jsonl --out resolved.jsonl
      blink resolve merges my-kb --out plan.json      edit plan.json, then
      blink resolve apply my-kb plan.json
      blink kb undo my-kb
    """


@resolve.command()
@click.argument("kb", metavar="KB")
@click.argument("records", metavar="RECORDS")
@click.option("--out", metavar="FILE", help="Write a JSON object per record.  [default: standard output]")
@click.option("--dry-run", is_flag=True, help="Say what would be linked and added; write nothing to KB.")
@threshold
@review
@click.option("--round", "round_size", type=click.IntRange(1), default=1000, show_default=True, help="Records written at once.")
@click.option("--context", is_flag=True, help="Link mentions with spans in their sentences too, as `blink link` does.")
@scorer
@model
def run(**options: Any) -> None:
    """Link the records of a file to entities of KB, and add those that it lacks.

    RECORDS has a record a line: "name", and what is known of "description", "context" (the sentence), "type", "aliases",
    "id", "source"; or a "text" with "spans" [[start, end], ...]. A JSON array, CSV, TSV and Parquet will do too; - reads
    standard input. Records that were resolved before get the same entity again: after a kill, give the same command.

    \b
    Example:
      echo '{"name": "A. Merkel", "description": "German chancellor"}' |
        blink resolve run my-kb -
    """
    from blink.resolve.commands import resolve_file

    say(resolve_file(**options, bars=bar))


@resolve.command()
@click.argument("kb", metavar="KB")
@click.option("--out", metavar="PLAN.json", help="Where the plan goes.  [default: standard output]")
@click.option("--dry-run", is_flag=True, help="This command never writes to KB; accepted for scripts.")
@threshold
@review
@scorer
@model
def merges(**options: Any) -> None:
    """Propose merges of entities that look like one: a plan, to be edited and applied.

    \b
    Example:
      blink resolve merges my-kb --out plan.json
    """
    from blink.resolve.commands import plan_merges

    say(plan_merges(**options, bars=bar))


@resolve.command()
@click.argument("kb", metavar="KB")
@click.argument("plan", metavar="PLAN.json")
@model
def apply(**options: Any) -> None:
    """Make the approved merges of a plan, each as one edit that `blink kb undo` takes back.

    \b
    Example:
      blink resolve apply my-kb plan.json
    """
    from blink.resolve.commands import apply_plan

    say(apply_plan(**options, bars=bar))


@resolve.command()
@click.argument("pairs", metavar="PAIRS.jsonl")
@click.option("--threshold", type=float, metavar="P", help="State the figures of this threshold, rather than select one.")
@click.option("--precision", type=float, default=1.0, show_default=True, help="Least precision of the selected threshold.")
@click.option("--out", metavar="FILE", help="Write the scorer with this threshold, for --scorer.")
@click.option("--weights", is_flag=True, help="Fit the weights too; it takes thousands of pairs.")
@scorer
@model
def fit(**options: Any) -> None:
    """Select the threshold on labelled pairs, and print precision and recall.

    PAIRS.jsonl has a pair a line: the records "a" and "b", "same" (true or false), and perhaps a "kind".

    \b
    Example:
      blink resolve fit my-pairs.jsonl --precision .99 --out my-scorer.json
    """
    from blink.resolve.commands import fit_on_pairs

    click.echo("\n".join(fit_on_pairs(**options, bars=bar)))
