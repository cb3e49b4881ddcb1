"""Metrics of a triple classifier, at a threshold and threshold-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from blink.errors import DataError
from blink.kglm.graph.classification import binary_scores
from blink.kglm.lm.corpus import bucketed
from blink.kglm.lm.model import KGLanguageModel, TripleBatch
from blink.kglm.lm.triples import Facts, TripleTexts

BATCH = 1024


@dataclass(frozen=True)
class Classification:
    """Metrics of a classifier over true and false triples.

    Attributes:
        accuracy: fraction of triples that are classified correctly.
        roc_auc: probability that a true triple scores above a false one; ties count half.
        pr_auc: average precision over the recalls.
        f1, precision, recall: of true triples.
        loss: mean cross-entropy in nats, without weights.
        true, false: number of triples of each label.
    """

    accuracy: float
    roc_auc: float
    pr_auc: float
    f1: float
    precision: float
    recall: float
    loss: float
    true: int
    false: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure_classification(logits: np.ndarray, labels: np.ndarray, threshold: np.ndarray | float = 0.0) -> Classification:
    """Compute the metrics of scores.

    Args:
        logits: scores. *Shape:* (n,)
        labels: true or false. *Shape:* (n,), bool.
        threshold: a triple is predicted true if its score is at least this; one value, or one per triple, *shape* (n,). A logit
            of 0 is a probability of one half.

    Raises:
        DataError: true or false triples are missing.
    """
    labels = labels.astype(bool)
    true, false = int(labels.sum()), int((~labels).sum())
    if not true or not false:
        raise DataError(f"there are {true} true and {false} false triples to measure; both are needed")
    from sklearn.metrics import average_precision_score, roc_auc_score  # takes a second to import

    scores = binary_scores(logits >= threshold, labels)
    return Classification(
        **{name: scores[name] for name in ("accuracy", "f1", "precision", "recall")},
        roc_auc=float(roc_auc_score(labels, logits)),
        pr_auc=float(average_precision_score(labels, logits)),
        loss=float(np.logaddexp(0.0, np.where(labels, -logits, logits).astype(np.float64)).mean()),
        true=true,
        false=false,
    )


def triple_batch(texts: TripleTexts, facts: Facts, tables: Tables | None, device: torch.device) -> TripleBatch:
    """The classifier's input for triples, on ``device``."""
    ids, lengths = texts.batch(facts)
    if tables is None:
        return TripleBatch(ids.to(device), lengths)
    rows = (tables.entities[facts.head], tables.relations[facts.relation], tables.entities[facts.tail])
    head, relation, tail = (torch.from_numpy(r).to(device) for r in rows)
    return TripleBatch(ids.to(device), lengths, head, relation, tail)


@dataclass(frozen=True)
class Tables:
    """Rows of entities and relations in a model's embedding tables.

    Attributes:
        entities, relations: row by index; -1 without a row. *Shape:* (entities,), (relations,), int64.
    """

    entities: np.ndarray
    relations: np.ndarray


@torch.no_grad()
def classify(
    model: KGLanguageModel,
    texts: TripleTexts,
    facts: Facts,
    tables: Tables | None = None,
    advance: Callable[[int], None] = lambda triples: None,
) -> np.ndarray:
    """Scores of triples, without dropout. *Shape:* (n,), float32.

    Args:
        model: the model; it runs in evaluation mode.
        texts: names of entities and relations in word ids.
        facts: the triples.
        tables: rows of a model with entity embeddings.
        advance: called with the number of triples scored.
    """
    device = next(model.parameters()).device
    logits = np.zeros(len(facts), dtype=np.float32)
    was_training = model.training
    model.eval()
    try:
        for rows in bucketed(texts.lengths(facts), BATCH, np.random.default_rng(0)) if len(facts) else []:
            logits[rows] = model.logits(triple_batch(texts, facts.select(rows), tables, device)).cpu().numpy()
            advance(len(rows))
    finally:
        model.train(was_training)
    return logits
