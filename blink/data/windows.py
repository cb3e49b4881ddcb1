"""Windows over texts longer than the model reads at once, and the window the original cuts around gold mentions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from blink.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens ``[start, end)`` of a text."""

    start: int
    end: int


def split_into_windows(n_tokens: int, room: int, overlap: int) -> list[Window]:
    """Cover ``n_tokens`` with windows of at most ``room`` tokens that overlap by ``overlap``.

    The last window is moved left to be full, so every token has as much context as the text offers. Any span of at
    most ``overlap + 1`` tokens lies whole in at least one window. A text without tokens has no window.

    Raises:
        SettingsError: ``overlap`` leaves windows no way forward.
    """
    if not 0 <= overlap < room:
        raise SettingsError(f"windows of {room} tokens cannot overlap by {overlap}; the context length must be larger")
    if n_tokens == 0:
        return []
    starts = list(range(0, max(n_tokens - room, 0), room - overlap))
    return [Window(s, s + room) for s in starts] + [Window(max(n_tokens - room, 0), n_tokens)]


def window_overlap(room: int, longest_span: int) -> int:
    """How far windows of ``room`` tokens overlap: a quarter, or more for spans of ``longest_span + 1`` tokens to lie whole in
    one; but a short window still has to move on.
    """
    return min(max(longest_span, room // 4), room - 1)


def owning_windows(windows: Sequence[Window], starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which window decides about each span ``[start, end)``; overlapping windows may score it twice, one is asked.

    Of two neighbours it is the one that shows more context towards the other: the span goes left while its middle lies
    left of the middle of their overlap. A span no longer than the overlap lies whole in its owner.

    Args:
        windows: as from `split_into_windows`.
        starts: first tokens. *Shape:* (n,).
        ends: one past the last tokens. *Shape:* (n,).

    Returns:
        positions in ``windows``. *Shape:* (n,), int64.
    """
    borders = np.array([a.end + b.start for a, b in pairwise(windows)], dtype=np.int64)
    return np.searchsorted(borders, np.asarray(starts) + np.asarray(ends), side="left")


@dataclass(frozen=True, slots=True)
class GoldWindow:
    """The window cut around the gold mentions of a labelled row.

    Attributes:
        window: tokens that are kept.
        kept: for each mention that fits, its place in the caller's list; by position.
        bounds: inclusive bounds of the kept mentions in the model's input, where ``[CLS]`` is position 0.
    """

    window: Window
    kept: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...]


def window_around_gold(n_tokens: int, spans: Sequence[tuple[int, int]], context_length: int) -> GoldWindow:
    """Cut the window that the original cuts for a labelled row: the gold mentions in the middle of ``context_length``.

    Mentions are taken by position; the last ones are dropped until first and last fit together, and a single one that
    does not fit is shortened. Nothing of the caller's is changed.

    Args:
        n_tokens: length of the text, without special tokens.
        spans: gold mentions ``[start, end)``, in any order; none means the beginning of the text is kept.
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
    # Not shortened to the last mention's end: a mention may hold a later one and reach beyond it.
    bounds = tuple((spans[i][0] - window.start + 1, min(spans[i][1], window.end) - window.start) for i in order)
    return GoldWindow(window, tuple(order), bounds)


def _centred(first: int, last: int, n_tokens: int, context_length: int) -> Window:
    core = last - first
    left_quota = (context_length - core) // 2 - 1
    right_quota = context_length - core - left_quota - 2
    left, right = first, n_tokens - last
    if left <= left_quota and right > right_quota:
        right_quota += left_quota - left
    elif left > left_quota and right <= right_quota:
        left_quota += right_quota - right
    return Window(first - min(left, max(left_quota, 0)), last + min(right, max(right_quota, 0)))
