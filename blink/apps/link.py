"""``blink link``: links texts, and prints them for people or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from blink.apps.common import bar, one_line, printable
from blink.apps.model_options import model_options, open_linker
from blink.data.records import LinkedSection
from blink.data.text_lines import check_text, read_lines
from blink.errors import DataError, SettingsError


@click.command()
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--file", "file", metavar="F", help="Read one text per line from F; - is standard input.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per text.")
@model_options
def link(texts: tuple[str, ...], file: str | None, as_json: bool, **options: Any) -> None:
    """Link texts: those given, the lines of a file, or of standard input.

    \b
    Examples:
      blink link "The Nile flows through Egypt." --json
      blink link --file questions.txt --threshold 0.5
      cat questions.txt | blink link --json > links.jsonl
    """
    link_texts(texts, file, as_json, **options)


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
    pieces, n_links = _json_pieces if as_json else describe, 0
    for section in sections:
        n_links = 0 if section.is_first else n_links
        sys.stdout.writelines(pieces(section, n_links))
        sys.stdout.flush()
        n_links += len(section.links)
        if section.is_last:
            advance(1)


def _json_pieces(section: LinkedSection, n_before: int) -> Iterator[str]:
    # A terminal that is not UTF-8 gets escapes, which are the same JSON.
    escaped = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    if section.is_first:
        yield f'{{"text": {json.dumps(section.text, ensure_ascii=escaped)}, "links": ['
    for number, link in enumerate(section.links, n_before):
        yield (", " if number else "") + json.dumps(link.to_json(), ensure_ascii=escaped)
    if section.is_last:
        yield "]}\n"


def describe(section: LinkedSection, n_before: int = 0) -> Iterator[str]:
    """The text, and a line per link, without characters that would change a terminal, behind ``n_before`` links of the text."""
    if section.is_first:
        yield f"{printable(section.text)}\n"
    for link in section.links:
        name = one_line(link.kb_id or f"row {link.row}")
        target = f"{one_line(link.mention)} -> {one_line(link.title)} ({name})"
        yield f"  {link.start}-{link.end}  {target}  {link.score:.3f}\n"
    if section.is_last and not (n_before or section.links):
        yield "  no links\n"
