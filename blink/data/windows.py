"""Windows of texts that exceed the model's context length, and the original's window around gold mentions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from blink.data.sentences import LINE, PARAGRAPH, SENTENCE, TEXT, WEAK
from blink.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens ``[start, end)`` of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class WindowSizes:
    """Sizes of windows of whole sentences, in tokens without special tokens.

    Attributes:
        room: most of a window.
        target: where a window ends if it can.
        overlap: of the windows of a sentence that is longer than ``room``.
    """

    room: int
    target: int
    overlap: int


def split_into_windows(n_tokens: int, room: int, overlap: int) -> list[Window]:
    """Cover ``n_tokens`` with windows of at most ``room`` tokens that overlap by ``overlap``.

    The last window starts early enough to be full, so that every token has the largest possible context. Any span of at
    most ``overlap + 1`` tokens is inside at least one window. A text without tokens has no window.

    Raises:
        SettingsError: ``overlap`` is not from 0 to below ``room``.
    """
    if not 0 <= overlap < room:
        raise SettingsError(f"windows of {room} tokens cannot overlap by {overlap}; the context length must be larger")
    if n_tokens == 0:
        return []
    starts = list(range(0, max(n_tokens - room, 0), room - overlap))
    return [Window(s, s + room) for s in starts] + [Window(max(n_tokens - room, 0), n_tokens)]


def window_overlap(room: int, longest_span: int) -> int:
    """Overlap of windows of ``room`` tokens: a quarter, or more so that a window contains each span of ``longest_span + 1``
    tokens, but always less than ``room``.
    """
    return min(max(longest_span, room // 4), room - 1)


def pack_sentences(n_tokens: int, bounds: np.ndarray, ranks: np.ndarray, sizes: WindowSizes) -> list[Window]:
    """Cover ``n_tokens`` with windows of whole sentences, in order.

    A window never runs over the end of a paragraph, nor of a line that is a text of its own, unless the whole paragraph has at
    most ``sizes.target`` tokens and joins no texts, nor of a sentence of a line that joins texts. It ends at the last sentence
    end that leaves it at most ``sizes.target`` tokens, or else at the first that leaves it at most ``sizes.room``; where there
    is none, at a weak boundary by the same rule. What has no boundary within ``sizes.room`` tokens is covered by overlapping
    windows up to the next one, see `split_into_windows`.

    Args:
        n_tokens: of the text.
        bounds: tokens before which the text may be split, ascending. *Shape:* (b,), int64.
        ranks: of the bounds, see `blink.data.sentences`. *Shape:* (b,), int64.
        sizes: of the windows.
    """
    windows: list[Window] = []
    for start, end in pairwise([0, *bounds[ranks >= PARAGRAPH].tolist(), n_tokens]):
        first, past = np.searchsorted(bounds, [start, end], side="right")
        splits = end - start > sizes.target or (ranks[first:past] == TEXT).any()
        lines = bounds[first:past][ranks[first:past] >= LINE].tolist() if splits else []
        for line in pairwise([start, *(at for at in lines if at < end), end]):
            windows += _pack_line(Window(*line), bounds, ranks, sizes)
    return windows


def _pack_line(line: Window, bounds: np.ndarray, ranks: np.ndarray, sizes: WindowSizes) -> Iterator[Window]:
    start = line.start
    while start < line.end:
        end = _window_end(start, line.end, bounds, ranks, sizes)
        for window in split_into_windows(end - start, sizes.room, sizes.overlap):
            yield Window(start + window.start, start + window.end)
        start = end


def _window_end(start: int, last: int, bounds: np.ndarray, ranks: np.ndarray, sizes: WindowSizes) -> int:
    if last - start <= sizes.target:
        return last
    ends = [start, start + sizes.target, min(start + sizes.room, last)]
    first, past_target, past_room = np.searchsorted(bounds, ends, side="right")
    for least in (SENTENCE, WEAK):
        within = np.flatnonzero(ranks[first:past_target] >= least)
        if len(within):
            return int(bounds[first + within[-1]])
        beyond = np.flatnonzero(ranks[past_target:past_room] >= least)
        if len(beyond):
            return int(bounds[past_target + beyond[0]])
        if last - start <= sizes.room:
            return last
    return min(int(bounds[past_room]), last) if past_room < len(bounds) else last


def owning_windows(windows: Sequence[Window], starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The window that each span ``[start, end)`` is assigned to, since overlapping windows may both score it.

    Of two consecutive windows, the span is assigned to the one with more context around it: to the first if the middle of the
    span is before the middle of their overlap. A span no longer than the overlap is inside its window.

    Args:
        windows: as from `split_into_windows`.
        starts: first tokens. *Shape:* (n,).
        ends: one past the last tokens. *Shape:* (n,).

    Returns:
        indices into ``windows``. *Shape:* (n,), int64.
    """
    borders = np.array([a.end + b.start for a, b in pairwise(windows)], dtype=np.int64)
    return np.searchsorted(borders, np.asarray(starts) + np.asarray(ends), side="left")


@dataclass(frozen=True, slots=True)
class GoldWindow:
    """The window around the gold mentions of a labelled row.

    Attributes:
        window: tokens of the window.
        mentions: indices of the mentions inside the window, in order of position.
        bounds: inclusive bounds of these mentions in the model's input, where ``[CLS]`` is position 0.
    """

    window: Window
    mentions: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...]


def window_around_gold(n_tokens: int, spans: Sequence[tuple[int, int]], context_length: int) -> GoldWindow:
    """The window of the original for a labelled row, with the gold mentions in its middle.

    The last mentions are dropped until the others fit into the window; a single mention that does not fit is truncated.

    Args:
        n_tokens: length of the text, without special tokens.
        spans: gold mentions ``[start, end)``, in any order; without any, the window is the beginning of the text.
        context_length: input length, ``[CLS]`` and ``[SEP]`` included.
    """
    room = context_length - 2
    if not spans:
        return GoldWindow(Window(0, min(n_tokens, room)), (), ())
    order = sorted(range(len(spans)), key=lambda i: spans[i])
    first = spans[order[0]][0]
    while len(order) > 1 and spans[order[-1]][1] - first > room:
        order.pop()
    last = min(spans[order[-1]][1], first + room)
    window = _centred(first, last, n_tokens, context_length)
    # Not truncated at the end of the last mention, since an earlier mention may contain it and end later.
    bounds = tuple((spans[i][0] - window.start + 1, min(spans[i][1], window.end) - window.start) for i in order)
    return GoldWindow(window, tuple(order), bounds)


def _centred(first: int, last: int, n_tokens: int, context_length: int) -> Window:
    core = last - first
    left_quota = (context_length - core) // 2 - 1
    right_quota = context_length - core - left_quota - 2
    tokens_before, tokens_after = first, n_tokens - last
    if tokens_before <= left_quota and tokens_after > right_quota:
        right_quota += left_quota - tokens_before
    elif tokens_before > left_quota and tokens_after <= right_quota:
        left_quota += right_quota - tokens_after
    return Window(first - min(tokens_before, max(left_quota, 0)), last + min(tokens_after, max(right_quota, 0)))
