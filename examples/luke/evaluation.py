"""Evaluation: answers to a split, their scores, and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from examples.luke.features import Feature
from examples.luke.loading import Vocabulary
from examples.luke.task import Task

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Split:
    """A split with its features.

    Attributes:
        name: ``dev`` or ``test``.
        examples: its examples.
        features: the model's inputs for them.
    """

    name: str
    examples: Sequence[Any]
    features: Sequence[Feature]


class Evaluator:
    """Evaluates a model on splits of a task.

    Args:
        model: the model, on its device.
        task: the task.
        vocabulary: ids and limits of the features.
        batch_size: inputs per batch.
        accelerator: device, precision and processes, which split the inputs.
    """

    def __init__(
        self, model: nn.Module, task: Task[Any], vocabulary: Vocabulary, batch_size: int, accelerator: Accelerator
    ) -> None:
        self.model, self.task, self.vocabulary = model, task, vocabulary
        self._size, self._accelerator = batch_size, accelerator

    def evaluate(self, split: Split, folder: Path | None = None, advance: Advance = lambda count: None) -> dict[str, float]:
        """The scores of a split; the first process writes the answers into ``folder``, if one is given."""
        answers = self.task.decode(split.examples, split.features, self._outputs(split.features, advance))
        if folder is not None and self._accelerator.is_main_process:
            self.task.write(folder, split.name, split.examples, answers)
        return self.task.score(split.examples, answers)

    @torch.no_grad()
    def _outputs(self, features: Sequence[Feature], advance: Advance) -> list[np.ndarray]:
        self.model.eval()
        outputs: list[tuple[int, np.ndarray]] = []
        for batch in self._batches(features):
            batch_features = [features[i] for i in batch]
            inputs = {k: v.to(self._accelerator.device) for k, v in self.task.inputs(batch_features, self.vocabulary).items()}
            with self._accelerator.autocast():
                logits = self.task.logits(self.model, inputs)
            outputs += zip(batch, self.task.outputs(logits, batch_features), strict=True)
            advance(len(batch))
        if self._accelerator.num_processes > 1:
            outputs = gather_object(outputs)
        return [output for _, output in sorted(outputs, key=lambda pair: pair[0])]

    def _batches(self, features: Sequence[Feature]) -> Iterable[list[int]]:
        """Batches of this process, of inputs of similar length, to minimise padding."""
        by_length = sorted(range(len(features)), key=lambda i: (-len(features[i].words), -len(features[i].entities), i))
        batches = [by_length[i : i + self._size] for i in range(0, len(by_length), self._size)]
        return batches[self._accelerator.process_index :: self._accelerator.num_processes]
