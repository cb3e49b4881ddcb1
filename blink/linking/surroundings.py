"""Capitals of spans and of the words around them: ``Cook`` in ``Tim Cook`` is a piece of a longer name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from blink.model.config import FEATURE_GROUPS

SURROUNDINGS = FEATURE_GROUPS["surroundings"]
"""Columns of `surroundings`."""
_REACH = 40
"""Characters before and after a span that are searched for its neighbours."""
_WORD = re.compile(r"[^\W\d_][\w'’]*")
_LEFT = re.compile(r"(?<![\w-])(\w[\w'’.]*)[ \u00a0-]$")
"""The word directly before a span; a word within a compound such as ``anti-Vienna`` is no piece of a longer name."""
_RIGHT = re.compile(r"[ \u00a0-]([^\W_]+)(?!\w|-[a-z])")
"""The word directly after a span, other than in a compound such as ``Berlin-based``."""
_BEGINNING = re.compile(r"[ \u00a0][^\W_]+(?:['’]s)?[ \u00a0][a-z]")
"""A word behind a span that may begin another text: the word after it has a small letter."""
_OPENING = " \t\u00a0\"'“‘«([*#-–—"
_SENTENCE_ENDS = ".!?:\n\r•|"


@dataclass(frozen=True)
class TextContext:
    """The text around the spans of a window.

    Attributes:
        text: the whole text.
        bounds: characters ``[start, end)`` of each span.
        window: characters ``[start, end)`` of the window that the spans are in.
        is_cased: whether the line or sentence of each span has capital letters. *Shape:* (m,), or one value for all.
        is_joined: whether the line of the spans joins several texts, so that another may begin behind each of them.
    """

    text: str
    bounds: Sequence[tuple[int, int]]
    window: tuple[int, int]
    is_cased: np.ndarray | bool
    is_joined: bool = False

    @cached_property
    def strings(self) -> list[str]:
        """Text of each span."""
        return [self.text[start:end] for start, end in self.bounds]

    @cached_property
    def window_text(self) -> str:
        """Text of the window."""
        return self.text[slice(*self.window)]


def surroundings(contexts: Sequence[TextContext]) -> np.ndarray:
    """Measure the spans of several windows. *Shape:* (m, columns), float32."""
    rows = [row for context in contexts for row in _of_window(context)]
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(SURROUNDINGS))


def _of_window(context: TextContext) -> Iterator[tuple[float, ...]]:
    text, window, n = context.text, context.window, len(context.bounds)
    cased = context.is_cased.tolist() if isinstance(context.is_cased, np.ndarray) else [context.is_cased] * n
    if context.window_text.islower():
        # Nearly all questions: without a capital letter nothing but the position and the length is to be measured.
        for (start, end), is_cased in zip(context.bounds, cased, strict=True):
            yield 0, 0, 0, _is_first(text, start, window[0]), 0, 0, math.log(max(1, end - start)), is_cased, 0
        return
    words = _WORD.findall(context.window_text)
    capitals = _capitals(words) / max(1, len(words))
    for (start, end), string, is_cased in zip(context.bounds, context.strings, cased, strict=True):
        # What another window reads is no neighbour: with whole sentences in windows, it is another sentence.
        first, past = max(window[0], start - _REACH), min(window[1], end + _REACH)
        left, right = _LEFT.search(text[first:start]), _RIGHT.match(text[end:past])
        # A name that is repeated is no longer name.
        left = None if left is not None and left[1] == string else left
        right = None if right is not None and right[1] == string else right
        right = None if context.is_joined and _BEGINNING.match(text, end, past) else right
        left_capital = left is not None and left[1][0].isupper()
        left_is_first = left is not None and _is_first(text, start - len(left[0]), window[0])
        yield (
            left_capital and not left_is_first,
            left_capital and left_is_first,
            right is not None and right[1][0].isupper(),
            _is_first(text, start, window[0]),
            len(string) > 1 and string.isupper(),
            math.log1p(_capitals(_WORD.findall(string))),
            math.log(max(1, len(string))),
            is_cased,
            capitals,
        )


def _capitals(words: Sequence[str]) -> int:
    return sum(word[0].isupper() for word in words)


def _is_first(text: str, start: int, first: int) -> bool:
    """Whether a sentence or the window begins at a character. ``first``: of the window."""
    before = text[max(first, start - _REACH) : start].rstrip(_OPENING)
    return not before or before[-1] in _SENTENCE_ENDS
