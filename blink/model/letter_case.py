"""Letter case of words, which a lower-casing tokenizer drops: a class per token that the context encoder reads as an embedding.

The class travels in the high bits of a token's id (its *code*), so that whatever moves ids moves it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from blink.data.sentences import TEXT, boundaries
from blink.data.text_starts import LEAST_WORDS

STRIDE = 1 << 20
"""A code is ``id + STRIDE * class``; no vocabulary is as large."""
UNKNOWN, LOWER, TITLE, UPPER, MIXED = range(5)
CLASSES = 5
"""UNKNOWN: no letter, or in a line or sentence without any capital letter, whose lower case tells nothing; LOWER ``word``;
TITLE ``Word``, ``I``; UPPER ``WORD``; MIXED ``iPhone``, ``McDonald``."""
REACH = 4
"""Words next to a capital letter whose small letters tell something, in a sentence that may be several."""
_WORD = re.compile(r"\S+")
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

    A few words without a capital letter, as behind an abbreviation, are no stretch. Where a line joins texts, a sentence that
    begins with a small letter may be several: its words far from any capital letter are a stretch too.
    """
    # Behind the blanks, as sentences end here.
    starts = {_behind_blanks(text, boundary.at) for boundary in boundaries(text) if boundary.rank == TEXT}
    bounds = sorted({0, len(text), *starts, *(match.end() for match in _END.finditer(text))})
    stretches: list[tuple[int, int]] = []
    for start, end in pairwise(bounds):
        sentence = text[start:end]
        if not any(map(str.isupper, sentence)):
            if len(sentence.split()) >= LEAST_WORDS or (_is_line_end(text, start) and _is_line_end(text, end)):
                stretches.append((start, end))
        elif sentence[0].islower() and not starts.isdisjoint((start, end)):
            stretches += _far_from_capitals(list(_WORD.finditer(text, start, end)))
    return stretches


def _behind_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _is_line_end(text: str, at: int) -> bool:
    return at in (0, len(text)) or text[at - 1] == "\n"


def _far_from_capitals(words: list[re.Match[str]]) -> Iterator[tuple[int, int]]:
    capitals = [i for i, word in enumerate(words) if any(map(str.isupper, word[0]))]
    for before, after in pairwise([-1 - REACH, *capitals, len(words) + REACH]):
        inside = words[before + REACH + 1 : max(after - REACH, 0)]
        if len(inside) >= LEAST_WORDS:
            yield inside[0].start(), inside[-1].end()
