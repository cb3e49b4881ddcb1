"""Fits the scorer: weights and probabilities on many pairs, the threshold on few that a person has labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blink.data.records import Entity
from blink.errors import DataError
from blink.files import read_json_lines
from blink.kb.vectors import Encoder
from blink.resolve.features import AGAINST, FEATURES, FOR
from blink.resolve.profiles import Profile, with_vectors
from blink.resolve.records import Record, records_from
from blink.resolve.scorer import PairScorer, features_of

FOLDS = 5
RIDGE = 1.0
"""Of the weights, but for the bias."""
EXPECTED_ERRORS = 0.2
"""Wrong merges that are expected of as many pairs as the threshold was selected on, where none is allowed."""
_TAIL = 10
"""Pairs of two things, those of the highest log-odds, by which it is extrapolated."""
LEAST_PAIRS = 20
_SIGNS = {"same": (True, "same", "yes", "1", 1, "true"), "different": (False, "different", "no", "0", 0, "false")}


@dataclass(frozen=True)
class LabelledPair:
    """Two records, and whether they are one thing."""

    a: Record
    b: Record
    same: bool
    kind: str = ""


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does on labelled pairs.

    Attributes:
        threshold: pairs with at least this probability are merged.
        merged: pairs that are.
        wrong: those of them that are two things.
        positives: pairs of one thing.
        precision_low: lower end of the interval of the precision, of 95 % on both sides (Clopper and Pearson 1934).
    """

    threshold: float
    merged: int
    wrong: int
    positives: int
    precision_low: float

    @property
    def precision(self) -> float:
        """Share of the merged pairs that are one thing; 1 where none is merged."""
        return 1 - self.wrong / self.merged if self.merged else 1.0

    @property
    def recall(self) -> float:
        """Share of the pairs of one thing that are merged."""
        return (self.merged - self.wrong) / self.positives if self.positives else 0.0

    def __str__(self) -> str:
        counts = f"{self.merged - self.wrong} of {self.positives} pairs of one thing merged, {self.wrong} wrong"
        low = f"precision {self.precision:.4f} (at least {self.precision_low:.4f} with 97.5 % confidence)"
        return f"threshold {self.threshold:.4f}: {low}, recall {self.recall:.4f} ({counts})"


def read_pairs(path: str | Path) -> list[LabelledPair]:
    """Read labelled pairs: a line of JSON each with the records ``a`` and ``b``, ``same``, and perhaps a ``kind``.

    Raises:
        MissingFileError: there is no such file.
        DataError: a line is no labelled pair, or there are too few; the message names it.
    """
    pairs = []
    for number, value in read_json_lines(path, "give labelled pairs, a line of JSON each"):
        where = f"{path}, line {number}"
        if not isinstance(value, dict) or not {"a", "b", "same"} <= value.keys():
            raise DataError(f"{where} is no labelled pair; give an object with the records 'a' and 'b', and 'same'")
        label = value["same"].lower() if isinstance(value["same"], str) else value["same"]
        signs = [name for name, forms in _SIGNS.items() if any(label == form and type(label) is type(form) for form in forms)]
        if not signs:
            raise DataError(f"{where}: 'same' is {value['same']!r}; give true or false")
        records = list(records_from([value["a"], value["b"]], f"{where}, record"))
        if len(records) != 2:
            raise DataError(f"{where}: a record of a pair has several spans; give one")
        pairs.append(LabelledPair(records[0], records[1], signs == ["same"], str(value.get("kind", ""))))
    if len(pairs) < LEAST_PAIRS or len({pair.same for pair in pairs}) < 2:
        counts = f"{sum(p.same for p in pairs)} pairs of one thing and {sum(not p.same for p in pairs)} of two"
        raise DataError(f"{path} has {counts}; label at least {LEAST_PAIRS}, some of each")
    return pairs


def profiles_of(
    records: Sequence[Record], encode: Encoder | None, advance: Callable[[int], None] = lambda count: None, block: int = 1024
) -> list[Profile]:
    """Profiles with vectors, if there is an encoder."""
    profiles = [Profile.of_record(record) for record in records]
    if encode is None:
        return profiles
    done: list[Profile] = []
    for start in range(0, len(records), block):
        chunk = slice(start, start + block)
        vectors = encode([record.entity() for record in records[chunk]])
        texts = [record.text for record in records[chunk]]
        done += with_vectors(profiles[chunk], vectors, text_vectors(texts, encode))
        advance(len(vectors))
    return done


def text_vectors(texts: Sequence[str], encode: Encoder) -> list[npt.NDArray[np.float32] | None]:
    """Vectors of texts alone, each distinct text encoded once; None for empty ones. *Shape of each:* (d,)."""
    distinct = list(dict.fromkeys(text for text in texts if text))
    if not distinct:
        return [None] * len(texts)
    of_text = dict(zip(distinct, encode([Entity(-1, text) for text in distinct]), strict=True))
    return [of_text.get(text) for text in texts]


def pair_profiles(
    pairs: Sequence[LabelledPair], encode: Encoder | None, advance: Callable[[int], None] = lambda count: None
) -> list[tuple[Profile, Profile]]:
    """Profiles of both records of each pair."""
    profiles = profiles_of([record for pair in pairs for record in (pair.a, pair.b)], encode, advance)
    return list(zip(profiles[::2], profiles[1::2], strict=True))


def fit_weights(
    values: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], counts: npt.NDArray[np.float64], ridge: float = RIDGE
) -> npt.NDArray[np.float64]:
    """Logistic regression by Newton's method with a ridge penalty (Cessie and van Houwelingen 1992).

    A weight whose sign would be against `FOR` or `AGAINST` is 0.

    Args:
        values: *Shape:* (pairs, features).
        same: *Shape:* (pairs,).
        counts: how often each pair counts. *Shape:* (pairs,).
        ridge: half of the penalty of a squared weight; the bias has none.

    Returns:
        *Shape:* (features,).
    """
    penalty = np.full(values.shape[1], ridge)
    penalty[FEATURES.index("bias")] = 1e-6
    sign = np.array([(name in FOR) - (name in AGAINST) for name in FEATURES])
    free = np.ones(values.shape[1], dtype=bool)
    while True:
        weights = np.zeros(values.shape[1])
        weights[free] = _newton(values[:, free], same, counts, penalty[free])
        wrong = free & (weights * sign < 0)
        if not wrong.any():
            return weights
        free[wrong & (np.abs(weights) >= np.abs(weights[wrong]).max() / 2)] = False  # the worst first: others may change sign


def _newton(
    values: npt.NDArray[np.float64],
    same: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.float64],
    penalty: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    weights = np.zeros(values.shape[1])
    for _ in range(50):
        p = _logistic(values @ weights)
        gradient = values.T @ (counts * (p - same)) + penalty * weights
        hessian = (values * (counts * p * (1 - p))[:, None]).T @ values + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def fit_scorer(
    pairs: Sequence[LabelledPair], profiles: Sequence[tuple[Profile, Profile]], counts: npt.NDArray[np.float64] | None = None
) -> tuple[PairScorer, npt.NDArray[np.float64]]:
    """Fit weights, and Platt's scaling on out-of-fold scores; pairs that share a name are in one fold.

    Args:
        pairs: labelled.
        profiles: of both records of each.
        counts: how often each pair counts; once by default. *Shape:* (pairs,).

    Returns:
        The scorer, with its default thresholds, and out-of-fold probabilities, 0 where a person must agree. *Shape:* (pairs,).
    """
    values, allowed = features_of(profiles)
    same, counts = np.array([pair.same for pair in pairs]), np.ones(len(pairs)) if counts is None else counts
    groups = np.unique([pair.a.name for pair in pairs], return_inverse=True)[1]
    fold = np.random.default_rng(0).integers(FOLDS, size=groups.max() + 1)[groups]
    scores = np.empty(len(pairs))
    for k in range(FOLDS):
        rest = fold != k
        scores[~rest] = values[~rest] @ fit_weights(values[rest], same[rest], counts[rest])
    scale, shift = platt(scores, same, counts)
    weights = dict(zip(FEATURES, fit_weights(values, same, counts).tolist(), strict=True))
    return PairScorer(weights, scale, shift), np.where(allowed, _logistic(scale * scores + shift), 0.0)


def platt(scores: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], counts: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept that turn scores into log-odds (Platt 1999)."""
    weights, columns = np.array([1.0, 0.0]), np.stack([scores, np.ones_like(scores)], axis=1)
    for _ in range(50):
        p = _logistic(columns @ weights)
        hessian = (columns * (counts * p * (1 - p))[:, None]).T @ columns + 1e-6 * np.eye(2)
        weights -= np.linalg.solve(hessian, columns.T @ (counts * (p - same)))
    return float(weights[0]), float(weights[1])


def _logistic(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    p: npt.NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    return p


def probabilities(scorer: PairScorer, profiles: Iterable[tuple[Profile, Profile]]) -> npt.NDArray[np.float64]:
    """The probability of each pair, 0 where nothing is merged without a person. *Shape:* (pairs,)."""
    values, allowed = features_of(list(profiles))
    scores = scorer.scale * (values @ scorer.vector) + scorer.shift
    return np.where(allowed, _logistic(scores), 0.0)


def operating_point(threshold: float, p: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> OperatingPoint:
    """What a threshold does."""
    merged = p >= threshold
    n, wrong = int(merged.sum()), int((merged & ~same).sum())
    return OperatingPoint(float(threshold), n, wrong, int(same.sum()), _precision_low(n, wrong))


def select_threshold(p: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], precision: float = 1.0) -> OperatingPoint:
    """The operating point of highest recall whose precision is at least ``precision``.

    Where no error is allowed, a margin is added, since the most probable pair of two things of other data may be more probable
    than that of these: the threshold is where `EXPECTED_ERRORS` of as many pairs would be above it, if the highest log-odds
    of pairs of two things are distributed exponentially (peaks over a threshold; Davison and Smith 1990).
    """
    order = np.argsort(-p, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))  # of the pairs of one probability
    right = np.cumsum(same[order])[ends]
    usable = np.flatnonzero((right >= precision * (ends + 1)) & (p[order][ends] > 0))
    if not len(usable):
        return operating_point(2.0, p, same)
    threshold = float(p[order][ends[usable[-1]]])
    if precision == 1.0:
        threshold = max(threshold, _with_margin(p[~same]))
    return operating_point(threshold, p, same)


def _with_margin(p: npt.NDArray[np.float64]) -> float:
    """The threshold above which `EXPECTED_ERRORS` of these pairs are expected."""
    log_odds = np.sort(np.log(np.clip(p[p > 0], 1e-9, 1 - 1e-9) / (1 - np.clip(p[p > 0], 1e-9, 1 - 1e-9))))
    n_tail = min(_TAIL, len(log_odds))
    if n_tail < 2:
        return 0.0
    tail = log_odds[-n_tail:]
    mean_excess = float((tail - tail[0]).sum() / (n_tail - 1))
    log_odds_at = float(tail[0]) + mean_excess * np.log(n_tail / EXPECTED_ERRORS)
    return float(1 / (1 + np.exp(-log_odds_at)))


def _precision_low(merged: int, wrong: int) -> float:
    """The 2.5th percentile of the precision: the probability p at which so few errors have a chance of 2.5 %, by bisection."""
    if merged == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(wrong, merged, 1 - middle) < 0.025:
            low = middle
        else:
            high = middle
    return low


def _at_most(errors: int, n: int, rate: float) -> float:
    """P(at most ``errors`` of ``n``) of a binomial distribution."""
    if rate <= 0:
        return 1.0
    if rate >= 1:
        return float(errors >= n)
    k = np.arange(errors + 1)
    log_choices = np.cumsum(np.log(np.maximum(n - k + 1, 1)) - np.log(np.maximum(k, 1))) - np.log(n + 1)
    return float(np.exp(log_choices + k * np.log(rate) + (n - k) * np.log1p(-rate)).sum())


def by_kind(pairs: Sequence[LabelledPair], p: npt.NDArray[np.float64], threshold: float) -> list[dict[str, Any]]:
    """For each kind of pairs its number, those of one thing, and those that are merged."""
    kinds = dict.fromkeys(pair.kind for pair in pairs)
    rows = []
    for kind in kinds:
        members = [i for i, pair in enumerate(pairs) if pair.kind == kind]
        merged = [i for i in members if p[i] >= threshold]
        positives = sum(pairs[i].same for i in members)
        rows.append({"kind": kind, "pairs": len(members), "same": positives, "merged": len(merged),
                     "wrong": sum(not pairs[i].same for i in merged)})  # fmt: skip
    return rows
