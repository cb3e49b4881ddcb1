"""Losses over a vocabulary: the exact one in pieces that fit into memory, and a sampled one for training."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

PIECE = 1 << 24
"""Logits that are held at once where all are computed."""


def token_losses(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Negative log-probabilities of targets under the full softmax, in nats; for measuring, piece by piece.

    Args:
        hidden: what the cells say at each place. *Shape:* (n, width).
        targets: ids of the right words. *Shape:* (n,).
        weight: a row per word. *Shape:* (vocabulary, width).
        bias: *Shape:* (vocabulary,).

    Returns:
        *Shape:* (n,).
    """
    rows = max(PIECE // len(weight), 1)
    parts = [
        functional.cross_entropy(functional.linear(hidden[i : i + rows], weight, bias), targets[i : i + rows], reduction="none")
        for i in range(0, len(hidden), rows)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0)


def sampled_loss(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, samples: int) -> Tensor:
    """Mean loss against words drawn at random, which all places share, instead of all (Jean et al. 2015, section 3).

    Words are drawn by ``P(id) = log((id + 2) / (id + 1)) / log(vocabulary + 1)``, which follows the frequencies of words that
    are sorted by them; logits are corrected by the logarithm of how often a word is expected, so that in the mean the
    gradient is that of the full softmax. A word drawn that is the right one at some place does not count as wrong there.

    Args:
        hidden: *Shape:* (n, width).
        targets: ids of the right words. *Shape:* (n,).
        weight: a row per word. *Shape:* (vocabulary, width).
        bias: *Shape:* (vocabulary,).
        samples: draws, with repetition.

    Returns:
        a scalar; smaller than the loss under the full softmax.
    """
    size = len(weight)
    drawn = torch.exp(torch.rand(samples, dtype=torch.float64, device=weight.device) * math.log(size + 1)).long() - 1
    words = drawn.clamp_(0, size - 1).unique()
    right = (hidden * weight[targets]).sum(1) + bias[targets] - _log_expected(targets, size, samples)
    wrong = functional.linear(hidden, weight[words], bias[words] - _log_expected(words, size, samples))
    wrong = wrong.masked_fill(words == targets[:, None], -math.inf)
    return (torch.logaddexp(right, wrong.logsumexp(1)) - right).mean()


def _log_expected(words: Tensor, size: int, samples: int) -> Tensor:
    """Logarithm of the probability that a word is among those drawn. *Shape:* that of ``words``."""
    ids = words.double()
    once = torch.log((ids + 2) / (ids + 1)) / math.log(size + 1)
    return torch.log(-torch.expm1(samples * torch.log1p(-once))).float()
