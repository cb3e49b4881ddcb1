"""A task without words, and steps of fine-tuning on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from examples.luke.features import Feature
from examples.luke.launching import make_accelerator
from examples.luke.learner import total_steps
from examples.luke.settings import TuneSettings
from examples.luke.steps import Stepper, parameter_groups
from examples.luke.task import Task


class Numbers(Task[Any]):
    """A task without words: a linear layer learns numbers; inputs have several decisions, as spans and candidates have."""

    name: ClassVar[str] = "numbers"

    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        gold = torch.tensor([sum(f.label) / 10 for f in features])
        weight = torch.tensor([float(len(f.label)) for f in features])
        return (weight * (logits.squeeze(-1) - gold) ** 2).sum()

    def decisions(self, feature: Feature) -> int:
        return len(feature.label)

    def logits(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return model(inputs["x"]).float()

    head = file = read = labels = features = decode = score = write = lambda self, *args, **rest: None  # type: ignore[assignment]


Numbers.__abstractmethods__ = frozenset()

DATA = [Feature(i, f"item {i}", [i % 7, (i * 5) % 11, 3], [], [i % 3] * (1 + i % 4)) for i in range(13)]


def inputs(batch: Sequence[Feature]) -> dict[str, Tensor]:
    return {"x": torch.tensor([list(f.words) for f in batch], dtype=torch.float32) / 10}


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense, self.LayerNorm, self.drop, self.out = nn.Linear(3, 8), nn.LayerNorm(8), nn.Dropout(dropout), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.LayerNorm(torch.relu(self.dense(x)))))


def settings(**changes: Any) -> TuneSettings:
    values = {"train_batch_size": 4, "eval_batch_size": 8, "num_train_epochs": 3.0, "seed": 5, "learning_rate": 1e-2}
    return TuneSettings(**{**values, **changes})


def stepper(options: TuneSettings, dropout: float = 0.0, optimizer: type | None = None, count: int = len(DATA)) -> Stepper:
    torch.manual_seed(1)
    accelerator = make_accelerator(options, 0)
    learner = Stepper(Net(dropout), Numbers(), inputs, options, accelerator, total_steps(count, options, accelerator))
    if optimizer is not None:
        groups = parameter_groups(learner.model, 0.0)
        learner.optimizer = accelerator.prepare_optimizer(optimizer(groups, lr=0.1))
        learner._set_rate = lambda number: None  # type: ignore[method-assign]
    return learner


def weights(learner: Stepper) -> Tensor:
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])
