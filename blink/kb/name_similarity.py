"""How similar mentions are to the names of entities, for many pairs of a mention and an entity at once.

Trigrams and words are hashed, see `blink.kb.hashed_names`. The names of a pair are consecutive in the fuzzy index, and so are
the trigrams and words of a name: all pairs together are a few flat arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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
        mention_of: index of its mention, ascending. *Shape:* (n,), int64.
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
    values = np.zeros((len(MEASURES), len(names)), dtype=np.float32)
    values[0] = 2 * shared / (sizes + n_trigrams)
    values[3] = index.initials[names] == np.array([initials_hash(text) for text in mentions], dtype=np.int64)[mention]

    word_at = index.word_at[names]
    sizes = index.word_at[names + 1] - word_at
    words, name = index.words[numbers_of(word_at, sizes)], np.repeat(np.arange(len(names)), sizes)
    rarity, mention_of_word = index.rarity(words), mention[name]
    owner, known = _sets([query.words for query in queries])
    of_mention = _is_in(_keys(mention_of_word, words), _keys(owner, known))
    n_shared, weight = np.bincount(name[of_mention], minlength=len(names)), np.bincount(name, rarity, len(names))
    shared_weight = np.bincount(name[of_mention], rarity[of_mention], len(names))
    mention_weight = np.bincount(owner, index.rarity(known), len(queries))[mention]
    values[1], values[2] = n_shared / n_words[mention], n_shared / sizes
    values[4], values[5] = shared_weight / mention_weight, shared_weight / weight
    values[6] = 2 * shared_weight / (mention_weight + weight)
    # Most names have no word of the mention.
    others = np.flatnonzero(~of_mention & (n_shared > 0)[name])
    if len(others):
        around = _keys(*_sets([hashed_words(normalise(context).split()) for context in contexts]))
        unexplained = others[~_is_in(_keys(context_of[mention_of_word[others]], words[others]), around)]
        rest = np.where((n_shared > 0) & (n_shared < sizes), weight - shared_weight, 0)
        rest[name[unexplained]] = 0
        values[7] = rest
    result[:, pairs] = np.maximum.reduceat(values, np.cumsum(n_names) - n_names, axis=1)
    return result.T


def _shared_trigrams(
    grams: np.ndarray, begin: np.ndarray, sizes: np.ndarray, mention: np.ndarray, queries: Sequence[np.ndarray]
) -> np.ndarray:
    """How many trigrams each name shares with its mention.

    Args:
        grams: of all names of the index. *Shape:* (trigrams,), uint16.
        begin: the first trigram of each name. *Shape:* (names,), int64.
        sizes: its number of trigrams. *Shape:* (names,), int64.
        mention: index of its mention, ascending. *Shape:* (names,), int64.
        queries: trigrams of each mention.

    Returns:
        *Shape:* (names,), int64.
    """
    of_names, past = grams[numbers_of(begin, sizes)], np.cumsum(sizes)
    at = np.append(0, past)[np.searchsorted(mention, np.arange(len(queries) + 1))].tolist()
    shared = np.zeros(len(of_names) + 1, dtype=np.int64)
    # One set of all trigrams, which fits in a cache of the processor, holds those of each mention in turn.
    is_known, known = np.zeros(N_TRIGRAMS, dtype=np.bool_), np.empty(len(of_names), dtype=np.bool_)
    for query, (first, last) in zip(queries, pairwise(at), strict=True):
        if first < last:
            is_known[query] = True
            is_known.take(of_names[first:last], out=known[first:last])
            is_known[query] = False
    np.cumsum(known, out=shared[1:])
    counts: np.ndarray = shared[past] - shared[past - sizes]
    return counts


def _sets(sets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The set of each item, and the items of all sets. *Shape:* (items,), int64 and that of the sets."""
    return np.repeat(np.arange(len(sets)), [len(items) for items in sets]), np.concatenate(sets)


def _keys(owner: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Numbers that identify a set and an item, ascending where both are. *Shape:* (n,), uint64."""
    return owner.astype(np.uint64) << np.uint64(32) | items


def _is_in(keys: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Whether each key is in an ascending array. *Shape:* (n,), bool."""
    if not len(ascending):
        return np.zeros(len(keys), dtype=np.bool_)
    is_in: np.ndarray = ascending[np.minimum(ascending.searchsorted(keys), len(ascending) - 1)] == keys
    return is_in
