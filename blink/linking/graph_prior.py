"""Adds what a knowledge graph knows of entities to the scores of their mentions.

    S'(m, e) = scale * S(m, e) + shift + popularity * log(1 + degree(e)) + vector * g(e) * (A m) . (B v_e)

S is a ranker's log-odds or a bi-encoder's inner product, m the mention's vector at length 1, v_e the entity's vector of the
graph, and g(e) = sigmoid(a . v_e + b) a gate that shuts out vectors that are of no use. Texts and graphs are so joined by Zhang
et al. 2019 (ERNIE) and Sorokin and Gurevych 2018; here the vector stands beside that of the text, and the index stays as it is.
An entity that the graph lacks has degree 0 and no vector. Then the mentions of a text may agree: `blink.linking.coherence`.
"""

from __future__ import annotations

import hashlib

import numpy as np

from blink.data.prior_file import Prior, PriorTable, PriorWeights
from blink.errors import MismatchError
from blink.kb.catalogue import Catalogue
from blink.linking.coherence import LEAST_MENTION, Relatedness, relatedness_of, settle
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder
from blink.model.reranker import STORED_FEATURES, RerankerNetwork


def scorer_fingerprint(model: BiEncoder, ranker: RerankerNetwork | None) -> str:
    """Which scores weights were fitted to: a hash of the ranker, or else of what the bi-encoder learned beside its encoders."""
    digest = hashlib.sha256()
    if ranker is not None:
        arrays = [ranker.mean, ranker.spread, *(array for layer in ranker.layers for array in layer)]
        # By the stored names, so that weights fitted with an earlier version still belong to these scores.
        off = sorted(STORED_FEATURES.get(name, name) for name in ranker.off)
        digest.update(f"{ranker.scaling} {off}".encode())
    else:
        towers = ("context_encoder.", "candidate_encoder.")
        heads = [value for name, value in model.named_parameters() if not name.startswith(towers)]
        arrays = [value.detach().float().cpu().numpy() for value in heads]
        digest.update(str(model.config.candidate_fingerprint).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"{'ranker' if ranker is not None else 'encoder'}-{digest.hexdigest()[:16]}"


def weights_for(prior: Prior, scores: str) -> PriorWeights:
    """The weights of a prior for some scores.

    Raises:
        MismatchError: it has none.
    """
    found = prior.weights_for_scorer(scores)
    if found is None:
        kinds = "ranked scores" if scores.startswith("ranker") else "a bi-encoder's own scores"
        has = "is not weighed yet" if not prior.weights else f"is weighed for {len(prior.weights)} other kinds of scores"
        raise MismatchError(f"the prior {has}, the linker has {kinds} ({scores}); weigh it for this model: blink kglm weigh")
    return found


class EntityAlignment:
    """Where the entities of a catalogue stand in a table, joined by id.

    Args:
        table: the table.
        catalogue: the entities.

    Raises:
        MismatchError: they have no entity in common.
    """

    def __init__(self, table: PriorTable, catalogue: Catalogue) -> None:
        # One more, at the end: a row of -1, no candidate, is in no table.
        self._places = np.full(len(catalogue) + 1, -1, dtype=np.int32)
        rows = [catalogue.row_of(kb_id) for kb_id in table.ids]
        for place, row in enumerate(rows):
            if row is not None:
                self._places[row] = place
        self.shared = sum(row is not None for row in rows)
        if not self.shared:
            found = f"the prior has {table.ids[0]!r}, {catalogue.path} has {catalogue[0].kb_id!r}"
            raise MismatchError(
                f"no entity of the knowledge base is in the prior ({found}); make the prior from a graph with its ids"
            )

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Places of rows; -1 where the table lacks the entity. *Shape:* that of ``rows``, int64."""
        return self._places[rows].astype(np.int64)


class GraphPrior:
    """A prior, ready to be added to scores.

    Args:
        table: what the graph tells.
        weights: how much of it counts.
        places: where the knowledge base's entities stand in the table.

    Raises:
        MismatchError: the table lacks what the weights are for.
    """

    def __init__(self, table: PriorTable, weights: PriorWeights, places: EntityAlignment) -> None:
        self.weights, self.places = weights, places
        width = 0 if table.vectors is None else table.vectors.shape[1]
        if weights.vector and not len(weights.graph.T) == len(weights.gate) == width:
            found = f"graph vectors of {len(weights.graph.T)} numbers (gate {len(weights.gate)}), the prior has {width}"
            raise MismatchError(f"the weights are for {found}; weigh it again: blink kglm weigh")
        self._degrees = table.degrees
        # The last row is that of entities the graph lacks.
        self._popularity = _with_none(weights.popularity * np.log1p(table.degrees).astype(np.float32))
        self._graph = _with_none(gated(table.directions(), weights)) if weights.vector else None
        self._related: Relatedness | None = relatedness_of(table, weights.relatedness) if weights.coherence else None

    @property
    def floor(self) -> float:
        """Log probability of a mention up to which it says nothing of others: inf where none does, -inf where all may."""
        if self._related is None:
            return float("inf")
        return float("-inf") if self.weights.ranked else LEAST_MENTION

    def degree(self, row: int) -> int:
        """Triples of the graph that an entity of the knowledge base is in; 0 where the graph lacks it."""
        place = int(self.places[np.array(row)])
        return int(self._degrees[place]) if place >= 0 else 0

    def rescore(self, spans: ScoredSpans, mentions: np.ndarray) -> ScoredSpans:
        """Scores with the prior, each mention for itself.

        Args:
            spans: with their candidates.
            mentions: vectors of the spans. *Shape:* (m, d).
        """
        if not len(spans):
            return spans
        places = self.places[spans.rows]
        logits = self.weights.scale * spans.entity_logits + (self.weights.shift + self._popularity[places])
        if self._graph is not None:
            logits += self.weights.vector * agreement(self._graph[places], projected(mentions, self.weights))
        return spans.reordered(logits.astype(np.float32))

    def settle(self, spans: ScoredSpans) -> ScoredSpans:
        """Let the mentions of a whole text agree; after `rescore`."""
        if self._related is None or len(spans) < 2:
            return spans
        return settle(spans, self.places[spans.rows], self._related, self.weights.coherence, self.weights.ranked)


def gated(directions: np.ndarray, weights: PriorWeights) -> np.ndarray:
    """Projected graph vectors times their gates. *Shape:* (n, r), float32."""
    gate = 1 / (1 + np.exp(-(directions @ weights.gate + weights.gate_bias)))
    there = directions.any(axis=1)
    return ((gate * there)[:, None] * (directions @ weights.graph.T)).astype(np.float32)


def projected(mentions: np.ndarray, weights: PriorWeights) -> np.ndarray:
    """Projected mention vectors, of length 1 before. *Shape:* (m, r), float32."""
    lengths = np.linalg.norm(mentions, axis=1, keepdims=True)
    result: np.ndarray = (mentions / np.where(lengths > 0, lengths, 1)) @ weights.text.T
    return result


def agreement(graph: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Inner products of each mention with its candidates. ``graph``: (m, k, r), ``text``: (m, r); result (m, k)."""
    result: np.ndarray = np.matmul(graph, text[:, :, None])[..., 0]
    return result


def _with_none(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)]).astype(np.float32)
