"""GloVe: word vectors whose dot products approximate log co-occurrence counts (Pennington, Socher & Manning 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blink.kglm.glove.counts import Counts, PairBatch, pairs_at
from blink.runs.seeds import generator_for

CHUNK_PAIRS = 1 << 18


@dataclass(frozen=True)
class Weighting:
    """Weight of a pair in the loss: ``g(x) = min(1, (x / x_max) ^ power)``.

    Attributes:
        x_max: counts from this value on have weight 1.
        power: exponent for smaller counts.
    """

    x_max: float = 100.0
    power: float = 0.75

    def of(self, values: Tensor) -> Tensor:
        """Weights of counts. *Shape:* (n,) both."""
        return (values / self.x_max).clamp(max=1.0).pow(self.power)


class Table(nn.Module):
    """An embedding table.

    Args:
        weight: initial values. *Shape:* (rows, width).
        sparse: whether gradients are sparse.
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
    """Word and context embeddings, with a bias per row.

    Args:
        size: number of words of the vocabulary.
        width: dimension of the vectors.
        weighting: weights of pairs.
        seed: seed of the initial values, uniform in +-0.5 / width as in the authors' program.
        sparse: whether gradients are sparse.
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
        """Mean weighted squared error over all pairs of ``counts``, in chunks."""
        device = next(self.parameters()).device
        total = 0.0
        for begin in range(0, len(counts), CHUNK_PAIRS):
            batch = pairs_at(counts, slice(begin, begin + CHUNK_PAIRS), device)
            total += float((self.weighting.of(batch.values) * self.errors(batch).square()).double().sum())
        return total / max(len(counts), 1)

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Word vectors ``u + v``, by default of all words. *Shape:* (n, width)."""
        if ids is None:
            ids = torch.arange(self.size, device=self.contexts.weight.device)
        summed: Tensor = self.words(ids) + self.contexts(ids)
        return summed


def adagrad(parameters: list[nn.Parameter], lr: float, accumulator: float, batch_size: int) -> torch.optim.Adagrad:
    """AdaGrad with the step sizes of the authors' program, which takes a step per pair with the gradient of half the error.

    Our loss is a mean over a batch, so its gradients are ``2 / batch_size`` times the sum of theirs. AdaGrad is invariant to
    this factor except for the initial accumulator, which is scaled to match.

    Args:
        parameters: trained parameters.
        lr: learning rate, 0.05 in that program.
        accumulator: initial accumulator, 1 in that program.
        batch_size: batch size in pairs.
    """
    initial = accumulator * (2 / batch_size) ** 2
    return torch.optim.Adagrad(parameters, lr=lr, initial_accumulator_value=initial, eps=1e-15)
