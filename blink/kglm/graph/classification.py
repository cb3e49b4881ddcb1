"""Triple classification by a threshold per relation, fitted on validation triples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blink.errors import DataError
from blink.kglm.graph.triples import keys_of

TRIES = 100
"""Maximum number of sampled tails for a negative."""


@dataclass(frozen=True)
class Labelled:
    """Scored triples. *Shapes:* (n,) all.

    Attributes:
        scores: higher is more plausible.
        relations: relation of each triple.
        true: label of each triple.
    """

    scores: np.ndarray
    relations: np.ndarray
    true: np.ndarray


@dataclass(frozen=True)
class Thresholds:
    """Thresholds by relation. A triple is predicted true if its score is at least the threshold.

    Attributes:
        by_relation: thresholds of the relations in the validation triples.
        other: threshold of all other relations, fitted on all validation triples.
    """

    by_relation: dict[int, float]
    other: float

    def of(self, relations: np.ndarray) -> np.ndarray:
        """Threshold of each triple. *Shapes:* (n,) both."""
        return np.array([self.by_relation.get(int(r), self.other) for r in relations])


def fit_thresholds(valid: Labelled) -> Thresholds:
    """Fit the thresholds with the highest accuracy on validation triples.

    Raises:
        DataError: true or false triples are missing.
    """
    if valid.true.all() or not valid.true.any():
        raise DataError("thresholds need true and false validation triples; give both, or classify with sampled negatives")
    present = np.unique(valid.relations).tolist()
    thresholds = {r: best_threshold(valid.scores[valid.relations == r], valid.true[valid.relations == r]) for r in present}
    return Thresholds(thresholds, best_threshold(valid.scores, valid.true))


def best_threshold(scores: np.ndarray, true: np.ndarray) -> float:
    """The threshold with the highest accuracy; the smallest if several are best. *Shapes:* (n,) both."""
    order = np.argsort(scores, kind="stable")
    values, first = np.unique(scores[order], return_index=True)
    false_below = np.concatenate([[0], np.cumsum(~true[order])])[first]
    true_below = np.concatenate([[0], np.cumsum(true[order])])[first]
    correct = false_below + true.sum() - true_below
    return float(values[np.argmax(correct)])


def classify(test: Labelled, thresholds: Thresholds, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, and precision, recall and F1 of the true class, over all triples and by relation.

    Args:
        test: scored triples.
        thresholds: see `fit_thresholds`.
        names: ids of the relations.
    """
    predicted = test.scores >= thresholds.of(test.relations)
    without = np.array([int(r) not in thresholds.by_relation for r in test.relations], dtype=bool)
    by_relation = {}
    for r in np.unique(test.relations).tolist():
        mask = test.relations == r
        threshold = thresholds.by_relation.get(r, thresholds.other)
        scores = binary_scores(predicted[mask], test.true[mask])
        by_relation[names[r]] = {**scores, "triples": int(mask.sum()), "threshold": threshold}
    return {
        **binary_scores(predicted, test.true),
        "triples": len(test.true),
        "by_common_threshold": int(without.sum()),
        "common_threshold": thresholds.other,
        "by_relation": by_relation,
    }


def binary_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 of the true class; 0 if undefined. *Shapes:* (n,) both, bool."""
    hits, positives, gold = (int(mask.sum()) for mask in (predicted & true, predicted, true))
    precision, recall = hits / max(positives, 1), hits / max(gold, 1)
    f1 = 2 * hits / max(positives + gold, 1)
    return {"accuracy": float((predicted == true).mean()), "f1": f1, "precision": precision, "recall": recall}


def sample_negatives(
    triples: np.ndarray, true_triples: np.ndarray, entities: int, seed: int, *, same_relation: bool = False
) -> np.ndarray:
    """Sample a negative for each triple, by replacing the tail.

    Args:
        triples: true triples. *Shape:* (n, 3).
        true_triples: all true triples, which are never negatives. *Shape:* (m, 3).
        entities: number of entities.
        seed: random seed.
        same_relation: sample tails of the relation in ``true_triples`` (harder), rather than any entity.

    Returns:
        *Shape:* (k, 3); fewer than ``triples`` if no tail is left for a head.
    """
    random = np.random.default_rng([seed, int(same_relation)])
    relations = int(max(true_triples[:, 1].max(), triples[:, 1].max())) + 1
    true_keys = np.unique(keys_of(true_triples, entities, relations))
    tails = (
        {r: np.unique(true_triples[true_triples[:, 1] == r, 2]) for r in np.unique(triples[:, 1]).tolist()}
        if same_relation
        else {}
    )
    result = []
    for head, relation, _ in triples.tolist():
        drawn = _drawn_tails(random, tails.get(relation), entities)
        keys = keys_of(np.stack([np.full(len(drawn), head), np.full(len(drawn), relation), drawn], 1), entities, relations)
        positions = np.minimum(np.searchsorted(true_keys, keys), len(true_keys) - 1)
        false = drawn[true_keys[positions] != keys]
        result += [(head, relation, int(false[0]))] if len(false) else []
    return np.array(result, dtype=np.int64).reshape(-1, 3)


def _drawn_tails(random: np.random.Generator, pool: np.ndarray | None, entities: int) -> np.ndarray:
    if pool is None:
        return random.integers(entities, size=TRIES)
    return random.permutation(pool) if len(pool) <= TRIES else pool[random.integers(len(pool), size=TRIES)]
