"""Windows around sentences and the candidate spans in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from examples.luke.features import context


@dataclass(frozen=True)
class Window:
    """Tokens of one input, and the candidates in them.

    Attributes:
        start, end: bounds in tokens of the document, end exclusive.
        candidates: spans in words of the document, end exclusive.
    """

    start: int
    end: int
    candidates: list[tuple[int, int]]


def sentence_windows(borders: Sequence[int], first: int, last: int, limit: int, longest: int, most: int) -> Iterator[Window]:
    """Windows that together contain all candidates of a sentence, each with as much context as fits.

    Candidates are spans of whole words with at most ``longest`` tokens, ordered by start, then by end. More than ``most``
    candidates are spread evenly over windows of the same tokens. A sentence that is longer than ``limit`` is split into
    windows that overlap by ``longest`` tokens, so that every candidate is complete in one of them.

    Args:
        borders: index of the first token of each word of the document, then the number of tokens.
        first: index of the sentence's first word.
        last: index of the word after its last.
        limit: maximum tokens of a window.
        longest: maximum tokens of a candidate.
        most: maximum candidates of a window.
    """
    begin, end = borders[first], borders[last]
    if end - begin <= limit:
        bounds = [(*context(begin, end, borders[-1], limit), begin, end)]
    else:
        step = limit - longest
        bounds = [(start, min(start + limit, end), start, start + step) for start in range(begin, end, step)]
    for start, stop, owned_start, owned_end in bounds:
        candidates = [
            (i, j)
            for i in range(first, last)
            if owned_start <= borders[i] < owned_end
            for j in range(i + 1, last + 1)
            if 0 < borders[j] - borders[i] <= longest  # a word of unusual spaces has no tokens
        ]
        for chunk in split_evenly(candidates, most):
            yield Window(start, stop, chunk)


def split_evenly(items: Sequence[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Split items, in order, into the fewest chunks of at most ``most`` items, of nearly equal size."""
    if not items:
        return []
    size = math.ceil(len(items) / math.ceil(len(items) / most))
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
