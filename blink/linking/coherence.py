"""Coherence: the mentions of a text agree on related entities, by a mean field over their candidates.

q_i(e) is the probability that mention i names entity e. A few rounds of the update

    q_i(e) ~ exp(S(i, e) + weight / n_i * sum_{j != i} sum_{e'} q_j(e') phi(e, e'))

start from the probabilities by the scores S alone (after Ganea et al. 2016, PBoH, eq. 3-5, and Le and Titov 2018, eq. 5-7).
phi(e, e') is how related two entities are. The inner sum over e' is the message from mention j to the candidate e of mention i.
n_i is the expected number of other mentions, at least one. Overlapping spans are alternatives and send each other no messages.
Where a triple does not tell two candidates of a mention apart, both receive the same message (`blink.linking.siblings`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from blink.data.prior_file import PriorTable, PriorWeights, Relations, multiplied
from blink.errors import MismatchError, SettingsError
from blink.linking.graph_prior import EntityAlignment, GraphPrior
from blink.linking.scoring import ScoredSpans, joint_scores, link_probabilities
from blink.linking.shared_neighbours import SharedNeighbours
from blink.linking.siblings import Siblings, shared_messages

Relatedness = Callable[[np.ndarray], np.ndarray]
"""From indices of entities in the table, without repetition, to how related each pair is. *Shapes:* (n,) to (n, n), float32,
with zeros on the diagonal."""
MIN_LINK_PROBABILITY = 0.02
"""Spans that are links with a smaller probability neither send nor receive messages: these are nearly all proposed spans."""
MIN_MENTION_LOG_PROB = math.log(MIN_LINK_PROBABILITY) - 1e-3
"""Without a reranker, spans of smaller log probability as a mention are below `MIN_LINK_PROBABILITY` whatever their entity."""
GROUP_SIZE = 48
"""Spans that exchange messages; more of a long text are split into groups, in order."""
ROUNDS = 4
DAMPING = 0.5


class Coherence:
    """Rescores the candidates of all mentions of a text together.

    Args:
        related: how related entities are.
        weight: of the messages.
        ranked: whether scores are log-odds against "nothing" or inner products.
        alignment: of the knowledge base's entities with the table.
        siblings: of the table; None where it has no triples.
    """

    def __init__(
        self, related: Relatedness, weight: float, ranked: bool, alignment: EntityAlignment, siblings: Siblings | None = None
    ) -> None:
        self.related, self.weight, self.ranked, self.alignment = related, weight, ranked, alignment
        self.siblings = siblings

    @classmethod
    def from_prior(cls, table: PriorTable, weights: PriorWeights, alignment: EntityAlignment) -> Coherence | None:
        """The coherence of a prior's weights; None if its weight is 0.

        Raises:
            MismatchError: the table lacks its vectors or relations.
        """
        if not weights.coherence:
            return None
        related, siblings = relatedness_of(table, weights.relatedness), Siblings.from_table(table)
        return cls(related, weights.coherence, weights.ranked, alignment, siblings)

    @property
    def min_mention_log_prob(self) -> float:
        """Log probability up to which a mention sends no messages; -inf where all may."""
        return float("-inf") if self.ranked else MIN_MENTION_LOG_PROB

    def over(self, alignment: EntityAlignment) -> Coherence:
        """The same for other entities."""
        return Coherence(self.related, self.weight, self.ranked, alignment, self.siblings)

    def rescore(self, spans: ScoredSpans) -> ScoredSpans:
        """The spans of a whole text with scores that agree."""
        if len(spans) < 2:
            return spans
        indices = self.alignment[spans.rows]
        return mean_field_update(spans, indices, self.related, self.weight, self.ranked, self.siblings)


@dataclass(frozen=True)
class PriorStages:
    """The two stages of a prior."""

    graph_prior: GraphPrior
    coherence: Coherence | None

    @classmethod
    def from_prior(cls, table: PriorTable, weights: PriorWeights, alignment: EntityAlignment) -> PriorStages:
        """Build both; see `GraphPrior` and `Coherence.from_prior`."""
        return cls(GraphPrior(table, weights, alignment), Coherence.from_prior(table, weights, alignment))

    def rescore(self, spans: ScoredSpans, vectors: np.ndarray) -> ScoredSpans:
        """Both, for the spans of a text. ``vectors``: of the mentions, (m, d)."""
        spans = self.graph_prior.rescore(spans, vectors)
        return spans if self.coherence is None else self.coherence.rescore(spans)


def relatedness_of(table: PriorTable, kind: str) -> Relatedness:
    """How related entities are, by one of `blink.data.prior_file.RELATEDNESS`.

    - neighbours: by a triple between the two and the neighbours that both have, see `blink.linking.shared_neighbours`.
    - cosine: of their vectors, where it is above 0.
    - plausibility: the highest probability of any relation between the two, in either direction.

    Raises:
        MismatchError: the table lacks its vectors or relations.
        SettingsError: there is no such kind.
    """
    makers: dict[str, Callable[[PriorTable], Relatedness]] = {
        "neighbours": SharedNeighbours,
        "cosine": _Cosine,
        "plausibility": _Plausibility,
    }
    if kind not in makers:
        raise SettingsError(f"relatedness is {kind!r}; allowed are {', '.join(makers)}")
    return makers[kind](table)


def mean_field_update(
    spans: ScoredSpans,
    indices: np.ndarray,
    related: Relatedness,
    weight: float,
    ranked: bool,
    siblings: Siblings | None = None,
) -> ScoredSpans:
    """Add the messages of the module's head to the scores of a text; returns candidates in their new order.

    Args:
        spans: of one text.
        indices: of their candidates in the table, -1 where it lacks them. *Shape:* (m, k), int64.
        related: how related entities are.
        weight: of the messages.
        ranked: whether scores are log-odds against "nothing" or inner products.
        siblings: of the table; None: every candidate receives the messages for itself alone.
    """
    certain = np.isposinf(spans.mention_logits).all()
    probabilities = link_probabilities(spans) if ranked and not certain else np.exp(joint_scores(spans))
    probabilities = np.where(np.isfinite(spans.entity_logits), probabilities, 0)
    active = np.flatnonzero((probabilities.sum(1) > MIN_LINK_PROBABILITY) & (indices >= 0).any(1))
    logits = spans.entity_logits.copy()
    for start in range(0, len(active), GROUP_SIZE):
        group = active[start : start + GROUP_SIZE]
        if len(group) > 1:
            logits[group] += _messages(spans.select(group), indices[group], probabilities[group], related, weight, siblings)
    return spans.reordered(logits)


def _messages(
    spans: ScoredSpans,
    indices: np.ndarray,
    probabilities: np.ndarray,
    related: Relatedness,
    weight: float,
    siblings: Siblings | None,
) -> np.ndarray:
    """The sum of messages to each candidate of a group of spans, after `ROUNDS` damped updates. *Shape:* (m, k), float32."""
    disjoint = (spans.start[:, None] > spans.end) | (spans.start > spans.end[:, None])
    if not disjoint.any():
        return np.zeros(indices.shape, dtype=np.float32)
    entities, columns = np.unique(indices, return_inverse=True)
    columns = columns.reshape(indices.shape)
    lacking = int((entities < 0).any())  # entities that the table lacks sort first, and are related to none
    phi = np.pad(related(entities[lacking:]), ((lacking, 0), (lacking, 0)))
    # By entity: candidates of several mentions share a column, so that all messages are two matrix products.
    by_entity = partial(_by_entity, columns, len(entities))
    shared = None if siblings is None else shared_messages(phi, by_entity(probabilities), siblings(entities))
    totals = probabilities.sum(1, keepdims=True)
    expected_others = np.maximum(disjoint @ totals, 1)
    received = np.zeros(indices.shape)
    beliefs = probabilities.astype(np.float64)
    for _ in range(ROUNDS):
        sent = disjoint @ by_entity(beliefs)
        messages = sent @ phi
        if shared is not None:
            shared.add(messages, sent)
        received = weight * np.take_along_axis(messages, columns, 1) / expected_others
        beliefs = (1 - DAMPING) * beliefs + DAMPING * _updated(probabilities, received, totals)
    return received.astype(np.float32)


def _by_entity(columns: np.ndarray, entities: int, beliefs: np.ndarray) -> np.ndarray:
    """Beliefs of the candidates of each mention, (m, k), in the columns of their entities, (m, entities)."""
    sums = np.zeros((len(columns), entities))
    np.add.at(sums, (np.arange(len(columns))[:, None], columns), beliefs)
    return sums


def _updated(probabilities: np.ndarray, received: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Probabilities after messages were added to the scores; the normalisation includes "nothing"."""
    raised = probabilities * np.exp(np.minimum(received, 30))
    nothing = np.maximum(1 - totals, 0)
    return raised / np.maximum(raised.sum(1, keepdims=True) + nothing, 1e-12)


class _Cosine:
    def __init__(self, table: PriorTable) -> None:
        _vectors_of(table)
        self._directions = table.directions()

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return _off_diagonal(np.maximum(self._directions[indices] @ self._directions[indices].T, 0))


class _Plausibility:
    def __init__(self, table: PriorTable) -> None:
        if table.relations is None:
            raise MismatchError(
                "the prior has no relation vectors, which plausibility needs: make it from vectors of ComplEx or DistMult, "
                "or take neighbours or cosine"
            )
        self._relations: Relations = table.relations
        self._vectors = _vectors_of(table)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        vectors, relations = self._vectors[indices], self._relations
        best = np.zeros((len(indices), len(indices)), dtype=np.float32)
        # One relation at a time: all at once would take an (entities, entities, relations) array.
        for vector, bias, spread in zip(relations.vectors, relations.bias, relations.spread, strict=True):
            scores = (multiplied(vectors, vector, relations.layout) @ vectors.T - bias) / spread
            best = np.maximum(best, 1 / (1 + np.exp(-scores.clip(-30, 30))))
        return _off_diagonal(np.maximum(best, best.T))


def _vectors_of(table: PriorTable) -> np.ndarray:
    if table.vectors is None:
        raise MismatchError("the prior has no vectors; make it with --vectors, or use the relatedness neighbours")
    return table.vectors


def _off_diagonal(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    np.fill_diagonal(values, 0)
    return values
