"""Letter case of words, which a lower-casing tokenizer drops: a class per token that the context encoder reads as an embedding.

The class travels in the high bits of a token's id (its *code*), so that whatever moves ids moves it too.
"""

from __future__ import annotations

import re

import numpy as np

STRIDE = 1 << 20
"""A code is ``id + STRIDE * class``; no vocabulary is as large."""
UNKNOWN, LOWER, TITLE, UPPER, MIXED = range(5)
CLASSES = 5
"""UNKNOWN: no letter, or in a line or sentence without any capital letter, whose lower case tells nothing; LOWER ``word``;
TITLE ``Word``, ``I``; UPPER ``WORD``; MIXED ``iPhone``, ``McDonald``."""
LEAST_WORDS = 4
"""Words of a sentence without capital letters, at least, that is read as one in lower case."""
_END = re.compile(r"[.!?…][\"'”’)\]]*\s+|\n")


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
    uncased = uncased_stretches(text)
    of_word = np.fromiter((_case(text[s:e]) for s, e in zip(starts, ends, strict=True)), dtype=np.int64, count=len(starts))
    if uncased:
        before = np.searchsorted([start for start, _ in uncased], starts, side="right") - 1
        past = np.array([end for _, end in uncased])
        of_word[(before >= 0) & (np.array(starts) < past[before])] = UNKNOWN
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


def uncased_stretches(text: str) -> list[tuple[int, int]]:
    """Characters ``[start, end)`` of lines and sentences of a text that have no capital letter, although the text has some.

    A few words without a capital letter, as behind an abbreviation, are no stretch.
    """
    stretches, start = [], 0
    for match in _END.finditer(text + "\n"):
        piece = text[start : match.end()]
        ends_line = "\n" in match[0]
        if not any(map(str.isupper, piece)) and (
            (ends_line and _begins_line(text, start)) or len(piece.split()) >= LEAST_WORDS
        ):
            stretches.append((start, start + len(piece)))
        start = match.end()
    return stretches


def _begins_line(text: str, start: int) -> bool:
    return start == 0 or text[start - 1] == "\n"
