"""Windows cover a text, every short span has one owner that holds it, gold mentions stay inside."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.windows import Window, owning_windows, split_into_windows, window_around_gold
from blink.errors import SettingsError

pytestmark = pytest.mark.quick


@st.composite
def window_sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length of a text, room and overlap."""
    room = draw(st.integers(1, 24))
    return draw(st.integers(0, 120)), room, draw(st.integers(0, room - 1))


def short_spans(n: int, longest: int) -> list[tuple[int, int]]:
    return [(s, s + length) for s in range(n) for length in range(1, longest + 1) if s + length <= n]


# --- split_into_windows ----------------------------------------------------------------------------------------------------


@given(window_sizes())
def test_windows_cover_the_text_in_order(sizes: tuple[int, int, int]) -> None:
    n, room, overlap = sizes
    windows = split_into_windows(n, room, overlap)
    assert {t for w in windows for t in range(w.start, w.end)} == set(range(n))
    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(windows))
    assert all(a.end - b.start >= overlap for a, b in pairwise(windows))


@given(window_sizes())
def test_every_window_is_as_full_as_the_text_allows(sizes: tuple[int, int, int]) -> None:
    n, room, overlap = sizes
    assert all(w.end - w.start == min(room, n) for w in split_into_windows(n, room, overlap))


def test_windows_by_hand() -> None:
    assert split_into_windows(0, 5, 2) == []
    assert split_into_windows(5, 5, 2) == [Window(0, 5)]
    assert split_into_windows(6, 5, 2) == [Window(0, 5), Window(1, 6)]
    assert split_into_windows(8, 5, 2) == [Window(0, 5), Window(3, 8)]
    assert split_into_windows(9, 5, 2) == [Window(0, 5), Window(3, 8), Window(4, 9)]


def test_there_are_no_more_windows_than_needed() -> None:
    # 1000 tokens, a step of 94: the first window and ceil(874 / 94) steps.
    assert len(split_into_windows(1000, 126, 32)) == 1 + -(-874 // 94)


@pytest.mark.parametrize(("room", "overlap"), [(5, 5), (5, 6), (0, 0), (0, -1), (5, -1)])
def test_windows_that_cannot_move_on_are_refused(room: int, overlap: int) -> None:
    with pytest.raises(SettingsError, match="cannot overlap"):
        split_into_windows(10, room, overlap)


# --- owning_windows ---------------------------------------------------------------------------------------------------------


@given(window_sizes())
def test_a_short_span_lies_whole_in_its_owner(sizes: tuple[int, int, int]) -> None:
    n, room, overlap = sizes
    windows, spans = split_into_windows(n, room, overlap), short_spans(n, overlap + 1)
    owners = owning_windows(windows, np.array([s for s, _ in spans]), np.array([e for _, e in spans]))
    assert owners.shape == (len(spans),)
    for (start, end), owner in zip(spans, owners.tolist(), strict=True):
        assert windows[owner].start <= start
        assert end <= windows[owner].end


@given(window_sizes())
def test_the_owner_shows_most_context_on_the_scanter_side(sizes: tuple[int, int, int]) -> None:
    n, room, overlap = sizes
    windows, spans = split_into_windows(n, room, overlap), short_spans(n, overlap + 1)
    owners = owning_windows(windows, np.array([s for s, _ in spans]), np.array([e for _, e in spans]))

    def scanter(window: Window, start: int, end: int) -> float:
        # The ends of the text are no loss of context: nothing is hidden behind them.
        before = start - window.start if window.start else float("inf")
        after = window.end - end if window.end < n else float("inf")
        return min(before, after)

    for (start, end), owner in zip(spans, owners.tolist(), strict=True):
        assert scanter(windows[owner], start, end) == max(scanter(w, start, end) for w in windows)


def test_one_window_owns_everything_and_no_span_needs_no_owner() -> None:
    assert owning_windows([Window(0, 5)], np.array([0, 4]), np.array([1, 5])).tolist() == [0, 0]
    assert owning_windows([Window(0, 5), Window(3, 8)], np.array([], int), np.array([], int)).tolist() == []


def test_of_two_equally_good_windows_the_left_one_decides() -> None:
    windows = [Window(0, 6), Window(2, 8)]
    assert owning_windows(windows, np.array([3, 3, 4]), np.array([4, 5, 5])).tolist() == [0, 0, 1]


# --- window_around_gold ---------------------------------------------------------------------------------------------

GOLDEN = [
    (40, [(30, 32)], (22, 40), [(9, 10)]),
    (40, [(2, 4), (30, 32)], (0, 18), [(3, 4)]),
    (40, [(25, 27), (30, 32)], (20, 38), [(6, 7), (11, 12)]),
    (10, [(2, 4), (5, 6)], (0, 10), [(3, 4), (6, 6)]),
    (40, [(5, 30)], (5, 23), [(1, 18)]),
    (19, [(0, 19)], (0, 18), [(1, 18)]),
    (40, [(12, 28)], (11, 29), [(2, 17)]),
    (40, [(10, 27)], (10, 28), [(1, 17)]),
]
"""What the original cuts for a context length of 20: tokens, gold spans, window, inclusive bounds with [CLS] at 0."""


@pytest.mark.parametrize(("n", "spans", "window", "bounds"), GOLDEN)
def test_windows_around_gold_are_those_of_the_original(
    n: int, spans: list[tuple[int, int]], window: tuple[int, int], bounds: list[tuple[int, int]]
) -> None:
    gold_window = window_around_gold(n, spans, 20)
    assert (gold_window.window.start, gold_window.window.end) == window
    assert list(gold_window.bounds) == bounds


@st.composite
def gold(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], int]:
    """Length of a text, gold spans in any order (they may touch, overlap and hold each other), and context length."""
    n = draw(st.integers(1, 60))
    starts = draw(st.lists(st.integers(0, n - 1), max_size=5))
    return n, [(s, draw(st.integers(s + 1, n))) for s in starts], draw(st.integers(3, 40))


@given(gold())
def test_the_window_is_full_and_inside_the_text(case: tuple[int, list[tuple[int, int]], int]) -> None:
    n, spans, length = case
    window = window_around_gold(n, spans, length).window
    assert 0 <= window.start < window.end <= n
    assert window.end - window.start == min(n, length - 2)


@given(gold())
def test_kept_mentions_keep_their_tokens(case: tuple[int, list[tuple[int, int]], int]) -> None:
    n, spans, length = case
    before = list(spans)
    gold_window = window_around_gold(n, spans, length)
    assert spans == before
    assert len(gold_window.mentions) == len(gold_window.bounds)
    assert bool(gold_window.mentions) == bool(spans)
    for mention, (first, last) in zip(gold_window.mentions, gold_window.bounds, strict=True):
        start, end = spans[mention]
        assert 1 <= first <= last <= length - 2
        # Position 1 of the input is the window's first token.
        assert gold_window.window.start + first - 1 == start
        assert gold_window.window.start + last == min(end, gold_window.window.end)


@given(gold())
def test_mentions_are_kept_by_position_and_the_rest_dropped_from_the_end(case: tuple[int, list[tuple[int, int]], int]) -> None:
    n, spans, length = case
    gold_window = window_around_gold(n, spans, length)
    by_position = sorted(range(len(spans)), key=lambda i: spans[i])
    assert list(gold_window.mentions) == by_position[: len(gold_window.mentions)]
    if spans and len(gold_window.mentions) < len(spans):
        first, dropped = spans[by_position[0]], spans[by_position[len(gold_window.mentions)]]
        assert dropped[1] - first[0] > length - 2 or any(
            spans[i][1] - first[0] > length - 2 for i in by_position[len(gold_window.mentions) :]
        )


@given(gold())
def test_a_text_that_fits_is_kept_whole(case: tuple[int, list[tuple[int, int]], int]) -> None:
    n, spans, _ = case
    gold_window = window_around_gold(n, spans, n + 2)
    assert gold_window.window == Window(0, n)
    assert [(spans[i][0] + 1, spans[i][1]) for i in gold_window.mentions] == list(gold_window.bounds)
    assert len(gold_window.mentions) == len(spans)


def test_a_mention_that_holds_a_later_one_keeps_its_end() -> None:
    assert window_around_gold(40, [(0, 3), (1, 2)], 20).bounds == ((1, 3), (2, 2))


def test_without_gold_the_beginning_is_kept() -> None:
    gold_window = window_around_gold(40, [], 20)
    assert (gold_window.window, gold_window.mentions, gold_window.bounds) == (Window(0, 18), (), ())
    assert window_around_gold(0, [], 20).window == Window(0, 0)
