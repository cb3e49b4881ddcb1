"""Letter case of words, which a lower-casing tokenizer drops: a class per token that the context encoder reads as an embedding.

The class travels in the high bits of a token's id (its *code*), so that whatever moves ids moves it too.
"""

from __future__ import annotations

import numpy as np

STRIDE = 1 << 20
"""A code is ``id + STRIDE * class``; no vocabulary is as large."""
UNKNOWN, LOWER, TITLE, UPPER, MIXED = range(5)
CLASSES = 5
"""UNKNOWN: no letter, or in a line without any capital letter, whose lower case tells nothing; LOWER ``word``; TITLE ``Word``,
``I``; UPPER ``WORD``; MIXED ``iPhone``, ``McDonald``."""


def word_cases(text: str, offsets: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The class of each token: that of its word.

    Args:
        text: the text.
        offsets: characters ``[start, end)`` of each token. *Shape:* (n, 2).
        inside: whether a token continues the word before it. *Shape:* (n,), bool.

    Returns:
        *Shape:* (n,), int64.
    """
    classes = np.zeros(len(offsets), dtype=np.int64)
    if not len(offsets) or text.islower() or not any(map(str.isupper, text)):
        return classes
    first = ~inside
    first[0] = True
    word = np.cumsum(first) - 1
    starts = offsets[first, 0].tolist()
    ends = np.maximum.reduceat(offsets[:, 1], np.flatnonzero(first)).tolist()
    uncased = _uncased_lines(text)
    of_word = np.fromiter((_case(text[s:e]) for s, e in zip(starts, ends, strict=True)), dtype=np.int64, count=len(starts))
    if uncased:
        lines = np.searchsorted([start for start, _ in uncased], starts, side="right") - 1
        past = np.array([end for _, end in uncased])
        of_word[(lines >= 0) & (np.array(starts) < past[lines])] = UNKNOWN
    return of_word[word]


def _case(word: str) -> int:
    if word.islower():
        return LOWER
    if not word[:1].isupper():
        return MIXED if any(map(str.isupper, word)) else UNKNOWN
    rest = word[1:]
    if not any(map(str.isupper, rest)):
        return TITLE
    return UPPER if word.isupper() else MIXED


def _uncased_lines(text: str) -> list[tuple[int, int]]:
    """Characters ``[start, end)`` of the lines without a capital letter."""
    if "\n" not in text:
        return []
    lines, start = [], 0
    for line in text.split("\n"):
        if not any(map(str.isupper, line)):
            lines.append((start, start + len(line)))
        start += len(line) + 1
    return lines
