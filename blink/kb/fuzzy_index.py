"""The fuzzy index of a catalogue on disk: entities with similar titles or aliases, and measures of similarity.

Names are compared by their sets of character trigrams (Dice's coefficient, 2|A & B| / (|A| + |B|); Dice 1945, for words by
Angell et al. 1983), by their words and by their initials. All three are hashed, so that the index consists of memory-mapped
integer arrays for names of any script.

A search first makes a shortlist from the inverted lists of the query's rarest trigrams. The names that share most of these
trigrams are then scored with all trigrams.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.arrays import map_array
from blink.data.ranges import expand
from blink.errors import MismatchError
from blink.kb.alias_table import REBUILD, normalise
from blink.kb.grams import N_TRIGRAMS, Characters, gram_keys
from blink.kb.hashed_names import hashed, initials_hash
from blink.kb.index.selector import RowSelector
from blink.kb.name_similarity import LEAST_RARITY, compare_pairs

MAX_NAMES_PER_ENTITY = 32
"""Most names of an entity that are indexed; a few entities have hundreds."""
MAX_POSTINGS = 1 << 14
"""Most postings read in one search, rarest trigram first. Common trigrams have millions of postings and little information."""
SHORTLIST_SIZE = 192
"""Names of the shortlist, those that share most of the rare trigrams."""
MOST_SIMILAR = 8
"""Entities of similar names that are candidates of a mention."""
MIN_SIMILARITY = 0.4
"""Least similarity of a match."""
BUCKETS = 1 << 20
"""Buckets of words whose names are counted."""
_CONTAINED_DISCOUNT = 0.9
_BLOCK = 1 << 18
"""Words that are counted at a time."""
WORDS_WITHOUT_RARITIES = 1 << 20
"""Most words whose rarities are not stored, since computing them is quick."""
_OPTIONAL = ("keys", "rarities")


class SimilarNames(ABC):
    """Looks up entities with similar names, and compares names."""

    def similar(self, text: str, limit: int = MOST_SIMILAR, selector: RowSelector | None = None) -> list[int]:
        """Rows of at most ``limit`` entities with a similar name, most similar first; up to half of them by initials.

        Args:
            text: any string.
            limit: most rows.
            selector: rows that may be found; None for all.
        """
        by_trigrams, _ = self.by_trigrams(text, selector)
        return list(dict.fromkeys([*self.by_initials_of(text, limit // 2, selector), *by_trigrams]))[:limit]

    def compare(self, text: str, rows: Sequence[int] | np.ndarray, context: str = "") -> np.ndarray:
        """`compare_all` of one mention: *Shape:* (n, measures)."""
        return self.compare_all([text], np.asarray(rows, dtype=np.int64), np.zeros(len(rows), dtype=np.int64), [context], [0])

    @abstractmethod
    def by_initials_of(self, text: str, limit: int, selector: RowSelector | None = None) -> list[int]:
        """Rows of at most ``limit`` entities with a name whose initials are ``text``, in the order of their names."""

    @abstractmethod
    def by_trigrams(self, text: str, selector: RowSelector | None = None) -> tuple[list[int], list[float]]:
        """Rows of entities with a similar name by its trigrams, most similar first, and similarities of the names.

        An entity is repeated if several of its names are similar.
        """

    @abstractmethod
    def compare_all(
        self,
        mentions: Sequence[str],
        rows: np.ndarray,
        mention_of: np.ndarray,
        contexts: Sequence[str],
        context_of: Sequence[int] | np.ndarray,
    ) -> np.ndarray:
        """Similarity of mentions to the names of entities, for pairs of both, see `compare_pairs`."""


@dataclass(frozen=True)
class FuzzyIndex(SimilarNames):
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
            name: None if name in optional else np.asarray(map_array(path, REBUILD, kinds="f" if name == "rarities" else "iu"))
            for name, path in paths.items()
        }
        if uneven := [paths[name].name for name, values in arrays.items() if values is not None and values.ndim != 1]:
            raise MismatchError(f"{Path(folder) / uneven[0]} is damaged (it is no list of numbers); {REBUILD}")
        index = cls(**arrays)
        if len(index.posting_at) != (N_TRIGRAMS if index.keys is None else len(index.keys)) + 1:
            raise MismatchError(f"the grams of the fuzzy index in {folder} are missing or damaged; {REBUILD}")
        return index

    def compare_all(
        self,
        mentions: Sequence[str],
        rows: np.ndarray,
        mention_of: np.ndarray,
        contexts: Sequence[str],
        context_of: Sequence[int] | np.ndarray,
    ) -> np.ndarray:
        """See `SimilarNames`."""
        return compare_pairs(self, mentions, rows, mention_of, contexts, np.asarray(context_of, dtype=np.int64))

    def rarity(self, words: np.ndarray) -> np.ndarray:
        """log(names / names with the word) of hashed words; words that share a bucket count together. *Shape:* (n,)."""
        rarity: np.ndarray = self.bucket_rarities[words & np.uint32(BUCKETS - 1)]
        return rarity

    @cached_property
    def bucket_rarities(self) -> np.ndarray:
        """See `rarity`. *Shape:* (BUCKETS,), float32."""
        if self.rarities is not None:
            return self.rarities
        counts = np.zeros(BUCKETS, dtype=np.int64)
        for start in range(0, len(self.words), _BLOCK):  # in blocks, since bincount copies its input
            counts += np.bincount(self.words[start : start + _BLOCK] & np.uint32(BUCKETS - 1), minlength=BUCKETS)
        return rarities(counts, len(self.rows))

    def by_initials_of(self, text: str, limit: int, selector: RowSelector | None = None) -> list[int]:
        """See `SimilarNames`."""
        # Not numpy's searchsorted, which copies its sorter.
        query, of_name = initials_hash(text), self.initials.__getitem__
        begin = bisect_left(self.by_initials, query, key=of_name)
        end = bisect_right(self.by_initials, query, lo=begin, key=of_name)
        block = max(1, limit) * MAX_NAMES_PER_ENTITY  # millions of names may have two letters as initials
        found: dict[int, None] = {}
        for start in range(begin, end, block):
            rows = self.rows[self.by_initials[start : min(start + block, end)]]
            found |= dict.fromkeys((rows if selector is None else rows[selector.mask[rows]]).tolist())
            if len(found) >= limit:
                break
        return list(found)[:limit]

    def by_trigrams(self, text: str, selector: RowSelector | None = None) -> tuple[list[int], list[float]]:
        """See `SimilarNames`."""
        query = hashed(text).trigrams
        if not len(query):
            return [], []
        names = self._shortlist(text, selector)
        begin, end = self.gram_at[names], self.gram_at[names + 1]
        positions, owner = expand(begin, end)
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
        return self.rows[names[matches]].tolist(), similarity[matches].tolist()

    def _shortlist(self, text: str, selector: RowSelector | None) -> np.ndarray:
        """Names that share the most rare grams with a query, ascending. *Shape:* (names,), int."""
        lists = self._lists(text)
        begin, end = self.posting_at[lists].astype(np.int64), self.posting_at[lists + 1].astype(np.int64)
        rarest_first = np.argsort(end - begin, kind="stable")
        # All lists within the limit, but at least one.
        n_lists = max(1, int(np.searchsorted(np.cumsum((end - begin)[rarest_first]), MAX_POSTINGS)))
        bounds = zip(begin[rarest_first[:n_lists]].tolist(), end[rarest_first[:n_lists]].tolist(), strict=True)
        postings = np.concatenate([np.empty(0, np.int32), *(self.postings[b:e] for b, e in bounds)])
        if selector is not None:
            postings = postings[selector.mask[self.rows[postings]]]
        postings.sort()
        is_first = np.ones(len(postings), dtype=np.bool_)
        np.not_equal(postings[1:], postings[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first)
        names, counts = postings[starts], np.diff(starts, append=len(postings))
        if len(names) > SHORTLIST_SIZE:
            # The length normalization of cosine similarity, without which long names always come first.
            weight = counts / np.sqrt(self.gram_at[names + 1] - self.gram_at[names])
            names = names[np.sort(np.argpartition(-weight, SHORTLIST_SIZE)[:SHORTLIST_SIZE])]
        return names

    def _lists(self, text: str) -> np.ndarray:
        """Lists of names of the query's grams. *Shape:* (n,), int64."""
        if self.keys is None:
            return hashed(text).trigrams.astype(np.int64)
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
