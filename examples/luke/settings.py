"""Every setting of fine-tuning, once: command line, stored JSON and the loop all come from here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import Natural, NonNegative, Positive, Rate, Seed
from blink.runs.settings import Settings

MUTABLE_ON_RESUME = frozenset(("save_steps", "eval_batch_size"))
"""What may differ between a run and its continuation: it decides nothing about the weights of a step."""

Fraction = Annotated[float, Field(ge=0, lt=1)]


class TuneSettings(Settings):
    """Settings of fine-tuning."""

    train_batch_size: Positive
    """Inputs that a process computes at once."""
    eval_batch_size: Positive
    """Inputs computed at once in evaluation."""
    num_train_epochs: Rate
    """Passes over the data; 0.5 is half of one."""
    seed: Seed
    """Of new weights, order and dropout."""
    gradient_accumulation_steps: Positive = 1
    """Batches per step and process."""
    learning_rate: Rate = 1e-5
    """Peak rate."""
    lr_schedule: Literal["warmup_linear", "warmup_constant"] = "warmup_linear"
    """After the warm-up, warmup_linear falls to 0, warmup_constant stays."""
    warmup_proportion: Fraction = 0.06
    """Share of the steps with a rising rate."""
    weight_decay: NonNegative = 0.01
    """Decoupled decay of all weights but biases and those of layer norms."""
    max_grad_norm: NonNegative = 0.0
    """Gradients are clipped to this norm; 0 clips nothing."""
    adam_b1: Fraction = 0.9
    """Decay of AdamW's running mean of gradients."""
    adam_b2: Fraction = 0.98
    """Decay of AdamW's running mean of squared gradients."""
    adam_eps: Rate = 1e-6
    """Added to the square root of the latter."""
    adam_correct_bias: bool = True
    """Correct the running means of the first steps, as torch does; the published runs did not."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the layers."""
    fp16_min_loss_scale: Annotated[float, Field(ge=2**-14)] = 1.0
    """Least factor on the loss in fp16, which keeps small gradients above 0."""
    fp16_max_loss_scale: float = 4.0
    """Greatest factor on the loss in fp16."""
    save_steps: Natural = 0
    """Steps between two checkpoints, of which there is one after each epoch too."""
    keep: Literal["best", "last"] = "best"
    """Weights that a run keeps: those best on the development set, or the last."""
    gradient_checkpointing: bool = False
    """Compute layers again in the backward pass instead of keeping them: slower, less memory."""

    @model_validator(mode="after")
    def _require_ordered_scales(self) -> TuneSettings:
        if self.fp16_max_loss_scale < self.fp16_min_loss_scale:
            problem = f"{self.fp16_max_loss_scale:g} is below fp16_min_loss_scale, {self.fp16_min_loss_scale:g}"
            raise SettingsError(f"fp16_max_loss_scale {problem}; raise it")
        return self
