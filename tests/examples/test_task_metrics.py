"""Metrics against worked cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.luke.metrics import answer_f1, exact_match, micro_scores, normalise_answer, record_scores
from examples.ner.tags import TagSpan, as_iob1, entity_scores, span_tags, tag_spans
from examples.reading_comprehension.answers import squad_scores

pytestmark = pytest.mark.quick

TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=12)


class TestMicroScores:
    def test_by_hand(self) -> None:
        gold = [{"person"}, {"place", "location"}, set(), {"time"}]
        predicted = [{"person", "entity"}, {"place"}, {"event"}, set()]
        scores = micro_scores(gold, predicted)
        assert scores == {"precision": 2 / 4, "recall": 2 / 4, "f1": 0.5}

    @pytest.mark.parametrize("predicted", [[set(), set()], [{"x"}, set()]])
    def test_nothing_found_or_nothing_right_is_0(self, predicted: list[set[str]]) -> None:
        assert micro_scores([{"a"}, {"b"}], predicted)["f1"] == 0.0

    def test_nothing_there_and_nothing_found_is_0(self) -> None:
        assert micro_scores([set()], [set()]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


class TestTags:
    @pytest.mark.parametrize(
        ("tags", "spans"),
        [
            ("O I-PER I-PER O", [(1, 3, "PER")]),
            ("B-PER I-PER O", [(0, 2, "PER")]),
            ("I-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
            ("I-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),
            ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
            ("O O", []),
            ("I-ORG", [(0, 1, "ORG")]),
            ("I-work-of-art", [(0, 1, "work-of-art")]),
        ],
    )
    def test_spans_of_both_schemes(self, tags: str, spans: list[tuple[int, int, str]]) -> None:
        assert tag_spans(tags.split()) == [TagSpan(*span) for span in spans]

    @given(TAGS)
    def test_schemes_mean_the_same(self, tags: list[str]) -> None:
        spans = tag_spans(tags)
        second = span_tags(spans, len(tags))
        first = as_iob1(second)
        assert tag_spans(second) == tag_spans(first) == spans

    @given(TAGS)
    def test_the_first_scheme_begins_anew_only_between_neighbours_of_a_type(self, tags: list[str]) -> None:
        written = as_iob1(span_tags(tag_spans(tags), len(tags)))
        for before, tag in zip(["O", *written], written, strict=False):
            assert not tag.startswith("B-") or before[2:] == tag[2:]

    def test_scores_as_conlleval_counts(self) -> None:
        # Two right of three found and four there: a wrong border and a wrong type count nothing.
        gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O", "B-MISC"]]
        predicted = [["B-PER", "I-PER", "O", "O"], ["B-ORG", "I-ORG", "B-MISC"]]
        scores = entity_scores(gold, predicted)
        assert scores["precision"] == pytest.approx(2 / 3)
        assert scores["recall"] == pytest.approx(2 / 4)
        assert scores["f1"] == pytest.approx(4 / 7)


class TestAnswers:
    @pytest.mark.parametrize(
        ("text", "plain"),
        [
            ("The  U.S. President,", "us president"),
            ("An apple a day", "apple day"),
            ("theatre", "theatre"),
            ("St. John's", "st johns"),
            ("—dash", "—dash"),
            ("the", ""),
        ],
    )
    def test_normalised(self, text: str, plain: str) -> None:
        assert normalise_answer(text) == plain

    @pytest.mark.parametrize(
        ("predicted", "gold", "exact", "f1"),
        [
            ("the Black Forest", "Black Forest", 1, 1.0),
            ("Black Forest in Germany", "Black Forest", 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
            ("Vienna", "Prague", 0, 0.0),
            ("", "", 1, 1.0),
            ("the", "", 1, 1.0),
            ("Vienna", "", 0, 0.0),
            ("new new york", "new york", 0, 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ],
    )
    def test_exact_match_and_f1(self, predicted: str, gold: str, exact: int, f1: float) -> None:
        assert exact_match(predicted, gold) == exact
        assert answer_f1(predicted, gold) == pytest.approx(f1)

    @given(st.text(alphabet="abc the.", max_size=12), st.text(alphabet="abc the.", max_size=12))
    def test_f1_is_symmetric_and_1_where_equal(self, one: str, other: str) -> None:
        assert answer_f1(one, other) == pytest.approx(answer_f1(other, one))
        assert answer_f1(one, one) == 1.0

    def test_record_takes_the_best_gold_answer_and_counts_no_answer_as_0(self) -> None:
        questions = [("a", ["Lake Thun", "Thun"]), ("b", ["Rhine"]), ("c", ["Bern"])]
        scores = record_scores(questions, {"a": "thun", "b": "the river Rhine"})
        assert scores["exact_match"] == pytest.approx(100 / 3)
        assert scores["f1"] == pytest.approx(100 * (1 + 2 / 3) / 3)

    def test_squad_with_and_without_answers(self) -> None:
        questions = [("a", ["1571"]), ("b", ["the king", "king"]), ("c", [])]
        scores = squad_scores(questions, {"a": "in 1571", "b": "King", "c": "Vienna"})
        assert scores["exact"] == pytest.approx(100 / 3)
        assert scores["f1"] == pytest.approx(100 * (2 / 3 + 1) / 3)
        assert (scores["HasAns_exact"], scores["HasAns_total"]) == (50.0, 2)
        assert (scores["NoAns_exact"], scores["NoAns_f1"], scores["NoAns_total"]) == (0.0, 0.0, 1)

    def test_squad_of_answerable_questions_has_no_numbers_of_others(self) -> None:
        assert set(squad_scores([("a", ["x"])], {"a": "x"})) == {
            *("exact", "f1", "total"),
            *("HasAns_exact", "HasAns_f1", "HasAns_total"),
        }

    def test_squad_best_threshold(self) -> None:
        # By odds: right answer, then a right "none", then a wrong answer to a question without one.
        questions = [("a", ["x"]), ("b", []), ("c", [])]
        answers, odds = {"a": "x", "b": "", "c": "y"}, {"a": -3.0, "b": -1.0, "c": 0.5}
        scores = squad_scores(questions, answers, odds)
        assert scores["exact"] == pytest.approx(200 / 3)
        assert (scores["best_exact"], scores["best_exact_thresh"]) == (pytest.approx(100.0), -3.0)
