"""Training of GloVe: model, optimiser and steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from blink.kglm.glove.counts import PairStream
from blink.kglm.glove.inputs import Words
from blink.kglm.glove.model import GloVe, Weighting, adagrad
from blink.kglm.settings import GloveSettings
from blink.runs.seeds import seed_for


class WordSide:
    """GloVe in training.

    Args:
        words: the text.
        settings: settings of the run.
        device: training device.

    Attributes:
        model: the model.
        optimizer: AdaGrad over its parameters.
    """

    def __init__(self, words: Words, settings: GloveSettings, device: torch.device) -> None:
        options = settings.words
        self.words, self._settings = words, settings
        weighting = Weighting(options.x_max, options.power)
        self.model = GloVe(len(words.vocabulary.words), options.dim, weighting, settings.seed, options.sparse).to(device)
        self._stream = PairStream(words.fitted, options.batch_size, seed_for(settings.seed, "pairs"), device)
        self.optimizer = self.make_optimizer()

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return len(self._stream)

    def make_optimizer(self, more: Sequence[nn.Parameter] = ()) -> torch.optim.Optimizer:
        """AdaGrad over the parameters of the model and ``more``."""
        options = self._settings.words
        size = min(options.batch_size, len(self.words.fitted))
        return adagrad([*self.model.parameters(), *more], options.lr, options.accumulator, size)

    def gradients(self, number: int, weight: float = 1.0) -> float:
        """Add the gradients of batch ``number``, times ``weight``; returns the unweighted loss."""
        loss: torch.Tensor = self.model(self._stream.batch(number))
        (loss if weight == 1 else loss * weight).backward()
        return loss.item()

    def move(self) -> None:
        """Update the parameters and clear the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def held_out_loss(self) -> float | None:
        """Mean weighted squared error of the held-out pairs; None if there are none."""
        return self.model.mean_loss(self.words.held_out) if len(self.words.held_out) else None

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the result of `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
