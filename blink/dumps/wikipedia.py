"""Wikipedia's XML dump to a catalogue: introductions, and the names that redirects and links use, with their counts."""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.dumps.journal import Journal
from blink.dumps.mapping import RECORDS, no_content
from blink.dumps.name_counts import MAX_NAMES, NameCounts
from blink.dumps.page_props import PageItems
from blink.dumps.pages import OTHER_NAMESPACES
from blink.dumps.popularity_rank import WIKIPEDIA_PAGES, popularity_by_count
from blink.dumps.run import CATALOGUE, DumpJob
from blink.dumps.segments import Dump
from blink.dumps.titles import TitleTable, Wiki, hashes
from blink.dumps.wikipedia_pages import ARTICLES, LINKS, NAMES, PAGES, REDIRECTS, TO_PAGES, PageMapper
from blink.errors import DataError
from blink.files import atomic_open, sample_hash
from blink.progress import Bars, Progress

ENTITIES, RESOLVED, CIRCLES, LINKS_KEPT, LINKS_LOST, ALIASES, WITH_ITEM = (
    "entities", "redirects that are resolved", "redirects that lead nowhere", "links to entities", "links to none", "aliases",
    "with a Wikidata id",
)  # fmt: skip
NOT_READ = "pages of the index that were not read"
_BLOCK_LINES = 1 << 16


@dataclass(frozen=True)
class WikipediaOptions:
    """What is kept of the dump.

    Attributes:
        page_props: SQL file with the Wikidata ids of pages; empty for none.
        min_links: fewest links by which a name becomes an alias; redirects and disambiguation pages need none.
        min_share: smallest share of a name's links that lead to an entity, for the name to be its alias.
    """

    page_props: str = ""
    min_links: int = 2
    min_share: float = 0.01


def wikipedia_job(dump: Dump, out: str | Path, options: WikipediaOptions) -> DumpJob:
    """The job that makes a catalogue of a dump."""
    wiki = Wiki.of(head_of(dump))
    settings = {"from": "wikipedia", **asdict(options)}
    if options.page_props and Path(options.page_props).is_file():
        settings["page_props"] = sample_hash(options.page_props)
    return DumpJob(dump, Path(out), PageMapper(wiki), settings, functools.partial(_finish, dump, options, wiki))


def head_of(dump: Dump) -> bytes:
    """The beginning of a dump, which describes its wiki."""
    first = next(iter(dump.segments()), None)
    return dump.read(first)[: 1 << 16] if first is not None else b""


def _finish(dump: Dump, options: WikipediaOptions, wiki: Wiki, journal: Journal, out: Path, bars: Bars) -> Counter[str]:
    """Write the catalogue of the pages that the pass found."""
    counts = journal.state.counts
    if not counts[ARTICLES]:
        if counts[TO_PAGES] or counts[OTHER_NAMESPACES]:
            raise DataError(f"{dump.path} has no article with an introduction; give a dump of pages-articles")
        raise no_content(dump, journal.state.problems)
    items = PageItems.none()
    if options.page_props:
        with bars("reading page_props", None, "row") as progress:
            items = PageItems.read(options.page_props, progress)
    table, made = title_table(journal)
    if dump.records is not None:
        made[NOT_READ] = max(dump.records - counts[RECORDS], 0)
    names = NameCounts(journal.folder / "counts", counts[ARTICLES], options.min_links, options.min_share)
    n_links = np.zeros(counts[ARTICLES], dtype=np.int64)
    with bars("counting names", None, "name") as progress:
        names.count(itertools.chain(_redirect_names(journal, table), _link_names(journal, table, n_links, made, progress)))
    n_of_links = dict(zip(*(column.tolist() for column in np.unique(n_links, return_counts=True)), strict=True))
    popularity = popularity_by_count(n_of_links, WIKIPEDIA_PAGES)
    with (
        atomic_open(out / CATALOGUE) as catalogue,
        journal.path(PAGES).open(encoding="utf-8", newline="\n") as pages,
        bars("writing the catalogue", counts[ARTICLES], "entity") as progress,
    ):
        for page, of_page, links in zip(map(json.loads, pages), names.of_rows(), n_links.tolist(), strict=False):
            entity = _entity(page, of_page, wiki, items.item(page["id"]), popularity[links])
            catalogue.write(json.dumps(entity, ensure_ascii=False) + "\n")
            made.update({ENTITIES: 1, ALIASES: len(entity.get("aliases", ())), WITH_ITEM: "kb_idx" in entity})
            progress.advance()
    return made


def title_table(journal: Journal) -> tuple[TitleTable, Counter[str]]:
    """Rows of pages by title and redirect, and counts of redirects."""
    with journal.path(PAGES).open(encoding="utf-8", newline="\n") as f:
        titles = np.concatenate([hashes(json.loads(line)["title"] for line in block) for block in _blocks(f)])
    sources, targets = _pairs(journal.path(REDIRECTS))
    table = TitleTable.of_pages(titles, np.arange(len(titles)), sources, targets)
    return table, Counter({RESOLVED: table.resolved, CIRCLES: table.unresolved})


def _pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of both columns of a file. *Shape:* (lines,), uint64, each."""
    columns: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.uint64), np.empty(0, np.uint64))]
    with path.open(encoding="utf-8", newline="\n") as f:
        for block in _blocks(f):
            rows = [line[:-1].split("\t") for line in block]
            columns.append((hashes(row[0] for row in rows), hashes(row[1] for row in rows)))
    return np.concatenate([c[0] for c in columns]), np.concatenate([c[1] for c in columns])


def _redirect_names(journal: Journal, table: TitleTable) -> Iterator[tuple[str, int, int]]:
    """Names by redirects and disambiguation pages: name, row, no links."""
    with journal.path(NAMES).open(encoding="utf-8", newline="\n") as f:
        for block in _blocks(f):
            pairs = [line[:-1].split("\t") for line in block]
            for (_, name), row in zip(pairs, table.rows([target for target, _ in pairs]).tolist(), strict=True):
                if row != TitleTable.NONE:
                    yield name, row, 0


def _link_names(
    journal: Journal, table: TitleTable, n_links: np.ndarray, made: Counter[str], progress: Progress
) -> Iterator[tuple[str, int, int]]:
    """Names by links: name, row, number of links. Adds up the links of each row, and those that lead to no entity."""
    with journal.path(LINKS).open(encoding="utf-8", newline="\n") as f:
        for block in _blocks(f):
            uses = [line[:-1].split("\t") for line in block]
            distinct = dict.fromkeys(target for target, _, _ in uses)
            row_of = dict(zip(distinct, table.rows(list(distinct)).tolist(), strict=True))
            rows = np.array([row_of[target] for target, _, _ in uses], dtype=np.int64)
            of_use = np.array([int(n) for _, _, n in uses], dtype=np.int64)
            is_kept = rows != TitleTable.NONE
            np.add.at(n_links, rows[is_kept], of_use[is_kept])
            made[LINKS_KEPT] += int(of_use[is_kept].sum())
            made[LINKS_LOST] += int(of_use[~is_kept].sum())
            for (_, name, n), row in zip(uses, rows.tolist(), strict=True):
                if row != TitleTable.NONE:
                    yield name, row, int(n)
            progress.advance(len(uses))


def _entity(page: dict[str, Any], names: dict[str, int], wiki: Wiki, item: int | None, popularity: float) -> dict[str, Any]:
    title, own = page["title"], page["title"].casefold()
    aliases = [name for name in names if name.casefold() != own][:MAX_NAMES]
    counted = {*aliases, *(name for name in names if name.casefold() == own)}
    entity = {
        "title": title,
        "text": page["text"],
        "kb_idx": None if item is None else f"Q{item}",
        "idx": f"{wiki.site}/wiki?curid={page['id']}",
        "aliases": aliases,
        "alias_counts": {name: n for name, n in names.items() if n and name in counted},
        "ids": {wiki.name: str(page["id"])},
        "popularity": popularity,
    }
    return {key: value for key, value in entity.items() if value not in (None, [], {})}


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    while block := list(itertools.islice(lines, _BLOCK_LINES)):
        yield block
