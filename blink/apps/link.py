"""``blink link``: links texts, and prints them in a format of `blink.data.link_formats`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import (
    FILTER_SECTION,
    MODEL_SECTION,
    RECORD_SECTION,
    RECORDS,
    RUN_SECTION,
    SCORE_SECTION,
    model_options,
    open_linker,
    record_options,
    where_options,
)
from blink.apps.sections import SectionedCommand
from blink.data.link_formats import EXPLAINED, FORMATS, LinkFormat
from blink.data.records import LinkedSection
from blink.data.text_lines import check_text, in_whole_lines, read_lines
from blink.errors import DataError, SettingsError
from blink.stopping import whole_output

if TYPE_CHECKING:
    from blink.linking.linker import Linker

BULK = ("out", "workers", "strict", *RECORDS)
PRINTED = {
    "form": "format",
    "as_json": "json",
    "as_html": "html",
    "candidates": "candidates",
    "digits": "digits",
    "explain": "explain",
}
"""Options of what is printed, by their arguments."""

SECTIONS = {
    "Texts and links": ("files", *PRINTED, "out"),
    **MODEL_SECTION,
    **SCORE_SECTION,
    **FILTER_SECTION,
    **RECORD_SECTION,
    **RUN_SECTION,
    "Processes": ("workers",),
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="F",
    help="Read one text per line from F, compressed or not; - is standard input. With --out also JSON Lines; may be repeated.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    help="What is printed: text for people, a JSON object per text, a table with a row per link, or a page.  [default: text]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per text: --format json.")
@click.option("--html", "as_html", is_flag=True, help="Print a page of HTML: --format html.")
@click.option(
    "--candidates",
    type=click.IntRange(0),
    metavar="N",
    help="Candidates shown of a link, its entity included; 0 for none.  [default: all in JSON, 3 in HTML, else none]",
)
@click.option(
    "--digits",
    type=click.IntRange(0, 17),
    metavar="N",
    help="Digits of scores behind the point.  [default: all in JSON, 4 in tables, else 3]",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Also print what scores are made of, what lost, and why other spans are not linked; with --json as an object.",
)
@click.option(
    "--out",
    metavar="LINKS",
    help="Write a JSON object per text to a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file, or a row per link to a .csv "
    "or .tsv file. Errors are recorded in it, and after a kill the same command continues.",
)
@record_options
@click.option(
    "--workers", default="1", show_default=True, metavar="N", help="Processes that link, with --out; auto: by cores and memory."
)
@click.option("--strict", is_flag=True, help="With --out, end with status 1 if any record has an error.")
@click.option(
    "--max-ram", metavar="SIZE", help="Memory that linking may take, such as 4G; an index that needs more is refused."
)
@where_options
@model_options
def link(texts: tuple[str, ...], files: tuple[str, ...], **options: Any) -> None:
    """Link texts: those given, the lines of files, or of standard input.

    \b
    Examples:
      blink link "The Nile flows through Egypt." --json
      blink link --file questions.txt --threshold 0.5
      cat questions.txt | blink link --json > links.jsonl
      blink link --file questions.txt.gz --format csv --candidates 3 > links.csv
      blink link "They met in Georgia." --explain
      blink link "They met in Georgia." --where "type=state|country" --deny never.txt
      blink link --file corpus.jsonl.gz --text-key body --carry all --out links.parquet --workers 2
    """
    bulk, printed = ({name: options.pop(name) for name in names} for names in (BULK, PRINTED))
    if bulk["out"] is not None:
        given = [f"--{PRINTED[name]}" for name, value in printed.items() if value not in (None, False)]
        if texts or given:
            wrong = "the texts" if texts else " and ".join(given)
            raise SettingsError(f"--out writes the links of files in the form of its name; leave {wrong} out")
        if not files and sys.stdin.isatty():
            raise SettingsError("there is nothing to link; give --file F, or pipe texts in")
        from blink.bulk.linkers import link_by_name

        return link_by_name(files or ("-",), linker=options, say=say, bars=bar, **bulk)
    if len(files) > 1 or {name for name, value in bulk.items() if value} > {"workers"} or bulk["workers"] != "1":
        raise SettingsError("several files, options of records, --workers and --strict need --out; name a file to write")
    explain = printed.pop("explain")
    return link_texts(texts, files[0] if files else None, _format(**printed), explain=explain, **options)


def _format(form: str | None, as_json: bool, as_html: bool, candidates: int | None, digits: int | None) -> LinkFormat:
    """The format that options ask for."""
    requested = {form, "json" if as_json else None, "html" if as_html else None} - {None}
    if len(requested) > 1:
        raise SettingsError(f"the formats {' and '.join(sorted(map(str, requested)))} are given; give one")
    return LinkFormat(str(next(iter(requested), "text")), candidates, digits)


def link_texts(
    texts: tuple[str, ...], file: str | None, form: LinkFormat, batch_size: int, *, explain: bool = False, **options: Any
) -> None:
    """Link texts and print the links in a format, or their explanations."""
    if texts and file is not None:
        raise SettingsError("texts and --file are both given; give one of them")
    if not texts and file is None and sys.stdin.isatty():
        raise SettingsError('there is nothing to link; give a text ("..."), or --file F, or pipe texts in')
    if texts:
        checked = [check_text(t, f"text {n}") for n, t in enumerate(texts, 1)]
        if not any(t.strip() for t in checked):
            raise DataError("the text is empty; give a text with words in it")
    source = checked if texts else read_lines(file or "-")
    if explain and form.name not in EXPLAINED:
        raise SettingsError(f"--explain prints {', '.join(EXPLAINED)}; {form.name} has links alone")
    linker = open_linker(bulk=not texts, **options)
    with bar("linking", len(texts) or None, "text") as progress:
        if explain:
            _print_explanations(linker, source, form, batch_size, progress.advance)
        else:
            print_links(linker.stream(source, batch_size=batch_size), form, progress.advance)


def _print_explanations(
    linker: Linker, texts: Iterable[str], form: LinkFormat, batch_size: int, advance: Callable[[int], None]
) -> None:
    from blink.explaining.explanation import explain_texts
    from blink.explaining.report import explanation_pieces

    for piece in explanation_pieces(
        explain_texts(linker, texts, batch_size=batch_size), form.for_encoding(sys.stdout.encoding)
    ):
        print_pieces([piece], is_utf8=False)
        advance(1)


def print_links(sections: Iterable[LinkedSection], form: LinkFormat, advance: Callable[[int], None] = lambda _: None) -> None:
    """Print the links of texts on standard output, section by section; ``advance`` is called with 1 after each text."""

    def counted() -> Iterator[LinkedSection]:
        for section in sections:
            yield section
            if section.is_last:
                advance(1)

    print_pieces(form.for_encoding(sys.stdout.encoding).pieces(counted()), is_utf8=form.is_utf8)


def print_pieces(pieces: Iterable[str], *, is_utf8: bool) -> None:
    """Print what is linked, each line as soon as it is there; a signal waits until a line is printed."""
    if is_utf8 and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    for lines in in_whole_lines(pieces):
        with whole_output():
            sys.stdout.write(lines)
            sys.stdout.flush()
