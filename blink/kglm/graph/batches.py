"""What each step of training asks, and which wrong answers it compares with. A step follows from its number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blink.errors import SettingsError
from blink.kglm.config import Settings
from blink.kglm.graph.answers import Answers, mean_counts
from blink.kglm.graph.model import Questions, questions_of
from blink.kglm.graph.triples import Graph
from blink.runs.seeds import generator_for

FIRST_COUNT = 3
"""Added to how often a pair occurs, for the weight of its triples: the authors of RotatE begin to count at 4."""


@dataclass(frozen=True)
class Batch:
    """Questions of a step.

    Attributes:
        questions: *Shapes:* (batch,).
        rows: question of each right answer, ascending. *Shape:* (answers,).
        targets: the right answers. *Shape:* (answers,).
        weights: of the questions; their mean is 1. *Shape:* (batch,), float; None where all weigh 1.
    """

    questions: Questions
    rows: Tensor
    targets: Tensor
    weights: Tensor | None = None

    def part(self, first: int, last: int) -> Batch:
        """Some of the questions, with their right answers and weights."""
        here = (self.rows >= first) & (self.rows < last)
        weights = None if self.weights is None else self.weights[first:last]
        return Batch(self.questions[first:last], self.rows[here] - first, self.targets[here], weights)

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(self.questions.to(device), self.rows.to(device), self.targets.to(device), weights)


class Batches:
    """The questions of a graph's training triples, in a new order each epoch.

    Args:
        graph: the graph.
        known: answers of the training triples.
        settings: all settings of the run.

    Attributes:
        steps: steps of an epoch.
    """

    def __init__(self, graph: Graph, known: Answers, settings: Settings) -> None:
        self._known, self._seed, self._size = known, settings.seed, settings.train.batch_size
        self._whole = settings.train.type == "KvsAll"
        self._questions, self._answers = questions_of(torch.from_numpy(graph.train))
        if self._whole:
            self._questions = known.questions
        drawn = settings.train.type == "negative" and settings.negatives.sides == "bernoulli"
        self._bernoulli = head_shares(known, len(graph.relations)) if drawn else None
        self._weights = None
        if settings.train.subsampling:
            if self._whole:
                raise SettingsError("train.subsampling weighs triples; it does not go with train.type KvsAll")
            self._weights = pair_weights(known, torch.from_numpy(graph.train)).repeat(2)
        self.steps = -(-len(self._questions) // self._size)
        self._order: tuple[int, Tensor] | None = None

    def __getitem__(self, step: int) -> Batch:
        """The questions of a step, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.steps)
        chosen = self._order_of(epoch)[place * self._size : (place + 1) * self._size]
        questions = self._questions[chosen]
        if self._whole:
            rows, targets = self._known.of(chosen)
            return Batch(questions, rows, targets)
        weights = None if self._weights is None else self._weights[chosen]
        weights = None if weights is None else weights / weights.mean()
        return Batch(questions, torch.arange(len(chosen)), self._answers[chosen], weights)

    def _order_of(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            random = generator_for(self._seed, "order", epoch)
            order = torch.randperm(len(self._questions), generator=random)
            if self._bernoulli is not None:
                n = len(order) // 2  # a question stands n after the other of its triple
                relations = self._questions.relations[order]
                order = order % n + n * (torch.rand(len(order), generator=random) < self._bernoulli[relations])
            self._order = epoch, order
        return self._order[1]


def head_shares(known: Answers, relations: int) -> Tensor:
    """Share of the questions of each relation that ask for a head: ``tph / (tph + hpt)`` (Wang et al. 2014).

    The head is replaced more often the more tails a head has on average. *Shape:* (relations,), float.
    """
    tails, heads = mean_counts(known, relations)
    return tails / (tails + heads).clamp_min(1e-9)


def pair_weights(known: Answers, triples: Tensor) -> Tensor:
    """``1 / sqrt(c(h, r) + c(r, t))`` of each triple (Sun et al. 2019). *Shapes:* (n, 3) and (n,)."""
    counts = known.counts[known.find(questions_of(triples)[0])] + FIRST_COUNT
    return counts.view(2, -1).sum(0).float().rsqrt()


class Negatives:
    """Draws wrong answers.

    Args:
        graph: the graph.
        known: true answers, which do not count where ``filter`` is set; on the device of the model.
        settings: all settings of the run.

    Raises:
        SettingsError: a setting is not allowed.
    """

    def __init__(self, graph: Graph, known: Answers, settings: Settings) -> None:
        options = settings.negatives
        self._known, self._seed, self._entities, self._options = known, settings.seed, len(graph.entities), options
        self._shared = options.shared or options.draw == "batch"
        self._shares = None
        if options.draw == "frequency":
            self._shares = torch.from_numpy(graph.degrees + 1).double().cumsum(0)

    def draw(self, step: int, batch: Batch) -> Tensor:
        """Entities: shared by all questions, *shape:* (n,), or for each its own, *shape:* (batch, n)."""
        random = generator_for(self._seed, "negatives", step)
        shape = (self._options.count,) if self._shared else (len(batch.questions), self._options.count)
        if self._shares is None:
            drawn = torch.randint(self._entities, shape, generator=random)
        else:
            at = torch.rand(shape, generator=random, dtype=torch.float64) * self._shares[-1]
            drawn = torch.searchsorted(self._shares, at, right=True).clamp_max(self._entities - 1)
        if self._options.draw == "batch":
            drawn = torch.cat([batch.targets.unique(), drawn])
        return drawn

    def counted(self, batch: Batch, drawn: Tensor) -> Tensor:
        """Which drawn entities count as wrong answers; the right one itself never does. *Shape:* (batch, n), bool."""
        right = drawn == batch.targets.unsqueeze(1)
        if self._options.filter:
            right = right | self._known.contains(self._known.find(batch.questions), drawn)
        return ~right
