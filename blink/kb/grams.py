"""Hashes of character n-grams for many names at once: trigrams of fixed length, and grams that are as long as they must be.

Gram of variable length (after Li, Wang and Yang 2007, "VGRAM"): at each position of a name the shortest substring of 3 to 8
characters that at most `MAX_NAMES_PER_GRAM` names of the catalogue have. A list of names is thus never long, however large the
catalogue is: where millions of names have ``mar``, fewer have ``maria s``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

N_TRIGRAMS = 1 << 16
"""Number of hash values of trigrams."""
LENGTHS = range(3, 9)
"""Lengths of grams, in characters."""
MAX_NAMES_PER_GRAM = 1 << 10
"""Most names of a gram; more have a longer gram at that position."""
_FEWEST_COUNTERS, _MOST_COUNTERS = 1 << 14, 1 << 22
_COUNTERS_PER_ROW = 64
_MULTIPLIER, _MIXER = 0x9E3779B97F4A7C15, np.uint64(0xD6E8FEB86659FD93)
_POWERS = np.array([[pow(_MULTIPLIER, length - 1, 1 << 64)] for length in LENGTHS], dtype=np.uint64)
_INVERSE_POWERS = np.array([[pow(_MULTIPLIER, -k, 1 << 64)] for k in range(LENGTHS[-1])], dtype=np.uint64)
_LENGTHS = np.array(LENGTHS)[:, None]
_CRC_TABLE = np.array([zlib.crc32(bytes([byte ^ 0xFF])) ^ 0xFF000000 for byte in range(256)], dtype=np.uint32)
_FIRST_BYTES = np.array([0, 0xC0, 0xE0, 0xF0], dtype=np.uint32)
"""First byte of a character in UTF-8, without its bits, by the number of bytes that follow."""


@dataclass(frozen=True)
class Characters:
    """The characters of normalized names, each name with a blank before and after it.

    Attributes:
        codes: code points of the names, one after the other. *Shape:* (characters,), uint32.
        sizes: characters of each name. *Shape:* (names,), int64.
    """

    codes: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, forms: Sequence[str]) -> Characters:
        """The characters of normalized names; names without a character have none."""
        padded = [f" {form} " if form else "" for form in forms]
        codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32)
        return cls(codes, np.fromiter(map(len, padded), np.int64, len(padded)))

    def names(self) -> np.ndarray:
        """The name of each character. *Shape:* (characters,), int64."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def remaining(self) -> np.ndarray:
        """Characters of the same name from each character on. *Shape:* (characters,), int64."""
        return np.repeat(np.cumsum(self.sizes), self.sizes) - np.arange(len(self.codes))


def trigrams(characters: Characters) -> tuple[np.ndarray, np.ndarray]:
    """Distinct hashed trigrams of each name: CRC-32 of their UTF-8, modulo `N_TRIGRAMS`.

    Returns:
        The trigrams, ascending for each name. *Shape:* (trigrams,), uint16, and their number. *Shape:* (names,), int64.
    """
    begins = np.flatnonzero(characters.remaining() >= 3)
    crc = np.full(len(begins), 0xFFFFFFFF, dtype=np.uint32)
    for offset in range(3):
        crc = _crc_after(crc, characters.codes[begins + offset])
    keys = characters.names()[begins].astype(np.uint64) << np.uint64(16) | ~crc & np.uint32(N_TRIGRAMS - 1)
    return distinct(keys, len(characters.sizes), 16, np.uint16)


def distinct(keys: np.ndarray, owners: int, bits: int, dtype: type[np.generic]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct items of each owner.

    Args:
        keys: ``owner << bits | item``, in any order. *Shape:* (n,), uint64.
        owners: number of owners.
        bits: of items.
        dtype: of items.

    Returns:
        The items, ascending for each owner. *Shape:* (items,), and their number. *Shape:* (owners,), int64.
    """
    keys = np.sort(keys)
    keys = keys[np.diff(keys, prepend=~keys[:1]) != 0] if len(keys) else keys
    return keys.astype(dtype), np.bincount((keys >> np.uint64(bits)).astype(np.int64), minlength=owners)


def gram_keys(characters: Characters) -> np.ndarray:
    """Hash of the gram of each length that begins at each character; 0 where the name ends before it does.

    The hash is a polynomial, sum of c[k] M**(L - 1 - k) modulo 2**64, mixed and shortened to 32 bits. M is odd and so has an
    inverse: the sums of all lengths are one cumulative sum of c[k] M**-k.

    *Shape:* (lengths, characters), uint32.
    """
    n, longest = len(characters.codes), LENGTHS[-1]
    padded = np.zeros(n + longest, dtype=np.uint64)
    padded[:n] = characters.codes
    windows = padded[np.arange(longest)[:, None] + np.arange(n)]
    windows *= _INVERSE_POWERS
    np.cumsum(windows, axis=0, out=windows)
    hashed = windows[LENGTHS[0] - 1 :]
    hashed *= _POWERS
    hashed ^= hashed >> np.uint64(29)
    hashed *= _MIXER
    keys = np.maximum((hashed >> np.uint64(32)).astype(np.uint32), 1)
    keys[characters.remaining() < _LENGTHS] = 0
    return keys


class GramCounter:
    """Counts how many names have a gram, to decide at which length a gram is rare enough.

    Counters are shared by grams whose hashes agree in their last bits, so that some grams are longer than they had to be.

    Args:
        rows: of the catalogue; 100 MB of counters are enough for any number.
    """

    def __init__(self, rows: int) -> None:
        counters = 1 << (_COUNTERS_PER_ROW * rows).bit_length()
        counters = min(max(counters, _FEWEST_COUNTERS), _MOST_COUNTERS)
        self._counts, self._mask = np.zeros((len(LENGTHS), counters), dtype=np.uint32), np.uint32(counters - 1)

    def add(self, keys: np.ndarray) -> None:
        """Count the grams of `gram_keys`."""
        for counts, of_length in zip(self._counts, keys, strict=True):
            # Sorted, since counters in the order of memory are several times as fast as at random.
            counters = np.sort(of_length[of_length > 0] & self._mask)
            starts = np.flatnonzero(np.diff(counters, prepend=~counters[:1]))
            counts[counters[starts]] += np.diff(starts, append=len(counters)).astype(np.uint32)

    def chosen(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shortest rare gram at each character, if there is one.

        Returns:
            The characters, ascending. *Shape:* (n,), int64, and the keys of their grams. *Shape:* (n,), uint32.
        """
        selected = np.zeros(keys.shape[1], dtype=np.uint32)
        open_ = np.arange(keys.shape[1])
        for counts, of_length in zip(self._counts, keys, strict=True):
            of_open = of_length[open_]
            is_rare = counts[of_open & self._mask] <= MAX_NAMES_PER_GRAM
            selected[open_[is_rare]] = of_open[is_rare]  # 0, no gram, where the name ended
            open_ = open_[~is_rare & (of_open > 0)]
        characters = np.flatnonzero(selected)
        return characters, selected[characters]


def _crc_after(crc: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """CRC-32 states after the UTF-8 bytes of one more character each. *Shape:* (n,), uint32, all."""
    after = _crc_after_byte(crc, codes)
    longer = np.flatnonzero(codes >= 0x80)
    if len(longer):
        codes, state = codes[longer], crc[longer]
        extra = (1 + (codes >= 0x800) + (codes >= 0x10000)).astype(np.uint32)  # bytes after the first
        state = _crc_after_byte(state, _FIRST_BYTES[extra] | codes >> np.uint32(6) * extra)
        for i in range(3):
            more = np.flatnonzero(extra > i)
            byte = codes[more] >> np.uint32(6) * (extra[more] - np.uint32(1 + i)) & np.uint32(0x3F) | np.uint32(0x80)
            state[more] = _crc_after_byte(state[more], byte)
        after[longer] = state
    return after


def _crc_after_byte(crc: np.ndarray, byte: np.ndarray) -> np.ndarray:
    after: np.ndarray = _CRC_TABLE[(crc ^ byte) & np.uint32(0xFF)] ^ crc >> np.uint32(8)
    return after
