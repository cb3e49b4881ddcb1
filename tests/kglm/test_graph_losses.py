"""Losses against PyKEEN's, where both define the same one."""

from __future__ import annotations

import pytest
import torch

from blink.kglm.graph.losses import LossOptions, binary_over_all, margin_over_sampled, self_adversarial, softmax_over_all

losses = pytest.importorskip("pykeen.losses", reason="needs the extra kglm")

ROWS = torch.tensor([0, 1, 1, 2, 3, 3, 3])
TARGETS = torch.tensor([4, 0, 2, 7, 1, 5, 6])


def gradients(loss: torch.Tensor, *scores: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, scores))


def test_right_answers_among_all_entities() -> None:
    scores = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    labels = torch.zeros(4, 9, dtype=torch.float64)
    labels[ROWS, TARGETS] = 1.0
    for ours, kind in ((binary_over_all, losses.BCEWithLogitsLoss), (softmax_over_all, losses.CrossEntropyLoss)):
        loss = ours(scores, ROWS, TARGETS, LossOptions()).mean()
        theirs = kind().process_lcwa_scores(scores, labels, num_entities=9)
        torch.testing.assert_close(loss, theirs)
        torch.testing.assert_close(gradients(loss, scores), gradients(theirs, scores))


@pytest.mark.parametrize(
    ("ours", "kind", "options"),
    [
        (margin_over_sampled, "MarginRankingLoss", {"margin": 0.7}),
        (self_adversarial, "NSSALoss", {"margin": 2.0}),
    ],
)
def test_right_answers_against_drawn_ones(ours, kind: str, options: dict[str, float]) -> None:
    generator = torch.Generator().manual_seed(1)
    right = torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
    wrong = torch.randn(5, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    loss = ours(right, wrong, torch.ones(5, 8, dtype=torch.bool), LossOptions(**options)).mean()
    theirs = getattr(losses, kind)(**options).process_slcwa_scores(right.unsqueeze(1), wrong)
    torch.testing.assert_close(loss, theirs)
    torch.testing.assert_close(gradients(loss, right, wrong), gradients(theirs, right, wrong))
