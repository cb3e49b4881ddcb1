"""Resampling of questions, of clusters of questions, and the p value of a difference."""

from __future__ import annotations

import numpy as np
import pytest

from blink.data.records import Mention, Sample
from blink.errors import SettingsError, ShapeError
from blink.evaluation.bootstrap import cluster_sums, f1_of, middle, resample, two_sided_p
from blink.evaluation.counts import EvaluatedText, Prediction, group_of
from blink.evaluation.matching import EntitySpan
from blink.evaluation.report import evaluate

pytestmark = pytest.mark.quick


def question(number: int, right: bool, group: str) -> EvaluatedText:
    return EvaluatedText(
        str(number), "Paris", (EntitySpan("1", 0, 5),), (Prediction("1" if right else "2", 0, 5),), True, group
    )


def width(questions: list[EvaluatedText], by_group: bool) -> float:
    scores = evaluate(questions, by_group=by_group).overall.weak
    return scores.f1_high - scores.f1_low


def test_sums_by_cluster() -> None:
    counts = np.array([[1, 2], [3, 4], [5, 6]])
    assert cluster_sums(counts, None) is counts
    assert cluster_sums(counts, ["a", "b", "a"]).tolist() == [[6, 8], [3, 4]]
    with pytest.raises(ShapeError, match="2 clusters for 3"):
        cluster_sums(counts, ["a", "b"])


def test_copies_of_a_question_are_no_evidence() -> None:
    """Ten times each question: intervals must stay as wide as without the copies."""
    generator = np.random.default_rng(0)
    once = [question(i, bool(generator.random() < 0.7), str(i)) for i in range(60)]
    copied = [question(10 * i + j, q.predicted[0].id == "1", q.group) for i, q in enumerate(once) for j in range(10)]
    assert width(copied, by_group=True) == pytest.approx(width(once, by_group=False), abs=0.02)
    assert width(copied, by_group=False) < 0.5 * width(copied, by_group=True)
    assert evaluate(copied).overall.weak.f1 == evaluate(copied, by_group=True).overall.weak.f1


def test_groups_of_their_own_change_nothing() -> None:
    questions = [question(i, i % 3 > 0, str(i)) for i in range(30)]
    assert evaluate(questions, by_group=True) == evaluate(questions)


def test_the_order_of_questions_does_not_matter_for_groups() -> None:
    questions = [question(i, i % 3 > 0, str(i // 4)) for i in range(40)]
    assert evaluate(questions[::-1], by_group=True) == evaluate(questions, by_group=True)


@pytest.mark.parametrize(
    ("gold", "group"),
    [
        ((Mention(0, 5, 7, "Q90"), Mention(6, 10, 8, "Q142")), "Q142 Q90"),
        ((Mention(6, 10, 8, "Q142"), Mention(0, 5, 7, "Q90"), Mention(0, 5, 7, "Q90")), "Q142 Q90"),
        ((Mention(0, 5, 7),), "7"),
        ((Mention(0, 5),), "paris"),
        ((), "id 3"),
        (None, "id 3"),
    ],
)
def test_group_of_a_sample(gold: tuple[Mention, ...] | None, group: str) -> None:
    assert group_of(Sample("3", "Paris is nice", gold)) == group


def test_no_resamples() -> None:
    with pytest.raises(SettingsError, match="0 bootstrap samples"):
        resample(np.ones((2, 2), np.int64), 0, 0)


def test_a_difference_between_equals_says_nothing() -> None:
    assert two_sided_p(np.zeros(1000)) == 1
    assert two_sided_p(np.random.default_rng(0).normal(size=1000)) > 0.5


def test_a_clear_difference() -> None:
    differences = np.random.default_rng(0).normal(5, 1, size=999)
    assert two_sided_p(differences) == pytest.approx(2 / 1000)
    assert two_sided_p(-differences) == two_sided_p(differences)


def test_f1_of_nothing_is_zero() -> None:
    assert f1_of(np.array([0, 1]), np.array([0, 2])).tolist() == [0, 1]
    assert middle(np.zeros(5)) == (0, 0)
