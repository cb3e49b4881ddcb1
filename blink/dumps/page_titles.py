"""Which entity of a knowledge base each title of a dump leads to: by pages' ids, addresses or titles, and through redirects."""

from __future__ import annotations

import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.data.ids import wikipedia_page
from blink.data.records import Entity
from blink.dumps.journal import Journal
from blink.dumps.mapping import RECORDS, Mapped
from blink.dumps.pages import PAGE_END, namespace, page_content
from blink.dumps.titles import TitleTable, Wiki, hashes, normal_title
from blink.dumps.wikipedia_pages import ARTICLES, REDIRECTS, TO_PAGES

TITLES = "titles.tsv"
"""Stream: id and title of articles."""
_TITLE = re.compile(rb"<title>([^<]+)</title>")
_ID = re.compile(rb"<id>(\d+)</id>")
_REDIRECT = re.compile(rb'<redirect title="([^"]*)"')
_NUMBER, _PATH = "?curid=", "/wiki/"
_BLOCK_LINES = 1 << 16
_HEAD_BYTES = 1 << 14


@dataclass(frozen=True)
class TitleMapper:
    """Maps pages to their titles, without parsing their texts."""

    wiki: Wiki
    separator: bytes = PAGE_END
    record: str = "page"
    streams: tuple[str, ...] = (TITLES, REDIRECTS)

    def __call__(self, text: bytes) -> Mapped:
        """Map whole pages."""
        counts, articles, redirects = Counter[str](), [], []
        for record in text.split(PAGE_END)[:-1]:
            counts[RECORDS] += 1
            head = (page_content(record) or b"")[:_HEAD_BYTES]
            title, number = _TITLE.search(head), _ID.search(head)
            if namespace(head) or title is None or number is None:
                continue  # broken pages are counted where texts are read
            name, redirect = normal_title(_text(title[1])), _REDIRECT.search(head)
            if redirect is None:
                counts[ARTICLES] += 1
                articles.append(f"{int(number[1])}\t{name}\n")
            elif "#" not in (written := _text(redirect[1])) and (target := self.wiki.target(written)):
                counts[TO_PAGES] += 1
                redirects.append(f"{name}\t{target}\n")
        contents = {TITLES: "".join(articles), REDIRECTS: "".join(redirects)}
        return Mapped({name: lines.encode() for name, lines in contents.items()}, counts)


def entity_rows(entities: Iterable[Entity], wiki: Wiki, journal: Journal) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the titles of articles that are entities, and the rows of these. *Shape:* (articles,), uint64 and int64.

    An entity is found by its address: the id or the title of a page of the wiki; one without an address by its own title.

    Args:
        entities: of the knowledge base.
        wiki: of the dump.
        journal: with the stream of titles.
    """
    numbers: dict[int, int] = {}
    titles: dict[str, int] = {}
    for entity in entities:
        if not entity.title:
            continue
        number, title = _page_of(entity, wiki)
        if number is not None:
            numbers.setdefault(number, entity.row)
        elif title:
            titles.setdefault(title, entity.row)
    keys, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for block in _article_blocks(journal.path(TITLES)):
        of_block = ((title, numbers.get(page, titles.get(title, TitleTable.NONE))) for page, title in block)
        matched = [(title, row) for title, row in of_block if row != TitleTable.NONE]
        keys.append(hashes(title for title, _ in matched))
        rows.append(np.array([row for _, row in matched], dtype=np.int64))
    return np.concatenate(keys), np.concatenate(rows)


def redirect_hashes(journal: Journal) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of redirects and of their targets. *Shape:* (redirects,), uint64, each."""
    sources, targets = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    with journal.path(REDIRECTS).open(encoding="utf-8", newline="\n") as f:
        while block := [line[:-1].split("\t") for line in itertools.islice(f, _BLOCK_LINES)]:
            sources.append(hashes(source for source, _ in block))
            targets.append(hashes(target for _, target in block))
    return np.concatenate(sources), np.concatenate(targets)


def _page_of(entity: Entity, wiki: Wiki) -> tuple[int | None, str]:
    """The id of an entity's page, or its title; neither if its address is of something else."""
    own = dict(entity.ids).get(wiki.name, "")
    if own.isdecimal():
        return int(own), ""
    if not entity.url:
        return None, normal_title(entity.title)
    address = wikipedia_page(entity.url) or ""
    if not address.startswith(wiki.site):
        return None, ""
    if _NUMBER in address:
        return int(address.rpartition("=")[2]), ""
    return None, normal_title(address.partition(_PATH)[2])


def _article_blocks(path: Path) -> Iterator[list[tuple[int, str]]]:
    with path.open(encoding="utf-8", newline="\n") as f:
        while lines := list(itertools.islice(f, _BLOCK_LINES)):
            yield [(int(number), title) for number, title in (line[:-1].split("\t") for line in lines)]


def _text(content: bytes) -> str:
    return html.unescape(content.decode("utf-8", "replace"))
