"""Scores against the formula, each mode on spans written by hand, and properties of overlap resolution."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import SettingsError
from blink.linking.decoder import MODES, Decision, Thresholds, decide
from blink.linking.scoring import ScoredSpans, joint_scores, log_sigmoid, log_softmax

pytestmark = pytest.mark.quick

NONE = float("-inf")


def spans_of(*table: tuple[int, int, float, list[int], list[float]]) -> ScoredSpans:
    """Spans from (first, last, mention logit, rows, entity logits)."""
    if not table:
        return ScoredSpans.none(2)
    first, last, mention, rows, logits = zip(*table, strict=True)
    return ScoredSpans(
        np.array(first), np.array(last), np.array(mention, np.float32), np.array(rows), np.array(logits, np.float32)
    )


@st.composite
def scored(draw: st.DrawFn) -> ScoredSpans:
    """Spans with candidates, best first; few different numbers, so that there are ties; some have no candidates."""
    k = draw(st.integers(1, 4))
    table = []
    for _ in range(draw(st.integers(0, 8))):
        first = draw(st.integers(0, 12))
        n_candidates = draw(st.integers(0, k))
        logits = sorted((draw(st.sampled_from([-3.0, 0.0, 0.5, 4.0])) for _ in range(n_candidates)), reverse=True)
        rows = draw(st.lists(st.integers(0, 5), min_size=n_candidates, max_size=n_candidates, unique=True))
        mention = draw(st.sampled_from([NONE, -4.0, -0.5, 0.0, 2.0]))
        padding = k - n_candidates
        table.append((first, first + draw(st.integers(0, 4)), mention, rows + [-1] * padding, logits + [NONE] * padding))
    return spans_of(*table) if table else ScoredSpans.none(k)


CUTS = st.floats(-8, 0.5).map(lambda value: Thresholds(value, -1.0))


def overlap(spans: ScoredSpans, i: int, j: int) -> bool:
    return bool(spans.start[i] <= spans.end[j] and spans.start[j] <= spans.end[i])


# --- formulas -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=6))
def test_log_sigmoid_is_that_of_64_bits(values: list[float]) -> None:
    logs = log_sigmoid(np.array(values, np.float32))
    expected = [-math.log1p(math.exp(-x)) if x > -30 else x for x in values]
    assert logs.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert logs.dtype == np.float32


def test_log_sigmoid_at_the_ends() -> None:
    logs = log_sigmoid(np.array([-np.inf, -1e30, 1e30, np.inf], np.float32))
    assert logs.tolist() == [NONE, pytest.approx(-1e30), 0, 0]


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=6), st.integers(0, 3))
def test_log_softmax_is_a_distribution_over_what_is_there(values: list[float], missing: int) -> None:
    logits = np.array([values + [NONE] * missing], np.float32)
    logs = log_softmax(logits)
    assert np.exp(logs.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert (logs <= 1e-6).all()
    assert logs[0, len(values) :].tolist() == [NONE] * missing
    present = logs[0, : len(values)]
    assert present[np.array(values, np.float32).argmax()] == present.max()  # close logits can tie after rounding


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=5), st.integers(-1000, 1000))
def test_log_softmax_does_not_see_a_constant(values: list[float], by: int) -> None:
    logits = np.array([values], np.float64)
    assert np.allclose(log_softmax(logits), log_softmax(logits + by), atol=1e-6)


def test_log_softmax_at_the_ends() -> None:
    logs = log_softmax(np.array([[NONE, NONE], [0, NONE], [1e30, -1e30]], np.float32))
    assert logs.tolist() == [[NONE, NONE], [0, NONE], [0, pytest.approx(-2e30)]]
    assert log_softmax(np.empty((2, 0), np.float32)).shape == (2, 0)
    assert log_softmax(np.empty((0, 3), np.float32)).shape == (0, 3)


@given(scored())
def test_joint_scores_are_log_softmax_plus_log_sigmoid(spans: ScoredSpans) -> None:
    scores = joint_scores(spans)
    assert scores.shape == spans.rows.shape
    for i in range(len(spans)):
        logits = spans.entity_logits[i].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = logits - np.log(np.exp(logits).sum()) - np.log1p(np.exp(-np.float64(spans.mention_logits[i])))
        for one, other in zip(scores[i].tolist(), expected.tolist(), strict=True):
            assert one == pytest.approx(other, abs=1e-5) or (one == NONE and not other > NONE)


@given(scored())
def test_joint_scores_never_exceed_the_mention_s_own(spans: ScoredSpans) -> None:
    assert (joint_scores(spans) <= log_sigmoid(spans.mention_logits)[:, None] + 1e-6).all()


# --- each mode ------------------------------------------------------------------------------------------------------

HAND = spans_of(
    (0, 1, 3.0, [7, 1], [5.0, 1.0]),  # the best of all
    (1, 2, 2.0, [8, 1], [4.0, 3.9]),  # overlaps it, and hesitates
    (4, 4, 1.0, [7, 2], [2.0, -9.0]),  # the same entity again
    (6, 7, -6.0, [9, 2], [9.0, 1.0]),  # a sure entity of what is hardly a mention
)


@pytest.mark.parametrize(
    ("mode", "thresholds", "expected"),
    [
        ("joint", Thresholds(-2.9), [(0, 7), (2, 7)]),
        ("joint", Thresholds(-0.2), [(0, 7)]),
        ("joint", Thresholds(NONE), [(0, 7), (2, 7), (3, 9)]),
        ("joint", Thresholds(0.0), []),
        ("joint_0", Thresholds(-2.9), [(0, 7), (2, 7)]),
        ("top_entity_by_mention", Thresholds(0, 0.5), [(0, 7), (1, 8), (2, 7)]),
        ("top_entity_by_mention", Thresholds(0, NONE), [(3, 9), (0, 7), (1, 8), (2, 7)]),
        ("thresholded_entity_by_mention", Thresholds(2.5, 0.5), [(0, 7)]),
        ("thresholded_entity_by_mention", Thresholds(4.5, -9.0), [(3, 9), (0, 7)]),
        ("top_joint_by_mention", Thresholds(0), [(0, 7), (3, 9)]),
        ("best_entity_by_mention", Thresholds(99), [(3, 9), (0, 7)]),
    ],
)
def test_modes_by_hand(mode: str, thresholds: Thresholds, expected: list[tuple[int, int]]) -> None:
    assert [(d.span, d.row) for d in decide(HAND, mode, thresholds)] == expected


def test_decisions_carry_the_score_that_ranked_them() -> None:
    (best, *_) = decide(HAND, "joint", Thresholds(-2.9))
    expected = 5 - math.log(math.exp(5) + math.exp(1)) - math.log1p(math.exp(-3))
    assert best == Decision(0, 7, pytest.approx(expected, abs=1e-6))
    assert decide(HAND, "best_entity_by_mention", Thresholds(0))[0].score == 9.0


def test_thresholds_are_strict() -> None:
    spans = spans_of((0, 0, float("inf"), [3, -1], [1.0, NONE]))
    assert decide(spans, "joint", Thresholds(0.0)) == []
    assert decide(spans, "joint", Thresholds(-1e-9)) == [Decision(0, 3, 0.0)]
    mention = spans_of((0, 0, 2.0, [3, -1], [1.0, NONE]))
    assert decide(mention, "top_entity_by_mention", Thresholds(0, 2.0)) == []


def test_unknown_modes_and_missing_thresholds_are_refused() -> None:
    with pytest.raises(SettingsError, match="allowed are probability, joint, joint_0"):
        decide(HAND, "top", Thresholds(0))
    for name in ("top_entity_by_mention", "thresholded_entity_by_mention"):
        with pytest.raises(SettingsError, match="needs a mention threshold"):
            decide(ScoredSpans.none(3), name, Thresholds(0))


@pytest.mark.parametrize("mode", MODES)
def test_no_spans_and_no_candidates_give_no_links(mode: str) -> None:
    thresholds = Thresholds(NONE, NONE)
    assert decide(ScoredSpans.none(3), mode, thresholds) == []
    assert decide(ScoredSpans.none(0), mode, thresholds) == []
    assert decide(spans_of((0, 1, 5.0, [-1, -1], [NONE, NONE])), mode, thresholds) == []


def test_ties_go_to_the_smaller_start_then_end_then_row() -> None:
    rows, logits = [4, -1], [1.0, NONE]
    late, early = (3, 4, 0.0, rows, logits), (2, 3, 0.0, rows, logits)
    assert [d.span for d in decide(spans_of(late, early), "joint", Thresholds(-9))] == [1]
    wide, narrow = (2, 4, 0.0, rows, logits), (2, 2, 0.0, rows, logits)
    assert [d.span for d in decide(spans_of(wide, narrow), "joint", Thresholds(-9))] == [1]
    high, low = (2, 2, 0.0, [9, -1], logits), (2, 2, 0.0, [4, -1], logits)
    assert [d.row for d in decide(spans_of(high, low), "joint", Thresholds(-9))] == [4]


# --- resolution of overlaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if not mode.overlaps])
@given(spans=scored(), thresholds=CUTS)
def test_chosen_spans_never_overlap(mode: str, spans: ScoredSpans, thresholds: Thresholds) -> None:
    linked = [d.span for d in decide(spans, mode, thresholds)]
    assert not any(overlap(spans, i, j) for i, j in combinations(linked, 2))


@pytest.mark.parametrize("mode", MODES)
@given(spans=scored(), thresholds=CUTS)
def test_decisions_are_best_first_and_of_candidates(mode: str, spans: ScoredSpans, thresholds: Thresholds) -> None:
    decisions = decide(spans, mode, thresholds)
    scores = MODES[mode].scores(spans)
    assert [d.score for d in decisions] == sorted((d.score for d in decisions), reverse=True)
    assert all(d.row == spans.rows[d.span, 0] >= 0 and d.score == scores[d.span, 0] for d in decisions)
    if MODES[mode].once:
        assert len({d.row for d in decisions}) == len(decisions)


@given(spans=scored(), thresholds=CUTS)
def test_a_span_above_the_threshold_is_only_missed_for_a_better_one_in_its_way(
    spans: ScoredSpans, thresholds: Thresholds
) -> None:
    decisions = decide(spans, "joint", thresholds)
    score = joint_scores(spans)[:, 0]

    def order(i: int) -> tuple[float, int, int, int]:
        return (-float(score[i]), int(spans.start[i]), int(spans.end[i]), int(spans.rows[i, 0]))

    linked = {d.span for d in decisions}
    for i in set(range(len(spans))) - linked:
        passes = score[i] > thresholds.score and spans.rows[i, 0] >= 0
        assert not passes or any(overlap(spans, i, j) and order(j) <= order(i) for j in linked)


@given(spans=scored(), low=st.floats(-8, 0), by=st.floats(0, 4))
def test_a_higher_threshold_keeps_the_head_of_the_list(spans: ScoredSpans, low: float, by: float) -> None:
    # Spans are taken by descending score, so those above the higher threshold never see those below it.
    some, fewer = decide(spans, "joint", Thresholds(low)), decide(spans, "joint", Thresholds(low + by))
    assert fewer == some[: len(fewer)]
    assert all(d.score <= low + by for d in some[len(fewer) :])


@given(spans=scored(), thresholds=CUTS, seed=st.integers(0, 99))
def test_the_order_of_spans_does_not_matter(spans: ScoredSpans, thresholds: Thresholds, seed: int) -> None:
    permutation = np.random.default_rng(seed).permutation(len(spans))
    shuffled = spans.select(permutation)

    def links_of(table: ScoredSpans) -> list[tuple[int, int, int, float]]:
        return [(int(table.start[d.span]), int(table.end[d.span]), d.row, d.score) for d in decide(table, "joint", thresholds)]

    assert links_of(shuffled) == links_of(spans)


# --- ScoredSpans ----------------------------------------------------------------------------------------------------


@given(scored())
def test_selecting_and_joining_undo_each_other(spans: ScoredSpans) -> None:
    singles = [spans.select(np.array([i])) for i in range(len(spans))]
    joined = ScoredSpans.concatenate([ScoredSpans.none(spans.rows.shape[1]), *singles])
    for name in ScoredSpans.__dataclass_fields__:
        assert np.array_equal(getattr(joined, name), getattr(spans, name))
        assert getattr(joined, name).dtype == getattr(spans, name).dtype


def test_shifting_moves_positions_only() -> None:
    moved = HAND.shift(10)
    assert moved.start.tolist() == [10, 11, 14, 16]
    assert moved.end.tolist() == [11, 12, 14, 17]
    assert HAND.start.tolist() == [0, 1, 4, 6]
    assert moved.rows is HAND.rows
