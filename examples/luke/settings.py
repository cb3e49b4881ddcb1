"""Every setting of fine-tuning, once: command line, stored JSON and the loop all come from here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blink.errors import SettingsError

SCHEDULES = ("warmup_linear", "warmup_constant")
PRECISIONS = ("fp32", "fp16", "bf16")
KEPT = ("best", "last")

FREE_TO_CHANGE = frozenset(("save_steps", "eval_batch_size"))
"""What may differ between a run and its continuation: it decides nothing about the weights of a step."""


@dataclass(frozen=True)
class TuneSettings:
    """Settings of fine-tuning.

    Attributes:
        train_batch_size: inputs that a process computes at once.
        gradient_accumulation_steps: such batches per step and process.
        eval_batch_size: inputs computed at once in evaluation.
        num_train_epochs: passes over the data; 0.5 is half of one.
        seed: of new weights, order and dropout.
        learning_rate: peak rate.
        lr_schedule: after the warm-up, ``warmup_linear`` falls to 0, ``warmup_constant`` stays.
        warmup_proportion: share of the steps with a rising rate.
        weight_decay: decoupled decay of all weights but biases and those of layer norms.
        max_grad_norm: gradients are clipped to this norm; 0 clips nothing.
        adam_b1, adam_b2, adam_eps: of AdamW.
        adam_correct_bias: correct the running means of the first steps, as torch does and the original did not.
        precision: number format of the layers.
        fp16_min_loss_scale, fp16_max_loss_scale: bounds of the factor that keeps small gradients above 0 in fp16.
        save_steps: steps between two checkpoints, of which there is one after each epoch too.
        keep: weights that a run keeps: those ``best`` on the development set, or the ``last``.
        gradient_checkpointing: compute layers again on the way back instead of keeping them: slower, less memory.
    """

    train_batch_size: int
    eval_batch_size: int
    num_train_epochs: float
    seed: int
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-5
    lr_schedule: str = "warmup_linear"
    warmup_proportion: float = 0.06
    weight_decay: float = 0.01
    max_grad_norm: float = 0.0
    adam_b1: float = 0.9
    adam_b2: float = 0.98
    adam_eps: float = 1e-6
    adam_correct_bias: bool = True
    precision: str = "fp32"
    fp16_min_loss_scale: float = 1.0
    fp16_max_loss_scale: float = 4.0
    save_steps: int = 0
    keep: str = "best"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("learning_rate", "num_train_epochs", "adam_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be above 0 and finite")
        for name in ("adam_b1", "adam_b2", "warmup_proportion"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}")
        if self.fp16_max_loss_scale < self.fp16_min_loss_scale:
            found = f"{self.fp16_max_loss_scale:g} is below fp16_min_loss_scale, {self.fp16_min_loss_scale:g}"
            raise SettingsError(f"fp16_max_loss_scale {found}; raise it")


_LEAST = {
    "train_batch_size": 1, "eval_batch_size": 1, "gradient_accumulation_steps": 1, "weight_decay": 0, "max_grad_norm": 0,
    "seed": 0, "save_steps": 0, "fp16_min_loss_scale": 2**-14,
}  # fmt: skip
_CHOICES = {"lr_schedule": SCHEDULES, "precision": PRECISIONS, "keep": KEPT}
