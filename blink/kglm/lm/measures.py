"""All figures of a trained model on a split, from one state of it."""

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


def measure_split(
    model: KGLanguageModel, inputs: Inputs, split: str, advance: Callable[[int], None] = lambda units: None
) -> dict[str, Any]:
    """Perplexity of the split's text and figures of its triples, of the tasks that the model has.

    ``perplexity`` and ``accuracy`` stand first: the latter on false triples of the first kind that is measured, at the fixed
    threshold of one half. Under ``triples``, each kind also has ``accuracy_by_relation`` and ``f1_by_relation``, with a
    threshold per relation fitted on the validation triples of that kind; of the validation triples themselves, and where that
    split has none of the kind, each half is judged by thresholds of the other.

    Args:
        model: what is measured; dropout is off.
        inputs: texts and triples.
        split: ``valid`` or ``test``.
        advance: told of words and triples that are done.

    Raises:
        DataError: the split has nothing that the model can be measured on.
    """
    found: dict[str, Any] = {}
    if model.language is not None and split in inputs.texts:
        text = measure_perplexity(model, inputs.texts[split], advance)
        found |= {"perplexity": text.perplexity, "language": text.to_dict()}
    triples = inputs.triples
    if model.classifier is not None and triples is not None and split in triples.measured:
        kinds = {kind: _measure_kind(model, triples, split, kind, advance) for kind in triples.measured[split]}
        found |= {"accuracy": next(iter(kinds.values()))["accuracy"], "triples": kinds}
    if not found:
        there = sorted({*inputs.texts, *(triples.measured if triples else ())} & set(SPLITS))
        raise DataError(f"there is no {split} data to measure, only {', '.join(there)}; give data.text_{split} or data.{split}")
    return found


def tables_for(model: KGLanguageModel, triples: Triples) -> Tables | None:
    """Where entities stand in a model's tables; None where it has none."""
    return triples.tables if model.tables is not None else None


def judge(model: KGLanguageModel, triples: Triples, facts: Facts) -> tuple[np.ndarray, Classification]:
    """Scores of triples, *shape* (n,), and their figures at the fixed threshold."""
    logits = classify(model, triples.texts, facts, tables_for(model, triples))
    return logits, measure_classification(logits, facts.label)


def _measure_kind(
    model: KGLanguageModel, triples: Triples, split: str, kind: str, advance: Callable[[int], None]
) -> dict[str, Any]:
    facts = triples.measured[split][kind]
    logits, plain = judge(model, triples, facts)
    advance(len(facts))
    fitted = triples.measured["valid"].get(kind) if split != "valid" and "valid" in triples.measured else None
    if fitted is None:
        thresholds = _crosswise(logits, facts)
    else:
        thresholds = fit_thresholds(_labelled(judge(model, triples, fitted)[0], fitted)).of(facts.relation)
    by_relation = measure_classification(logits, facts.label, thresholds)
    return {**plain.to_dict(), "accuracy_by_relation": by_relation.accuracy, "f1_by_relation": by_relation.f1}


def _crosswise(logits: np.ndarray, facts: Facts) -> np.ndarray:
    """Thresholds for each triple, fitted on the half that it is not in. *Shape:* (n,)."""
    half = np.random.default_rng(HALVES_SEED).permutation(len(facts)) % 2 == 0
    thresholds = np.zeros(len(facts))
    for own in (half, ~half):
        thresholds[own] = fit_thresholds(_labelled(logits[~own], facts.select(~own))).of(facts.relation[own])
    return thresholds


def _labelled(logits: np.ndarray, facts: Facts) -> Labelled:
    return Labelled(logits, facts.relation, facts.label)
