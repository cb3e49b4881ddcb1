from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Link, LinkedText, Mention, Sample, TokenMention
from blink.errors import DataError, MismatchError, SettingsError
from blink.evaluation.counts import (
    GOLD_LABELS,
    PREDICTED_LABELS,
    Counts,
    EvaluatedText,
    Prediction,
    assess,
    counts_of,
    covered_mentions,
    evaluated_text,
)
from blink.evaluation.matching import EntitySpan, count_matches
from blink.evaluation.report import Report, evaluate, format_console_metrics, format_report, prediction_records

pytestmark = pytest.mark.quick

Item = tuple[Any, int, int]


def question(gold: list[Item], predicted: list[Item], name: str = "q") -> EvaluatedText:
    triples = tuple(EntitySpan(*item) for item in gold)
    covered = all(triple.id for triple in triples)
    return EvaluatedText(name, "x" * 30, triples, tuple(Prediction(*item, -1.5) for item in predicted), covered)


def total_counts(questions: Sequence[EvaluatedText]) -> Counts:
    return Counts(*map(sum, zip(*(counts_of(q, assess(q)) for q in questions), strict=True)))


spans = st.builds(lambda start, length: (start, start + length), st.integers(0, 20), st.integers(1, 5))
golds = st.lists(st.builds(lambda id, span: (id, *span), st.sampled_from(["1", "2", "3", None]), spans), max_size=3)
predictions = st.lists(st.builds(lambda id, span: (id, *span), st.sampled_from(["1", "2", "3"]), spans), max_size=3)
question_lists = st.lists(st.builds(question, golds, predictions), max_size=8)

HAND_MADE = [
    question([("1", 0, 5)], [("1", 0, 5)], "exact"),
    question([("1", 0, 5)], [("1", 0, 4)], "short"),
    question([("1", 0, 5)], [("2", 0, 5)], "other"),
    question([("1", 0, 5)], [], "nothing"),
    question([(None, 0, 5)], [("2", 0, 5)], "outside"),
    question([("1", 0, 5)], [("1", 0, 5), ("3", 9, 12)], "extra"),
]


def test_scores_of_hand_made_questions() -> None:
    report = evaluate(HAND_MADE)
    weak, strong = report.overall.weak, report.overall.strong
    assert (weak.correct, strong.correct, weak.predicted, weak.gold) == (3, 2, 6, 6)
    assert weak.precision == weak.recall == weak.f1 == 0.5
    assert strong.f1 == pytest.approx(1 / 3)
    covered = report.covered
    assert covered.questions == 5
    assert (covered.weak.correct, covered.weak.predicted, covered.weak.gold) == (3, 5, 5)


def test_label_table_of_hand_made_questions() -> None:
    report = evaluate(HAND_MADE)
    assert tuple(report.gold_labels) == GOLD_LABELS
    assert tuple(report.gold_labels.values()) == (2, 1, 1, 1, 1)
    assert report.predicted_labels == {"correct": 2, "wrong_span": 1, "wrong_entity": 2, "spurious": 1}


@pytest.mark.parametrize(
    ("gold", "predicted", "gold_labels", "predicted_labels"),
    [
        ([("1", 0, 10)], [("1", 0, 3), ("1", 4, 7)], ["wrong_span"], ["wrong_span", "wrong_span"]),
        ([("1", 0, 10)], [("1", 0, 10), ("1", 4, 12)], ["correct"], ["correct", "wrong_span"]),
        ([("1", 0, 5)], [("2", 0, 5), ("1", 3, 8)], ["wrong_span"], ["wrong_entity", "wrong_span"]),
        ([("1", 0, 5), ("2", 5, 9)], [("1", 5, 9)], ["missed_span", "wrong_entity"], ["wrong_entity"]),
        ([(None, 0, 5)], [], ["not_in_catalogue"], []),
        ([(None, 0, 5)], [("", 0, 5)], ["not_in_catalogue"], ["wrong_entity"]),
        ([], [("1", 0, 5)], [], ["spurious"]),
        ([], [], [], []),
    ],
)
def test_labels(gold: list[Item], predicted: list[Item], gold_labels: list[str], predicted_labels: list[str]) -> None:
    assessment = assess(question(gold, predicted))
    assert list(assessment.gold_labels) == gold_labels
    assert list(assessment.predicted_labels) == predicted_labels


def test_covered_mentions_of_questions_that_are_not_covered() -> None:
    mixed = question([("1", 0, 5), (None, 6, 9)], [("1", 0, 5), ("2", 6, 9), ("3", 20, 22), ("4", 4, 7)])
    inside = covered_mentions(mixed)
    assert [t.id for t in inside.gold] == ["1"]
    assert [t.id for t in inside.predicted] == ["1", "3", "4"], "what lies on the other mention alone counts for nothing"
    section = evaluate([mixed, question([(None, 0, 5)], [("2", 0, 5)])]).covered_mentions
    assert (section.questions, section.strong.correct, section.strong.predicted, section.strong.gold) == (1, 1, 3, 1)


@given(question_lists)
def test_sections_agree_where_everything_is_covered(questions: list[EvaluatedText]) -> None:
    covered = [q for q in questions if q.covered]
    report = evaluate(covered)
    assert report.overall == report.covered == report.covered_mentions
    mixed = evaluate(questions)
    assert mixed.covered_mentions.strong.correct <= mixed.overall.strong.correct
    assert mixed.covered_mentions.strong.gold == sum(bool(t.id) for q in questions for t in q.gold)


def test_gold_without_id_is_never_found() -> None:
    counts = total_counts([question([(None, 0, 5), ("", 6, 8)], [("", 0, 5), ("", 6, 8)])])
    assert counts == Counts(weak=0, strong=0, predicted=2, gold=2)


def test_gold_without_spans() -> None:
    text = EvaluatedText("q", "text", (EntitySpan("1"), EntitySpan("2")), (Prediction("1", 0, 2),))
    assert assess(text).gold_labels == ("correct", "wrong_entity")
    assert next(prediction_records([text]))["gold"][0]["mention"] is None


def test_empty_inputs_score_zero() -> None:
    for questions in ([], [question([], [])], [question([("1", 0, 1)], [])], [question([], [("1", 0, 1)])]):
        report = evaluate(questions)
        for section in (report.overall, report.covered):
            for scores in (section.weak, section.strong):
                assert (scores.precision, scores.recall, scores.f1, scores.f1_low, scores.f1_high) == (0, 0, 0, 0, 0)
        assert format_report(report)


def test_perfect_predictions_score_one() -> None:
    perfect = [question([("1", 0, i), ("2", i, 9)], [("2", i, 9), ("1", 0, i)]) for i in range(1, 9)]
    for scores in (evaluate(perfect).overall.weak, evaluate(perfect).covered.strong):
        assert (scores.precision, scores.recall, scores.f1, scores.f1_low, scores.f1_high) == (1, 1, 1, 1, 1)


@given(question_lists, st.randoms())
@settings(max_examples=50)
def test_order_of_questions_does_not_matter(questions: list[EvaluatedText], shuffler: random.Random) -> None:
    shuffled = shuffler.sample(questions, len(questions))
    assert evaluate(shuffled, n_resamples=50) == evaluate(questions, n_resamples=50)


@given(question_lists)
@settings(max_examples=50)
def test_report_invariants(questions: list[EvaluatedText]) -> None:
    report = evaluate(questions, n_resamples=20)
    counts = total_counts(questions)
    assert (counts.weak, counts.strong) == (report.overall.weak.correct, report.overall.strong.correct)
    assert sum(report.gold_labels.values()) == counts.gold
    assert sum(report.predicted_labels.values()) == counts.predicted
    assert report.gold_labels["correct"] == report.predicted_labels["correct"] == counts.strong
    assert report.gold_labels["correct"] + report.gold_labels["wrong_span"] >= counts.weak
    for section in (report.overall, report.covered):
        for scores in (section.weak, section.strong):
            p, r = scores.precision, scores.recall
            assert scores.f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0)
            assert 0 <= scores.f1_low <= scores.f1_high <= 1
    assert report.covered.questions == sum(q.covered for q in questions)


@given(golds, predictions)
@settings(max_examples=50)
def test_hits_are_those_of_the_matching(gold: list[Item], predicted: list[Item]) -> None:
    one = question([item for item in gold if item[0]], predicted)
    assessment = assess(one)
    assert (len(assessment.weak), len(assessment.strong)) == count_matches(one.gold, one.predicted)
    assert set(assessment.gold_labels) <= set(GOLD_LABELS)
    assert set(assessment.predicted_labels) <= set(PREDICTED_LABELS)


def varied_questions(n: int, seed: int = 1) -> list[EvaluatedText]:
    chance = random.Random(seed)
    entities = ["1", "2"]
    questions = []
    for _ in range(n):
        gold = [(chance.choice(entities), 5 * i, 5 * i + 3) for i in range(chance.randint(0, 3))]
        predicted = [(chance.choice(entities), 5 * i, 5 * i + chance.randint(2, 3)) for i in range(chance.randint(0, 3))]
        questions.append(question(gold, predicted))
    return questions


def test_interval_holds_the_estimate_and_shrinks_with_more_questions() -> None:
    widths = []
    for n in (50, 5000):
        scores = evaluate(varied_questions(n)).overall.weak
        assert scores.f1_low < scores.f1 < scores.f1_high
        widths.append(scores.f1_high - scores.f1_low)
    assert widths[1] == pytest.approx(widths[0] / 10, rel=0.35), "the width falls with the square root of the number"


def test_interval_is_that_of_a_plain_bootstrap() -> None:
    questions = varied_questions(200)
    rows = [(c.weak, c.predicted + c.gold) for c in (total_counts([q]) for q in questions)]
    chance = random.Random(0)
    plain = []
    for _ in range(2000):
        drawn = chance.choices(rows, k=len(rows))
        plain.append(2 * sum(c for c, _ in drawn) / sum(m for _, m in drawn))
    plain.sort()
    scores = evaluate(questions, n_resamples=4000).overall.weak
    assert (scores.f1_low, scores.f1_high) == pytest.approx((plain[50], plain[1950]), abs=0.01)


def test_seed_reproduces() -> None:
    questions = varied_questions(60)
    assert evaluate(questions, seed=3) == evaluate(iter(questions), seed=3)
    assert evaluate(questions, seed=3).overall.weak != evaluate(questions, seed=4).overall.weak


def test_resampling_in_blocks_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = varied_questions(40)
    report = evaluate(questions)
    monkeypatch.setattr("blink.evaluation.bootstrap._BLOCK_CELLS", 100)
    assert evaluate(questions) == report


def test_ten_thousand_questions_are_quick() -> None:
    questions = varied_questions(10_000)
    start = time.perf_counter()
    evaluate(questions)
    assert time.perf_counter() - start < 10, "takes about half a second; ten leaves room for a busy machine"


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(SettingsError, match="1 or more"):
        evaluate([], n_resamples=0)


def sample(*mentions: Mention) -> Sample:
    return Sample("s1", "who wrote Dune", mentions)


def test_question_from_records() -> None:
    link = Link(start=10, end=14, mention="Dune", row=7, kb_id="Q1", title="Dune", score=-0.25)
    text = evaluated_text(sample(Mention(10, 14, 7), Mention(0, 3, -1)), LinkedText("who wrote Dune", (link,)))
    assert text.gold == (EntitySpan("7", 10, 14), EntitySpan(None, 0, 3))
    assert text.predicted == (Prediction("7", 10, 14, -0.25),)
    assert not text.covered
    assert evaluated_text(sample(), LinkedText("who wrote Dune")).covered


def test_question_from_refuses_unlabelled_and_mismatched() -> None:
    with pytest.raises(DataError, match="'s1' has no gold"):
        evaluated_text(Sample("s1", "a", None), LinkedText("a"))
    with pytest.raises(DataError, match="'s1' has no gold"):
        evaluated_text(Sample("s1", "a", None, (5,), (TokenMention(0, 1, 2),)), LinkedText("a"))
    with pytest.raises(MismatchError, match="'s1'"):
        evaluated_text(sample(), LinkedText("another text"))


def test_json_form() -> None:
    report = evaluate(HAND_MADE)
    value = json.loads(json.dumps(report.to_json(threshold=-2.9, questions_per_s=12.5), allow_nan=False))
    assert list(value)[:5] == ["questions", "threshold", "all", "covered", "questions_per_s"]
    assert (value["questions"], value["threshold"], value["questions_per_s"]) == (6, -2.9, 12.5)
    assert value["covered"]["questions"] == 5
    for section in ("all", "covered"):
        for matching in ("weak", "strong"):
            keys = {"precision", "recall", "f1", "f1_low", "f1_high", "correct", "predicted", "gold"}
            assert set(value[section][matching]) == keys
    assert value["labels"]["gold"]["missed_span"] == 1
    unbounded = report.to_json(threshold=-math.inf, questions_per_s=None)
    assert unbounded["threshold"] is unbounded["questions_per_s"] is None


def test_question_rows() -> None:
    rows = list(prediction_records(HAND_MADE))
    assert [row["id"] for row in rows] == [q.id for q in HAND_MADE]
    last = json.loads(json.dumps(rows[-1], allow_nan=False))
    assert last["gold"] == [{"id": "1", "start": 0, "end": 5, "mention": "xxxxx", "label": "correct"}]
    assert last["predicted"][1] == {"id": "3", "start": 9, "end": 12, "mention": "xxx", "score": -1.5, "label": "spurious"}
    assert last["weak"] == last["strong"] == {"correct": 1, "pairs": [[0, 0]]}
    assert last["labels"] == {"correct": 1, "spurious": 1}
    assert rows[4]["gold"][0]["id"] is None
    assert rows[4]["labels"] == {"not_in_catalogue": 1}


def report_of(counts: int) -> Report:
    return evaluate([HAND_MADE[0]] * counts)


def test_terminal_table() -> None:
    lines = format_report(evaluate(HAND_MADE)).splitlines()
    assert lines[:2] == ["questions = 6", "covered questions = 5"]
    starts = ("all weak", "all strong", "covered weak", "covered strong")
    rows = [line.split() for line in lines if line.startswith(starts)]
    assert [" ".join(columns[:2]) for columns in rows] == list(starts)
    assert rows[0][2:5] == ["0.5000", "0.5000", "0.5000"]
    assert rows[0][-3:] == ["3", "6", "6"]
    assert lines[-1].split() == ["spurious", "-", "1"]
    assert lines[-3].split() == ["missed_span", "1", "-"]
    assert len({len(line) for line in lines if line.startswith((*starts, "   "))}) == 1, "columns line up"
    assert format_report(report_of(20_000)).splitlines()[4].split()[-1] == "20000"


def test_console_metrics() -> None:
    text = format_console_metrics(Counts(3, 2, 4, 6), Counts(3, 2, 4, 5), runtime_s=1.25)
    assert text.splitlines() == [
        "WEAK MATCHING",
        "precision = 3 / 4 = 0.750000",
        "recall = 3 / 6 = 0.500000",
        "f1 = 0.600000",
        "Just entities within input window...",
        "precision = 3 / 4 = 0.750000",
        "recall = 3 / 5 = 0.600000",
        "f1 = 0.666667",
        "*--------*",
        "STRONG MATCHING",
        "precision = 2 / 4 = 0.500000",
        "recall = 2 / 6 = 0.333333",
        "f1 = 0.400000",
        "Just entities within input window...",
        "precision = 2 / 4 = 0.500000",
        "recall = 2 / 5 = 0.400000",
        "f1 = 0.444444",
        "*--------*",
        "biencoder runtime = 1.250",
    ]


def test_console_metrics_are_printed_without_predictions_too() -> None:
    text = format_console_metrics(Counts(), Counts())
    assert text.count("precision = 0 / 0 = 0.000000") == 4
    assert "runtime" not in text
