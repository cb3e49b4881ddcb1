"""``blink kb index``: another index for a knowledge base."""

from __future__ import annotations

from pathlib import Path

import click

from blink.apps.common import Bar, say
from blink.kb.index.budget import parse_size
from blink.kb.index.kinds import AUTO, CHOICES
from blink.progress import StageBars


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--index", type=click.Choice(CHOICES), default=AUTO, show_default=True, help="As of kb build.")
@click.option("--max-ram", metavar="SIZE", help="Memory that linking may take, such as 2G; says what fits and what it needs.")
def index(folder: str, index: str, max_ram: str | None) -> None:
    """Replace the index of a knowledge base, without encoding its entities again.

    \b
    Example:
      blink kb index my-kb --max-ram 2G
    """
    from blink.kb.knowledge_base import read_manifest
    from blink.kb.reindex import reindex

    limit = None if max_ram is None else parse_size(max_ram)
    bars = StageBars(Bar, "entity")
    completed = False
    try:
        bars.stage("indexing", read_manifest(Path(folder)).entities)
        manifest, plan = reindex(folder, index, limit, bars.advance)
        completed = True
    finally:
        bars.close(completed=completed)
    say(f"{folder}: {plan or 'index ' + manifest.index}")
