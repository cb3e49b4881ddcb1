"""Losses per query, from the scores of targets and negatives.

PyKEEN has the same losses, and a test compares them. This module does not use them for three reasons. They return only the mean
of a batch, but a step sums over micro-batches. The cross-entropy needs dense labels, which takes twice the time at 2,000 to
100,000 entities. Label smoothing leaves out the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from blink.errors import SettingsError
from blink.kglm.settings import GraphTrain
from blink.runs.settings import choice


@dataclass(frozen=True)
class LossOptions:
    """Options of losses; see the section ``train`` in ``defaults/graph.yaml``."""

    smoothing: float = 0.0
    scale: float = 1.0
    margin: float = 0.0
    temperature: float = 1.0


# -- targets against all entities ----------------------------------------------------------------------------------------


def softmax_over_all(scores: Tensor, rows: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Cross-entropy between the softmax of all scores and a uniform distribution over the targets.

    Args:
        scores: scores of all entities. *Shape:* (batch, n).
        rows: query of each target; each query has at least one. *Shape:* (answers,).
        targets: the targets. *Shape:* (answers,).
        options: ``smoothing`` is label smoothing; ``scale`` multiplies scores.

    Returns:
        *Shape:* (batch,).
    """
    logs = (scores * options.scale if options.scale != 1 else scores).log_softmax(1)
    log_likelihood = _mean_over_targets(logs, rows, targets) * (1 - options.smoothing)
    return -(log_likelihood + logs.mean(1) * options.smoothing if options.smoothing else log_likelihood)


def binary_over_all(scores: Tensor, rows: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Mean binary cross-entropy over all entities; arguments as for `softmax_over_all`, and ``margin`` is added to scores.

    With ``smoothing`` e, targets have the label 1 - e + e / n, and all others e / n.
    """
    scores = scores * options.scale + options.margin
    target_sums = scores.new_zeros(len(scores)).index_add(0, rows, scores[rows, targets])
    target_term = target_sums * (1 - options.smoothing) + scores.mean(1) * options.smoothing
    return functional.softplus(scores).mean(1) - target_term / scores.shape[1]


def _mean_over_targets(scores: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
    target_scores = scores[rows, targets]
    if len(rows) == len(scores):  # one target per query, in order
        return target_scores
    counts = torch.bincount(rows, minlength=len(scores))
    return scores.new_zeros(len(scores)).index_add(0, rows, target_scores) / counts


# -- targets against sampled negatives -----------------------------------------------------------------------------------


def softmax_over_sampled(positive: Tensor, negative: Tensor, mask: Tensor, options: LossOptions) -> Tensor:
    """Cross-entropy of the target among the target and the negatives.

    Args:
        positive: scores of the targets. *Shape:* (batch,).
        negative: scores of sampled entities. *Shape:* (batch, n).
        mask: which sampled entities are negatives. *Shape:* (batch, n), bool.
        options: ``scale`` multiplies scores.

    Returns:
        *Shape:* (batch,).
    """
    scores = torch.cat([positive.unsqueeze(1), negative.masked_fill(~mask, -torch.inf)], 1) * options.scale
    return scores.logsumexp(1) - scores[:, 0]


def binary_over_sampled(positive: Tensor, negative: Tensor, mask: Tensor, options: LossOptions) -> Tensor:
    """Mean of the target's binary cross-entropy and that of the negatives; arguments as for `softmax_over_sampled`."""
    negatives = _mean(functional.softplus(negative * options.scale + options.margin), mask)
    return (functional.softplus(-positive * options.scale - options.margin) + negatives) / 2


def margin_over_sampled(positive: Tensor, negative: Tensor, mask: Tensor, options: LossOptions) -> Tensor:
    """Mean of ``max(0, margin - positive + negative)`` (Bordes et al. 2013); arguments as for `softmax_over_sampled`."""
    return _mean((options.margin - positive.unsqueeze(1) + negative).relu(), mask)


def self_adversarial(positive: Tensor, negative: Tensor, mask: Tensor, options: LossOptions) -> Tensor:
    """``-1/2 [ log s(margin + positive) + sum_i p_i log s(-negative_i - margin) ]`` (Sun et al. 2019, eq. 5-6).

    ``p`` is the softmax of ``temperature * negative``, without gradient. Arguments as for `softmax_over_sampled`.
    """
    weights = (negative.detach() * options.temperature).masked_fill(~mask, -torch.inf).softmax(1)
    weights = weights.nan_to_num(0.0)  # a query without negatives
    negatives = (weights * functional.softplus(negative + options.margin)).sum(1)
    return (functional.softplus(-positive - options.margin) + negatives) / 2


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1) / mask.sum(1).clamp_min(1)


OverAll = Callable[[Tensor, Tensor, Tensor, LossOptions], Tensor]
OverSampled = Callable[[Tensor, Tensor, Tensor, LossOptions], Tensor]

OVER_ALL: dict[str, OverAll] = {"cross_entropy": softmax_over_all, "bce": binary_over_all}
OVER_SAMPLED: dict[str, OverSampled] = {
    "cross_entropy": softmax_over_sampled,
    "bce": binary_over_sampled,
    "margin": margin_over_sampled,
    "self_adversarial": self_adversarial,
}


def loss_options(train: GraphTrain, distance: bool) -> LossOptions:
    """The options in the section ``train``.

    Args:
        train: the section.
        distance: whether scores are negated distances. Other scores have a margin only in the margin loss.

    Raises:
        SettingsError: the loss or label smoothing is not available for the training type.
    """
    losses = OVER_SAMPLED if train.type == "negative" else OVER_ALL
    choice(f"train.loss of train.type {train.type}", train.loss, losses)
    if train.label_smoothing and train.type == "negative":
        raise SettingsError("train.label_smoothing is for train.type 1vsAll and KvsAll; set it to 0")
    margin = train.margin if distance or train.loss == "margin" else 0.0
    return LossOptions(train.label_smoothing, train.score_scale, margin, train.temperature)
