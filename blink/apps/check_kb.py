"""``blink kb check`` and ``blink kb verify``: whether a knowledge base is whole, and what its index costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from blink.apps.common import FAILED, bar, say

if TYPE_CHECKING:
    from blink.kb.health import Health


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
    _report(health, kb, as_json)


@click.command()
@click.argument("kb", metavar="KB")
@click.option("--record", is_flag=True, help="Write missing hashes into the manifest, of an earlier version, if all is well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(kb: str, record: bool, as_json: bool) -> None:
    """Read all files of a knowledge base, and compare them with the hashes of its manifest.

    Lines, vectors, tables and journal are read too. Nothing is searched or encoded, see `blink kb check`. Every problem is
    one line with its remedy. The exit status is 0 where there is none, else 1.

    \b
    Example:
      blink kb verify my-kb
    """
    from blink.kb.health import record_hashes, verify_knowledge_base

    _report((record_hashes if record else verify_knowledge_base)(kb, bar), kb, as_json)


def _report(health: Health, kb: str, as_json: bool) -> None:
    click.echo(json.dumps(health.to_json(), ensure_ascii=False, indent=2) if as_json else health.to_text(kb))
    if health.problems:
        raise SystemExit(FAILED)
