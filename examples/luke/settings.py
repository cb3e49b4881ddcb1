"""Settings of fine-tuning, for the command line, stored JSON and the loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import Natural, NonNegative, Positive, Rate, Seed
from blink.runs.settings import Settings

MUTABLE_ON_RESUME = frozenset(("save_steps", "eval_batch_size"))
"""Settings that may change when a run is resumed: they do not influence the weights."""

Fraction = Annotated[float, Field(ge=0, lt=1)]


class TuneSettings(Settings):
    """Settings of fine-tuning."""

    train_batch_size: Positive
    """Inputs per batch and process."""
    eval_batch_size: Positive
    """Inputs per batch in evaluation."""
    num_train_epochs: Rate
    """Epochs; may be a fraction."""
    seed: Seed
    """Seed of new weights, order and dropout."""
    gradient_accumulation_steps: Positive = 1
    """Batches per step and process."""
    learning_rate: Rate = 1e-5
    """Peak learning rate."""
    lr_schedule: Literal["warmup_linear", "warmup_constant"] = "warmup_linear"
    """After the warm-up, warmup_linear decays to 0, warmup_constant is constant."""
    warmup_proportion: Fraction = 0.06
    """Fraction of the steps with linear warm-up."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay, except for biases and layer norms."""
    max_grad_norm: NonNegative = 0.0
    """Maximum gradient norm; 0 for no clipping."""
    adam_b1: Fraction = 0.9
    """Decay of AdamW's running mean of gradients."""
    adam_b2: Fraction = 0.98
    """Decay of AdamW's running mean of squared gradients."""
    adam_eps: Rate = 1e-6
    """Added to the square root of that mean."""
    adam_correct_bias: bool = True
    """Correct the bias of the running means, as torch does; the published runs did not."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the layers."""
    fp16_min_loss_scale: Annotated[float, Field(ge=2**-14)] = 1.0
    """Minimum loss scale in fp16, which prevents underflow of gradients."""
    fp16_max_loss_scale: float = 4.0
    """Maximum loss scale in fp16."""
    save_steps: Natural = 0
    """Steps between checkpoints; there is also one after each epoch."""
    keep: Literal["best", "last"] = "best"
    """Weights to keep: the best on the development set, or the last."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, less memory."""

    @model_validator(mode="after")
    def _require_ordered_scales(self) -> TuneSettings:
        if self.fp16_max_loss_scale < self.fp16_min_loss_scale:
            problem = f"{self.fp16_max_loss_scale:g} is below fp16_min_loss_scale, {self.fp16_min_loss_scale:g}"
            raise SettingsError(f"fp16_max_loss_scale {problem}; raise it")
        return self
