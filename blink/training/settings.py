"""Every option of training, once: the command's flags, the stored JSON and the trainer all come from here."""

from __future__ import annotations

from dataclasses import dataclass

from blink.errors import SettingsError

MADE = ("described", "plain", "related", "slotted", "swapped")
"""Sources of made texts, beside ``questions``; see `blink.training.synthetic`."""


@dataclass(frozen=True)
class TrainSettings:
    """Every option of training.

    Attributes:
        epochs: passes over the mixture.
        batch_size: texts per step.
        learning_rate: peak rate of the encoder (or its adapters).
        head_learning_rate: peak rate of the heads and the scale, which begin untrained.
        weight_decay: decoupled decay of matrices; biases and norms have none.
        warmup: share of the steps with a rising rate; afterwards it falls in a line to 0.
        max_grad_norm: gradients are clipped to this norm.
        dropout: probability in the encoder, None keeps the encoder's own.
        mix: texts per question of each source, see `parse_mix`.
        seed: of weights, order, dropout and made texts.
        bf16: run the encoder in bfloat16 where the hardware has it.
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    dropout: float | None = None
    mix: str = "questions=1"
    seed: int = 52313
    bf16: bool = True

    def __post_init__(self) -> None:
        parse_mix(self.mix)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "head_learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be above 0")


def parse_mix(text: str) -> dict[str, float]:
    """Read shares such as ``questions=1,related=0.5``.

    Raises:
        SettingsError: a source is unknown or a share is not a number of at least 0.
    """
    mix: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, share = item.partition("=")
        if name not in ("questions", *MADE):
            raise SettingsError(f"training source is {name!r}; allowed are questions, {', '.join(MADE)}")
        try:
            mix[name] = float(share)
        except ValueError:
            mix[name] = -1.0
        if not mix[name] >= 0:
            raise SettingsError(f"the share of {name} is {share!r}; give a number of texts per question, such as {name}=0.5")
    return mix
