"""Co-occurrence counts of words, the training data of GloVe (Pennington et al. 2014)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blink.errors import DataError
from blink.kglm.graph.digests import splitmix
from blink.kglm.lm.corpus import Corpus
from blink.kglm.lm.vocabulary import RESERVED

CHUNK_TOKENS = 1 << 20
Sums = tuple[np.ndarray, np.ndarray]
"""Keys of pairs in ascending order, and the sum of weights of each. *Shapes:* (n,) both."""


@dataclass(frozen=True)
class Counts:
    """A symmetric sparse count matrix: ``X[i, j] = X[j, i]``, both stored.

    Attributes:
        words: first word of each pair. *Shape:* (n,), int32.
        contexts: second word of each pair. *Shape:* (n,), int32.
        values: counts, above 0. *Shape:* (n,), float32.
        size: number of words of the vocabulary.
    """

    words: np.ndarray
    contexts: np.ndarray
    values: np.ndarray
    size: int

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: np.ndarray) -> Counts:
        """Select pairs by row indices or by a mask."""
        return Counts(self.words[rows], self.contexts[rows], self.values[rows], self.size)

    def digest(self) -> str:
        """Hash of all counts."""
        digest = hashlib.sha256(str(self.size).encode())
        for array in (self.words, self.contexts, self.values):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def count_pairs(corpus: Corpus, window: int = 15, progress: Callable[[int], None] = lambda tokens: None) -> Counts:
    """Sum ``1 / distance`` over all pairs of words within ``window`` words of a line.

    Unknown words are removed first, which reduces the distances of their neighbours, as in the authors' program. Pairs do not
    cross line ends.

    Args:
        corpus: lines of word ids, without reserved ids except for unknown words.
        window: maximum distance in words.
        progress: called with the number of further tokens done.

    Raises:
        DataError: no line has two known words.
    """
    size = corpus.vocabulary_size - len(RESERVED)
    lines = np.repeat(np.arange(len(corpus)), corpus.lengths)
    in_vocabulary = (corpus.raw >= len(RESERVED)) & (corpus.raw < corpus.vocabulary_size)
    words, lines = corpus.raw[in_vocabulary].astype(np.int64) - len(RESERVED), lines[in_vocabulary]
    sums: list[Sums] = []
    for begin in range(0, len(words), CHUNK_TOKENS):
        end = min(begin + CHUNK_TOKENS, len(words))
        sums.append(_pairs(words[begin : end + window], lines[begin : end + window], end - begin, window, size))
        # Sums of similar length are merged, so that each pair is merged only a logarithmic number of times.
        while len(sums) > 1 and 2 * len(sums[-1][0]) >= len(sums[-2][0]):
            sums.append(_merged(sums.pop(), sums.pop()))
        progress(end - begin)
    while len(sums) > 1:
        sums.append(_merged(sums.pop(), sums.pop()))
    if not sums or not len(sums[0][0]):
        raise DataError("no two words of the vocabulary stand in one line; give more text, or keep rarer words")
    return _both_orders(*sums[0], size)


def _pairs(words: np.ndarray, lines: np.ndarray, firsts: int, window: int, size: int) -> Sums:
    """Pairs whose first word is among the first ``firsts`` words. The key is ``smaller id * size + larger id``."""
    keys, weights = [], []
    for distance in range(1, window + 1):
        n = min(firsts, max(len(words) - distance, 0))
        earlier, later = words[:n], words[distance : distance + n]
        same_line = lines[:n] == lines[distance : distance + n]
        earlier, later = earlier[same_line], later[same_line]
        keys.append(np.minimum(earlier, later) * size + np.maximum(earlier, later))
        weights.append(np.full(len(earlier), 1 / distance))
    return _summed(np.concatenate(keys), np.concatenate(weights))


def _summed(keys: np.ndarray, weights: np.ndarray) -> Sums:
    if not len(keys):
        return keys, weights
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(weights[order], starts)


def _merged(first: Sums, second: Sums) -> Sums:
    return _summed(np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]]))


def _both_orders(keys: np.ndarray, sums: np.ndarray, size: int) -> Counts:
    low, high = keys // size, keys % size
    distinct = low != high
    words = np.concatenate([low, high[distinct]]).astype(np.int32)
    contexts = np.concatenate([high, low[distinct]]).astype(np.int32)
    # A pair of a word with itself has both orders in one cell, so it counts twice.
    values = np.concatenate([np.where(distinct, sums, 2 * sums), sums[distinct]]).astype(np.float32)
    return Counts(words, contexts, values, size)


def hold_out(counts: Counts, fraction: float, seed: int) -> tuple[Counts, Counts]:
    """Split counts into training and held-out pairs; both orders of a pair are in the same split.

    Args:
        counts: all counts.
        fraction: fraction of the pairs to hold out, 0 to 1.
        seed: seed of the split.
    """
    low, high = np.minimum(counts.words, counts.contexts), np.maximum(counts.words, counts.contexts)
    hashes = splitmix(splitmix(low.astype(np.uint64) + np.uint64(seed % (1 << 32))) ^ high.astype(np.uint64))
    held_out = hashes < np.uint64(int(fraction * 2**63) * 2) if fraction > 0 else np.zeros(len(counts), dtype=bool)
    return counts.select(~held_out), counts.select(held_out)


@dataclass(frozen=True)
class PairBatch:
    """A batch of pairs and their counts.

    Attributes:
        words, contexts: *Shape:* (batch,), int64.
        values: *Shape:* (batch,), float32.
    """

    words: Tensor
    contexts: Tensor
    values: Tensor


class PairStream:
    """An endless stream of batches. Batch n is a function of n alone, so a run can resume at any step.

    An epoch has each pair at most once.

    Args:
        counts: the pairs.
        size: batch size.
        seed: seed of the order.
        device: device of the batches.
    """

    def __init__(self, counts: Counts, size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.counts, self._size, self._seed, self._device = counts, min(size, len(counts)), seed, device
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        """Number of batches of an epoch; an incomplete last batch is dropped."""
        return len(self.counts) // self._size

    def batch(self, number: int) -> PairBatch:
        """Batch ``number`` of the stream."""
        epoch, index = divmod(number, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self.counts))
        return pairs_at(self.counts, self._order[index * self._size : (index + 1) * self._size], self._device)


def pairs_at(counts: Counts, rows: np.ndarray | slice, device: torch.device | str = "cpu") -> PairBatch:
    """A batch of the pairs of these rows."""
    words, contexts = (torch.from_numpy(x[rows].astype(np.int64)).to(device) for x in (counts.words, counts.contexts))
    return PairBatch(words, contexts, torch.from_numpy(np.array(counts.values[rows])).to(device))
