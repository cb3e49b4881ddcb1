"""One step of fine-tuning, with the same gradient for any split into micro-batches and processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from blink.errors import SettingsError
from blink.runs.checkpoints import learning_state, load_learning_state
from blink.runs.seeds import step_seed
from examples.luke.features import Feature
from examples.luke.settings import TuneSettings
from examples.luke.task import Task

NO_DECAY = ("bias", "LayerNorm.weight")
MAX_NAMED = 4
"""Inputs that a message about a bad batch names."""
BUCKET = 1 << 25
"""Gradient elements that are summed over processes at once."""


class Order:
    """Inputs of each step: a permutation per epoch, which depends on seed and epoch.

    Args:
        count: number of inputs.
        group: inputs per step; the last step of an epoch may have fewer.
        seed: of the run.
    """

    def __init__(self, count: int, group: int, seed: int) -> None:
        self._count, self._group, self._seed = count, group, seed
        self._epoch_order: tuple[int, list[int]] = (-1, [])

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self._count / self._group)

    def __getitem__(self, step: int) -> list[int]:
        epoch, position = divmod(step, self.steps)
        if self._epoch_order[0] != epoch:
            generator = torch.Generator().manual_seed(step_seed(self._seed, epoch))
            self._epoch_order = epoch, torch.randperm(self._count, generator=generator).tolist()
        return self._epoch_order[1][position * self._group : (position + 1) * self._group]


class Stepper:
    """Takes the steps of a run.

    Args:
        model: the model, on its device.
        task: computes inputs and loss.
        inputs: collates features into a batch.
        settings: settings of the run.
        accelerator: device, precision and processes.
        total: number of steps of the run.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task[Any],
        inputs: Callable[[Sequence[Feature]], dict[str, Tensor]],
        settings: TuneSettings,
        accelerator: Accelerator,
        total: int,
    ) -> None:
        self.model, self.task, self.settings, self.accelerator = model, task, settings, accelerator
        self.total = total
        self._inputs = inputs
        self.trained = [p for p in model.parameters() if p.requires_grad]
        betas = (settings.adam_b1, settings.adam_b2)
        self.optimizer = accelerator.prepare_optimizer(
            torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=settings.learning_rate, betas=betas)
        )

    def step(self, number: int, features: Sequence[Feature]) -> float:
        """Take step ``number`` (from 0) on this process's inputs, micro-batch by micro-batch.

        The loss of a batch is a sum, divided by the decisions of the step in all processes. So one batch of eight gives the
        gradient of two of four, also in a short last step.

        Returns:
            the mean loss of the step, over all processes.

        Raises:
            SettingsError: loss or gradient is not finite; the message names step and inputs.
        """
        process, size = self.accelerator.process_index, self.settings.train_batch_size
        torch.manual_seed(step_seed(self.settings.seed, number, process))  # dropout follows from the step
        decisions = self._over_processes(sum(self.task.decisions(f) for f in features))
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for start in range(0, len(features), size):
            loss += self._backward(features[start : start + size], decisions, number)
        self._update(number, features)
        return self._over_processes(loss)

    def state(self) -> dict[str, Any]:
        """Weights and optimizer state for a checkpoint."""
        return learning_state(self.model, self.optimizer, self.accelerator)

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        load_learning_state(state, self.model, self.optimizer, self.accelerator)

    def _backward(self, features: Sequence[Feature], decisions: float, number: int) -> float:
        inputs = {name: value.to(self.accelerator.device) for name, value in self._inputs(features).items()}
        with self.accelerator.autocast():
            logits = self.task.logits(self.model, inputs)
        loss = self.task.loss(logits, features) / max(decisions, 1)
        _require_finite(loss.item(), "loss", number, features)
        self.accelerator.backward(loss)
        return loss.item()

    def _update(self, number: int, features: Sequence[Feature]) -> None:
        if self.accelerator.num_processes > 1:
            self._sum_gradients()
        norm = self.accelerator.clip_grad_norm_(self.trained, self.settings.max_grad_norm or math.inf)
        if self.accelerator.scaler is None:  # the scaler skips such steps and lowers the scale
            _require_finite(float(norm), "gradient", number, features)
        self._set_rate(number)
        self.optimizer.step()
        self._bound_scale()

    def _set_rate(self, number: int) -> None:
        rate = self.settings.learning_rate * rate_share(number, self.total, self.settings)
        for group, decay in zip(self.optimizer.param_groups, (self.settings.weight_decay, 0.0), strict=True):
            group.update(adam_values(number + 1, rate, decay, self.settings))

    def _bound_scale(self) -> None:
        scaler = self.accelerator.scaler
        if scaler is None:
            return
        scale = scaler.get_scale()
        bounded = min(max(scale, self.settings.fp16_min_loss_scale), self.settings.fp16_max_loss_scale)
        if bounded != scale:
            scaler.update(bounded)

    def _sum_gradients(self) -> None:
        """Sum gradients over processes: each loss is already divided by the decisions of all."""
        touched = torch.tensor([float(p.grad is not None) for p in self.trained], device=self.accelerator.device)
        touched = self.accelerator.reduce(touched, "sum")
        used = [
            p for p, by in zip(self.trained, touched.tolist(), strict=True) if by
        ]  # others are not updated, not even by decay
        for bucket in buckets(used, BUCKET):
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket])
            flat = self.accelerator.reduce(flat, "sum")
            for parameter, gradient in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = gradient.view_as(parameter)

    def _over_processes(self, value: float) -> float:
        return value if self.accelerator.num_processes == 1 else sum(gather_object([value]))


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Trained weights, first those with decay, then those without: biases and layer norms."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if any(marker in n for marker in NO_DECAY)]
    decayed = [p for n, p in named if not any(marker in n for marker in NO_DECAY)]
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def rate_share(step: int, total: int, settings: TuneSettings) -> float:
    """Fraction of the peak learning rate at a step (from 0), above 0 at all steps."""
    warm = int(total * settings.warmup_proportion)
    rising = (step + 1) / (warm + 1)
    falling = (total - step) / max(1, total - warm) if settings.lr_schedule == "warmup_linear" else 1.0
    return min(rising, falling, 1.0)


def adam_values(count: int, rate: float, decay: float, settings: TuneSettings) -> dict[str, float]:
    """Values for torch's AdamW at its ``count``-th step, from 1.

    torch corrects the bias of the running means (Kingma & Ba 2015, section 3). To undo that, as the original did,
    rate and epsilon are scaled to give rate * m / (sqrt(v) + eps). The decay, which torch multiplies by the rate,
    is scaled back.
    """
    if settings.adam_correct_bias:
        return {"lr": rate, "eps": settings.adam_eps, "weight_decay": decay}
    first, second = 1 - settings.adam_b1**count, math.sqrt(1 - settings.adam_b2**count)
    return {"lr": rate * first / second, "eps": settings.adam_eps / second, "weight_decay": decay * second / first}


def buckets(parameters: Iterable[nn.Parameter], size: int) -> list[list[nn.Parameter]]:
    """Parameters in order, in groups of about ``size`` elements."""
    groups: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        if room < parameter.numel():
            groups.append([])
            room = size
        groups[-1].append(parameter)
        room -= parameter.numel()
    return groups


def _require_finite(value: float, what: str, number: int, features: Sequence[Feature]) -> None:
    if not math.isfinite(value):
        names = ", ".join(f.where for f in features[:MAX_NAMED]) + (
            f" and {len(features) - MAX_NAMED} more" if len(features) > MAX_NAMED else ""
        )
        raise SettingsError(
            f"the {what} is {value} at step {number + 1}, with {names}; lower --learning-rate, or check these examples"
        )
