"""How often words stand near each other: the counts that GloVe fits (Pennington et al. 2014)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blink.errors import DataError
from blink.kglm.lm.corpus import Corpus
from blink.kglm.lm.vocabulary import RESERVED

TOKENS_AT_ONCE = 1 << 20
Sums = tuple[np.ndarray, np.ndarray]
"""Pairs in ascending order and the sum of each. *Shapes:* (n,) both."""


@dataclass(frozen=True)
class Counts:
    """The counts that are not 0, of both orders of each pair: ``X[i, j] = X[j, i]``.

    Attributes:
        words: first word of each pair. *Shape:* (n,), int32.
        contexts: second word of each pair. *Shape:* (n,), int32.
        values: counts, above 0. *Shape:* (n,), float32.
        size: words of the vocabulary.
    """

    words: np.ndarray
    contexts: np.ndarray
    values: np.ndarray
    size: int

    def __len__(self) -> int:
        return len(self.values)

    def part(self, chosen: np.ndarray) -> Counts:
        """Some of the pairs. *Shape of* ``chosen``: (n,), bool or rows."""
        return Counts(self.words[chosen], self.contexts[chosen], self.values[chosen], self.size)

    def digest(self) -> str:
        """A hash of all counts."""
        digest = hashlib.sha256(str(self.size).encode())
        for array in (self.words, self.contexts, self.values):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def count_pairs(corpus: Corpus, window: int = 15, progress: Callable[[int], None] = lambda tokens: None) -> Counts:
    """Add ``1 / distance`` for each two words of a line that stand at most ``window`` words apart.

    Words that the vocabulary lacks are left out first, so that their neighbours come nearer, as in the authors' program. No
    pair crosses the end of a line.

    Args:
        corpus: lines of word ids; of the reserved ids it holds none but that of unknown words.
        window: largest distance in words.
        progress: called with how many further tokens are done.

    Raises:
        DataError: no two known words stand in one line.
    """
    size = corpus.vocabulary_size - len(RESERVED)
    lines = np.repeat(np.arange(len(corpus)), corpus.lengths)
    known = (corpus.raw >= len(RESERVED)) & (corpus.raw < corpus.vocabulary_size)
    words, lines = corpus.raw[known].astype(np.int64) - len(RESERVED), lines[known]
    parts: list[Sums] = []
    for begin in range(0, len(words), TOKENS_AT_ONCE):
        end = min(begin + TOKENS_AT_ONCE, len(words))
        parts.append(_pairs(words[begin : end + window], lines[begin : end + window], end - begin, window, size))
        # Sums of about the same length are joined, so that each is gone through few times.
        while len(parts) > 1 and 2 * len(parts[-1][0]) >= len(parts[-2][0]):
            parts.append(_joined(parts.pop(), parts.pop()))
        progress(end - begin)
    while len(parts) > 1:
        parts.append(_joined(parts.pop(), parts.pop()))
    if not parts or not len(parts[0][0]):
        raise DataError("no two words of the vocabulary stand in one line; give more text, or keep rarer words")
    return _both_orders(*parts[0], size)


def _pairs(words: np.ndarray, lines: np.ndarray, firsts: int, window: int, size: int) -> Sums:
    """Pairs whose first word is among the first ``firsts``; the smaller word's id counts ``size`` times."""
    keys, weights = [], []
    for distance in range(1, window + 1):
        n = min(firsts, max(len(words) - distance, 0))
        left, right = words[:n], words[distance : distance + n]
        together = lines[:n] == lines[distance : distance + n]
        left, right = left[together], right[together]
        keys.append(np.minimum(left, right) * size + np.maximum(left, right))
        weights.append(np.full(len(left), 1 / distance))
    return _summed(np.concatenate(keys), np.concatenate(weights))


def _summed(keys: np.ndarray, weights: np.ndarray) -> Sums:
    if not len(keys):
        return keys, weights
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(weights[order], starts)


def _joined(first: Sums, second: Sums) -> Sums:
    return _summed(np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]]))


def _both_orders(keys: np.ndarray, sums: np.ndarray, size: int) -> Counts:
    low, high = keys // size, keys % size
    apart = low != high
    words = np.concatenate([low, high[apart]]).astype(np.int32)
    contexts = np.concatenate([high, low[apart]]).astype(np.int32)
    # A word beside itself is a pair in both orders, on one and the same place.
    values = np.concatenate([np.where(apart, sums, 2 * sums), sums[apart]]).astype(np.float32)
    return Counts(words, contexts, values, size)


def hold_out(counts: Counts, share: float, seed: int) -> tuple[Counts, Counts]:
    """Counts to fit and counts to check by; a pair is in one of them in both orders.

    Args:
        counts: all of them.
        share: of the pairs that are held out, from 0 up to 1.
        seed: chooses them.
    """
    low, high = np.minimum(counts.words, counts.contexts), np.maximum(counts.words, counts.contexts)
    mixed = _mixed(_mixed(low.astype(np.uint64) + np.uint64(seed % (1 << 32))) ^ high.astype(np.uint64))
    held = mixed < np.uint64(int(share * 2**63) * 2) if share > 0 else np.zeros(len(counts), dtype=bool)
    return counts.part(~held), counts.part(held)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Hashes of numbers (the finalizer of SplitMix64, Steele et al. 2014): neighbours become nothing alike."""
    with np.errstate(over="ignore"):
        numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


@dataclass(frozen=True)
class PairBatch:
    """Pairs of words and their counts.

    Attributes:
        words, contexts: *Shape:* (batch,), int64.
        values: *Shape:* (batch,), float32.
    """

    words: Tensor
    contexts: Tensor
    values: Tensor


class PairStream:
    """An endless stream of batches: batch n is a function of n alone, so a run goes on anywhere. A pass has each pair once.

    Args:
        counts: the pairs.
        size: pairs of a batch.
        seed: of the order.
        device: where batches go.
    """

    def __init__(self, counts: Counts, size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.counts, self._size, self._seed, self._device = counts, min(size, len(counts)), seed, device
        self._pass, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        """Batches of a pass; pairs that are left over wait for other passes."""
        return len(self.counts) // self._size

    def batch(self, number: int) -> PairBatch:
        """Batch ``number`` of the stream."""
        turn, place = divmod(number, len(self))
        if turn != self._pass:
            self._pass, self._order = turn, np.random.default_rng([self._seed, turn]).permutation(len(self.counts))
        return pairs_at(self.counts, self._order[place * self._size : (place + 1) * self._size], self._device)


def pairs_at(counts: Counts, rows: np.ndarray | slice, device: torch.device | str = "cpu") -> PairBatch:
    """Some of the pairs as tensors."""
    words, contexts = (torch.from_numpy(x[rows].astype(np.int64)).to(device) for x in (counts.words, counts.contexts))
    return PairBatch(words, contexts, torch.from_numpy(np.array(counts.values[rows])).to(device))
