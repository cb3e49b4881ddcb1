"""Answers from logits, and their scores, as in the scripts of SQuAD."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from examples.luke.metrics import answer_f1, best_over, exact_match, normalise_answer

NOTHING_FOUND = "empty"
"""The answer if there is no valid span."""


@dataclass(frozen=True)
class AnswerWindow:
    """A window of a passage in an input.

    Attributes:
        offset: index in the input of its first token.
        has_most_context: for each token, 1 if no other window has more context around it, else 0.
        start: index in the passage of its first token.
    """

    offset: int
    has_most_context: Sequence[int]
    start: int = 0


@dataclass(frozen=True)
class Scored:
    """A possible answer.

    Attributes:
        text: its text; empty for no answer.
        start, end: logits.
    """

    text: str
    start: float
    end: float

    @property
    def score(self) -> float:
        """Sum of both logits."""
        return self.start + self.end


@dataclass(frozen=True)
class Answered:
    """The answer to a question.

    Attributes:
        text: the answer.
        best: possible answers, best first.
        null_odds: score of no answer minus that of the best; None if every question has an answer.
    """

    text: str
    best: list[Scored]
    null_odds: float | None = None


def best_spans(logits: np.ndarray, window: AnswerWindow, count: int, longest: int) -> list[tuple[int, int]]:
    """Valid spans of an input's ``count`` best starts and ends: within the passage, at most ``longest`` tokens.

    Args:
        logits: start and end of each token. *Shape:* (tokens, 2).
        window: the passage's bounds in the input.
        count: starts and ends that are considered.
        longest: tokens of an answer.
    """
    starts, ends = (np.argsort(-logits[:, i], kind="stable")[:count].tolist() for i in (0, 1))
    passage = range(window.offset, window.offset + len(window.has_most_context))
    return [
        (start, end)
        for start in starts
        for end in ends
        if start in passage and end in passage and window.has_most_context[start - window.offset] and 0 <= end - start < longest
    ]


def answer(
    inputs: Sequence[tuple[np.ndarray, AnswerWindow]],
    text: Callable[[int, int, int], str],
    *,
    count: int,
    longest: int,
    negative: bool,
    threshold: float,
) -> Answered:
    """Answer a question.

    Args:
        inputs: logits and window of each input of the question.
        text: returns the text between two tokens (input, first, last).
        count: maximum candidates, and starts and ends that are considered.
        longest: tokens of an answer.
        negative: whether a question may have no answer, which is scored as the span of the first token.
        threshold: minimum margin of no answer over the best candidate.
    """
    spans = [(n, s, e) for n, (logits, window) in enumerate(inputs) for s, e in best_spans(logits, window, count, longest)]
    spans.sort(key=lambda span: -float(inputs[span[0]][0][span[1], 0] + inputs[span[0]][0][span[2], 1]))
    best: dict[str, Scored] = {}
    for n, start, end in spans:
        if len(best) >= count:
            break
        answer_text = text(n, start, end)
        best.setdefault(answer_text, Scored(answer_text, float(inputs[n][0][start, 0]), float(inputs[n][0][end, 1])))
    best.pop("", None)
    candidates = list(best.values()) or [Scored(NOTHING_FOUND, 0.0, 0.0)]
    if not negative:
        return Answered(candidates[0].text, candidates)
    none = min((Scored("", float(logits[0, 0]), float(logits[0, 1])) for logits, _ in inputs), key=lambda s: s.score)
    odds = none.score - candidates[0].score
    ranked = sorted([*candidates, none], key=lambda s: -s.score)
    return Answered("" if odds > threshold else candidates[0].text, ranked, odds)


def probabilities(candidates: Sequence[Scored]) -> list[float]:
    """Softmax of the scores."""
    top = max(s.score for s in candidates)
    shares = [math.exp(s.score - top) for s in candidates]
    return [exponential / sum(shares) for exponential in shares]


def squad_scores(
    questions: Sequence[tuple[str, Sequence[str]]], answers: Mapping[str, str], odds: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Exact match and F1 in per cent, of all questions, of those with and of those without an answer.

    Args:
        questions: id and gold texts of each; no texts for a question without answer.
        answers: by id; questions without an entry are not counted, as in the script.
        odds: null odds by id; with them, the best scores over all thresholds are added.
    """
    gold_texts = {name: [g for g in gold if normalise_answer(g)] or [""] for name, gold in questions if name in answers}
    exact = {name: best_over(exact_match, answers[name], gold) for name, gold in gold_texts.items()}
    f1 = {name: best_over(answer_f1, answers[name], gold) for name, gold in gold_texts.items()}
    answerable = {name for name, gold in questions if gold}
    scores: dict[str, float] = {}
    for prefix, names in (
        ("", list(gold_texts)),
        ("HasAns_", [n for n in gold_texts if n in answerable]),
        ("NoAns_", [n for n in gold_texts if n not in answerable]),
    ):
        if names:
            scores[f"{prefix}exact"] = 100 * sum(exact[n] for n in names) / len(names)
            scores[f"{prefix}f1"] = 100 * sum(f1[n] for n in names) / len(names)
            scores[f"{prefix}total"] = len(names)
    for name, metric in (("exact", exact), ("f1", f1)) if odds is not None else ():
        assert odds is not None
        scores |= dict(
            zip((f"best_{name}", f"best_{name}_thresh"), _best_threshold(metric, answers, odds, answerable), strict=True)
        )
    return scores


def _best_threshold(
    metric: Mapping[str, float], answers: Mapping[str, str], odds: Mapping[str, float], answerable: set[str]
) -> tuple[float, float]:
    """The best score over all thresholds on the odds, and that threshold; starts from no question answered."""
    score = best = float(sum(1 for name in metric if name not in answerable))
    threshold = 0.0
    for name in sorted((n for n in odds if n in metric), key=lambda n: odds[n]):
        score += metric[name] if name in answerable else -1 if answers[name] else 0
        if score > best:
            best, threshold = score, odds[name]
    return 100 * best / max(len(metric), 1), threshold
