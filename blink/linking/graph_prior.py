"""The graph prior: adds terms of a knowledge graph to the scores of entities.

    S'(m, e) = scale * S(m, e) + shift + popularity * log(1 + degree(e)) + vector * g(e) * (A m) . (B v_e)

S is a reranker's log-odds or a bi-encoder's inner product, m the mention vector at length 1, v_e the entity's vector of the
graph, A and B learned projections, and g(e) = sigmoid(a . v_e + b) a gate that suppresses vectors without information. Zhang et
al. 2019 (ERNIE) and Sorokin and Gurevych 2018 join texts and graphs in this way; here the graph's term is added to that of the
text, so that the index stays as it is. An entity that the graph lacks has degree 0 and no vector. The next stage is
`blink.linking.coherence`.
"""

from __future__ import annotations

import hashlib
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from blink.data.ids import claims_of, normal_id
from blink.data.prior_file import Prior, PriorTable, PriorWeights
from blink.errors import MismatchError
from blink.kb.catalogue import Catalogue
from blink.kb.live.view import View
from blink.linking.scoring import ScoredSpans
from blink.model.reranker import STORED_FEATURES, RerankerNetwork

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder
    from blink.model.linking_model import LinkingModel


def scorer_fingerprint(model: BiEncoder | LinkingModel, reranker: RerankerNetwork | None) -> str:
    """Identifies the scores that weights belong to: a hash of the reranker, or else of the bi-encoder's heads."""
    if reranker is None:
        return f"encoder-{model.heads_digest()}"
    # By the stored names, so that weights fitted with an earlier version still belong to these scores.
    off = sorted(STORED_FEATURES.get(name, name) for name in reranker.off)
    shift = reranker.scaling.uncased_shift
    digest = hashlib.sha256(f"{reranker.scaling} {off}{f' {shift}' if shift else ''}".encode())
    for array in (reranker.mean, reranker.spread, *(array for layer in reranker.layers for array in layer)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"ranker-{digest.hexdigest()[:16]}"


def weights_for(prior: Prior, scores: str) -> PriorWeights:
    """The weights of a prior for some scores.

    Raises:
        MismatchError: it has none.
    """
    weights = prior.weights_for_scorer(scores)
    if weights is None:
        kinds = "ranked scores" if scores.startswith("ranker") else "a bi-encoder's own scores"
        has = "is not tuned yet" if not prior.weights else f"is tuned for {len(prior.weights)} other kinds of scores"
        raise MismatchError(f"the prior {has}, the linker has {kinds} ({scores}); tune it: blink kglm tune-prior")
    return weights


class EntityAlignment:
    """Joins the entities of a catalogue to those of a table, by id.

    Attributes:
        shared: how many entities are in both.

    Args:
        table: of the prior.
        catalogue: of the knowledge base.

    Raises:
        MismatchError: they have no entity in common.
    """

    def __init__(self, table: PriorTable, catalogue: Catalogue) -> None:
        # The last entry is for row -1, no candidate, which is in no table.
        self._ids, self._catalogue = table.ids, catalogue
        self._indices = np.full(len(catalogue) + 1, -1, dtype=np.int32)
        rows = [catalogue.row_of(kb_id) for kb_id in table.ids]
        for index, row in enumerate(rows):
            if row is not None:
                self._indices[row] = index
        self.shared = sum(row is not None for row in rows)
        if not self.shared:
            ids = f"the prior has {table.ids[0]!r}, {catalogue.path} has {catalogue[0].kb_id!r}"
            raise MismatchError(
                f"no entity of the knowledge base is in the prior ({ids}); make the prior from a graph with its ids"
            )

    def following(self, view: View) -> EntityAlignment:
        """The same for the entities as they are now; only those of changed rows, and of their ids, are looked up."""
        changes, files = view.changes, self._catalogue
        other = copy(self)
        other._indices = np.full(changes.rows + 1, -1, dtype=np.int32)
        other._indices[: len(self._indices) - 1] = self._indices[:-1]
        affected = set[int]()
        for row, entity in changes.entities.items():
            other._indices[row] = -1
            for state in (entity, files[row] if row < len(files) else None):
                affected |= {self._index_of_id.get(normal, -1) for normal, _ in (() if state is None else claims_of(state))}
        affected.discard(-1)
        for index in affected:
            before = files.row_of(self._ids[index])
            if before is not None and other._indices[before] == index:
                other._indices[before] = -1
        for index in sorted(affected):
            row_now = view.catalogue.row_of(self._ids[index])
            if row_now is not None:
                other._indices[row_now] = index
        return other

    @cached_property
    def _index_of_id(self) -> dict[str, int]:
        return {normal_id(kb_id): index for index, kb_id in enumerate(self._ids)}

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Indices in the table; -1 where it lacks the entity. *Shape:* that of ``rows``, int64."""
        return self._indices[rows].astype(np.int64)


class GraphPrior:
    """Rescores candidates.

    Args:
        table: degrees, edges and vectors of the graph's entities.
        weights: of the terms.
        alignment: of the knowledge base's entities with the table.

    Raises:
        MismatchError: the table lacks the vectors that the weights are for.
    """

    def __init__(self, table: PriorTable, weights: PriorWeights, alignment: EntityAlignment) -> None:
        self.weights, self.alignment = weights, alignment
        width = 0 if table.vectors is None else table.vectors.shape[1]
        if weights.vector and not len(weights.graph.T) == len(weights.gate) == width:
            sizes = f"graph vectors of {len(weights.graph.T)} dimensions (gate {len(weights.gate)}), the prior has {width}"
            raise MismatchError(f"the weights are for {sizes}; tune it again: blink kglm tune-prior")
        self._degrees = table.degrees
        # The last row is that of entities the graph lacks.
        self._popularity = _with_zero_row(weights.popularity * np.log1p(table.degrees).astype(np.float32))
        self._graph = _with_zero_row(gated(table.directions(), weights)) if weights.vector else None

    def over(self, alignment: EntityAlignment) -> GraphPrior:
        """The same for other entities."""
        other = copy(self)
        other.alignment = alignment
        return other

    def degree(self, row: int) -> int:
        """Triples of the graph that contain an entity of the knowledge base; 0 where the graph lacks it."""
        index = int(self.alignment[np.array(row)])
        return int(self._degrees[index]) if index >= 0 else 0

    def rescore(self, spans: ScoredSpans, vectors: np.ndarray) -> ScoredSpans:
        """Scores with the prior, each mention for itself.

        Args:
            spans: with their candidates.
            vectors: mention vectors. *Shape:* (m, d).
        """
        if not len(spans):
            return spans
        indices = self.alignment[spans.rows]
        logits = self.weights.scale * spans.entity_logits + (self.weights.shift + self._popularity[indices])
        if self._graph is not None:
            logits += self.weights.vector * agreement(self._graph[indices], projected(vectors, self.weights))
        return spans.reordered(logits.astype(np.float32))


def gated(directions: np.ndarray, weights: PriorWeights) -> np.ndarray:
    """Projected graph vectors times their gates. *Shape:* (n, r), float32."""
    gate = 1 / (1 + np.exp(-(directions @ weights.gate + weights.gate_bias)))
    has_vector = directions.any(axis=1)
    return ((gate * has_vector)[:, None] * (directions @ weights.graph.T)).astype(np.float32)


def projected(mentions: np.ndarray, weights: PriorWeights) -> np.ndarray:
    """Projected mention vectors, of length 1 before. *Shape:* (m, r), float32."""
    lengths = np.linalg.norm(mentions, axis=1, keepdims=True)
    result: np.ndarray = (mentions / np.where(lengths > 0, lengths, 1)) @ weights.text.T
    return result


def agreement(graph: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Inner products of each mention with its candidates. ``graph``: (m, k, r), ``text``: (m, r); result (m, k)."""
    result: np.ndarray = np.matmul(graph, text[:, :, None])[..., 0]
    return result


def _with_zero_row(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)]).astype(np.float32)
