"""Two systems on the same questions: differences with intervals, questions won and lost, errors that moved."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.records import Mention, Sample
from blink.errors import DataError, MismatchError
from blink.evaluation.comparison import (
    NO_MENTION,
    Comparison,
    compare,
    examples,
    format_comparison,
    paired,
    read_records,
    with_gold,
)
from blink.evaluation.counts import EvaluatedText, Prediction
from blink.evaluation.matching import EntitySpan
from blink.evaluation.report import evaluate, prediction_records

pytestmark = pytest.mark.quick

Run = Callable[..., tuple[int, str, str]]
Item = tuple[Any, int, int]


def question(name: int, gold: list[Item], predicted: list[Item]) -> EvaluatedText:
    triples = tuple(EntitySpan(*item) for item in gold)
    covered = all(t.id for t in triples)
    predictions = tuple(Prediction(*item, -0.5) for item in predicted)
    return EvaluatedText(f"q{name}", "Paris and the Nile and Ohio", triples, predictions, covered, f"g{name}")


GOLD: list[list[Item]] = [[("1", 0, 5)], [("1", 0, 5), ("2", 14, 18)], [(None, 0, 5)], [], [("3", 23, 27)]]
A = [
    question(i, gold, predicted)
    for i, (gold, predicted) in enumerate(
        zip(GOLD, [[("9", 0, 5)], [("1", 0, 5)], [], [("4", 10, 13)], [("3", 23, 27)]], strict=True)
    )
]
B = [
    question(i, gold, predicted)
    for i, (gold, predicted) in enumerate(
        zip(GOLD, [[("1", 0, 5)], [("1", 0, 5), ("2", 10, 18)], [("7", 0, 5)], [], [("3", 22, 27)]], strict=True)
    )
]


def both(a: list[EvaluatedText] = A, b: list[EvaluatedText] = B, **options: Any) -> Comparison:
    return compare(paired(a, b), **options)


def test_a_comparison_worked_by_hand() -> None:
    comparison = both()
    assert (comparison.questions, comparison.covered) == (5, 4)
    assert (comparison.differences["all weak"].a, comparison.differences["all weak"].b) == (
        pytest.approx(4 / 9),
        pytest.approx(8 / 10),
    )
    assert (comparison.won, comparison.lost) == ({"weak": 3, "strong": 2}, {"weak": 1, "strong": 3})
    assert comparison.wrong_links == (2, 3)
    assert comparison.errors_a == {
        "wrong_span": 0, "wrong_entity": 1, "missed_span": 1, "not_in_catalogue": 1, "spurious": 1,
    }  # fmt: skip
    assert comparison.fixed == {"wrong_span": 0, "wrong_entity": 1, "missed_span": 0, "not_in_catalogue": 0, "spurious": 1}
    assert comparison.introduced["wrong_span"] == 2
    assert comparison.transitions == {
        ("wrong_entity", "correct"): 1,
        ("correct", "correct"): 1,
        ("missed_span", "wrong_span"): 1,
        ("not_in_catalogue", "not_in_catalogue"): 1,
        ("spurious", NO_MENTION): 1,
        ("correct", "wrong_span"): 1,
    }


def test_leaving_alone_what_cannot_be_found_wins() -> None:
    one, other = ([question(0, [(None, 0, 5)], predicted)] for predicted in ([("7", 0, 5)], []))
    comparison = both(one, other)
    assert (comparison.won, comparison.lost) == ({"weak": 1, "strong": 1}, {"weak": 0, "strong": 0})
    assert comparison.wrong_links == (1, 0)


def test_the_sides_agree_with_their_reports() -> None:
    comparison = both()
    for side, questions in (("a", A), ("b", B)):
        report = evaluate(questions)
        for name, section in (("all", report.overall), ("covered", report.covered)):
            assert getattr(comparison.differences[f"{name} weak"], side) == pytest.approx(section.weak.f1)
            assert getattr(comparison.differences[f"{name} strong"], side) == pytest.approx(section.strong.f1)


def test_a_system_against_itself() -> None:
    comparison = both(A, A)
    assert all((d.difference, d.low, d.high, d.p) == (0, 0, 0, 1) for d in comparison.differences.values())
    assert comparison.won == comparison.lost == {"weak": 0, "strong": 0}


def test_against_a_plain_paired_bootstrap() -> None:
    generator = np.random.default_rng(1)
    right = generator.random((2, 200)) < np.array([[0.6], [0.7]])
    sides = [[question(i, [("1", 0, 5)], [("1" if r else "2", 0, 5)]) for i, r in enumerate(row)] for row in right]
    comparison = both(*sides, n_resamples=4000).differences["all weak"]
    draws = generator.integers(200, size=(4000, 200))
    spread = right[1][draws].mean(1) - right[0][draws].mean(1)
    assert comparison.difference == pytest.approx(right[1].mean() - right[0].mean())
    low, high = np.percentile(spread, [2.5, 97.5])
    assert comparison.low == pytest.approx(low, abs=0.01)
    assert comparison.high == pytest.approx(high, abs=0.01)
    assert comparison.p == pytest.approx(2 * (spread <= 0).mean(), abs=0.02)


def test_pairing_narrows_the_interval() -> None:
    """B is A with two more questions right: whatever is drawn, B is no worse."""
    a = [question(i, [("1", 0, 5)], [("1" if i % 2 else "2", 0, 5)]) for i in range(100)]
    b = [q if i > 3 else question(i, [("1", 0, 5)], [("1", 0, 5)]) for i, q in enumerate(a)]
    assert both(a, b).differences["all strong"].low >= 0


def test_seed_and_order() -> None:
    assert both(seed=3) == both(seed=3)
    assert both(A[::-1], B) == both(A, B[::-1]) == both()


def test_paraphrases_are_drawn_together() -> None:
    a = [question(i, [("1", 0, 5)], [("2", 0, 5)]) for i in range(40)]
    b = [question(i, [("1", 0, 5)], [("1" if i < 20 else "2", 0, 5)]) for i in range(40)]
    grouped = [[EvaluatedText(q.id, q.text, q.gold, q.predicted, True, str(i // 10)) for i, q in enumerate(s)] for s in (a, b)]
    alone, together = both(a, b).differences["all weak"], both(*grouped, by_group=True).differences["all weak"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_swapping_the_sides() -> None:
    one, other = both(), both(B, A)
    assert other.transitions == {(b, a): n for (a, b), n in one.transitions.items()}
    assert (other.won, other.lost) == (one.lost, one.won)
    for name, d in one.differences.items():
        assert other.differences[name].difference == -d.difference
        assert other.differences[name].p == pytest.approx(d.p, abs=0.05)


spans = st.integers(0, 20).map(lambda start: (start, start + 4))
items = st.lists(st.builds(lambda id, span: (id, *span), st.sampled_from(["1", "2", ""]), spans), max_size=3)


@given(st.lists(st.tuples(items, items, items), min_size=1, max_size=6))
def test_every_error_is_in_the_table(rows: list[tuple[list[Item], list[Item], list[Item]]]) -> None:
    a, b = ([question(i, row[0], row[side]) for i, row in enumerate(rows)] for side in (1, 2))
    comparison = both(a, b, n_resamples=10)
    for column, errors in ((0, comparison.errors_a), (1, comparison.errors_b)):
        states: Counter[str] = Counter()
        for move, count in comparison.transitions.items():
            states[move[column]] += count
        assert {label: states[label] for label in errors} == errors
    assert sum(
        n for move, n in comparison.transitions.items() if NO_MENTION not in move and move != ("spurious", "spurious")
    ) == sum(len(q.gold) for q in a)
    assert json.loads(json.dumps(comparison.to_json()))["questions"] == len(rows)
    assert format_comparison(comparison)


def test_examples_come_with_the_largest_change_first() -> None:
    pairs = paired(A, B)
    assert [pair.a.id for pair in examples(pairs, 9, won=True)] == ["q0", "q3"]
    assert [pair.a.id for pair in examples(pairs, 2, won=False)] == ["q4", "q1"]


def test_different_questions() -> None:
    with pytest.raises(MismatchError, match="5 questions and B 4; 1 are only in A, 0 only in B"):
        paired(A, B[1:])


def test_the_same_question_twice() -> None:
    assert len(paired([*A, A[0]], [B[0], *B])) == 6


def test_other_gold() -> None:
    other = [question(0, [("5", 0, 5)], []), *B[1:]]
    with pytest.raises(MismatchError, match="'q0' has other gold"):
        paired(A, other)
    samples = [Sample(q.id, q.text, tuple(Mention(t.start or 0, t.end or 0, int(t.id or -1)) for t in q.gold)) for q in A]
    assert [pair.b.gold for pair in paired(*(with_gold(side, samples) for side in (A, other)))] == [q.gold for q in A]
    with pytest.raises(MismatchError, match="'q4' is not in the file of gold"):
        with_gold(A, samples[:-1])
    with pytest.raises(DataError, match="no gold mentions"):
        with_gold(A, [Sample(q.id, q.text) for q in A])


def write(path: Path, questions: list[EvaluatedText]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in prediction_records(questions)))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "a.jsonl", A), write(tmp_path / "b.jsonl", B)


def test_rows_come_back_as_they_were(files: tuple[Path, Path]) -> None:
    assert read_records(files[0]) == A


def test_the_command(blink: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    status, out, err = blink("compare", *files, "--show", 1, "--json", tmp_path / "out.json")
    assert (status, err) == (0, "")
    assert "covered strong" in out
    assert "won: Paris and the Nile and Ohio  [q0]" in out
    assert "  A     Paris -> row 9  -0.500  wrong_entity" in out
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["differences"]["all weak"]["difference"] == pytest.approx(8 / 10 - 4 / 9)
    status, out, _ = blink("compare", *files, "--json", "-", "--cluster", "paraphrase")
    assert status == 0
    assert json.loads(out)["cluster"] == "paraphrase"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{}\n", "line 1"),
        ("[1]\n", "line 1"),
        ('{"id": "a", "text": "b", "gold": [{}], "predicted": [], "covered": true}\n', "line 1"),
        ("{\n", "not JSON"),
    ],
)
def test_files_that_are_no_rows(blink: Run, files: tuple[Path, Path], tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    status, out, err = blink("compare", files[0], tmp_path / "bad.jsonl")
    assert (status, out) == (1, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_mistakes_of_the_command(blink: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    gold.write_text(json.dumps({"text": "Paris", "mentions": [[0, 5]], "wikidata_id": ["Q90"]}) + "\n")
    for arguments, words in (
        ((files[0], tmp_path / "none.jsonl"), "does not exist"),
        ((files[0], write(tmp_path / "c.jsonl", B[:2])), "only in A"),
        ((*files, "--gold", gold), "--kb DIR"),
        ((*files, "--kb", tmp_path), "not a knowledge base"),
        ((*files, "--json", tmp_path), "is a folder"),
    ):
        status, out, err = blink("compare", *arguments)
        assert (status, out) == (1, "")
        assert words in err
        assert len(err.splitlines()) == 1
