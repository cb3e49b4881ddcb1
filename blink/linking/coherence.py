"""Coherence: the mentions of a text speak for entities that have to do with each other (a mean field over their candidates).

q_i(e) is the probability that mention i names e. A few rounds of

    q_i(e) ~ exp(S(i, e) + weight / n_i * sum_{j != i} sum_{e'} q_j(e') phi(e, e'))

begin with what the scores S alone say (after Ganea et al. 2016, PBoH, and Le and Titov 2018). n_i is how many other mentions
are expected, at least one; spans that overlap are alternatives and do not speak for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from blink.data.prior_file import PriorTable, multiplied
from blink.errors import MismatchError, SettingsError
from blink.linking.scoring import ScoredSpans, joint_scores, link_probabilities

Relatedness = Callable[[np.ndarray], np.ndarray]
"""From places of entities, each once, to how much each has to do with each. *Shapes:* (n,) to (n, n), float32, 0 to itself."""
LIKELY = 0.02
"""Spans that are links with a smaller probability neither speak nor hear: nearly all that are proposed are of this kind."""
LEAST_MENTION = math.log(LIKELY) - 1e-3
"""Log probability of a mention up to which it cannot be likely where its score alone says whether it is a link."""
AT_ONCE = 48
"""Likely spans that hear each other; more of a long text are taken in groups, in order."""
ROUNDS = 4
DAMPING = 0.5


def relatedness_of(table: PriorTable, kind: str) -> Relatedness:
    """How related entities are, by one of `blink.data.prior_file.RELATEDNESS`.

    - neighbours: 1 where a triple joins the two, and for each neighbour they share 1 / log(1 + its degree), at most 1 in all
      (Adamic and Adar 2003).
    - cosine: of their vectors, where it is above 0.
    - plausibility: the highest probability of any relation between the two, either way round.

    Raises:
        MismatchError: the table lacks what it takes.
        SettingsError: there is no such kind.
    """
    makers: dict[str, Callable[[PriorTable], Relatedness]] = {
        "neighbours": _neighbours,
        "cosine": _cosine,
        "plausibility": _plausibility,
    }
    if kind not in makers:
        raise SettingsError(f"relatedness is {kind!r}; allowed are {', '.join(makers)}")
    return makers[kind](table)


def settle(spans: ScoredSpans, places: np.ndarray, related: Relatedness, weight: float, ranked: bool) -> ScoredSpans:
    """Let the mentions of a text agree; returns spans with other scores, and candidates in another order.

    Args:
        spans: of one text.
        places: of their candidates in the table, -1 where it lacks them. *Shape:* (m, k), int64.
        related: how related entities are.
        weight: of the agreement.
        ranked: whether scores are log-odds against "nothing" or inner products.
    """
    certain = np.isposinf(spans.mention_logits).all()
    chances = link_probabilities(spans) if ranked and not certain else np.exp(joint_scores(spans))
    chances = np.where(np.isfinite(spans.entity_logits), chances, 0)
    likely = np.flatnonzero((chances.sum(1) > LIKELY) & (places >= 0).any(1))
    logits = spans.entity_logits.copy()
    for at in range(0, len(likely), AT_ONCE):
        group = likely[at : at + AT_ONCE]
        if len(group) > 1:
            logits[group] += _agreement(spans.select(group), places[group], chances[group], related, weight)
    return spans.reordered(logits)


def _agreement(spans: ScoredSpans, places: np.ndarray, chances: np.ndarray, related: Relatedness, weight: float) -> np.ndarray:
    """What to add to the scores of a group of spans. *Shape:* (m, k), float32."""
    apart = (spans.start[:, None] > spans.end) | (spans.start > spans.end[:, None])
    if not apart.any():
        return np.zeros(places.shape, dtype=np.float32)
    known, at = np.unique(places, return_inverse=True)
    at = at.reshape(places.shape)
    phi = related(known[known >= 0])
    if (known < 0).any():
        phi = np.pad(phi, ((1, 0), (1, 0)))  # entities that the table lacks sort first, and speak for nobody
    shares = chances.sum(1, keepdims=True)
    others = np.maximum(apart @ shares, 1)
    added = np.zeros(places.shape)
    beliefs = chances.astype(np.float64)
    for _ in range(ROUNDS):
        said = np.zeros((len(places), len(known)))
        np.add.at(said, (np.arange(len(places))[:, None], at), beliefs)
        heard = (apart @ said) @ phi
        added = weight * np.take_along_axis(heard, at, 1) / others
        beliefs = (1 - DAMPING) * beliefs + DAMPING * _tilted(chances, added, shares)
    return added.astype(np.float32)


def _tilted(chances: np.ndarray, added: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probabilities after something was added to the scores; those that a span names nothing keep their part."""
    moved = chances * np.exp(np.minimum(added, 30))
    nothing = np.maximum(1 - shares, 0)
    return moved / np.maximum(moved.sum(1, keepdims=True) + nothing, 1e-12)


def _neighbours(table: PriorTable) -> Relatedness:
    n = max(len(table), 1)
    both = np.concatenate([table.edges, table.edges[:, ::-1]]).astype(np.int64)
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    keys, to = both[:, 0] * n + both[:, 1], both[:, 1]
    first = np.searchsorted(both[:, 0], np.arange(len(table) + 1))
    rarity = 1 / np.log1p(np.maximum(np.diff(first), 2))

    def related(places: np.ndarray) -> np.ndarray:
        wanted = places[:, None] * n + places
        joined = (keys[np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))] == wanted) if len(keys) else wanted < 0
        around = [to[first[p] : first[p + 1]] for p in places.tolist()]
        seen, inverse = np.unique(np.concatenate(around) if around else np.empty(0, np.int64), return_inverse=True)
        shares = np.zeros((len(places), len(seen)), dtype=np.float32)
        shares[np.repeat(np.arange(len(places)), [len(a) for a in around]), inverse] = 1
        common = (shares * rarity[seen]) @ shares.T if len(seen) else np.zeros(wanted.shape)
        return _off_diagonal(np.minimum(joined + common, 1))

    return related


def _cosine(table: PriorTable) -> Relatedness:
    directions = _require_vectors(table).directions()
    return lambda places: _off_diagonal(np.maximum(directions[places] @ directions[places].T, 0))


def _plausibility(table: PriorTable) -> Relatedness:
    relations = table.relations
    if relations is None:
        raise MismatchError(
            "the prior has no relation vectors, which plausibility needs: make it from vectors of ComplEx or DistMult, "
            "or take neighbours or cosine"
        )
    vectors = _require_vectors(table).vectors
    assert vectors is not None

    def related(places: np.ndarray) -> np.ndarray:
        of = vectors[places]
        best = np.zeros((len(places), len(places)), dtype=np.float32)
        # A relation at a time: all at once would take (entities, entities, relations) numbers.
        for vector, bias, spread in zip(relations.vectors, relations.bias, relations.spread, strict=True):
            scores = (multiplied(of, vector, relations.layout) @ of.T - bias) / spread
            best = np.maximum(best, 1 / (1 + np.exp(-scores.clip(-30, 30))))
        return _off_diagonal(np.maximum(best, best.T))

    return related


def _require_vectors(table: PriorTable) -> PriorTable:
    if table.vectors is None:
        raise MismatchError("the prior has no vectors; make it with --vectors, or take the relatedness neighbours")
    return table


def _off_diagonal(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    np.fill_diagonal(values, 0)
    return values
