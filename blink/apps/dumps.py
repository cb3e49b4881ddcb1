"""``blink kb from-wikidata``, ``from-wikipedia`` and ``anchors``: catalogues and training data out of dumps."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.workers import AUTO, worker_count

if TYPE_CHECKING:
    from blink.dumps.run import DumpJob

out_option = click.option("--out", required=True, metavar="DIR", help="Folder of the results; an unfinished one is continued.")
workers_option = click.option("--workers", default=AUTO, show_default=True, metavar="N", help="Processes; auto: one a core.")
build_option = click.option("--build", is_flag=True, help="Go on to a knowledge base, in DIR/kb, with the starter's encoder.")


@click.command()
@click.argument("dump", metavar="latest-all.json.bz2")
@out_option
@click.option("--min-sitelinks", type=click.IntRange(0), default=5, show_default=True, help="Pages of an entity, at least.")
@click.option("--language", default="en", show_default=True, metavar="CODE", help="Of labels and descriptions.")
@click.option("--fallback", default="mul", show_default=True, metavar="CODES", help="Languages where it lacks, such as mul,de.")
@click.option("--types", default="", metavar="IDS", help="Keep only instances of these classes and their subclasses: Q5.")
@click.option("--without-types", metavar="IDS", help="Leave these out.  [default: disambiguation pages, lists, ...]")
@click.option("--properties", default="", metavar="IDS", help="Relations that become triples: P31,P106.  [default: a table]")
@workers_option
@build_option
def from_wikidata(dump: str, out: str, **options: Any) -> None:
    """Make a catalogue of Wikidata's JSON dump: entity.jsonl, triples.tsv, relations.tsv.

    The dump is read once, by several processes, compressed (.bz2, .gz, .zst) or not. A killed run continues when it is called
    again. dump.json has the counts, among them how many items have how many sitelinks, to choose --min-sitelinks by.

    \b
    Example:
      blink kb from-wikidata latest-all.json.bz2 --out wikidata --build
    """
    from blink.dumps.segments import Dump
    from blink.dumps.wikidata import NOT_ENTITIES, WikidataOptions, class_numbers, wikidata_job
    from blink.dumps.wikidata_items import SITELINKS

    without, names = options["without_types"], options["properties"].split(",")
    chosen = WikidataOptions(
        languages=tuple(dict.fromkeys(filter(None, (options["language"], *options["fallback"].split(","))))),
        min_sitelinks=options["min_sitelinks"],
        types=class_numbers(options["types"]),
        without_types=tuple(NOT_ENTITIES) if without is None else class_numbers(without),
        properties=tuple(name.strip() for name in names if name.strip()),
    )
    _run(lambda: wikidata_job(Dump.open(dump), out, chosen), options["workers"], SITELINKS)
    _build_next(out, options["build"])


@click.command()
@click.argument("dump", metavar="pages-articles-multistream.xml.bz2")
@out_option
@click.option("--page-props", default="", metavar="FILE.sql.gz", help="Its table page_props: Wikidata ids of pages.")
@click.option("--index", metavar="FILE", help="Index of a multistream dump.  [default: the one beside it, if there is one]")
@click.option("--min-links", type=click.IntRange(1), default=2, show_default=True, help="Links that make a name an alias.")
@click.option("--min-share", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Their share of its links.")
@workers_option
@build_option
def from_wikipedia(dump: str, out: str, index: str | None, workers: str, build: bool, **options: Any) -> None:
    """Make a catalogue of Wikipedia's XML dump: entity.jsonl.

    An entity has the introduction of its page, and as aliases the names that redirects, disambiguation pages and links give it;
    "alias_counts" says how many links use each. Lists and other pages that are no things are left out. A killed run continues
    when it is called again.

    \b
    Example:
      blink kb from-wikipedia enwiki-latest-pages-articles-multistream.xml.bz2 \\
          --page-props enwiki-latest-page_props.sql.gz --out wikipedia --build
    """
    from blink.dumps.segments import Dump
    from blink.dumps.wikipedia import WikipediaOptions, wikipedia_job

    _run(lambda: wikipedia_job(Dump.open(dump, index), out, WikipediaOptions(**options)), workers)
    _build_next(out, build)


@click.command()
@click.argument("dump", metavar="pages-articles-multistream.xml.bz2")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base whose entities the links name.")
@click.option("--out", required=True, metavar="FILE.jsonl", help="Mention file to write; an unfinished one is continued.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Paragraphs that are written at most.")
@click.option("--sample", type=click.FloatRange(0, 1, min_open=True), default=1.0, metavar="P", help="Share of pages to read.")
@click.option("--tokenizer", default="", metavar="MODEL", help="Add tokens as this model or encoder reads them.")
@click.option("--index", metavar="FILE", help="Index of a multistream dump.  [default: the one beside it, if there is one]")
@workers_option
def anchors(dump: str, kb: str, out: str, index: str | None, workers: str, **options: Any) -> None:
    """Write paragraphs of Wikipedia whose links are entities of a knowledge base, as training data.

    FILE.jsonl has the original's format wiki_all_ents, which blink train and blink eval read. Entities are matched by the
    addresses of their pages. Each text is written once.

    \b
    Example:
      blink kb anchors enwiki-latest-pages-articles-multistream.xml.bz2 --kb wikipedia/kb --out anchors.jsonl --limit 1000000
    """
    from blink.dumps.anchors import AnchorOptions, write_anchors
    from blink.dumps.segments import Dump
    from blink.model.folder import require_model

    model = options["tokenizer"]
    opener = partial(_token_ids, str(require_model(model))) if model else None
    chosen = AnchorOptions(**options)
    with _signals_named():
        how: dict[str, Any] = {"workers": worker_count(workers), "bars": bar, "warn": say}
        summary = write_anchors(Dump.open(dump, index), kb, out, chosen, tokenizer=opener, **how)
    say(f"{out}: {summary.describe()}")


def _token_ids(model: str) -> Callable[[Sequence[str]], list[list[int]]]:
    """What gives token ids of texts; runs in each process."""
    from blink.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_pretrained(model)
    return lambda texts: [encoding.ids.tolist() for encoding in tokenizer.tokenize(texts)]


def _run(make_job: Callable[[], DumpJob], workers: str, hidden: str = "") -> None:
    """Work a job off."""
    from blink.dumps.run import run_job

    job = make_job()
    with _signals_named():
        summary = run_job(job, workers=worker_count(workers), bars=bar, warn=say)
    say(f"{job.out}: {summary.describe(hidden)}")


@contextlib.contextmanager
def _signals_named() -> Iterator[None]:
    """End with a line if a signal comes; what is read is kept."""
    from blink.stopping import StoppedBySignal, signals_raise

    try:
        with signals_raise():
            yield
    except StoppedBySignal as stop:
        say(f"blink: stopped; what is read is kept; continue with: {shlex.join(['blink', *sys.argv[1:]])}")
        raise SystemExit(128 + stop.signal) from stop


def _build_next(out: str, build: bool) -> None:
    """Build the knowledge base, or say how."""
    arguments = [str(Path(out) / "entity.jsonl"), "--out", str(Path(out) / "kb")]
    if not build:
        say(f"next: {shlex.join(['blink', 'kb', 'build', *arguments])}")
        return
    from blink.apps.build_kb import build as build_command

    build_command.main(arguments, standalone_mode=False)
