"""Triple classification: true or false, by a threshold per relation that is fitted on validation triples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blink.errors import DataError
from blink.kglm.graph.triples import keys_of

TRIES = 100
"""Tails drawn for a false triple before it is given up."""


@dataclass(frozen=True)
class Labelled:
    """Scored triples. *Shapes:* (n,) all.

    Attributes:
        scores: higher is more plausible.
        relations: rows of the relations.
        true: whether each is a true triple.
    """

    scores: np.ndarray
    relations: np.ndarray
    true: np.ndarray


@dataclass(frozen=True)
class Thresholds:
    """A triple counts as true from its relation's threshold on.

    Attributes:
        by_relation: of the relations that validation triples have.
        other: of all others: the best one threshold for all validation triples together.
    """

    by_relation: dict[int, float]
    other: float

    def of(self, relations: np.ndarray) -> np.ndarray:
        """The threshold for each triple. *Shapes:* (n,) both."""
        return np.array([self.by_relation.get(int(r), self.other) for r in relations])


def fit_thresholds(valid: Labelled) -> Thresholds:
    """Choose the thresholds of highest accuracy on validation triples.

    Raises:
        DataError: there are no true or no false ones.
    """
    if valid.true.all() or not valid.true.any():
        raise DataError("thresholds need true and false validation triples; give both, or classify with drawn false ones")
    present = np.unique(valid.relations).tolist()
    chosen = {r: best_threshold(valid.scores[valid.relations == r], valid.true[valid.relations == r]) for r in present}
    return Thresholds(chosen, best_threshold(valid.scores, valid.true))


def best_threshold(scores: np.ndarray, true: np.ndarray) -> float:
    """The score from which on calling triples true is right most often; the smallest of several. *Shapes:* (n,) both."""
    order = np.argsort(scores, kind="stable")
    values, first = np.unique(scores[order], return_index=True)
    false_below = np.concatenate([[0], np.cumsum(~true[order])])[first]
    true_below = np.concatenate([[0], np.cumsum(true[order])])[first]
    right = false_below + true.sum() - true_below
    return float(values[np.argmax(right)])


def classify(test: Labelled, thresholds: Thresholds, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, and precision, recall and F1 of "true", over all triples and by relation.

    Args:
        test: scored triples.
        thresholds: see `fit_thresholds`.
        names: ids of the relations.
    """
    predicted = test.scores >= thresholds.of(test.relations)
    without = np.array([int(r) not in thresholds.by_relation for r in test.relations], dtype=bool)
    by_relation = {}
    for r in np.unique(test.relations).tolist():
        own = test.relations == r
        threshold = thresholds.by_relation.get(r, thresholds.other)
        scores = binary_scores(predicted[own], test.true[own])
        by_relation[names[r]] = {**scores, "triples": int(own.sum()), "threshold": threshold}
    return {
        **binary_scores(predicted, test.true),
        "triples": len(test.true),
        "by_common_threshold": int(without.sum()),
        "common_threshold": thresholds.other,
        "by_relation": by_relation,
    }


def binary_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 of "true"; 0 where nothing is there to divide by. *Shapes:* (n,) both, bool."""
    hits, judged, right = (int(mask.sum()) for mask in (predicted & true, predicted, true))
    precision, recall = hits / max(judged, 1), hits / max(right, 1)
    f1 = 2 * hits / max(judged + right, 1)
    return {"accuracy": float((predicted == true).mean()), "f1": f1, "precision": precision, "recall": recall}


def drawn_negatives(
    triples: np.ndarray, known: np.ndarray, entities: int, seed: int, *, same_relation: bool = False
) -> np.ndarray:
    """A false triple for each true one, with another tail that makes no known triple.

    Args:
        triples: true triples. *Shape:* (n, 3).
        known: all true triples. *Shape:* (m, 3).
        entities: how many there are.
        seed: of the draw.
        same_relation: take tails that the relation has in ``known`` (harder), rather than any entity.

    Returns:
        *Shape:* (k, 3); fewer than ``triples`` where a head has no such tail left.
    """
    random = np.random.default_rng([seed, int(same_relation)])
    relations = int(max(known[:, 1].max(), triples[:, 1].max())) + 1
    truth = np.unique(keys_of(known, entities, relations))
    tails = {r: np.unique(known[known[:, 1] == r, 2]) for r in np.unique(triples[:, 1]).tolist()} if same_relation else {}
    result = []
    for head, relation, _ in triples.tolist():
        drawn = _drawn_tails(random, tails.get(relation), entities)
        keys = keys_of(np.stack([np.full(len(drawn), head), np.full(len(drawn), relation), drawn], 1), entities, relations)
        places = np.minimum(np.searchsorted(truth, keys), len(truth) - 1)
        false = drawn[truth[places] != keys]
        result += [(head, relation, int(false[0]))] if len(false) else []
    return np.array(result, dtype=np.int64).reshape(-1, 3)


def _drawn_tails(random: np.random.Generator, pool: np.ndarray | None, entities: int) -> np.ndarray:
    if pool is None:
        return random.integers(entities, size=TRIES)
    return random.permutation(pool) if len(pool) <= TRIES else pool[random.integers(len(pool), size=TRIES)]
