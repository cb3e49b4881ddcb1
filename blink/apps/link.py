"""``blink link``: links texts, and prints them for people or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import RECORDS, model_options, open_linker, record_options
from blink.data.display import describe, json_pieces
from blink.data.records import LinkedSection
from blink.data.text_lines import check_text, read_lines
from blink.errors import DataError, SettingsError

BULK = ("out", "workers", "strict", *RECORDS)


@click.command()
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="F",
    help="Read one text per line from F; - is standard input. With --out also JSON Lines, compressed or not; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per text.")
@click.option(
    "--out",
    metavar="LINKS",
    help="Write a JSON object per text to a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file. Errors are recorded in it, and "
    "after a kill the same command continues.",
)
@record_options
@click.option(
    "--workers", default="1", show_default=True, metavar="N", help="Processes that link, with --out; auto: by cores and memory."
)
@click.option("--strict", is_flag=True, help="With --out, end with status 1 if any record has an error.")
@click.option(
    "--max-ram", metavar="SIZE", help="Memory that linking may take, such as 4G; an index that needs more is refused."
)
@model_options
def link(texts: tuple[str, ...], files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Link texts: those given, the lines of files, or of standard input.

    \b
    Examples:
      blink link "The Nile flows through Egypt." --json
      blink link --file questions.txt --threshold 0.5
      cat questions.txt | blink link --json > links.jsonl
      blink link --file corpus.jsonl.gz --text-key body --carry all --out links.parquet --workers 2
    """
    bulk = {name: options.pop(name) for name in BULK}
    if bulk["out"] is not None:
        if texts or as_json:
            raise SettingsError(f"--out writes the links of files; leave {'the texts' if texts else '--json'} out")
        if not files and sys.stdin.isatty():
            raise SettingsError("there is nothing to link; give --file F, or pipe texts in")
        from blink.bulk.linkers import link_by_name

        return link_by_name(files or ("-",), linker=options, say=say, bars=bar, **bulk)
    if len(files) > 1 or {name for name, value in bulk.items() if value} > {"workers"} or bulk["workers"] != "1":
        raise SettingsError("several files, options of records, --workers and --strict need --out; name a file to write")
    return link_texts(texts, files[0] if files else None, as_json, **options)


def link_texts(texts: tuple[str, ...], file: str | None, as_json: bool, batch_size: int, **options: Any) -> None:
    """Link texts and print the links, as people or as programs read them."""
    if texts and file is not None:
        raise SettingsError("texts and --file are both given; give one of them")
    if not texts and file is None and sys.stdin.isatty():
        raise SettingsError('there is nothing to link; give a text ("..."), or --file F, or pipe texts in')
    if texts:
        checked = [check_text(t, f"text {n}") for n, t in enumerate(texts, 1)]
        if not any(t.strip() for t in checked):
            raise DataError("the text is empty; give a text with words in it")
    source = checked if texts else read_lines(file or "-")
    linker = open_linker(bulk=not texts, **options)
    with bar("linking", len(texts) or None, "text") as progress:
        print_links(linker.stream(source, batch_size=batch_size), as_json, progress.advance)


def print_links(sections: Iterable[LinkedSection], as_json: bool, advance: Callable[[int], None] = lambda _: None) -> None:
    """Print the links of texts on standard output, section by section; ``advance`` is called with 1 after each text."""
    # A terminal that is not UTF-8 gets escapes, which are the same JSON.
    escaped = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    pieces, n_links = partial(json_pieces, escaped=escaped) if as_json else describe, 0
    for section in sections:
        n_links = 0 if section.is_first else n_links
        sys.stdout.writelines(pieces(section, n_links))
        sys.stdout.flush()
        n_links += len(section.links)
        if section.is_last:
            advance(1)
