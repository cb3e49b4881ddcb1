"""All metrics of a trained model on a split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from blink.errors import DataError
from blink.kglm.graph.classification import Labelled, fit_thresholds
from blink.kglm.lm.classification import Classification, Tables, classify, measure_classification
from blink.kglm.lm.inputs import SPLITS, Inputs, Triples
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.perplexity import measure_perplexity
from blink.kglm.lm.triples import Facts

HALVES_SEED = 5


class Evaluator:
    """Metrics of a model. Triples that several kinds of negatives share, such as the true triples, are scored once.

    Args:
        model: the model; it runs in evaluation mode.
        inputs: texts and triples.
        advance: called with the number of words or triples done.
    """

    def __init__(self, model: KGLanguageModel, inputs: Inputs, advance: Callable[[int], None] = lambda units: None) -> None:
        self._model, self._inputs, self._advance = model, inputs, advance
        self._logits: dict[str, dict[str, np.ndarray]] = {}

    def split(self, split: str) -> dict[str, Any]:
        """Perplexity of the split's text and metrics of its triples, for the tasks of the model.

        Raises:
            DataError: the split has no data for the model's tasks.
        """
        if figures := {**self.text(split), **self.triples(split)}:
            return figures
        triples = self._inputs.triples
        available = sorted({*self._inputs.texts, *(triples.measured if triples else ())} & set(SPLITS))
        raise DataError(
            f"there is no {split} data to measure, only {', '.join(available)}; give data.text_{split} or data.{split}"
        )

    def text(self, split: str) -> dict[str, Any]:
        """``perplexity``, and all metrics under ``language``; empty without a text or a language model."""
        if self._model.language is None or split not in self._inputs.texts:
            return {}
        text = measure_perplexity(self._model, self._inputs.texts[split], self._advance)
        return {"perplexity": text.perplexity, "language": text.to_dict()}

    def triples(self, split: str) -> dict[str, Any]:
        """``accuracy`` for the first kind of negatives at a threshold of one half, and all metrics of each kind.

        Under ``triples``, each kind also has ``accuracy_by_relation`` and ``f1_by_relation``, with a threshold per relation
        fitted on the validation triples of that kind. Thresholds for the validation triples themselves, or if validation has
        no triples of the kind, are fitted on one half and applied to the other. Empty without triples or a classifier.
        """
        triples = self._inputs.triples
        if self._model.classifier is None or triples is None or split not in triples.measured:
            return {}
        kinds = {kind: self._kind(triples, split, kind) for kind in triples.measured[split]}
        return {"accuracy": next(iter(kinds.values()))["accuracy"], "triples": kinds}

    def _kind(self, triples: Triples, split: str, kind: str) -> dict[str, Any]:
        facts, logits = triples.measured[split][kind], self._scored(triples, split)[kind]
        fitted = triples.measured["valid"].get(kind) if split != "valid" and "valid" in triples.measured else None
        if fitted is None:
            thresholds = _cross_fitted_thresholds(logits, facts)
        else:
            thresholds = fit_thresholds(_labelled(self._scored(triples, "valid")[kind], fitted)).of(facts.relation)
        plain = measure_classification(logits, facts.label)
        by_relation = measure_classification(logits, facts.label, thresholds)
        return {**plain.to_dict(), "accuracy_by_relation": by_relation.accuracy, "f1_by_relation": by_relation.f1}

    def _scored(self, triples: Triples, split: str) -> dict[str, np.ndarray]:
        """Scores of a split's triples by kind of negatives. *Shape:* (n of the kind,) each."""
        if split not in self._logits:
            everything = Facts.join(list(triples.measured[split].values()))
            keys = np.stack([everything.head, everything.relation, everything.tail])
            _, first, unique_row = np.unique(keys, axis=1, return_index=True, return_inverse=True)
            unique = everything.select(first)
            logits = classify(self._model, triples.texts, unique, tables_for(self._model, triples), self._advance)
            ends = np.cumsum([len(facts) for facts in triples.measured[split].values()])
            logits_by_kind = np.split(logits[unique_row.reshape(-1)], ends[:-1])
            self._logits[split] = dict(zip(triples.measured[split], logits_by_kind, strict=True))
        return self._logits[split]


def tables_for(model: KGLanguageModel, triples: Triples) -> Tables | None:
    """Rows of entities in a model's tables; None if it has no tables."""
    return triples.tables if model.tables is not None else None


def classify_and_measure(model: KGLanguageModel, triples: Triples, facts: Facts) -> tuple[np.ndarray, Classification]:
    """Scores of triples, *shape* (n,), and their metrics at a threshold of one half."""
    logits = classify(model, triples.texts, facts, tables_for(model, triples))
    return logits, measure_classification(logits, facts.label)


def _cross_fitted_thresholds(logits: np.ndarray, facts: Facts) -> np.ndarray:
    """A threshold for each triple, fitted on the half without it. *Shape:* (n,)."""
    half = np.random.default_rng(HALVES_SEED).permutation(len(facts)) % 2 == 0
    thresholds = np.zeros(len(facts))
    for mask in (half, ~half):
        thresholds[mask] = fit_thresholds(_labelled(logits[~mask], facts.select(~mask))).of(facts.relation[mask])
    return thresholds


def _labelled(logits: np.ndarray, facts: Facts) -> Labelled:
    return Labelled(logits, facts.relation, facts.label)
