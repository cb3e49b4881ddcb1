"""True answers by query, which are filtered from negatives and rankings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blink.kglm.graph.model import Queries, queries_of


class Answers:
    """True answers in compressed sparse rows: the answers of query ``i`` are ``targets[offsets[i] : offsets[i + 1]]``.

    Args:
        triples: true triples; duplicates are ignored. *Shape:* (n, 3), int64.
        entities: number of entities.
        relations: number of relations.

    Attributes:
        queries: the unique queries.
        offsets: *Shape:* (queries + 1,), int64.
        targets: answers, ascending within a query. *Shape:* (answers,), int64.
    """

    def __init__(self, triples: Tensor, entities: int, relations: int) -> None:
        self._entities, self._relations = entities, relations
        queries, targets = queries_of(triples)
        order = torch.argsort(targets)
        order = order[torch.argsort(self._key(queries)[order], stable=True)]
        keys, targets = self._key(queries)[order], targets[order]
        first = torch.ones(len(keys), dtype=torch.bool, device=keys.device)
        first[1:] = (keys[1:] != keys[:-1]) | (targets[1:] != targets[:-1])
        self._keys, counts = torch.unique_consecutive(keys[first], return_counts=True)
        self.targets = targets[first]
        self.offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        query_index = torch.arange(len(counts), device=keys.device).repeat_interleave(counts)
        self._pairs = query_index * entities + self.targets
        self._answered = query_index[torch.argsort(self.targets)]  # the inverse: queries by answer
        self._answered_offsets = torch.bincount(self.targets + 1, minlength=entities + 1).cumsum(0)

    @property
    def queries(self) -> Queries:
        """The unique queries, in the order of ``offsets``."""
        side_relation = self._keys // self._entities
        return Queries(self._keys % self._entities, side_relation % self._relations, side_relation >= self._relations)

    @property
    def counts(self) -> Tensor:
        """Number of answers of each query. *Shape:* (queries,), int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def find(self, queries: Queries) -> Tensor:
        """Indices of queries; -1 for queries without answers. *Shape:* (batch,), int64."""
        keys = self._key(queries)
        index = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        return torch.where(self._keys[index] == keys, index, -1)

    def counts_of(self, indices: Tensor) -> Tensor:
        """Number of answers of queries by their indices, which may be -1. *Shape:* (batch,), int64."""
        return torch.where(indices >= 0, self.counts[indices], 0)

    def of(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Answers of queries by their indices, which may be -1.

        Returns:
            for each answer, its position in ``indices`` and the entity. *Shapes:* (answers,) both.
        """
        counts = self.counts_of(indices)
        rows = torch.arange(len(indices), device=indices.device).repeat_interleave(counts)
        within = torch.arange(len(rows), device=indices.device) - (counts.cumsum(0) - counts)[rows]
        return rows, self.targets[self.offsets[indices[rows]] + within]

    def contains(self, indices: Tensor, candidates: Tensor) -> Tensor:
        """Mask the candidates that are true answers.

        Args:
            indices: indices of the queries, or -1. *Shape:* (batch,).
            candidates: entities, shared by all queries, *shape:* (n,), or per query, *shape:* (batch, n).

        Returns:
            *Shape:* (batch, n), bool.
        """
        if candidates.dim() == 1:
            return self._contains_shared(indices, candidates)
        pairs = indices.unsqueeze(1) * self._entities + candidates
        position = torch.searchsorted(self._pairs, pairs).clamp_max(len(self._pairs) - 1)
        return (self._pairs[position] == pairs) & (indices >= 0).unsqueeze(1)

    def _contains_shared(self, indices: Tensor, candidates: Tensor) -> Tensor:
        """`contains` for shared candidates, by the queries of each candidate, which are far fewer than all pairs."""
        unique, rows = indices.unique(return_inverse=True)
        entities, columns = candidates.unique(return_inverse=True)
        counts = self._answered_offsets[entities + 1] - self._answered_offsets[entities]
        column = torch.arange(len(entities), device=indices.device).repeat_interleave(counts)
        within = torch.arange(len(column), device=indices.device) - (counts.cumsum(0) - counts)[column]
        answered = self._answered[self._answered_offsets[entities[column]] + within]
        row = torch.searchsorted(unique, answered).clamp_max(len(unique) - 1)
        asked = unique[row] == answered
        is_answer = torch.zeros(len(unique), len(entities), dtype=torch.bool, device=indices.device)
        is_answer[row[asked], column[asked]] = True
        return is_answer[rows][:, columns]

    def to(self, device: torch.device | str) -> Answers:
        """Copy to a device."""
        copy = object.__new__(Answers)
        for name, value in vars(self).items():
            setattr(copy, name, value.to(device) if isinstance(value, Tensor) else value)
        return copy

    def _key(self, queries: Queries) -> Tensor:
        side = self._relations * queries.heads + queries.relations
        return side * self._entities + queries.anchors


def answers_of(splits: Sequence[Tensor], entities: int, relations: int) -> Answers:
    """`Answers` of several splits."""
    return Answers(torch.cat(list(splits)), entities, relations)


def mean_counts(answers: Answers, relations: int) -> Tensor:
    """Mean number of answers per query by relation: tails per head, and heads per tail. *Shape:* (2, relations), float."""
    queries, means = answers.queries, []
    for side in (False, True):
        mask = queries.heads == side
        sums = torch.zeros(relations).index_add_(0, queries.relations[mask], answers.counts[mask].float())
        means.append(sums / torch.bincount(queries.relations[mask], minlength=relations).clamp_min(1))
    return torch.stack(means)
