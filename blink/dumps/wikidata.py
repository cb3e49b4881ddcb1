"""Wikidata's JSON dump to a catalogue with types, ids and popularity, and to the triples between its entities."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from blink.dumps.journal import Journal
from blink.dumps.label_table import LabelTable, contains, distinct
from blink.dumps.mapping import no_content
from blink.dumps.popularity_rank import WIKIDATA_ITEMS, popularity_by_count
from blink.dumps.properties import Properties
from blink.dumps.run import CATALOGUE, DumpJob
from blink.dumps.segments import Dump
from blink.dumps.wikidata_items import (
    EXAMINED,
    ITEMS,
    LABEL_IDS,
    LABELS,
    NEEDED,
    PROPERTY_LABELS,
    SITELINKS,
    SUBCLASSES,
    ItemMapper,
    require_orjson,
)
from blink.errors import DataError, SettingsError
from blink.files import atomic_open
from blink.progress import Bars, Progress

TRIPLES, RELATIONS = "triples.tsv", "relations.tsv"
NOT_ENTITIES = {
    4167410: "disambiguation page",
    4167836: "category",
    11266439: "template",
    13406463: "list article",
    11753321: "navigational template",
    17633526: "Wikinews article",
    14204246: "project page",
    17442446: "internal item",
    15184295: "module",
    4663903: "portal",
}
"""Classes of items that are pages of Wikimedia rather than things in the world; left out, with their subclasses."""
DEFAULT_SITELINKS = 5
THIN_WORDS = 8
"""A description of fewer words is extended by facts."""
MAX_VALUES, MAX_FACTS = 3, 4
"""Values of a relation, and relations, of which a description is extended at most."""
SAFE_IN_TITLES = "!$()*,-./:;@_~'"
"""Characters that addresses of Wikipedia keep as they are."""
WRONG_TYPE, NO_TEXT, ENTITIES, N_TRIPLES = "left out by type", "without description or facts", "entities", "triples"
_BLOCK_ITEMS = 1000


@dataclass(frozen=True)
class WikidataOptions:
    """What is kept of the dump.

    Attributes:
        languages: of labels and descriptions, best first.
        min_sitelinks: fewest pages of an entity, in all projects.
        types: numbers of classes; only their instances, and those of their subclasses, are kept. Empty for all.
        without_types: classes whose instances, and those of their subclasses, are left out.
        properties: properties that become triples; empty for the default ones.
    """

    languages: tuple[str, ...] = ("en", "mul")
    min_sitelinks: int = DEFAULT_SITELINKS
    types: tuple[int, ...] = ()
    without_types: tuple[int, ...] = tuple(NOT_ENTITIES)
    properties: tuple[str, ...] = ()


def wikidata_job(dump: Dump, out: str | Path, options: WikidataOptions) -> DumpJob:
    """The job that makes a catalogue of a dump."""
    require_orjson()
    properties = Properties.of(options.properties)
    mapper = ItemMapper(options.languages, options.min_sitelinks, properties)
    finish = functools.partial(_finish, dump, options, properties)
    return DumpJob(dump, Path(out), mapper, {"from": "wikidata", **asdict(options)}, finish)


def class_numbers(names: str) -> tuple[int, ...]:
    """``Q5,Q515`` as numbers.

    Raises:
        SettingsError: one is no id of an item.
    """
    ids = [name.strip() for name in names.split(",") if name.strip()]
    wrong = next((name for name in ids if name[:1] != "Q" or not name[1:].isdecimal() or len(name) > 12), None)
    if wrong is not None:
        raise SettingsError(f"{wrong!r} is no id of a class; give ids of Wikidata such as Q5,Q515")
    return tuple(int(name[1:]) for name in ids)


def _finish(
    dump: Dump, options: WikidataOptions, properties: Properties, journal: Journal, out: Path, bars: Bars
) -> Counter[str]:
    """Write the catalogue and the triples of the items that the pass found."""
    counts = journal.state.counts
    if not counts[EXAMINED]:
        raise no_content(dump, journal.state.problems)
    with bars("selecting entities", None, "item") as progress:
        selected, counts_made = _selected(journal, options, progress)
    if not len(selected):
        why = ", ".join(f"{n:,} {name}" for name, n in {**counts, **counts_made}.items() if not name.startswith(SITELINKS))
        raise DataError(f"no item of {dump.path} is kept ({why}); lower --min-sitelinks, or check --language and --types")
    writer = _Writer(options, properties, journal, selected)
    with (
        atomic_open(out / CATALOGUE, "wb") as catalogue,
        atomic_open(out / TRIPLES, "wb") as triples,
        bars("writing the catalogue", len(selected), "entity") as progress,
    ):
        for block in _item_blocks(journal):
            items = list(itertools.compress(block, contains(selected, _numbers(block))))
            catalogue.write(writer.lines(items))
            of_block = writer.triples(items)
            triples.write(of_block)
            counts_made[N_TRIPLES] += of_block.count(b"\n")
            progress.advance(len(items))
    with atomic_open(out / RELATIONS) as f:
        f.writelines(f"{name}\t{label}\n" for name, label in _relation_labels(properties, journal))
    counts_made[ENTITIES] = len(selected)
    return counts_made


def _selected(journal: Journal, options: WikidataOptions, progress: Progress) -> tuple[np.ndarray, Counter[str]]:
    """Numbers of the entities, ascending, and counts of items that are left out. *Shape:* (entities,), uint64."""
    pairs = np.fromfile(journal.path(SUBCLASSES), dtype="<u8").reshape(-1, 2)
    required, refused = set(_with_subclasses(options.types, pairs)), set(_with_subclasses(options.without_types, pairs))
    left_out, numbers = Counter[str](), []
    for block in _item_blocks(journal):
        of_group = []
        for item in block:
            types = item["types"]
            if not refused.isdisjoint(types) or (options.types and required.isdisjoint(types)):
                left_out[WRONG_TYPE] += 1
            elif not (item["text"] or item["facts"] or item["years"] or types):
                left_out[NO_TEXT] += 1
            else:
                of_group.append(item["q"])
        numbers.append(np.array(of_group, dtype=np.uint64))
        progress.advance(len(block))
    return np.unique(np.concatenate(numbers)) if numbers else np.empty(0, np.uint64), left_out


def _with_subclasses(classes: Sequence[int], pairs: np.ndarray) -> list[int]:
    """Classes and all their subclasses; ``pairs`` are a class and one above it. *Shape of pairs:* (n, 2), uint64."""
    known = newest = np.unique(np.array(classes, dtype=np.uint64))
    while len(newest):
        below = np.unique(pairs[contains(newest, pairs[:, 1]), 0])
        newest = below[~contains(known, below)]
        known = np.union1d(known, newest)
    return [int(number) for number in known]


class _Writer:
    """Lines of the catalogue and of triples.

    Args:
        options: what is kept.
        properties: what was read of claims.
        journal: the streams of the pass.
        kept: numbers of the entities, ascending. *Shape:* (entities,), uint64.
    """

    def __init__(self, options: WikidataOptions, properties: Properties, journal: Journal, kept: np.ndarray) -> None:
        self._options, self._properties, self._kept = options, properties, kept
        self._names = properties.labels | dict(_relation_labels(properties, journal))
        self._labels = LabelTable(journal.path(LABEL_IDS), journal.path(LABELS), distinct(journal.path(NEEDED)))
        counts = journal.state.counts
        n_of_sitelinks = {int(name.removeprefix(SITELINKS)): n for name, n in counts.items() if name.startswith(SITELINKS)}
        self._popularity = popularity_by_count(n_of_sitelinks, WIKIDATA_ITEMS)
        self._dumps = require_orjson().dumps

    def lines(self, items: list[dict[str, Any]]) -> bytes:
        """Lines of the catalogue."""
        in_text = set(self._properties.in_text)
        targets = [n for item in items for n in (*item["types"], *(n for name, n in item["facts"] if name in in_text))]
        labels = self._labels.labels(targets)
        return b"".join(self._dumps(self._entity(item, labels)) + b"\n" for item in items)

    def triples(self, items: list[dict[str, Any]]) -> bytes:
        """Triples between entities: head, relation, tail."""
        facts = [(item["q"], name, target) for item in items for name, target in item["facts"]]
        is_kept = contains(self._kept, np.array([target for _, _, target in facts], dtype=np.uint64))
        return "".join(
            f"Q{q}\t{name}\tQ{target}\n" for (q, name, target), is_there in zip(facts, is_kept, strict=True) if is_there
        ).encode()

    def _entity(self, item: dict[str, Any], labels: Mapping[int, str]) -> dict[str, Any]:
        title, page = " ".join(item["title"].split()), item["page"]
        types = list(dict.fromkeys(labels[n] for n in item["types"] if n in labels))
        names = dict.fromkeys(" ".join(name.split()) for name in (page, *item["aliases"]))
        address = (
            f"https://{self._options.languages[0]}.wikipedia.org/wiki/{quote(page.replace(' ', '_'), safe=SAFE_IN_TITLES)}"
            if page
            else ""
        )
        entity = {
            "title": title,
            "text": self._text(item, types, labels),
            "kb_idx": f"Q{item['q']}",
            "idx": address,
            "aliases": [name for name in names if name and name != title],
            "types": types,
            "ids": item["ids"],
            "sitelinks": item["sitelinks"],
            "popularity": self._popularity[item["sitelinks"]],
        }
        return {key: value for key, value in entity.items() if value not in ("", [], {})}

    def _text(self, item: dict[str, Any], types: list[str], labels: Mapping[int, str]) -> str:
        """The description; if it is short, also facts, such as ``Occupation: physicist, chemist. Born: 1867.``"""
        description = " ".join(item["text"].split())
        if len(description.split()) >= THIN_WORDS:
            return description
        sentences = [description] if description else [", ".join(types[:MAX_VALUES])]
        of_relation: dict[str, list[str]] = {}
        for name, target in item["facts"]:
            if target in labels:
                of_relation.setdefault(name, []).append(labels[target])
        of_relation |= {name: [year] for name, year in item["years"].items()}
        names = [name for name in self._properties.in_text if name in of_relation][:MAX_FACTS]
        sentences += [f"{self._names[name]}: {', '.join(of_relation[name][:MAX_VALUES])}" for name in names]
        return " ".join(map(_sentence, filter(None, sentences)))


def in_address(title: str) -> str:
    """The title of a page as it stands in its address."""
    return quote(title.replace(" ", "_"), safe=SAFE_IN_TITLES)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _relation_labels(properties: Properties, journal: Journal) -> Iterator[tuple[str, str]]:
    """Relations and their labels: those of the dump, else those of the table, else the id."""
    rows = journal.path(PROPERTY_LABELS).read_text(encoding="utf-8").splitlines()
    labels = properties.labels | dict(row.split("\t", 1) for row in rows)
    yield from ((name, labels.get(name, name)) for name in properties.relations)


def _item_blocks(journal: Journal) -> Iterator[list[dict[str, Any]]]:
    """The items that the pass found, in blocks."""
    loads = require_orjson().loads
    with journal.path(ITEMS).open("rb") as f:
        while lines := list(itertools.islice(f, _BLOCK_ITEMS)):
            yield [loads(line) for line in lines]


def _numbers(items: list[dict[str, Any]]) -> np.ndarray:
    return np.array([item["q"] for item in items], dtype=np.uint64)
