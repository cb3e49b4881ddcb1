"""``blink kb index``: another index for a knowledge base."""

from __future__ import annotations

from pathlib import Path

import click

from blink.apps.common import Bar, bar, say
from blink.apps.model_options import model_option
from blink.errors import SettingsError
from blink.files import require_file
from blink.kb.index.kinds import AUTO, CHOICES
from blink.limits import parse_size
from blink.progress import StageBars


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--index", type=click.Choice(CHOICES), default=AUTO, show_default=True, help="As of kb build.")
@click.option(
    "--max-ram", metavar="SIZE", help="Memory that linking may take, such as 2G; says what fits, what it needs and costs."
)
@click.option("--file", metavar="TEXTS", help="Texts to state the cost with, with --max-ram.  [default: made of titles]")
@model_option("Model that links them.  [default: the starter]")
def index(folder: str, index: str, max_ram: str | None, file: str | None, model: str | None) -> None:
    """Replace the index of a knowledge base, without encoding its entities again.

    \b
    Example:
      blink kb index my-kb --max-ram 2G
    """
    from blink.kb.manifest import read_manifest
    from blink.kb.reindex import reindex

    if max_ram is None and (file is not None or model is not None):
        raise SettingsError("--file and --model state the cost of the index for a limit; give --max-ram too, or blink kb check")
    if file is not None:
        require_file(file, "give a file with a text a line, or a mention file")
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
    if plan is not None:
        from blink.evaluation.index_check import stated_cost

        say(f"{folder}: {stated_cost(folder, model, file, bar)}")
