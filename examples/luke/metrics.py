"""Shared metrics: micro-averaged scores, and normalised answers of SQuAD and ReCoRD."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def micro_scores(gold: Sequence[AbstractSet[Hashable]], predicted: Sequence[AbstractSet[Hashable]]) -> dict[str, float]:
    """Precision, recall and F1 over all items of all examples; 0 instead of a division by 0.

    Args:
        gold: gold items of each example.
        predicted: predicted items of each example.
    """
    correct = sum(len(g & p) for g, p in zip(gold, predicted, strict=True))
    n_predicted, n_gold = sum(map(len, predicted)), sum(map(len, gold))
    precision, recall = _ratio(correct, n_predicted), _ratio(correct, n_gold)
    return {"precision": precision, "recall": recall, "f1": _ratio(2 * precision * recall, precision + recall)}


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation (ASCII), articles and extra spaces, as in the scripts of SQuAD and ReCoRD."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1 if two normalised answers are equal, else 0."""
    return float(normalise_answer(prediction) == normalise_answer(gold))


def answer_f1(prediction: str, gold: str) -> float:
    """F1 over the words of two normalised answers; of answers without words, 1 if both have none, else 0."""
    predicted, right = normalise_answer(prediction).split(), normalise_answer(gold).split()
    if not predicted or not right:
        return float(predicted == right)
    shared = sum((Counter(predicted) & Counter(right)).values())
    precision, recall = shared / len(predicted), shared / len(right)
    return _ratio(2 * precision * recall, precision + recall)


def best_over(metric: Callable[[str, str], float], prediction: str, golds: Sequence[str]) -> float:
    """The maximum of a metric over the gold answers."""
    return max(metric(prediction, gold) for gold in golds)


def record_scores(questions: Sequence[tuple[str, Sequence[str]]], answers: Mapping[str, str]) -> dict[str, float]:
    """Exact match and F1 over questions, in per cent, as in the script of ReCoRD.

    Each answer is compared with the best matching gold text.

    Args:
        questions: id and gold texts of each.
        answers: by id; a question without one counts 0.
    """
    answered = [(answers[name], gold) for name, gold in questions if name in answers and gold]
    return {
        "exact_match": 100 * sum(best_over(exact_match, predicted, gold) for predicted, gold in answered) / len(questions),
        "f1": 100 * sum(best_over(answer_f1, predicted, gold) for predicted, gold in answered) / len(questions),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0
