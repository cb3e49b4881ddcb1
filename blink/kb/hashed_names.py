"""Names as sets of hashed trigrams and words, of which the fuzzy index consists."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from blink.kb.alias_table import normalise
from blink.kb.grams import N_TRIGRAMS

_CACHED_NAMES = 1 << 14
_CACHED_STRINGS = 1 << 16
"""Trigrams and words whose hashes are kept in memory; most texts repeat theirs."""


@dataclass(frozen=True)
class HashedName:
    """A name as sets of hashes: trigrams (uint16) and words (uint32), ascending; and its initials, 0 for one word."""

    trigrams: np.ndarray
    words: np.ndarray
    initials: int


@lru_cache(maxsize=_CACHED_NAMES)
def hashed(text: str) -> HashedName:
    """The sets of a name."""
    form = normalise(text)
    words = form.split()
    padded = f" {form} "  # so that trigrams include the start and end of a name
    trigrams = {_trigram_hash(padded[i : i + 3]) for i in range(len(padded) - 2)} if form else set()
    letters = "".join(w[0] for w in words if len(words) > 1)
    return HashedName(
        np.array(sorted(trigrams), dtype=np.uint16),
        hashed_words(words),
        _hash(letters) if len(letters) > 1 else 0,
    )


def hashed_words(words: Iterable[str]) -> np.ndarray:
    """Hashes of words, ascending, without repetition. *Shape:* (hashes,), uint32."""
    return np.array(sorted(set(map(_hash, words))), dtype=np.uint32)


def initials_hash(text: str) -> int:
    """Hash of a mention as initials; 1, the hash of no name, if it cannot be initials."""
    letters = text.strip().casefold().replace(".", "")
    return _hash(letters) if 2 <= len(letters) <= 6 and letters.isalpha() else 1


@lru_cache(maxsize=_CACHED_STRINGS)
def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def _trigram_hash(text: str) -> int:
    return _hash(text) % N_TRIGRAMS
