"""Describes the features of a candidate in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blink.linking.analysis import Analysis
from blink.linking.features import FEATURES, CandidateFeatures
from blink.linking.graph_prior import GraphPrior
from blink.linking.linker import Linker

_KINDS = (
    ("title", "its title"),
    ("bare_title", "its title but for brackets"),
    ("alias", "a name of it"),
    ("is_fuzzy_match", "nearly a name of it"),
    ("initials", "its initials"),
)
"""How a mention names an entity, by feature; the strongest first."""


def reasons_by_row(analysis: Analysis, span: int, linker: Linker) -> dict[int, list[str]]:
    """Features of the candidates of a span in words, by catalogue row; nothing where candidates are not reranked."""
    reranker = linker.stages.reranker
    if reranker is None or analysis.features is None:
        return {}
    used = [name in reranker.network.features and name not in reranker.network.off for name in FEATURES]
    described = _descriptions(analysis.features.select(np.array([span])), used)
    return {row: [*phrases, *_known(row, linker.stages.graph_prior)] for row, phrases in described.items()}


def _known(row: int, prior: GraphPrior | None) -> list[str]:
    """The entity's degree in the graph, if the prior uses popularity."""
    if prior is None or not prior.weights.popularity:
        return []
    return [f"known from the graph: {prior.degree(row):,} links"]


def _descriptions(features: CandidateFeatures, used: list[bool]) -> dict[int, list[str]]:
    """Catalogue row -> descriptions of the features that the reranker uses."""
    rows = [row for row in features.spans.rows[0].tolist() if row >= 0]
    real = features.values[0][features.spans.rows[0] >= 0]
    table = [{n: v for n, v, w in zip(FEATURES, values, used, strict=True) if w} for values in real.tolist()]
    namesakes = [candidate for candidate in table if candidate.get("alias", 0) > 0]
    best_known = [candidate for candidate in namesakes if candidate.get("popularity_gap", -1) == 0]
    nearest = max((candidate.get("logit", 0) for candidate in table), default=0)
    descriptions = {}
    for row, candidate in zip(rows, table, strict=True):
        phrases = _name(candidate, len(namesakes))
        if len(namesakes) > 1 and candidate in namesakes and "popularity_gap" in candidate:
            # Namesakes without an id are all as well known as each other, as far as anyone can tell.
            phrases += ["less known than another"] if candidate["popularity_gap"] < 0 else []
            phrases += ["the best known of these"] if best_known == [candidate] else []
        if "logit" in candidate:
            fits = "best" if candidate["logit"] >= nearest else "less"
            phrases.append(f"fits the context {fits} ({candidate['logit']:.2f})")
        descriptions[row] = phrases
    return descriptions


def _name(features: Mapping[str, float], namesakes: int) -> list[str]:
    """How the mention names the entity."""
    kind = next((words for feature, words in _KINDS if features.get(feature, 0) > 0), None)
    if kind is None:
        if "dice" not in features:
            return []
        return [f"spelt {100 * features['dice']:.0f} % like a name of it" if features["dice"] > 0 else "no name of it"]
    if features.get("is_unambiguous", 0) > 0:
        return [f"{kind}, and of nothing else"]
    others = namesakes - 1 if features.get("alias", 0) > 0 else 0
    shared = f", shared with {others} other{'s' * (others > 1)}" if others > 0 else ""
    return [f"{kind}{shared}"]
