"""How similar mentions are to the names of entities, for many pairs of a mention and an entity at once.

Trigrams and words are hashed, see `blink.kb.hashed_names`. The names of a pair are consecutive in the fuzzy index, and so are
the trigrams and words of a name: all pairs together are a few flat arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from blink.data.ranges import numbers_of
from blink.kb.alias_table import normalise
from blink.kb.grams import N_TRIGRAMS
from blink.kb.hashed_names import hashed, hashed_words, initials_hash

if TYPE_CHECKING:
    from blink.kb.fuzzy_index import FuzzyIndex

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
"""Columns of `compare_pairs`."""
LEAST_RARITY = 0.1
"""Least rarity of a word, for catalogues of few names."""
_FILTER = 1 << 8
"""Bits of a set of words: most words that are not in the set have another bit."""


def compare_pairs(
    index: FuzzyIndex,
    mentions: Sequence[str],
    rows: np.ndarray,
    mention_of: np.ndarray,
    contexts: Sequence[str],
    context_of: np.ndarray,
) -> np.ndarray:
    """Similarity of mentions to the names of entities: for each measure the maximum over an entity's names.

    The rarity of a word is the logarithm of the inverse share of names that have it.

    Args:
        index: of the names.
        mentions: strings.
        rows: entity of each pair; rows below 0 get zeros. *Shape:* (n,), int64.
        mention_of: index of its mention. *Shape:* (n,), int64.
        contexts: texts around mentions.
        context_of: index of each mention's context. *Shape:* (m,), int64.

    Returns:
        The columns `MEASURES`: Dice's coefficient of trigrams, share of the mention's words that the name has, share of the
        name's words that the mention has, whether the mention is the name's initials; the two shares of words weighted by
        rarity, Dice's coefficient of words weighted by rarity; and, where all words of the name that the mention lacks are in
        the context, their rarity. *Shape:* (n, measures), float32; all but the last in [0, 1].
    """
    result = np.zeros((len(MEASURES), len(rows)), dtype=np.float32)
    queries = [hashed(text) for text in mentions]
    n_words = np.array([len(query.words) for query in queries], dtype=np.int64)
    pairs = np.flatnonzero((rows >= 0) & (n_words[mention_of] > 0))
    first, past = index.first[rows[pairs]], index.first[rows[pairs] + 1]
    pairs, first, n_names = pairs[first < past], first[first < past], (past - first)[first < past]
    if not len(pairs):
        return result.T
    mention_of = mention_of[pairs]
    names, mention = numbers_of(first, n_names), np.repeat(mention_of, n_names)

    n_trigrams = np.array([len(query.trigrams) for query in queries], dtype=np.int64)[mention]
    gram_at = index.gram_at[names]
    sizes = index.gram_at[names + 1] - gram_at
    shared = _shared_trigrams(index.grams, gram_at, sizes, mention, [query.trigrams for query in queries])
    values = np.zeros((len(MEASURES), len(names)))
    values[0] = 2 * shared / (sizes + n_trigrams)
    values[3] = index.initials[names] == np.array([initials_hash(text) for text in mentions], dtype=np.int64)[mention]

    word_at = index.word_at[names]
    sizes = index.word_at[names + 1] - word_at
    words, name = index.words[numbers_of(word_at, sizes)], np.repeat(np.arange(len(names)), sizes)
    known = _Sets([query.words for query in queries])
    of_mention = known.have(mention[name], words)
    n_shared = np.bincount(name[of_mention], minlength=len(names))
    # Without a common word these measures are 0: most names have none.
    some = np.flatnonzero(n_shared)
    if len(some):
        inside = (n_shared > 0)[name]
        words, name, of_mention = words[inside], (np.cumsum(n_shared > 0) - 1)[name[inside]], of_mention[inside]
        mention, n_shared, sizes = mention[some], n_shared[some], sizes[some]
        rarity = index.rarity(words)
        weight = np.bincount(name, rarity, len(some))
        shared_weight = np.bincount(name[of_mention], rarity[of_mention], len(some))
        mention_weight = np.bincount(known.owner, index.rarity(known.items), len(queries))[mention]
        values[1, some] = n_shared / n_words[mention]
        values[2, some] = n_shared / sizes
        values[4, some] = shared_weight / np.maximum(LEAST_RARITY, mention_weight)
        values[5, some] = shared_weight / np.maximum(LEAST_RARITY, weight)
        values[6, some] = 2 * shared_weight / np.maximum(LEAST_RARITY, mention_weight + weight)
        around = _Sets([hashed_words(normalise(context).split()) for context in contexts])
        others = np.flatnonzero(~of_mention)
        unexplained = others[~around.have(context_of[mention[name[others]]], words[others])]
        rest = weight - shared_weight
        rest[name[unexplained]] = 0
        rest[n_shared == sizes] = 0
        values[7, some] = rest
    result[:, pairs] = np.maximum.reduceat(values.astype(np.float32), np.cumsum(n_names) - n_names, axis=1)
    return result.T


def _shared_trigrams(
    grams: np.ndarray, begin: np.ndarray, sizes: np.ndarray, mention: np.ndarray, queries: Sequence[np.ndarray]
) -> np.ndarray:
    """How many trigrams each name shares with its mention.

    Args:
        grams: of all names of the index. *Shape:* (trigrams,), uint16.
        begin: the first trigram of each name. *Shape:* (names,), int64.
        sizes: its number of trigrams. *Shape:* (names,), int64.
        mention: index of its mention. *Shape:* (names,), int64.
        queries: trigrams of each mention.

    Returns:
        *Shape:* (names,), int64.
    """
    known = np.concatenate(queries)
    distinct = np.unique(known)
    # Trigrams of no mention share the column 0: so the table fits in a cache of the processor.
    column_of = np.zeros(N_TRIGRAMS, dtype=np.int64)
    column_of[distinct] = np.arange(1, len(distinct) + 1)
    table = np.zeros((len(queries), len(distinct) + 1), dtype=np.bool_)
    table[np.repeat(np.arange(len(queries)), [len(query) for query in queries]), column_of[known]] = True
    at = column_of[grams[numbers_of(begin, sizes)]]
    at += np.repeat(mention * table.shape[1], sizes)
    shared = np.concatenate([[0], np.cumsum(table.reshape(-1)[at], dtype=np.int64)])
    past = np.cumsum(sizes)
    counts: np.ndarray = shared[past] - shared[past - sizes]
    return counts


class _Sets:
    """Sets of hashed words.

    Attributes:
        items: of all sets. *Shape:* (items,), uint32.
        owner: the set of each, ascending. *Shape:* (items,), int64.

    Args:
        sets: ascending. *Shape:* of each, (n,), uint32.
    """

    def __init__(self, sets: Sequence[np.ndarray]) -> None:
        self.items, self.owner = np.concatenate(sets), np.repeat(np.arange(len(sets)), [len(items) for items in sets])
        self._keys = _keys(self.owner, self.items)
        self._bits = np.zeros(len(sets) * _FILTER, dtype=np.bool_)
        self._bits[self.owner * _FILTER + self.items % _FILTER] = True

    def have(self, owner: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Whether each item is in a set. *Shape:* (n,) each; result (n,), bool."""
        have = self._bits[owner * _FILTER + items % _FILTER]
        possible = np.flatnonzero(have)
        if len(possible):
            keys = _keys(owner[possible], items[possible])
            have[possible] = self._keys[np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)] == keys
        return have


def _keys(owner: np.ndarray, items: np.ndarray) -> np.ndarray:
    return owner.astype(np.uint64) << np.uint64(32) | items
