"""Training data out of Wikipedia: paragraphs whose links are entities of a knowledge base.

The rows are those of the original's ``wiki_all_ents``: ``text``, ``mentions`` (characters), ``label_id`` (rows of the knowledge
base), ``wikidata_id`` and ``entity``, and on request the tokens. Wikipedia links a name once, if at all: rows are ``partial``,
so that training takes no span without a link for one that names nothing.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.arrays import map_array, save_array
from blink.dumps.journal import JOURNAL, Journal
from blink.dumps.mapping import Mapped, map_dump, no_content
from blink.dumps.page_titles import TitleMapper, entity_rows, redirect_hashes
from blink.dumps.pages import PAGE_END, Page, articles
from blink.dumps.run import Summary
from blink.dumps.segments import Dump
from blink.dumps.titles import TitleTable, Wiki, hashes, normal_title
from blink.dumps.wikipedia import head_of
from blink.dumps.wikipedia_pages import ARTICLES, is_list_of_pages
from blink.dumps.wikitext import Paragraph, paragraphs
from blink.errors import DataError, SettingsError
from blink.files import atomic_open, disk_full_named, locked
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.title_table import TitleTable as NameTable
from blink.kb.title_table import title_table_writer
from blink.progress import Bars, no_bars
from blink.work_folders import remove_work_folder, work_folder

SAMPLES, DIGESTS = "samples.jsonl", "digests.u64"
WORK_SUFFIX = ".dump"
KEYS_FILE, ROWS_FILE = "titles.keys.npy", "titles.rows.npy"
PARAGRAPHS, MENTIONS, PAGES_READ, REPEATED = "paragraphs", "mentions", "pages", "repeated paragraphs"
MIN_CHARACTERS = 30
"""Of a paragraph that becomes training data."""
TokenIds = Callable[[Sequence[str]], list[list[int]]]
"""Token ids of texts, without special tokens."""
_ROWS_PER_BLOCK = 1 << 13
_REMEDY = "remove the folder to start again"


@dataclass(frozen=True)
class AnchorOptions:
    """Which paragraphs are written.

    Attributes:
        limit: most paragraphs; None for all.
        sample: share of pages that are read, drawn by their titles.
        tokenizer: name of the tokenizer, if rows have tokens.
    """

    limit: int | None = None
    sample: float = 1.0
    tokenizer: str = ""


@dataclass(frozen=True)
class AnchorMapper:
    """Maps pages to paragraphs.

    Attributes:
        wiki: the wiki of the dump.
        folder: with the tables of titles.
        entities: rows of the knowledge base.
        sample: see `AnchorOptions`.
        tokenizer: opens what gives token ids, in each process; None for rows without tokens.
    """

    wiki: Wiki
    folder: Path
    entities: int
    sample: float
    tokenizer: Callable[[], TokenIds] | None = None
    separator: bytes = PAGE_END
    record: str = "page"
    streams: tuple[str, ...] = (SAMPLES, DIGESTS)

    def __call__(self, text: bytes) -> Mapped:
        """Map whole pages."""
        counts, rows = Counter[str](), []
        problems: list[tuple[int, str]] = []
        for page in articles(text, counts, problems):
            if page.redirect is None and self._is_sampled(page.title) and not is_list_of_pages(page.title, page.text):
                counts[PAGES_READ] += 1
                rows += self._rows(page)
        self._add_tokens(rows)
        digests = [hashlib.blake2b(row["text"].encode(), digest_size=8).digest() for row in rows]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return Mapped({SAMPLES: lines.encode("utf-8", "replace"), DIGESTS: b"".join(digests)}, counts, problems)

    def _is_sampled(self, title: str) -> bool:
        return self.sample >= 1 or int(hashes([title])[0]) < self.sample * 2**64

    def _rows(self, page: Page) -> list[dict[str, Any]]:
        """The paragraphs of a page with links to entities."""
        rows_of, names = _opened(self.folder, self.entities)
        of_page = [p for p in paragraphs(page.text, self.wiki) if p.links and len(p.text) >= MIN_CHARACTERS]
        found = iter(rows_of([normal_title(target) for p in of_page for _, _, target in p.links]).tolist())
        linked = [[(*link[:2], row) for link, row in zip(p.links, found, strict=False) if row >= 0] for p in of_page]
        return [
            _sample(f"{page.number}-{number}", paragraph, links, names)
            for number, (paragraph, links) in enumerate(zip(of_page, linked, strict=True))
            if links
        ]

    def _add_tokens(self, rows: list[dict[str, Any]]) -> None:
        if self.tokenizer is None or not rows:
            return
        chunks = [_chunks(row["text"], row["mentions"]) for row in rows]
        texts = [row["text"][start:end] for row, of_row in zip(rows, chunks, strict=True) for start, end in of_row]
        ids = iter(_tokenizer(self.tokenizer)(texts))
        for row, of_row in zip(rows, chunks, strict=True):
            row |= _tokens(row["mentions"], of_row, list(itertools.islice(ids, len(of_row))))


def write_anchors(
    dump: Dump,
    kb: str | Path,
    out: str | Path,
    options: AnchorOptions,
    *,
    tokenizer: Callable[[], TokenIds] | None = None,
    workers: int = 1,
    bars: Bars = no_bars,
    warn: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Write paragraphs whose links are entities of a knowledge base; after a kill the same call continues.

    Args:
        dump: of Wikipedia; it is read twice, first for its titles.
        kb: folder of the knowledge base.
        out: file of JSON lines.
        options: which paragraphs.
        tokenizer: see `AnchorMapper`.
        workers: number of processes.
        bars: for the progress.
        warn: called with warnings.

    Raises:
        SettingsError: ``out`` exists.
        MismatchError: the file was begun with other settings.
        DataError: the dump is damaged or of another kind, or no link leads to an entity.
    """
    out = Path(out)
    work = out.with_name(out.name + WORK_SUFFIX)
    if out.exists() and not work.exists():
        raise SettingsError(f"{out} exists; remove it, or give another --out")
    work_folder(work, (f"titles/{JOURNAL}",))
    _opened.cache_clear()
    base = KnowledgeBase.open(kb)
    wiki = Wiki.of(head_of(dump))
    identity = {"dump": str(dump.path), "size": dump.size, "sample_of_dump": dump.sample, "streams": len(dump.streams)}
    settings = {**identity, "kb": base.digest(), **asdict(options)}
    run = functools.partial(map_dump, dump, workers=workers, bars=bars, warn=warn)
    with disk_full_named(work), locked(work):
        with Journal(work / "titles", TitleMapper(wiki).streams, settings).opened() as titles:
            run(TitleMapper(wiki), titles)
            if not titles.state.counts[ARTICLES]:
                raise no_content(dump, titles.state.problems)
            if not (work / ROWS_FILE).exists():
                _write_tables(work, base, wiki, titles, bars)
        mapper = AnchorMapper(wiki, work, len(base.catalogue), options.sample, tokenizer)
        with Journal(work / "samples", mapper.streams, settings).opened() as samples:
            run(mapper, samples)
            counts = _write_samples(samples, out, options.limit)
        if not counts[PARAGRAPHS]:
            remedy = "its entities need addresses of this Wikipedia, or none and the titles of its pages"
            raise DataError(f"no link of {dump.path} leads to an entity of {kb}; {remedy}")
        remove_work_folder(work)
    state = samples.state
    return Summary({**state.counts, **counts}, tuple(state.problems))


def _write_tables(work: Path, base: KnowledgeBase, wiki: Wiki, titles: Journal, bars: Bars) -> None:
    """The row of each title, and title and id of each row, for the worker processes."""
    with title_table_writer(work) as add, bars("reading the knowledge base", len(base.catalogue), "entity") as progress:
        for start in range(0, len(base.catalogue), _ROWS_PER_BLOCK):
            rows = range(start, min(start + _ROWS_PER_BLOCK, len(base.catalogue)))
            pairs = base.titles_and_ids(list(rows))
            add([title for title, _ in pairs], [kb_id for _, kb_id in pairs])
            progress.advance(len(rows))
    table = TitleTable.of_pages(*entity_rows(base.catalogue, wiki, titles), *redirect_hashes(titles))
    save_array(work / KEYS_FILE, table.keys)
    save_array(work / ROWS_FILE, table.of_keys)


def _write_samples(journal: Journal, out: Path, limit: int | None) -> Counter[str]:
    """The paragraphs in the order of the dump, each text once, up to a limit."""
    digests = np.fromfile(journal.path(DIGESTS), dtype="<u8")
    is_first = np.zeros(len(digests), dtype=bool)
    is_first[np.unique(digests, return_index=True)[1]] = True
    counts = Counter({REPEATED: int((~is_first).sum())})
    with journal.path(SAMPLES).open("rb") as f, atomic_open(out, "wb") as written:
        for line in itertools.islice(itertools.compress(f, is_first), limit):
            written.write(line)
            counts.update({PARAGRAPHS: 1, MENTIONS: len(json.loads(line)["mentions"])})
    return counts


@functools.lru_cache(maxsize=1)
def _opened(folder: Path, entities: int) -> tuple[Callable[[Sequence[str]], np.ndarray], NameTable]:
    """The tables of `_write_tables`, opened once in each process."""
    keys, rows = (np.asarray(map_array(folder / name, _REMEDY)) for name in (KEYS_FILE, ROWS_FILE))
    return TitleTable(keys, rows).rows, NameTable.open(folder, entities)


@functools.lru_cache(maxsize=1)
def _tokenizer(opener: Callable[[], TokenIds]) -> TokenIds:
    return opener()


def _sample(sample_id: str, paragraph: Paragraph, links: list[tuple[int, int, int]], names: NameTable) -> dict[str, Any]:
    rows = [row for _, _, row in links]
    return {
        "id": sample_id,
        "text": paragraph.text,
        "mentions": [[start, end] for start, end, _ in links],
        "label_id": rows,
        "wikidata_id": names.kb_ids(rows),
        "entity": names.titles(rows),
        "partial": True,
    }


def _chunks(text: str, mentions: list[list[int]]) -> list[tuple[int, int]]:
    """The text cut at all bounds of mentions: as the original tokenizes it, each part on its own."""
    bounds = sorted({0, len(text), *itertools.chain.from_iterable(mentions)})
    return list(itertools.pairwise(bounds))


def _tokens(mentions: list[list[int]], chunks: list[tuple[int, int]], ids: list[list[int]]) -> dict[str, Any]:
    """Token ids of a text, and the tokens of its mentions."""
    ends = list(itertools.accumulate(map(len, ids), initial=0))
    first = {start: ends[number] for number, (start, _) in enumerate(chunks)}
    last = {end: ends[number + 1] for number, (_, end) in enumerate(chunks)}
    spans = [[first[start], last[end]] for start, end in mentions]
    return {"tokenized_text_ids": list(itertools.chain.from_iterable(ids)), "tokenized_mention_idxs": spans}
