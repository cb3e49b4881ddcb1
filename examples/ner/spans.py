"""Which words are read around a sentence, and which spans of it are looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Word pieces that are read at once, and the candidates in them.

    Attributes:
        start, end: pieces of the document.
        candidates: spans in words of the document: first, and the one behind the last.
    """

    start: int
    end: int
    candidates: list[tuple[int, int]]


def sentence_windows(borders: Sequence[int], first: int, last: int, limit: int, longest: int, most: int) -> Iterator[Window]:
    """Windows that together show all candidates of a sentence, each with as much as fits of the document around it.

    Candidates are the spans of whole words of at most ``longest`` pieces, by start, then by end. Where there are more than
    ``most``, they are shared out evenly over windows of the same pieces. A sentence that does not fit is read in parts that
    overlap by ``longest``, so that every candidate lies whole in one.

    Args:
        borders: piece at which each word of the document begins, and the number of all.
        first: first word of the sentence.
        last: word behind its last.
        limit: pieces that are read at once.
        longest: pieces of a candidate.
        most: candidates that are looked at, at once.
    """
    begin, end = borders[first], borders[last]
    if end - begin <= limit:
        bounds = [(*context(begin, end, borders[-1], limit), begin, end)]
    else:
        step = limit - longest
        bounds = [(at, min(at + limit, end), at, at + step) for at in range(begin, end, step)]
    for start, stop, owned, owned_end in bounds:
        candidates = [
            (i, j)
            for i in range(first, last)
            if owned <= borders[i] < owned_end
            for j in range(i + 1, last + 1)
            if 0 < borders[j] - borders[i] <= longest  # a word of odd spaces has no pieces
        ]
        for share in shares(candidates, most):
            yield Window(start, stop, share)


def context(begin: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """Pieces around a sentence: half of the room on its poorer side, or all there is, the rest on the other.

    Args:
        begin: first piece of the sentence.
        end: piece behind its last.
        length: pieces of the document.
        limit: pieces that are read at once, no fewer than the sentence has.
    """
    before, after = begin, length - end
    room = limit - (end - begin)
    if before < after:
        before = min(before, room // 2)
        after = min(after, room - before)
    else:
        after = min(after, room // 2)
        before = min(before, room - after)
    return begin - before, end + after


def shares(items: Sequence[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Items in their order, in as few parts of at most ``most`` as there can be, nearly equal."""
    if not items:
        return []
    size = math.ceil(len(items) / math.ceil(len(items) / most))
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
