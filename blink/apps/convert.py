"""``blink convert``: mention files to and from annotation tools and ELEVANT, and files of links to ELEVANT."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blink.apps.common import say
from blink.data.annotation import LABEL_STUDIO_CONFIG, TOOLS, Skipped
from blink.data.elevant import ELEVANT, is_file_of_links, write_linked_articles
from blink.data.mention_files import read_samples, row_of
from blink.errors import SettingsError
from blink.files import atomic_open, require_file


@click.command()
@click.argument("file", metavar="FILE", required=False)
@click.option(
    "--to",
    "target",
    type=click.Choice(list(TOOLS)),
    help="Write FILE, a mention file, for this tool; for elevant also a file of links.",
)
@click.option("--from", "source", type=click.Choice(list(TOOLS)), help="Read FILE, an export of this tool, as a mention file.")
@click.option("--out", metavar="OUT", help="File to write.")
@click.option("--interface", is_flag=True, help="Print the labelling interface of a project in Label Studio, and end.")
def convert(file: str | None, target: str | None, source: str | None, out: str | None, interface: bool) -> None:
    """Exchange labelled texts with Label Studio, doccano and ELEVANT.

    Links can be corrected there: write texts with `blink label` or `:save` in the shell, convert, correct, and convert back.
    In the tool, the id of an entity labels its mention; NIL labels one that names nothing in the knowledge base. For ELEVANT,
    which evaluates linkers, links of `blink link --json` or --out become linked articles, and gold becomes a benchmark.

    \b
    Example:
      blink label texts.jsonl --out labelled.jsonl
      blink convert labelled.jsonl --to label-studio --out tasks.json
      blink convert project-export.json --from label-studio --out corrected.jsonl
      blink link --file kore50.benchmark.jsonl --carry all --out links.jsonl
      blink convert links.jsonl --to elevant --out blink.kore50.linked_articles.jsonl
    """
    if interface:
        click.echo(LABEL_STUDIO_CONFIG, nl=False)
        return
    if file is None or out is None or (target is None) == (source is None):
        raise SettingsError("give FILE, --out OUT, and either --to or --from with a tool: " + ", ".join(TOOLS))
    path = require_file(file, "give a mention file, or an export of the tool")
    skipped, count = Skipped(), 0
    if target is not None:
        has_links = target == ELEVANT and is_file_of_links(path)
        count = write_linked_articles(path, out, skipped) if has_links else TOOLS[target].write(read_samples(path), out)
        say(f"{out}: {count:,} texts; {TOOLS[target].hint}" + (f"; left out: {skipped}" if skipped.counts else ""))
        return
    with atomic_open(Path(out)) as f:
        for sample in TOOLS[str(source)].read(path, skipped):
            f.write(json.dumps(row_of(sample), ensure_ascii=False) + "\n")
            count += 1
    say(f"{out}: {count:,} texts" + (f"; left out: {skipped}" if skipped.counts else ""))
