"""How names are spelt, on disk: finds entities whose name is nearly the given one, and measures how near each is.

A name is compared by its letter trigrams (Dice's coefficient), its words and its initials. All three are hashed, so that
the table is a few arrays of integers which are mapped from disk, whatever the script of the names.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from blink.data.arrays import map_array, save_array
from blink.data.records import Entity
from blink.kb.forms import REBUILD, normalise, without_brackets

GRAMS = 1 << 16
"""Trigrams are hashed to so many numbers."""
MOST_FORMS = 32
"""Names of an entity that are kept; a few entities have hundreds."""
POSTINGS = 1 << 14
"""Names that are looked at in one search: of a common trigram's many, none is looked at once the rare ones gave this many."""
SHORTLIST = 192
"""Names, by their share of rare trigrams, that are measured in full."""
_BLOCK = 1 << 18
"""Trigrams that are sorted at a time."""
NEAR = 0.4
"""Similarity below which a name is not found."""
MEASURES = ("dice", "words_found", "words_covered", "initials")


@dataclass(frozen=True)
class _Form:
    grams: np.ndarray
    words: np.ndarray
    initials: int


@dataclass(frozen=True)
class SpellingIndex:
    """The names of a catalogue, cut up.

    Attributes:
        first: first name of each row, and the number of names. *Shape:* (entities + 1,), int64.
        rows: row of each name. *Shape:* (names,), int32.
        gram_at: first trigram of each name, and the end. *Shape:* (names + 1,), int64.
        grams: hashed trigrams of the names, each once. *Shape:* (trigrams,), uint16.
        posting_at: first posting of each trigram, and the end. *Shape:* (GRAMS + 1,), int64.
        postings: names that have the trigram. *Shape:* (trigrams,), int32.
        word_at: first word of each name, and the end. *Shape:* (names + 1,), int64.
        words: hashed words of the names, each once. *Shape:* (words,), uint32.
        initials: hash of each name's initials; 0 for names of one word. *Shape:* (names,), uint32.
        by_initials: names in the order of their initials. *Shape:* (names,), int32.
    """

    first: np.ndarray
    rows: np.ndarray
    gram_at: np.ndarray
    grams: np.ndarray
    posting_at: np.ndarray
    postings: np.ndarray
    word_at: np.ndarray
    words: np.ndarray
    initials: np.ndarray
    by_initials: np.ndarray

    @classmethod
    def open(cls, folder: str | Path) -> SpellingIndex:
        """Map the table of a knowledge base.

        Raises:
            MissingFileError: its files are not there.
            MismatchError: they are damaged.
        """
        # As plain arrays: every slice of a memmap would cost a Python call more.
        return cls(**{f.name: np.asarray(map_array(Path(folder) / file_of(f.name), REBUILD)) for f in fields(cls)})

    def similar(self, text: str, most: int = 8) -> list[int]:
        """Rows of entities with a name that looks like ``text`` or holds all its words, nearest first."""
        found = [*self._with_initials(text)[: most // 2], *self._with_trigrams(_cut(text).grams)]
        return list(dict.fromkeys(found))[:most]

    def compare(self, text: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """How near ``text`` is to the names of entities: of each measure the best among an entity's names.

        Args:
            text: a mention.
            rows: entities; rows below 0 get zeros. *Shape:* (n,).

        Returns:
            Dice's coefficient of trigrams, share of the mention's words that the name has, share of the name's words that
            the mention has, and whether the mention is the name's initials. *Shape:* (n, 4), float32, in [0, 1].
        """
        rows = np.asarray(rows)
        asked, measured = _cut(text), np.zeros((len(rows), len(MEASURES)), dtype=np.float32)
        real = np.flatnonzero(rows >= 0)
        begin, end = self.first[rows[real]], self.first[rows[real] + 1]
        forms, owner = _ranges(begin, end)
        if not len(forms) or not len(asked.words):
            return measured
        gram_hits, gram_sizes = _hits(self.gram_at, self.grams, forms, asked.grams)
        word_hits, word_sizes = _hits(self.word_at, self.words, forms, asked.words)
        values = np.stack(
            [
                2 * gram_hits / np.maximum(1, gram_sizes + len(asked.grams)),
                word_hits / len(asked.words),
                word_hits / np.maximum(1, word_sizes),
                self.initials[forms] == _initials_asked(text),
            ],
            axis=1,
        ).astype(np.float32)
        np.maximum.at(measured, real[owner], values)
        return measured

    def _with_initials(self, text: str) -> list[int]:
        asked = np.uint32(_initials_asked(text))
        first, past = (
            int(np.searchsorted(self.initials, asked, side=side, sorter=self.by_initials)) for side in ("left", "right")
        )
        return list(dict.fromkeys(self.rows[self.by_initials[first:past]].tolist()))

    def _with_trigrams(self, asked: np.ndarray) -> list[int]:
        if not len(asked):
            return []
        forms, shared = self._sharing(asked)
        sizes = self.gram_at[forms + 1] - self.gram_at[forms]
        dice = 2 * shared / (sizes + len(asked))
        # A part of a name, such as a family name, shares all its trigrams with it but those at the ends.
        inside = 0.9 * shared / len(asked)
        nearness = np.where(sizes > len(asked), np.maximum(dice, (dice + inside) / 2), dice)
        near = np.flatnonzero(nearness >= NEAR)
        near = near[np.lexsort((self.rows[forms[near]], -nearness[near]))]
        rows: list[int] = self.rows[forms[near]].tolist()
        return rows

    def _sharing(self, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Names that share the most trigrams, with how many."""
        begin, end = self.posting_at[grams.astype(np.int64)], self.posting_at[grams.astype(np.int64) + 1]
        rare_first = np.argsort(end - begin, kind="stable")
        kept = rare_first[: max(1, int(np.searchsorted(np.cumsum((end - begin)[rare_first]), POSTINGS)))]
        places, _ = _ranges(begin[kept], end[kept])
        forms, counts = np.unique(self.postings[places], return_counts=True)
        if len(forms) > SHORTLIST:
            share = counts / np.sqrt(self.gram_at[forms + 1] - self.gram_at[forms])
            forms = forms[np.sort(np.argpartition(-share, SHORTLIST)[:SHORTLIST])]
        return forms, _hits(self.gram_at, self.grams, forms, grams)[0]


def build_spellings(entities: Iterable[Entity], count: int, folder: str | Path) -> int:
    """Write the table of all names into ``folder``.

    Args:
        entities: by ascending row; rows that are left out have no names.
        count: rows of the catalogue.
        folder: where the files go.

    Returns:
        number of names.
    """
    names = _Gathered()
    for entity in entities:
        for name in _names(entity):
            names.add(entity.row, _cut(name))
    rows, initials = np.frombuffer(names.rows, np.int32), np.frombuffer(names.initials, np.uint32)
    grams, gram_at = np.frombuffer(names.grams, np.uint16), _ends(np.frombuffer(names.gram_sizes, np.uint32))
    posting_at, postings = _postings(grams, gram_at)
    table = SpellingIndex(
        first=_ends(np.bincount(rows, minlength=count)),
        rows=rows,
        gram_at=gram_at,
        grams=grams,
        posting_at=posting_at,
        postings=postings,
        word_at=_ends(np.frombuffer(names.word_sizes, np.uint32)),
        words=np.frombuffer(names.words, np.uint32),
        initials=initials,
        by_initials=np.argsort(initials, kind="stable").astype(np.int32),
    )
    for field in fields(SpellingIndex):
        save_array(Path(folder) / file_of(field.name), getattr(table, field.name))
    return len(rows)


class _Gathered:
    """Names as they come, in columns of bare numbers: an object for each of millions of names would take gigabytes."""

    def __init__(self) -> None:
        self.rows, self.initials = array("i"), array("I")
        self.grams, self.gram_sizes = array("H"), array("I")
        self.words, self.word_sizes = array("I"), array("I")

    def add(self, row: int, form: _Form) -> None:
        """Append a name; one without words is none."""
        if not len(form.words):
            return
        self.rows.append(row)
        self.initials.append(form.initials)
        self.gram_sizes.append(len(form.grams))
        self.grams.frombytes(form.grams.tobytes())
        self.word_sizes.append(len(form.words))
        self.words.frombytes(form.words.tobytes())


def _postings(grams: np.ndarray, gram_at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn the trigrams of names into the names of trigrams: see ``posting_at`` and ``postings`` of `SpellingIndex`.

    Sorted in blocks, each of which goes on where the one before ended: sorting all at once takes four times the memory.
    """
    blocks = range(0, len(grams), _BLOCK)
    sizes = np.zeros(GRAMS, dtype=np.int64)
    for at in blocks:
        sizes += np.bincount(grams[at : at + _BLOCK], minlength=GRAMS)
    posting_at = _ends(sizes)
    postings, free = np.empty(len(grams), dtype=np.int32), posting_at[:-1].copy()
    for at in blocks:
        block = grams[at : at + _BLOCK]
        order, counts = np.argsort(block, kind="stable"), np.bincount(block, minlength=GRAMS)
        of_gram = block[order]
        ahead = np.arange(len(block)) - (np.cumsum(counts) - counts)[of_gram]  # in the block, of the same trigram
        postings[free[of_gram] + ahead] = np.searchsorted(gram_at, at + order, side="right") - 1
        free += counts
    return posting_at, postings


def file_of(array: str) -> str:
    """File that holds an array of `SpellingIndex`."""
    return f"spelling.{array}.npy"


FILES = tuple(file_of(field.name) for field in fields(SpellingIndex))


def _names(entity: Entity) -> list[str]:
    return list(dict.fromkeys((entity.title, without_brackets(entity.title), *entity.aliases)))[:MOST_FORMS]


@lru_cache(maxsize=1 << 12)
def _cut(text: str) -> _Form:
    form = normalise(text)
    words = form.split()
    padded = f" {form} "
    grams = {zlib.crc32(padded[i : i + 3].encode()) % GRAMS for i in range(len(padded) - 2)} if form else set()
    letters = "".join(w[0] for w in words if len(words) > 1)
    return _Form(
        np.array(sorted(grams), dtype=np.uint16),
        np.array(sorted({_hash(w) for w in words}), dtype=np.uint32),
        _hash(letters) if len(letters) > 1 else 0,
    )


def _initials_asked(text: str) -> int:
    """Hash of a mention as initials; one that no name has if it cannot be."""
    letters = text.strip().casefold().replace(".", "")
    return _hash(letters) if 2 <= len(letters) <= 6 and letters.isalpha() else 1


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def _ends(sizes: np.ndarray) -> np.ndarray:
    """Where each part begins, and where the last one ends."""
    ends = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=ends[1:])
    return ends


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All places of several ranges, and which range each is of."""
    sizes = end - begin
    owner = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) - starts[owner] + begin[owner], owner


def _hits(at: np.ndarray, items: np.ndarray, forms: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many items of each name are among those asked for, and how many items it has."""
    begin, end = at[forms], at[forms + 1]
    places, owner = _ranges(begin, end)
    found = np.isin(items[places], asked)
    return np.bincount(owner[found], minlength=len(forms)), end - begin
