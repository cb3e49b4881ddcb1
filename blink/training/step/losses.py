"""The losses of joint training; a step adds an entity loss and the span loss, unweighted.

Each is a mean over a whole batch. A batch may be computed in parts, by several processes even: a part gives its sum, divided
by the total of all parts, so that the parts' losses and gradients add up to those of the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from blink.data.records import NOT_IN_CATALOGUE
from blink.model.heads import SpanScores
from blink.training.data.examples import Batch


def catalogue_loss(mentions: Tensor, rows: Tensor, entities: Tensor, total: int | None = None) -> Tensor:
    """Cross-entropy of each mention against the whole catalogue: an exact softmax, where sampled negatives approximate.

    L = -mean_i log( exp(m_i . e_gold(i)) / sum_j exp(m_i . e_j) ), entity vectors e held fixed.

    Args:
        mentions: mention vectors. *Shape:* (n, d).
        rows: gold rows; mentions with `NOT_IN_CATALOGUE` are left out. *Shape:* (n,), int64.
        entities: all entity vectors; the matmul runs in their number format. *Shape:* (entities, d).
        total: mentions in the catalogue, of the whole batch; by default those given.

    Returns:
        scalar; zero (with a gradient path) where no mention has a row.
    """
    known = rows != NOT_IN_CATALOGUE
    logits = (mentions[known].to(entities.dtype) @ entities.T).float()
    return in_batch_loss(logits, rows[known], total) if len(logits) else mentions.sum() * 0.0


def in_batch_loss(logits: Tensor, gold: Tensor, total: int | None = None) -> Tensor:
    """Cross-entropy of each mention's scores (Wu et al. 2020; Li et al. 2020).

    Where each entity has one column, no mention meets its own entity as a negative. With a column a mention, as the
    original has it, a repeated entity is a negative of itself.

    Args:
        logits: scores of entities. *Shape:* (mentions, entities), float.
        gold: the column of each mention's entity. *Shape:* (mentions,), int64.
        total: mentions of the whole batch; by default those given.
    """
    summed = functional.cross_entropy(logits, gold, reduction="sum")
    return summed / max(len(logits) if total is None else total, 1)


def choice_loss(gold: Tensor, others: Tensor, present: Tensor, total: int | None = None) -> Tensor:
    """Cross-entropy of each mention's entity against negatives of its own.

    Args:
        gold: scores of the mentions' entities. *Shape:* (mentions,), float.
        others: scores of their negatives. *Shape:* (mentions, k), float.
        present: which negatives there are. *Shape:* (mentions, k), bool.
        total: mentions of the whole batch; by default those given.
    """
    logits = torch.cat([gold[:, None], others.masked_fill(~present, float("-inf"))], dim=1)
    return in_batch_loss(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), total)


def pair_loss(gold: Tensor, others: Tensor, counted: Tensor, total: int | None = None) -> Tensor:
    """Binary cross-entropy of (mention, entity) pairs: 1 for each mention's entity, 0 for its negatives.

    Args:
        gold: scores of the mentions' entities. *Shape:* (mentions,), float.
        others: scores of their negatives. *Shape:* (mentions, k), float.
        counted: which negatives count. *Shape:* (mentions, k), bool.
        total: pairs of the whole batch; by default those given.
    """
    summed = functional.softplus(-gold).sum() + functional.softplus(others[counted]).sum()
    return summed / max(len(gold) + int(counted.sum()) if total is None else total, 1)


def span_loss(scores: SpanScores, batch: Batch, total: int | None = None) -> Tensor:
    """Binary cross-entropy of every span of the batch: 1 for gold mentions, 0 for all others (Li et al. 2020, eq. 7).

    Gold mentions longer than the model's spans are left out. Of a text that is labelled in part, only the labelled
    mentions count: any other span may be a mention too.

    Args:
        scores: of all spans of ``batch``.
        batch: the texts with their gold mentions.
        total: spans of the whole batch, see `span_count`; by default those of ``scores``.
    """
    logits = scores.logits
    targets = torch.zeros_like(logits)
    width = batch.end - batch.start
    short = width < logits.shape[2]
    targets[batch.text[short], batch.start[short], width[short]] = 1.0
    real = ~torch.isneginf(logits)  # a NaN counts, and shows in the loss
    counted = real & (~batch.partial[:, None, None] | (targets > 0))
    summed = functional.binary_cross_entropy_with_logits(logits[counted], targets[counted], reduction="sum")
    # Over all spans, so that a mention weighs the same in a text that is labelled in part.
    return summed / (real.sum().clamp(min=1) if total is None else max(total, 1))


def span_count(mask: Tensor, max_mention_length: int) -> int:
    """How many spans the texts of a batch have. ``mask``: true at real tokens. *Shape:* (batch, seq), bool."""
    widths = torch.arange(max_mention_length + 1, device=mask.device)
    return int((mask.sum(1)[:, None] - widths).clamp(min=0).sum())
