"""Batches of queries and negative sampling. Both are functions of the step number, so a run can resume at any step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blink.errors import SettingsError
from blink.kglm.graph.answers import Answers, mean_counts
from blink.kglm.graph.model import Queries, queries_of
from blink.kglm.graph.triples import Graph
from blink.kglm.settings import GraphSections
from blink.runs.seeds import generator_for

FIRST_COUNT = 3
"""Added to the count of a pair in subsampling weights: in RotatE's code, counts start at 4."""


@dataclass(frozen=True)
class Batch:
    """A batch of queries.

    Attributes:
        queries: *Shapes:* (batch,).
        rows: query of each target, ascending. *Shape:* (answers,).
        targets: true answers. *Shape:* (answers,).
        weights: weights of the queries, with mean 1. *Shape:* (batch,), float; None if all weights are 1.
    """

    queries: Queries
    rows: Tensor
    targets: Tensor
    weights: Tensor | None = None

    def micro_batch(self, first: int, last: int) -> Batch:
        """The queries from ``first`` to ``last``, with their targets and weights."""
        mask = (self.rows >= first) & (self.rows < last)
        weights = None if self.weights is None else self.weights[first:last]
        return Batch(self.queries[first:last], self.rows[mask] - first, self.targets[mask], weights)

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(self.queries.to(device), self.rows.to(device), self.targets.to(device), weights)


class Batches:
    """Batches of the queries of a graph's training triples, in a new order in each epoch.

    Args:
        graph: the graph.
        answers: answers in the training triples.
        settings: settings of the run.

    Attributes:
        steps: steps per epoch.
    """

    def __init__(self, graph: Graph, answers: Answers, settings: GraphSections) -> None:
        self._true_answers, self._seed, self._size = answers, settings.seed, settings.train.batch_size
        self._multi_label = settings.train.type == "KvsAll"
        self._queries, self._targets = queries_of(torch.from_numpy(graph.train))
        if self._multi_label:
            self._queries = answers.queries
        drawn = settings.train.type == "negative" and settings.negatives.sides == "bernoulli"
        self._bernoulli = head_query_rates(answers, len(graph.relations)) if drawn else None
        self._weights = None
        if settings.train.subsampling:
            if self._multi_label:
                raise SettingsError("train.subsampling weights triples; it does not go with train.type KvsAll")
            self._weights = pair_weights(answers, torch.from_numpy(graph.train)).repeat(2)
        self.steps = -(-len(self._queries) // self._size)
        self._order: tuple[int, Tensor] | None = None

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, counted from 0 over all epochs."""
        epoch, index = divmod(step, self.steps)
        selected = self._order_of(epoch)[index * self._size : (index + 1) * self._size]
        queries = self._queries[selected]
        if self._multi_label:
            rows, targets = self._true_answers.of(selected)
            return Batch(queries, rows, targets)
        weights = None if self._weights is None else self._weights[selected]
        weights = None if weights is None else weights / weights.mean()
        return Batch(queries, torch.arange(len(selected)), self._targets[selected], weights)

    def _order_of(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            random = generator_for(self._seed, "order", epoch)
            order = torch.randperm(len(self._queries), generator=random)
            if self._bernoulli is not None:
                n = len(order) // 2  # the head query of a triple comes n after its tail query
                relations = self._queries.relations[order]
                order = order % n + n * (torch.rand(len(order), generator=random) < self._bernoulli[relations])
            self._order = epoch, order
        return self._order[1]


def head_query_rates(answers: Answers, relations: int) -> Tensor:
    """Fraction of head queries of each relation, ``tph / (tph + hpt)`` (Wang et al. 2014). *Shape:* (relations,), float.

    The more tails a head has on average, the more often the head is replaced.
    """
    tails, heads = mean_counts(answers, relations)
    return tails / (tails + heads).clamp_min(1e-9)


def pair_weights(answers: Answers, triples: Tensor) -> Tensor:
    """``1 / sqrt(c(h, r) + c(r, t))`` of each triple (Sun et al. 2019). *Shapes:* (n, 3) and (n,)."""
    counts = answers.counts[answers.find(queries_of(triples)[0])] + FIRST_COUNT
    return counts.view(2, -1).sum(0).float().rsqrt()


class Negatives:
    """Samples negatives.

    Args:
        graph: the graph.
        answers: true answers, which are masked if ``filter`` is set; on the device of the model.
        settings: settings of the run.

    Raises:
        SettingsError: a setting is not allowed.
    """

    def __init__(self, graph: Graph, answers: Answers, settings: GraphSections) -> None:
        options = settings.negatives
        self._answers, self._seed, self._entities, self._options = answers, settings.seed, len(graph.entities), options
        self._shared = options.shared or options.draw == "batch"
        self._cumulative_frequencies = None
        if options.draw == "frequency":
            self._cumulative_frequencies = torch.from_numpy(graph.degrees + 1).double().cumsum(0)

    def draw(self, step: int, batch: Batch) -> Tensor:
        """Sample entities, shared by all queries, *shape:* (n,), or per query, *shape:* (batch, n)."""
        random = generator_for(self._seed, "negatives", step)
        shape = (self._options.count,) if self._shared else (len(batch.queries), self._options.count)
        if self._cumulative_frequencies is None:
            drawn = torch.randint(self._entities, shape, generator=random)
        else:
            position = torch.rand(shape, generator=random, dtype=torch.float64) * self._cumulative_frequencies[-1]
            drawn = torch.searchsorted(self._cumulative_frequencies, position, right=True).clamp_max(self._entities - 1)
        if self._options.draw == "batch":
            drawn = torch.cat([batch.targets.unique(), drawn])
        return drawn

    def mask(self, batch: Batch, drawn: Tensor) -> Tensor:
        """Mask the sampled entities that are negatives; the target never is. *Shape:* (batch, n), bool."""
        true = drawn == batch.targets.unsqueeze(1)
        if self._options.filter:
            true = true | self._answers.contains(self._answers.find(batch.queries), drawn)
        return ~true
