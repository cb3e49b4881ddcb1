"""The losses of joint training. The loss of a step is the unweighted sum of an entity loss and the span loss.

Each loss is a mean over a whole batch, which may be computed in micro-batches by several processes. The sum of a micro-batch
is divided by the total of the batch, so that losses and gradients of the micro-batches add up to those of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from blink.data.records import NOT_IN_CATALOGUE
from blink.model.heads import SpanScores
from blink.training.data.examples import Batch


def catalogue_loss(mentions: Tensor, rows: Tensor, entities: Tensor, total: int | None = None) -> Tensor:
    """Cross-entropy of each mention over the whole catalogue: the exact softmax that sampled negatives approximate.

    L = -mean_i log( exp(m_i . e_gold(i)) / sum_j exp(m_i . e_j) ), for frozen entity vectors e.

    Args:
        mentions: mention vectors. *Shape:* (n, d).
        rows: gold rows; mentions with `NOT_IN_CATALOGUE` are ignored. *Shape:* (n,), int64.
        entities: all entity vectors; their dtype is that of the product. *Shape:* (entities, d).
        total: mentions in the catalogue, of the whole batch; by default those in ``rows``.

    Returns:
        scalar; zero (with a gradient path) if no mention has a row.
    """
    known = rows != NOT_IN_CATALOGUE
    logits = (mentions[known].to(entities.dtype) @ entities.T).float()
    return in_batch_loss(logits, rows[known], total) if len(logits) else mentions.sum() * 0.0


def in_batch_loss(logits: Tensor, gold: Tensor, total: int | None = None) -> Tensor:
    """Cross-entropy of each mention's scores (Wu et al. 2020; Li et al. 2020).

    With one column per distinct entity, no gold entity is a negative of its mention. With one column per mention, as in the
    original, a repeated entity is a negative of itself.

    Args:
        logits: scores of entities. *Shape:* (mentions, entities), float.
        gold: column of each mention's entity. *Shape:* (mentions,), int64.
        total: mentions of the whole batch; by default those in ``gold``.
    """
    summed = functional.cross_entropy(logits, gold, reduction="sum")
    return summed / max(len(logits) if total is None else total, 1)


def choice_loss(gold: Tensor, others: Tensor, present: Tensor, total: int | None = None) -> Tensor:
    """Cross-entropy of each mention's entity over the entity and the mention's hard negatives.

    Args:
        gold: scores of the mentions' entities. *Shape:* (mentions,), float.
        others: scores of their negatives. *Shape:* (mentions, k), float.
        present: mask of the negatives, false for padding. *Shape:* (mentions, k), bool.
        total: mentions of the whole batch; by default those in ``gold``.
    """
    logits = torch.cat([gold[:, None], others.masked_fill(~present, float("-inf"))], dim=1)
    return in_batch_loss(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), total)


def pair_loss(gold: Tensor, others: Tensor, counted: Tensor, total: int | None = None) -> Tensor:
    """Binary cross-entropy of (mention, entity) pairs: 1 for each mention's entity, 0 for its negatives.

    Args:
        gold: scores of the mentions' entities. *Shape:* (mentions,), float.
        others: scores of their negatives. *Shape:* (mentions, k), float.
        counted: mask of the negatives that count. *Shape:* (mentions, k), bool.
        total: pairs of the whole batch; by default those that count here.
    """
    summed = functional.softplus(-gold).sum() + functional.softplus(others[counted]).sum()
    return summed / max(len(gold) + int(counted.sum()) if total is None else total, 1)


def span_loss(scores: SpanScores, batch: Batch, total: int | None = None) -> Tensor:
    """Binary cross-entropy of every span of the batch: 1 for gold mentions, 0 for all others (Li et al. 2020, eq. 7).

    Gold mentions longer than the model's spans are ignored. In partially labelled texts only the labelled mentions count,
    since other spans may be mentions too, and elsewhere spans that touch unlabelled tokens do not count unless they are gold.

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
    real = ~torch.isneginf(logits)  # NaN is included, so that it shows in the loss
    ignored = batch.partial[:, None, None]
    if batch.unlabelled is not None:
        ignored = ignored | _touching(batch.unlabelled, logits.shape[2])
    counted = real & (~ignored | (targets > 0))
    summed = functional.binary_cross_entropy_with_logits(logits[counted], targets[counted], reduction="sum")
    # Divided by all spans, so that a mention has the same weight in a partially labelled text.
    return summed / (real.sum().clamp(min=1) if total is None else max(total, 1))


def _touching(tokens: Tensor, widths: int) -> Tensor:
    """The spans that hold any of the marked tokens. ``tokens``: (batch, seq), bool; result (batch, seq, widths)."""
    seq = tokens.shape[1]
    before = functional.pad(tokens.long().cumsum(1), (1, 0))
    past = (torch.arange(seq, device=tokens.device)[:, None] + torch.arange(1, widths + 1, device=tokens.device)).clamp(max=seq)
    return before[:, past] > before[:, :seq, None]


def span_count(mask: Tensor, max_mention_length: int) -> int:
    """Number of spans in a batch. ``mask`` is true at real tokens. *Shape:* (batch, seq), bool."""
    widths = torch.arange(max_mention_length + 1, device=mask.device)
    return int((mask.sum(1)[:, None] - widths).clamp(min=0).sum())
