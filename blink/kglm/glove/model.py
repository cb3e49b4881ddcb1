"""GloVe: word vectors whose products give the logarithms of counts (Pennington, Socher & Manning 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blink.kglm.glove.counts import Counts, PairBatch, pairs_at
from blink.runs.seeds import generator_for

PAIRS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Weighting:
    """How much a pair counts: ``g(x) = min(1, (x / x_max) ^ power)``.

    Attributes:
        x_max: count from which on pairs weigh 1.
        power: how fast weights rise up to there.
    """

    x_max: float = 100.0
    power: float = 0.75

    def of(self, values: Tensor) -> Tensor:
        """Weights of counts. *Shape:* (n,) both."""
        return (values / self.x_max).clamp(max=1.0).pow(self.power)


class Table(nn.Module):
    """Rows of numbers, one per word.

    Args:
        weight: first values. *Shape:* (rows, width).
        sparse: whether gradients hold only the rows in use.
    """

    def __init__(self, weight: Tensor, sparse: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self._sparse = sparse

    def forward(self, ids: Tensor) -> Tensor:
        """*Shape:* (n,) to (n, width)."""
        return nn.functional.embedding(ids, self.weight, sparse=self._sparse)

    def all(self) -> Tensor:
        """All rows. *Shape:* (rows, width)."""
        return self.weight


class GloVe(nn.Module):
    """Two tables, of words and of contexts, and a bias of each row.

    Args:
        size: words of the vocabulary.
        width: numbers per vector.
        weighting: of the pairs.
        seed: of the first values, uniform in +-0.5 / width as in the authors' program.
        sparse: whether gradients hold only the rows in use.
    """

    def __init__(self, size: int, width: int, weighting: Weighting, seed: int = 0, sparse: bool = False) -> None:
        super().__init__()
        self.size, self.width, self.weighting = size, width, weighting
        drawn = {
            name: (torch.rand(size, columns, generator=generator_for(seed, "glove", name)) - 0.5) / width
            for name, columns in (("words", width), ("contexts", width), ("word_bias", 1), ("context_bias", 1))
        }
        self.words: nn.Module = Table(drawn["words"], sparse)
        self.contexts = Table(drawn["contexts"], sparse)
        self.word_bias = Table(drawn["word_bias"], sparse)
        self.context_bias = Table(drawn["context_bias"], sparse)

    def errors(self, batch: PairBatch) -> Tensor:
        """``u_i . v_j + b_i + c_j - log X_ij``. *Shape:* (batch,)."""
        products = (self.words(batch.words) * self.contexts(batch.contexts)).sum(1)
        biases = (self.word_bias(batch.words) + self.context_bias(batch.contexts)).squeeze(1)
        return products + biases - batch.values.log()

    def forward(self, batch: PairBatch) -> Tensor:
        """Mean weighted squared error of a batch: ``g(X_ij) (u_i . v_j + b_i + c_j - log X_ij)^2``."""
        return (self.weighting.of(batch.values) * self.errors(batch).square()).mean()

    @torch.no_grad()
    def mean_loss(self, counts: Counts) -> float:
        """The same over all pairs of ``counts``, in parts."""
        device = next(self.parameters()).device
        total = 0.0
        for begin in range(0, len(counts), PAIRS_AT_ONCE):
            batch = pairs_at(counts, slice(begin, begin + PAIRS_AT_ONCE), device)
            total += float((self.weighting.of(batch.values) * self.errors(batch).square()).double().sum())
        return total / max(len(counts), 1)

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Published vectors of words, ``u + v``; of all words if none are named. *Shape:* (n, width)."""
        if ids is None:
            ids = torch.arange(self.size, device=self.contexts.weight.device)
        summed: Tensor = self.words(ids) + self.contexts(ids)
        return summed


def adagrad(parameters: list[nn.Parameter], lr: float, accumulator: float, batch_size: int) -> torch.optim.Adagrad:
    """AdaGrad with the steps of the authors' program, which takes a step per pair with the gradient of half the error.

    Our loss is a mean over a batch, hence its gradients are ``2 / batch_size`` times the sum of theirs. AdaGrad forgets such a
    factor but for the value that its sums of squares begin with, which is therefore scaled alike.

    Args:
        parameters: what learns.
        lr: 0.05 in that program.
        accumulator: first value of the sums of squares, 1 in that program.
        batch_size: pairs of a batch.
    """
    begin = accumulator * (2 / batch_size) ** 2
    return torch.optim.Adagrad(parameters, lr=lr, initial_accumulator_value=begin, eps=1e-15)
