"""The losses of joint training; a step adds an entity loss and the span loss, unweighted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from blink.data.records import NOT_IN_CATALOGUE
from blink.model.heads import SpanScores
from blink.training.examples import Batch


def catalogue_loss(mentions: Tensor, rows: Tensor, entities: Tensor) -> Tensor:
    """Cross-entropy of each mention against the whole catalogue: an exact softmax, where sampled negatives approximate.

    L = -mean_i log( exp(m_i . e_gold(i)) / sum_j exp(m_i . e_j) ), entity vectors e held fixed.

    Args:
        mentions: mention vectors. *Shape:* (n, d).
        rows: gold rows; mentions with `NOT_IN_CATALOGUE` are left out. *Shape:* (n,), int64.
        entities: all entity vectors; the matmul runs in their number format. *Shape:* (entities, d).

    Returns:
        scalar; zero (with a gradient path) where no mention has a row.
    """
    known = rows != NOT_IN_CATALOGUE
    if not bool(known.any()):
        return mentions.sum() * 0.0
    logits = (mentions[known].to(entities.dtype) @ entities.T).float()
    return functional.cross_entropy(logits, rows[known])


def span_loss(scores: SpanScores, batch: Batch) -> Tensor:
    """Binary cross-entropy of every span of the batch: 1 for gold mentions, 0 for all others (Li et al. 2020, eq. 7).

    Gold mentions longer than the model's spans are left out. Of a text that is labelled in part, only the labelled
    mentions count: any other span may be a mention too.
    """
    logits = scores.logits
    targets = torch.zeros_like(logits)
    width = batch.end - batch.start
    short = width < logits.shape[2]
    targets[batch.text[short], batch.start[short], width[short]] = 1.0
    real = ~torch.isneginf(logits)  # a NaN counts, and shows in the loss
    counted = real & (~batch.partial[:, None, None] | (targets > 0))
    total = functional.binary_cross_entropy_with_logits(logits[counted], targets[counted], reduction="sum")
    # Over all spans, so that a mention weighs the same in a text that is labelled in part.
    return total / real.sum().clamp(min=1)
