"""Filtered ranks of true answers among all entities, and ranking metrics.

Other true answers of a query are filtered. The rank of tied scores is the mean of the best and the worst rank ("realistic",
Berrendorf et al. 2020). Scores are computed in float64, so that ties do not depend on the chunking of entities. PyKEEN's
evaluator gives the same ranks if scores are well separated, as a test checks. It compares scores exactly, so rounding breaks
ties, and it needs the scores of all entities in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from blink.kglm.graph.answers import Answers, mean_counts
from blink.kglm.graph.model import Queries, queries_of
from blink.kglm.graph.triples import Graph
from blink.runs.finite import NotFinite
from blink.runs.seeds import generator_for

ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE = 1e-10, 1e-9
"""Scores within this distance of the target's score are tied with it."""
FILTERED_AT_ONCE = 1 << 22
"""True answers that the queries of a batch may have together; more only if a single query has."""
HITS = (1, 3, 10)
CATEGORIES = ("1-1", "1-N", "N-1", "N-N")
MANY = 1.5
"""Relations with at least this mean number of tails per head (or heads per tail) are 1-N (or N-1)."""
DEGREES = (0, 6, 21, 101)
"""Lower bounds of the degree buckets."""


class Scorer(Protocol):
    """Scores candidates as answers, such as a `GraphModel`."""

    def scores(self, queries: Queries, candidates: Tensor | slice | None = None) -> Tensor:
        """Scores; see `GraphModel.scores`."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of the answers of both queries of each triple. *Shapes:* (2 * triples,) all.

    Attributes:
        queries: tail queries of all triples, then head queries.
        answers: true answers.
        optimistic: 1 + number of entities with a higher score, int64.
        equal: number of other entities with a tied score, int64.
    """

    queries: Queries
    answers: Tensor
    optimistic: Tensor
    equal: Tensor

    @property
    def realistic(self) -> Tensor:
        """Mean of the optimistic and the pessimistic rank, float64."""
        return self.optimistic.double() + self.equal.double() / 2

    @property
    def pessimistic(self) -> Tensor:
        """The worst rank among ties, int64."""
        return self.optimistic + self.equal


@torch.no_grad()
def rank(
    scorer: Scorer,
    triples: Tensor,
    answers_to_filter: Answers,
    entities: int,
    *,
    batch_size: int = 512,
    chunk: int = 16384,
    candidates: Tensor | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Ranks:
    """Rank the answers of both queries of each triple among all entities, or among some.

    Memory does not grow with the graph: entities are scored in chunks, and batches are smaller where queries have very many
    true answers.

    Args:
        scorer: scores candidates.
        triples: the triples. *Shape:* (n, 3), int64, on the scorer's device.
        answers_to_filter: true answers, which are filtered except for the ranked one.
        entities: number of entities.
        batch_size: queries per batch.
        chunk: entities per chunk.
        candidates: the entities to rank among, ascending, *shape* (m,); None for all. Ranks among a sample are lower.
        progress: called with the number of queries of each batch.

    Raises:
        NotFinite: the score of a true answer is not finite.
    """
    queries, answers = queries_of(triples)
    optimistic, equal = torch.empty_like(answers), torch.empty_like(answers)
    ends = answers_to_filter.counts_of(answers_to_filter.find(queries)).cumsum(0)
    start = 0
    while start < len(answers):
        done = int(ends[start - 1]) if start else 0
        fitting = int(torch.searchsorted(ends, done + FILTERED_AT_ONCE, right=True))
        rows = slice(start, min(start + batch_size, max(fitting, start + 1)))
        blocks = _blocks(entities, chunk, candidates)
        optimistic[rows], equal[rows] = _rank_batch(scorer, queries[rows], answers[rows], answers_to_filter, blocks)
        progress(len(answers[rows]))
        start = rows.stop
    return Ranks(queries, answers, optimistic, equal)


def sampled_candidates(entities: int, count: int, seed: int) -> Tensor | None:
    """A seeded sample of the entities, ascending; None for all, if ``count`` is 0 or that of all. *Shape:* (count,), int64."""
    if not 0 < count < entities:
        return None
    return torch.randperm(entities, generator=generator_for(seed, "candidates"))[:count].sort().values


def _blocks(entities: int, chunk: int, candidates: Tensor | None) -> Iterator[tuple[int, int, slice | Tensor]]:
    """Chunks of the candidates: the first entity, the one after the last, and what to score."""
    if candidates is None:
        for first in range(0, entities, chunk):
            last = min(first + chunk, entities)
            yield first, last, slice(first, last)
        return
    for block in candidates.split(chunk):
        yield int(block[0]), int(block[-1]) + 1, block


def _rank_batch(
    scorer: Scorer,
    queries: Queries,
    answers: Tensor,
    answers_to_filter: Answers,
    blocks: Iterable[tuple[int, int, slice | Tensor]],
) -> tuple[Tensor, Tensor]:
    target_scores = scorer.scores(queries, answers.unsqueeze(1)).double()
    if not target_scores.isfinite().all():
        raise NotFinite("the model gives scores that are not finite; lower train.lr, or raise a regulariser, and train again")
    tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * target_scores.abs()
    rows, others = answers_to_filter.of(answers_to_filter.find(queries))
    rows = torch.cat([rows, torch.arange(len(answers), device=rows.device)])  # the target itself is neither above nor equal
    others, order = torch.cat([others, answers]).sort()
    rows = rows[order]
    above, equal = torch.zeros_like(answers), torch.zeros_like(answers)
    for first, last, block in blocks:
        scores = scorer.scores(queries, block).double()
        begin, end = torch.searchsorted(others, torch.tensor([first, last], device=others.device)).tolist()
        filtered, columns = rows[begin:end], others[begin:end] - first
        if isinstance(block, Tensor):
            columns = torch.searchsorted(block, others[begin:end])
            present = block[columns] == others[begin:end]
            filtered, columns = filtered[present], columns[present]
        scores[filtered, columns] = -torch.inf
        higher = scores > target_scores + tolerance
        above += higher.sum(1)
        equal += ((scores >= target_scores - tolerance) & ~higher).sum(1)
    return above + 1, equal


# -- metrics -------------------------------------------------------------------------------------------------------------


def summary(ranks: Tensor) -> dict[str, float | int]:
    """MRR, mean rank, hits and number of ranks. *Shape:* (n,), float64."""
    if not len(ranks):
        return {"questions": 0}
    hits = {f"hits@{k}": (ranks <= k).double().mean().item() for k in HITS}
    return {"mrr": (1 / ranks).mean().item(), **hits, "mean_rank": ranks.mean().item(), "questions": len(ranks)}


def report(ranks: Ranks, graph: Graph) -> dict[str, object]:
    """`summary` over all queries, and by side, category of the relation, degree of the answer, and relation."""
    values, heads = ranks.realistic.cpu(), ranks.queries.heads.cpu()
    relations, answers = ranks.queries.relations.cpu(), ranks.answers.cpu()
    category = relation_categories(graph)[relations]
    bucket = torch.bucketize(torch.from_numpy(graph.degrees)[answers], torch.tensor(DEGREES), right=True) - 1
    degree_ranges = [f"{low}-{high - 1}" for low, high in itertools.pairwise(DEGREES)] + [f"{DEGREES[-1]}+"]
    return {
        **summary(values),
        "tails": summary(values[~heads]),
        "heads": summary(values[heads]),
        "by_category": {name: summary(values[category == i]) for i, name in enumerate(CATEGORIES)},
        "by_answer_degree": {name: summary(values[bucket == i]) for i, name in enumerate(degree_ranges)},
        "by_relation": {graph.relations[r]: summary(values[relations == r]) for r in relations.unique().tolist()},
    }


def relation_categories(graph: Graph) -> Tensor:
    """Index into `CATEGORIES` of each relation, from its training triples. *Shape:* (relations,), int64."""
    answers = Answers(torch.from_numpy(graph.train), len(graph.entities), len(graph.relations))
    tails, heads = mean_counts(answers, len(graph.relations))
    return (heads >= MANY).long() * 2 + (tails >= MANY).long()


class RelationFrequency:
    """Baseline: scores an entity by its frequency as head or tail of the relation in the training triples.

    Args:
        triples: training triples. *Shape:* (n, 3), int64.
        entities: number of entities.
    """

    def __init__(self, triples: Tensor, entities: int) -> None:
        self._entities = entities
        queries, answers = queries_of(triples)
        self._keys, self._counts = (self._kinds(queries) * entities + answers).unique(return_counts=True)

    def scores(self, queries: Queries, candidates: Tensor | slice | None = None) -> Tensor:
        """Counts, float64, for a slice of all entities or per query, *shape:* (batch, n); see `GraphModel.scores`."""
        kinds = self._kinds(queries)
        if isinstance(candidates, Tensor):
            keys = kinds.unsqueeze(1) * self._entities + candidates
            position = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
            return torch.where(self._keys[position] == keys, self._counts[position], 0).double()
        first, last, _ = (candidates or slice(None)).indices(self._entities)
        kinds, rows = kinds.unique(return_inverse=True)
        counts = torch.zeros(len(kinds), last - first, dtype=torch.float64)
        bounds = torch.searchsorted(self._keys, kinds.unsqueeze(1) * self._entities + torch.tensor([first, last]))
        for row, (start, end) in enumerate(bounds.tolist()):
            counts[row, self._keys[start:end] % self._entities - first] = self._counts[start:end].double()
        return counts[rows]

    def _kinds(self, queries: Queries) -> Tensor:
        return queries.relations * 2 + queries.heads
