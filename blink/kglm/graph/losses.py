"""Losses of questions: one number for each, from the scores of right and wrong answers.

PyKEEN has the same losses, and a test compares them. They are written here because PyKEEN's return the mean of a batch alone (a
step adds up questions over micro-batches), because its cross entropy wants labels as dense as the scores, which takes twice the
time at 2,000 to 100,000 entities, and because its label smoothing leaves out the right answers.
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
    """What losses take from the settings; see the section ``train`` in ``defaults/graph.yaml``."""

    smoothing: float = 0.0
    scale: float = 1.0
    margin: float = 0.0
    temperature: float = 1.0


# -- right answers among all entities ------------------------------------------------------------------------------------


def softmax_over_all(scores: Tensor, rows: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Cross entropy between the softmax of all scores and equal shares of the right answers.

    Args:
        scores: of all entities. *Shape:* (batch, n).
        rows: question of each right answer; each question has one at least. *Shape:* (answers,).
        targets: the right answers. *Shape:* (answers,).
        options: ``smoothing`` spreads that share of the probability evenly; ``scale`` multiplies scores.

    Returns:
        *Shape:* (batch,).
    """
    logs = (scores * options.scale if options.scale != 1 else scores).log_softmax(1)
    wanted = _mean_of_answers(logs, rows, targets) * (1 - options.smoothing)
    return -(wanted + logs.mean(1) * options.smoothing if options.smoothing else wanted)


def binary_over_all(scores: Tensor, rows: Tensor, targets: Tensor, options: LossOptions) -> Tensor:
    """Mean binary cross entropy over all entities; arguments as of `softmax_over_all`, ``margin`` is added to scores.

    With ``smoothing`` e, right answers have the label 1 - e + e / n, all others e / n.
    """
    scores = scores * options.scale + options.margin
    right = scores.new_zeros(len(scores)).index_add(0, rows, scores[rows, targets])
    wanted = right * (1 - options.smoothing) + scores.mean(1) * options.smoothing
    return functional.softplus(scores).mean(1) - wanted / scores.shape[1]


def _mean_of_answers(scores: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
    found = scores[rows, targets]
    if len(rows) == len(scores):  # one each, in order
        return found
    counts = torch.bincount(rows, minlength=len(scores))
    return scores.new_zeros(len(scores)).index_add(0, rows, found) / counts


# -- right answers against drawn ones ------------------------------------------------------------------------------------


def softmax_over_drawn(right: Tensor, wrong: Tensor, counted: Tensor, options: LossOptions) -> Tensor:
    """Cross entropy of the right answer among itself and the drawn ones.

    Args:
        right: scores of the right answers. *Shape:* (batch,).
        wrong: scores of drawn answers. *Shape:* (batch, n).
        counted: which of these count: the others are right too. *Shape:* (batch, n), bool.
        options: ``scale`` multiplies scores.

    Returns:
        *Shape:* (batch,).
    """
    everything = torch.cat([right.unsqueeze(1), wrong.masked_fill(~counted, -torch.inf)], 1) * options.scale
    return everything.logsumexp(1) - everything[:, 0]


def binary_over_drawn(right: Tensor, wrong: Tensor, counted: Tensor, options: LossOptions) -> Tensor:
    """Binary cross entropy of the right answer and, on average, of the drawn ones; arguments as of `softmax_over_drawn`."""
    drawn = _mean(functional.softplus(wrong * options.scale + options.margin), counted)
    return (functional.softplus(-right * options.scale - options.margin) + drawn) / 2


def margin_over_drawn(right: Tensor, wrong: Tensor, counted: Tensor, options: LossOptions) -> Tensor:
    """Mean of ``max(0, margin - right + wrong)`` (Bordes et al. 2013); arguments as of `softmax_over_drawn`."""
    return _mean((options.margin - right.unsqueeze(1) + wrong).relu(), counted)


def self_adversarial(right: Tensor, wrong: Tensor, counted: Tensor, options: LossOptions) -> Tensor:
    """``-1/2 [ log s(margin + right) + sum_i p_i log s(-wrong_i - margin) ]`` (Sun et al. 2019, eq. 5-6).

    ``p`` is the softmax of ``temperature * wrong``, through which no gradient flows. Arguments as of `softmax_over_drawn`.
    """
    share = (wrong.detach() * options.temperature).masked_fill(~counted, -torch.inf).softmax(1)
    share = share.nan_to_num(0.0)  # where no drawn answer counts
    return (functional.softplus(-right - options.margin) + (share * functional.softplus(wrong + options.margin)).sum(1)) / 2


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return (values * counted).sum(1) / counted.sum(1).clamp_min(1)


OverAll = Callable[[Tensor, Tensor, Tensor, LossOptions], Tensor]
OverDrawn = Callable[[Tensor, Tensor, Tensor, LossOptions], Tensor]

OVER_ALL: dict[str, OverAll] = {"cross_entropy": softmax_over_all, "bce": binary_over_all}
OVER_DRAWN: dict[str, OverDrawn] = {
    "cross_entropy": softmax_over_drawn,
    "bce": binary_over_drawn,
    "margin": margin_over_drawn,
    "self_adversarial": self_adversarial,
}


def loss_options(train: GraphTrain, distance: bool) -> LossOptions:
    """The options in the section ``train``.

    Args:
        train: the section.
        distance: whether scores are negated distances; only these have a margin in losses that compare with 0.

    Raises:
        SettingsError: the loss or its smoothing does not go with the training type.
    """
    losses = OVER_DRAWN if train.type == "negative" else OVER_ALL
    choice(f"train.loss of train.type {train.type}", train.loss, losses)
    if train.label_smoothing and train.type == "negative":
        raise SettingsError("train.label_smoothing is for train.type 1vsAll and KvsAll; set it to 0")
    margin = train.margin if distance or train.loss == "margin" else 0.0
    return LossOptions(train.label_smoothing, train.score_scale, margin, train.temperature)
