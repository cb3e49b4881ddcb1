"""``blink kb check``: whether a knowledge base is whole, and what its index costs."""

from __future__ import annotations

import json

import click

from blink.apps.common import FAILED, bar, say


@click.command()
@click.argument("kb", metavar="KB")
@click.option("--model", metavar="DIR", help="Compare with this model: its fingerprint, and some entities encoded again.")
@click.option("--sample", type=click.IntRange(1), default=500, show_default=True, help="Entities looked up and searched.")
@click.option("--file", metavar="FILE", help="Mention file: count links that the index changes, and the F1 that it costs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(kb: str, model: str | None, sample: int, file: str | None, as_json: bool) -> None:
    """Check a knowledge base: files, vectors, names and index. Nothing is changed.

    Every problem is one line with its remedy. The exit status is 0 where there is none, else 1.

    \b
    Example:
      blink kb check my-kb --model my-model --file questions.jsonl --json
    """
    from blink.evaluation.index_check import check_with_texts

    health = check_with_texts(kb, model, file, sample=sample, warn=say, bars=bar)
    click.echo(json.dumps(health.to_json(), ensure_ascii=False, indent=2) if as_json else health.to_text(kb))
    if health.problems:
        raise SystemExit(FAILED)
