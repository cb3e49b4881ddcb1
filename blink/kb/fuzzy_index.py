"""The fuzzy index of a catalogue on disk: entities with similar titles or aliases, and measures of similarity.

Names are compared by their sets of character trigrams (Dice's coefficient, 2|A & B| / (|A| + |B|); Dice 1945, for words by
Angell et al. 1983), by their words and by their initials. All three are hashed, so that the index consists of memory-mapped
integer arrays for names of any script.

A search first makes a shortlist from the inverted lists of the query's rarest trigrams. The names that share most of these
trigrams are then scored with all trigrams.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.arrays import map_array
from blink.errors import MismatchError
from blink.kb.alias_table import REBUILD, normalise
from blink.kb.grams import N_TRIGRAMS, Characters, gram_keys

MAX_NAMES_PER_ENTITY = 32
"""Most names of an entity that are indexed; a few entities have hundreds."""
MAX_POSTINGS = 1 << 14
"""Most postings read in one search, rarest trigram first. Common trigrams have millions of postings and little information."""
SHORTLIST_SIZE = 192
"""Names of the shortlist, those that share most of the rare trigrams."""
MIN_SIMILARITY = 0.4
"""Least similarity of a match."""
MEASURES = (
    "dice",
    "words_found",
    "words_covered",
    "initials",
    "mention_coverage",
    "name_coverage",
    "word_dice",
    "rest_in_context",
)
"""Columns of `FuzzyIndex.compare_all`."""
BUCKETS = 1 << 20
"""Buckets of words whose names are counted."""
LEAST_RARITY = 0.1
"""Least rarity of a word, for catalogues of few names."""
_CONTAINED_DISCOUNT = 0.9
_BLOCK = 1 << 18
"""Words that are counted at a time."""
WORDS_WITHOUT_RARITIES = 1 << 20
"""Most words whose rarities are not stored, since computing them is quick."""
_OPTIONAL = ("keys", "rarities")


@dataclass(frozen=True)
class _HashedName:
    """A name as sets of hashes: trigrams (uint16) and words (uint32), ascending; and its initials, 0 for one word."""

    trigrams: np.ndarray
    words: np.ndarray
    initials: int


@dataclass(frozen=True)
class FuzzyIndex:
    """The names of a catalogue by trigrams, words and initials.

    Attributes:
        first: first name of each row, and the number of names. *Shape:* (entities + 1,), int64.
        rows: row of each name. *Shape:* (names,), int32.
        gram_at: first trigram of each name, and the end. *Shape:* (names + 1,), int64.
        grams: distinct hashed trigrams of each name. *Shape:* (trigrams,), uint16.
        keys: hashed grams of variable length (see `blink.kb.grams`), ascending. *Shape:* (grams,), uint32. None in knowledge
            bases of format 5, whose lists are those of all trigrams.
        posting_at: first posting of each gram, and the end. *Shape:* (grams + 1,), int32 or int64.
        postings: names that have the gram. *Shape:* (postings,), int32.
        word_at: first word of each name, and the end. *Shape:* (names + 1,), int64.
        words: distinct hashed words of each name. *Shape:* (words,), uint32.
        initials: hash of each name's initials; 0 for names of one word. *Shape:* (names,), uint32.
        by_initials: names in the order of their initials. *Shape:* (names,), int32.
        rarities: of the words of each bucket, see `rarity`. *Shape:* (BUCKETS,), float32. None if there are few words.
    """

    first: np.ndarray
    rows: np.ndarray
    gram_at: np.ndarray
    grams: np.ndarray
    keys: np.ndarray | None
    posting_at: np.ndarray
    postings: np.ndarray
    word_at: np.ndarray
    words: np.ndarray
    initials: np.ndarray
    by_initials: np.ndarray
    rarities: np.ndarray | None

    @classmethod
    def open(cls, folder: str | Path) -> FuzzyIndex:
        """Map the index of a knowledge base.

        Raises:
            MissingFileError: a file of the index is missing.
            MismatchError: a file is damaged.
        """
        # As plain arrays, since every slice of a memmap costs an extra Python call.
        paths = {f.name: Path(folder) / file_of(f.name) for f in fields(cls)}
        optional = {name for name in _OPTIONAL if not paths[name].is_file() and paths["postings"].is_file()}
        arrays: dict[str, Any] = {
            name: None if name in optional else np.asarray(map_array(path, REBUILD)) for name, path in paths.items()
        }
        index = cls(**arrays)
        if len(index.posting_at) != (N_TRIGRAMS if index.keys is None else len(index.keys)) + 1:
            raise MismatchError(f"the grams of the fuzzy index in {folder} are missing or damaged; {REBUILD}")
        return index

    def similar(self, text: str, limit: int = 8) -> list[int]:
        """Rows of at most ``limit`` entities with a similar name, most similar first; up to half of them by initials."""
        rows = [*self._rows_by_initials(text, limit // 2), *self._rows_by_trigrams(text)]
        return list(dict.fromkeys(rows))[:limit]

    def compare(self, text: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """`compare_all` of one mention: *Shape:* (n, measures)."""
        measured: np.ndarray = self.compare_all([text], np.asarray(rows)[None])[0]
        return measured

    def compare_all(self, mentions: Sequence[str], rows: np.ndarray, context: str = "") -> np.ndarray:
        """Similarity of mentions to the names of entities: for each measure the maximum over an entity's names.

        The rarity of a word is the logarithm of the inverse share of names that have it.

        Args:
            mentions: strings.
            rows: candidates of each; rows below 0 get zeros. *Shape:* (m, n).
            context: the text around the mentions.

        Returns:
            The columns `MEASURES`: Dice's coefficient of trigrams, share of the mention's words that the name has, share of
            the name's words that the mention has, whether the mention is the name's initials; the two shares of words weighted
            by rarity, Dice's coefficient of words weighted by rarity; and, where all words of the name that the mention lacks
            are in the context, their rarity. *Shape:* (m, n, measures), float32; all but the last in [0, 1].
        """
        result = np.zeros((rows.size, len(MEASURES)), dtype=np.float32)
        candidates = np.flatnonzero(rows >= 0)
        flat = rows.reshape(-1)[candidates]
        names, owner = _expand(self.first[flat], self.first[flat + 1])
        if not len(names):
            return result.reshape(*rows.shape, -1)
        candidate = candidates[owner]
        mention = candidate // rows.shape[1]
        queries = [_hashed(text) for text in mentions]
        n_trigrams, n_words = (np.array([len(getattr(q, of)) for q in queries]) for of in ("trigrams", "words"))

        is_trigram = np.zeros((len(queries), N_TRIGRAMS), dtype=np.bool_)
        is_trigram[np.repeat(np.arange(len(queries)), n_trigrams), np.concatenate([q.trigrams for q in queries])] = True
        positions, name = _expand(self.gram_at[names], self.gram_at[names + 1])
        has = is_trigram[mention[name], self.grams[positions]]
        shared_trigrams = np.bincount(name[has], minlength=len(names))

        positions, name = _expand(self.word_at[names], self.word_at[names + 1])
        words = self.words[positions]
        rarity = self.rarity(words)
        known = np.concatenate([q.words for q in queries])
        keys = np.repeat(np.arange(len(queries), dtype=np.uint64), n_words) << np.uint64(32) | known  # ascending
        shared = _is_in(mention[name].astype(np.uint64) << np.uint64(32) | words, keys)
        shared_words = np.bincount(name[shared], minlength=len(names))
        weight = np.bincount(name, rarity, len(names))
        shared_weight = np.bincount(name[shared], rarity[shared], len(names))
        mention_weight = np.bincount(np.repeat(np.arange(len(queries)), n_words), self.rarity(known), len(queries))[mention]
        unexplained = ~shared & ~_is_in(words, _word_hashes(normalise(context).split()))
        in_context = (np.bincount(name[unexplained], minlength=len(names)) == 0) & (shared_words > 0)

        sizes = self.gram_at[names + 1] - self.gram_at[names], self.word_at[names + 1] - self.word_at[names]
        is_initials = self.initials[names] == np.array([_initials_hash(text) for text in mentions], dtype=np.int64)[mention]
        values = np.stack(
            [
                2 * shared_trigrams / np.maximum(1, sizes[0] + n_trigrams[mention]),
                shared_words / np.maximum(1, n_words[mention]),
                shared_words / np.maximum(1, sizes[1]),
                is_initials & (n_words > 0)[mention],
                shared_weight / np.maximum(LEAST_RARITY, mention_weight),
                shared_weight / np.maximum(LEAST_RARITY, weight),
                2 * shared_weight / np.maximum(LEAST_RARITY, mention_weight + weight),
                np.where(in_context, weight - shared_weight, 0),
            ],
            axis=1,
        ).astype(np.float32)
        values[n_words[mention] == 0] = 0
        # The names of a candidate are consecutive.
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        result[candidate[starts]] = np.maximum.reduceat(values, starts)
        return result.reshape(*rows.shape, -1)

    def rarity(self, words: np.ndarray) -> np.ndarray:
        """log(names / names with the word) of hashed words; words that share a bucket count together. *Shape:* (n,)."""
        rarity: np.ndarray = self._rarities[words & np.uint32(BUCKETS - 1)]
        return rarity

    @cached_property
    def _rarities(self) -> np.ndarray:
        if self.rarities is not None:
            return self.rarities
        counts = np.zeros(BUCKETS, dtype=np.int64)
        for start in range(0, len(self.words), _BLOCK):  # in blocks, since bincount copies its input
            counts += np.bincount(self.words[start : start + _BLOCK] & np.uint32(BUCKETS - 1), minlength=BUCKETS)
        return rarities(counts, len(self.rows))

    def _rows_by_initials(self, text: str, limit: int) -> list[int]:
        # Not numpy's searchsorted, which copies its sorter.
        query, of_name = _initials_hash(text), self.initials.__getitem__
        begin = bisect_left(self.by_initials, query, key=of_name)
        end = bisect_right(self.by_initials, query, lo=begin, key=of_name)
        most = limit * MAX_NAMES_PER_ENTITY  # millions of names may have two letters as initials
        return list(dict.fromkeys(self.rows[self.by_initials[begin : min(end, begin + most)]].tolist()))[:limit]

    def _rows_by_trigrams(self, text: str) -> list[int]:
        query = _hashed(text).trigrams
        if not len(query):
            return []
        names = self._shortlist(text)
        begin, end = self.gram_at[names], self.gram_at[names + 1]
        positions, owner = _expand(begin, end)
        is_shared = np.zeros(N_TRIGRAMS, dtype=np.bool_)
        is_shared[query] = True
        shared = np.bincount(owner[is_shared[self.grams[positions]]], minlength=len(names))
        n_trigrams = end - begin
        dice = 2 * shared / (n_trigrams + len(query))
        # Dice is low for names longer than the query, although people are often mentioned by their family name alone.
        # For a longer name the similarity is therefore at least the mean of Dice and the share of the query that it contains.
        contained = _CONTAINED_DISCOUNT * shared / len(query)
        similarity = np.where(n_trigrams > len(query), np.maximum(dice, (dice + contained) / 2), dice)
        matches = np.flatnonzero(similarity >= MIN_SIMILARITY)
        matches = matches[np.lexsort((self.rows[names[matches]], -similarity[matches]))]
        rows: list[int] = self.rows[names[matches]].tolist()
        return rows

    def _shortlist(self, text: str) -> np.ndarray:
        """Names that share the most rare grams with a query, ascending. *Shape:* (names,), int."""
        lists = self._lists(text)
        begin, end = self.posting_at[lists].astype(np.int64), self.posting_at[lists + 1].astype(np.int64)
        rarest_first = np.argsort(end - begin, kind="stable")
        # All lists within the limit, but at least one.
        n_lists = max(1, int(np.searchsorted(np.cumsum((end - begin)[rarest_first]), MAX_POSTINGS)))
        bounds = zip(begin[rarest_first[:n_lists]].tolist(), end[rarest_first[:n_lists]].tolist(), strict=True)
        postings = np.concatenate([np.empty(0, np.int32), *(self.postings[b:e] for b, e in bounds)])
        postings.sort()
        starts = np.flatnonzero(np.diff(postings, prepend=-1))
        names, counts = postings[starts], np.diff(starts, append=len(postings))
        if len(names) > SHORTLIST_SIZE:
            # The length normalization of cosine similarity, without which long names always come first.
            weight = counts / np.sqrt(self.gram_at[names + 1] - self.gram_at[names])
            names = names[np.sort(np.argpartition(-weight, SHORTLIST_SIZE)[:SHORTLIST_SIZE])]
        return names

    def _lists(self, text: str) -> np.ndarray:
        """Lists of names of the query's grams. *Shape:* (n,), int64."""
        if self.keys is None:
            return _hashed(text).trigrams.astype(np.int64)
        keys = gram_keys(Characters.of([normalise(text)]))
        lists = np.searchsorted(self.keys, keys).clip(max=max(0, len(self.keys) - 1))
        is_list = self.keys[lists] == keys if len(self.keys) else np.zeros(keys.shape, np.bool_)
        shortest = is_list.argmax(axis=0), np.arange(keys.shape[1])
        return np.unique(lists[shortest][is_list[shortest]])


def rarities(counts: np.ndarray, names: int) -> np.ndarray:
    """log(names / names with a word) of each bucket of words. *Shape:* (BUCKETS,), int to float32."""
    values = np.full(len(counts), np.log(max(1, names)))
    is_word = counts > 0
    values[is_word] = np.log(names / counts[is_word])
    return values.clip(LEAST_RARITY).astype(np.float32)


def file_of(array_name: str) -> str:
    """File that holds an array of `FuzzyIndex`."""
    return f"spelling.{array_name}.npy"


FILES = tuple(file_of(field.name) for field in fields(FuzzyIndex))


@lru_cache(maxsize=1 << 12)
def _hashed(text: str) -> _HashedName:
    form = normalise(text)
    words = form.split()
    padded = f" {form} "  # so that trigrams include the start and end of a name
    trigrams = {zlib.crc32(padded[i : i + 3].encode()) % N_TRIGRAMS for i in range(len(padded) - 2)} if form else set()
    letters = "".join(w[0] for w in words if len(words) > 1)
    return _HashedName(
        np.array(sorted(trigrams), dtype=np.uint16),
        _word_hashes(words),
        _hash(letters) if len(letters) > 1 else 0,
    )


def _word_hashes(words: Iterable[str]) -> np.ndarray:
    """Hashes of words, ascending, without repetition. *Shape:* (hashes,), uint32."""
    return np.array(sorted({_hash(word) for word in words}), dtype=np.uint32)


def _initials_hash(text: str) -> int:
    """Hash of a mention as initials; 1, the hash of no name, if it cannot be initials."""
    letters = text.strip().casefold().replace(".", "")
    return _hash(letters) if 2 <= len(letters) <= 6 and letters.isalpha() else 1


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def _bounds(sizes: np.ndarray) -> np.ndarray:
    """Start of each of n consecutive ranges, and the end of the last. *Shape:* (n,) gives (n + 1,), int64."""
    bounds = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return bounds


def _expand(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of several ranges, and the range of each.

    Args:
        begin: first number of each range. *Shape:* (n,), int.
        end: number after its last. *Shape:* (n,), int.

    Returns:
        the numbers and the index of their range. *Shape:* (numbers,), int64, each.
    """
    sizes = end - begin
    owner = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) - starts[owner] + begin[owner], owner


def _is_in(items: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Whether each item is in an ascending array. *Shape:* (items,), bool."""
    if not len(ascending):
        return np.zeros(len(items), dtype=np.bool_)
    is_in: np.ndarray = ascending[np.searchsorted(ascending, items).clip(max=len(ascending) - 1)] == items
    return is_in
