"""Softmax losses over a vocabulary: the exact loss in chunks that fit into memory, and a sampled loss for training."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

MAX_LOGITS = 1 << 24
"""Maximum number of logits in memory when the full softmax is computed."""


def token_losses(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Negative log-probabilities of targets under the full softmax, in nats, computed in chunks for evaluation.

    Args:
        hidden: hidden state at each position. *Shape:* (n, width).
        targets: target word ids. *Shape:* (n,).
        weight: output embeddings. *Shape:* (vocabulary, width).
        bias: *Shape:* (vocabulary,).

    Returns:
        *Shape:* (n,).
    """
    rows = max(MAX_LOGITS // len(weight), 1)
    losses = [
        functional.cross_entropy(functional.linear(hidden[i : i + rows], weight, bias), targets[i : i + rows], reduction="none")
        for i in range(0, len(hidden), rows)
    ]
    return torch.cat(losses) if losses else hidden.new_zeros(0)


def sampled_loss(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, samples: int) -> Tensor:
    """Mean sampled softmax loss; all positions share the sampled words (Jean et al. 2015, section 3).

    Words are sampled with ``P(id) = log((id + 2) / (id + 1)) / log(vocabulary + 1)``, a log-uniform distribution that
    approximates frequencies if ids are sorted by frequency. Logits are corrected by the logarithm of the expected count, so
    that the gradient approximates that of the full softmax. A sampled word that is the target of a position is masked there.

    Args:
        hidden: *Shape:* (n, width).
        targets: target word ids. *Shape:* (n,).
        weight: output embeddings. *Shape:* (vocabulary, width).
        bias: *Shape:* (vocabulary,).
        samples: number of samples, drawn with replacement.

    Returns:
        a scalar; smaller than the loss under the full softmax.
    """
    size = len(weight)
    drawn = torch.exp(torch.rand(samples, dtype=torch.float64, device=weight.device) * math.log(size + 1)).long() - 1
    words = drawn.clamp_(0, size - 1).unique()
    positive = (hidden * weight[targets]).sum(1) + bias[targets] - _log_expected(targets, size, samples)
    negative = functional.linear(hidden, weight[words], bias[words] - _log_expected(words, size, samples))
    negative = negative.masked_fill(words == targets[:, None], -math.inf)
    return (torch.logaddexp(positive, negative.logsumexp(1)) - positive).mean()


def _log_expected(words: Tensor, size: int, samples: int) -> Tensor:
    """Log-probability that a word is among the samples. *Shape:* that of ``words``."""
    ids = words.double()
    probability = torch.log((ids + 2) / (ids + 1)) / math.log(size + 1)
    return torch.log(-torch.expm1(samples * torch.log1p(-probability))).float()
