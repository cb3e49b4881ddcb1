from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.errors import DataError, SettingsError
from blink.evaluation.matching import EntitySpan, MatchCounts, Matching, count_matches, match_pairs, overlapping, same_entity

pytestmark = pytest.mark.quick

MATCHINGS: tuple[Matching, ...] = ("weak", "strong")


def triples(*items: tuple[str | None, int, int]) -> list[EntitySpan]:
    return [EntitySpan(*item) for item in items]


spans = st.builds(lambda start, length: (start, start + length), st.integers(0, 12), st.integers(1, 5))
mentions = st.builds(lambda id, span: EntitySpan(id, *span), st.sampled_from(["1", "2", "q5", "Q5", None, ""]), spans)
mention_lists = st.lists(mentions, max_size=6)


def hits(g: EntitySpan, p: EntitySpan, matching: Matching) -> bool:
    """The definition of one hit, written on sets of positions."""
    equal = (g.start, g.end) == (p.start, p.end)
    shared = set(range(g.start or 0, g.end or 0)) & set(range(p.start or 0, p.end or 0))
    return (g.id or "").lower() == (p.id or "").lower() and (equal if matching == "strong" else bool(shared))


def largest_by_search(gold: Sequence[EntitySpan], predicted: Sequence[EntitySpan], matching: Matching) -> int:
    """Try every way to pair off without crossing."""
    gold, predicted = (sorted(side, key=lambda t: t.end or 0) for side in (gold, predicted))

    def search(g: int, p: int) -> int:
        if g == len(gold):
            return 0
        totals = [1 + search(g + 1, q + 1) for q in range(p, len(predicted)) if hits(gold[g], predicted[q], matching)]
        return max([search(g + 1, p), *totals])

    return search(0, 0)


def test_agrees_with_the_original_on_recorded_cases(parity: Path) -> None:
    path = parity / "golden" / "tp_cases.json"
    if not path.is_file():
        pytest.skip(f"needs {path.name}")
    cases = json.loads(path.read_text())
    assert len(cases) == 300
    for case in cases:
        assert count_matches(triples(*case["gold"]), triples(*case["pred"])) == (case["weak"], case["strong"]), case


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ([("A", 14, 18), ("B", 19, 35)], [("A", 14, 16), ("B", 24, 32)], (2, 0)),
        ([("A", 14, 18), ("B", 19, 35)], [("A", 14, 16), ("B", 19, 35)], (2, 1)),
        ([("A", 0, 10), ("B", 2, 5)], [("A", 0, 4), ("B", 2, 9)], (1, 0)),
        ([("A", 0, 10)], [("A", 0, 3), ("A", 4, 7)], (1, 0)),
        ([(None, 14, 18)], [("Q", 14, 16)], (0, 0)),
        ([], [("A", 0, 1)], (0, 0)),
        ([("A", 0, 1)], [], (0, 0)),
        ([("q5", 0, 1)], [("Q5", 0, 1)], (1, 1)),
        ([(None, 0, 1)], [("", 0, 1)], (1, 1)),
        ([("A", 0, 2)], [("A", 2, 4)], (0, 0)),
    ],
    ids=[
        *("both overlap", "one equal", "crossing", "two inside one", "no id"),
        *("no gold", "no prediction", "case", "None is empty", "touching"),
    ],
)
def test_stated_cases(gold: list, predicted: list, expected: tuple[int, int]) -> None:
    assert count_matches(triples(*gold), triples(*predicted)) == expected


def test_gold_without_spans_overlaps_everything() -> None:
    gold = [EntitySpan("A"), EntitySpan("B")]
    assert count_matches(gold, triples(("a", 3, 4), ("b", 90, 95))) == (2, 2)
    assert count_matches(gold, [EntitySpan("B"), EntitySpan("A")]) == (1, 1), "the order given is kept, and pairs may not cross"
    assert count_matches([EntitySpan("A", 0, 1), EntitySpan("B")], triples(("A", 7, 8))) == (1, 1), "one missing span is enough"
    assert overlapping(gold, triples(("X", 5, 6))) == [[True], [True]]


def test_prediction_without_span_against_spans_is_refused() -> None:
    with pytest.raises(DataError, match=r"predicted mention 1 .*no span"):
        count_matches(triples(("A", 0, 1)), [EntitySpan("A", 0, 1), EntitySpan("A")])


def test_unknown_matching_is_refused() -> None:
    with pytest.raises(SettingsError, match="'weak' or 'strong'"):
        match_pairs([], [], "exact")  # type: ignore[arg-type]


def test_sorting_is_by_end_alone() -> None:
    gold = triples(("A", 0, 9), ("B", 5, 9))
    assert count_matches(gold, triples(("A", 0, 9), ("B", 5, 9))) == (2, 2)
    assert count_matches(gold, triples(("B", 5, 9), ("A", 0, 9))) == (1, 1)


def test_pairs_are_indices_into_the_lists_given() -> None:
    gold = triples(("B", 20, 25), ("A", 0, 5))
    predicted = triples(("C", 7, 9), ("A", 1, 5), ("B", 20, 25))
    assert match_pairs(gold, predicted, "weak") == [(0, 2), (1, 1)]
    assert match_pairs(gold, predicted, "strong") == [(0, 2)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_weak_pairs_prefer_equal_spans(order: tuple[int, int]) -> None:
    predicted = triples(("A", 0, 10), ("A", 2, 12))
    predicted = [predicted[i] for i in order]
    assert match_pairs(triples(("A", 0, 10)), predicted, "weak") == [(0, order.index(0))]


def test_many_mentions_in_one_text() -> None:
    many = [EntitySpan("A", i, i + 1) for i in range(300)]
    assert count_matches(many, many) == (300, 300)


def test_same_entity_ignores_case() -> None:
    assert same_entity(EntitySpan("q5"), EntitySpan("Q5", 1, 2))
    assert not same_entity(EntitySpan(None), EntitySpan("Q5"))


@given(mention_lists, mention_lists, st.sampled_from(MATCHINGS))
@settings(max_examples=200)
def test_count_is_the_largest_pairing_without_crossing(
    gold: list[EntitySpan], predicted: list[EntitySpan], matching: Matching
) -> None:
    assert getattr(count_matches(gold, predicted), matching) == largest_by_search(gold, predicted, matching)


@given(mention_lists, mention_lists, st.sampled_from(MATCHINGS))
def test_pairs_are_hits_used_once_and_do_not_cross(
    gold: list[EntitySpan], predicted: list[EntitySpan], matching: Matching
) -> None:
    pairs = match_pairs(gold, predicted, matching)
    assert pairs == sorted(pairs) == match_pairs(gold, predicted, matching)
    assert all(hits(gold[g], predicted[p], matching) for g, p in pairs)
    assert len({g for g, _ in pairs}) == len({p for _, p in pairs}) == len(pairs)
    ends = sorted((gold[g].end or 0, predicted[p].end or 0) for g, p in pairs)
    assert [p for _, p in ends] == sorted(p for _, p in ends)


@given(mention_lists, mention_lists)
def test_counts_are_bounded_symmetric_and_strong_is_never_more_than_weak(
    gold: list[EntitySpan], predicted: list[EntitySpan]
) -> None:
    counts = count_matches(gold, predicted)
    assert counts == count_matches(predicted, gold)
    assert 0 <= counts.strong <= counts.weak <= min(len(gold), len(predicted))


@given(mention_lists)
def test_everything_hits_itself(gold: list[EntitySpan]) -> None:
    assert count_matches(gold, gold) == MatchCounts(len(gold), len(gold))


@given(mention_lists, mention_lists, st.integers(-50, 50))
def test_shifting_both_sides_changes_nothing(gold: list[EntitySpan], predicted: list[EntitySpan], shift: int) -> None:
    moved = [[EntitySpan(t.id, (t.start or 0) + shift, (t.end or 0) + shift) for t in side] for side in (gold, predicted)]
    assert count_matches(*moved) == count_matches(gold, predicted)
    assert overlapping(*moved) == overlapping(gold, predicted)
