"""Builds the files of links and redirects from a parsed Wikipedia dump, for the articles of a data set.

The probability of a link's text is the number of links with that text over the number of articles that contain it, at most 1.
Texts are compared by their lower-case words. The dump is read twice: for the links of the selected articles, and to count
their texts in all articles.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from blink.errors import DataError
from blink.files import atomic_open
from examples.pretraining.dump_db import DumpDb, read_shard, resolve
from examples.pretraining.pool import spread
from examples.reading_comprehension.links import Link

_WORDS = re.compile(r"\w+|[^\w\s]")
Words = tuple[str, ...]
Advance = Callable[[int], None]


@dataclass
class Counts:
    """Counts of texts.

    Attributes:
        links: links with that text.
        articles: articles that contain it.
    """

    links: Counter[Words] = field(default_factory=Counter)
    articles: Counter[Words] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add other counts."""
        self.links.update(other.links)
        self.articles.update(other.articles)

    def probability(self, text: str) -> float:
        """Fraction of the articles with a text that link it; 0 without such articles."""
        n_articles = self.articles[words_of(text)]
        return min(1.0, self.links[words_of(text)] / n_articles) if n_articles else 0.0


@dataclass(frozen=True)
class Names:
    """Texts that are counted.

    Attributes:
        texts: their words.
        longest: first word to the number of words of the longest that begins with it.
    """

    texts: frozenset[Words]
    longest: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Names:
        """Create from texts, except those without words."""
        names = frozenset(words for text in texts if (words := words_of(text)))
        longest: dict[str, int] = {}
        for words in names:
            longest[words[0]] = max(longest.get(words[0], 0), len(words))
        return cls(names, longest)


def write_links(
    db: DumpDb, titles: Collection[str], out: Path, *, pool_size: int = 1, advance: Advance = lambda count: None
) -> int:
    """Write the links of articles, one article per line, for `examples.reading_comprehension.links.read_links`.

    Args:
        db: the parsed dump.
        titles: the articles; redirects are followed.
        out: the file, compressed if its name ends in ``.gz``.
        pool_size: processes that read the dump.
        advance: called after each shard that was read; every shard is read twice.

    Returns:
        the number of articles in the dump.

    Raises:
        DataError: none of them is in the dump.
    """
    redirects, known_titles = db.redirects(), db.titles()
    selection = frozenset(resolve(title, redirects) for title in titles)
    pages: dict[str, list[tuple[str, str]]] = {}
    for linked in spread(partial(_linked, selection), db.shards, pool_size):
        pages |= linked
        advance(1)
    if not pages:
        raise DataError(f"{db.folder} holds none of the {len(titles)} articles; is it a dump of the language of the data?")
    names, counts = Names.of(text for links in pages.values() for text, _ in links), Counts()
    for counted in spread(partial(_counted, names), db.shards, pool_size):
        counts.add(counted)
        advance(1)
    with text_file(out) as f:
        for title, links in sorted(pages.items()):
            resolved = [(text, resolve(target, redirects)) for text, target in links]
            rows = [
                Link(text, target, counts.probability(text))
                for text, target in dict.fromkeys(resolved)
                if target in known_titles
            ]
            values = [[link.text, link.target, round(link.probability, 6)] for link in rows]
            f.write(json.dumps({"title": title, "links": values}, ensure_ascii=False) + "\n")
    return len(pages)


def write_redirects(db: DumpDb, out: Path) -> int:
    """Write all redirects with their final targets; returns their number."""
    redirects = db.redirects()
    with text_file(out) as f:
        json.dump({title: resolve(title, redirects) for title in sorted(redirects)}, f, ensure_ascii=False, indent=0)
    return len(redirects)


def words_of(text: str) -> Words:
    """Words and punctuation of a text, in lower case."""
    return tuple(_WORDS.findall(text.lower()))


def occurring(text: str, names: Names) -> set[Words]:
    """The names that occur in a text, at word boundaries."""
    words = words_of(text)
    occurrences: set[Words] = set()
    for start, first in enumerate(words):
        for length in range(1, names.longest.get(first, 0) + 1):
            if words[start : start + length] in names.texts:
                occurrences.add(words[start : start + length])
    return occurrences


@contextmanager
def text_file(path: Path) -> Iterator[IO[str]]:
    """Open a text file for atomic writing, compressed if its name ends in ``.gz``."""
    if path.suffix != ".gz":
        with atomic_open(path) as f:
            yield f
        return
    with (
        atomic_open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as text,
    ):
        yield text


def _linked(selection: frozenset[str], shard: Path) -> dict[str, list[tuple[str, str]]]:
    """Text and target of the links of a shard's selected articles."""
    return {
        article.title: [(p.text[link.start : link.end], link.title) for p in article.paragraphs for link in p.links]
        for article in read_shard(shard)
        if article.title in selection
    }


def _counted(names: Names, shard: Path) -> Counts:
    counts = Counts()
    for article in read_shard(shard):
        occurrences: set[Words] = set()
        for paragraph in article.paragraphs:
            occurrences |= occurring(paragraph.text, names)
            anchors = (words_of(paragraph.text[link.start : link.end]) for link in paragraph.links)
            counts.links.update(words for words in anchors if words in names.texts)
        counts.articles.update(occurrences)
    return counts
