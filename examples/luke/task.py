"""The interface of a task; models, loop, evaluation and files are shared by all tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from examples.luke.features import Feature, collate
from examples.luke.loading import HeadClass, Vocabulary

Example = TypeVar("Example")

DEV, TEST, TRAIN = "dev", "test", "train"


class Task(ABC, Generic[Example]):
    """A task: its files, inputs, loss, answers and scores.

    Attributes:
        name: its name on the command line.
        criterion: score on the development set that selects the best weights.
        splits: splits to evaluate; the first is the development set.
        prefixed: whether names of results begin with their split.
        all_entities: whether the model has the full, frozen entity table.
        input_of: what an example must have to make an input.
        markers: markers that the task adds to the vocabulary.
        original_markers: markers that its original checkpoints have after RoBERTa's tokens, in order.
        class_names: classes of the current model.
    """

    name: ClassVar[str]
    criterion: ClassVar[str] = "f1"
    splits: ClassVar[tuple[str, ...]] = (DEV, TEST)
    prefixed: ClassVar[bool] = True
    all_entities: ClassVar[bool] = False
    input_of: ClassVar[str] = "a text with words"
    markers: ClassVar[tuple[str, ...]] = ()
    original_markers: ClassVar[tuple[str, ...]] = ()
    class_names: tuple[str, ...] = ()

    # -- required methods -----------------------------------------------------------------------------------------

    @abstractmethod
    def head(self) -> HeadClass:
        """Class of the model."""

    @abstractmethod
    def read(self, folder: Path, split: str) -> list[Example]:
        """The examples of a split.

        Raises:
            MissingFileError: the file does not exist.
            DataError: it is malformed; the message names file and line.
        """

    @abstractmethod
    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Names of the classes, from the training examples."""

    @abstractmethod
    def features(self, examples: Sequence[Example], vocabulary: Vocabulary, *, training: bool) -> Iterable[list[Feature]]:
        """Inputs of the model for each example, with labels for training."""

    @abstractmethod
    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Sum of the losses of all decisions of a batch."""

    @abstractmethod
    def decode(self, examples: Sequence[Example], features: Sequence[Feature], outputs: Sequence[np.ndarray]) -> Any:
        """Answers to examples from the outputs for their features."""

    @abstractmethod
    def score(self, examples: Sequence[Example], answers: Any) -> dict[str, float]:
        """The task's metric."""

    @abstractmethod
    def write(self, folder: Path, split: str, examples: Sequence[Example], answers: Any) -> None:
        """Write the answers to a split in the original's format, atomically."""

    # -- optional methods -----------------------------------------------------------------------------------------

    def read_for_training(self, folder: Path) -> list[Example]:
        """The training examples."""
        return self.read(folder, TRAIN)

    def summary(self, examples: Sequence[Example]) -> str:
        """Counts of the data for the log, by which a user sees whether it is complete."""
        return f"{len(examples)} examples"

    def doubts(self, examples: Sequence[Example]) -> list[str]:
        """What cannot be right in the examples of a split, a counted line for each kind of fault; called after `adopt`."""
        return []

    def head_settings(self) -> dict[str, Any]:
        """Settings of the head in the model's configuration."""
        return {}

    def choices(self) -> dict[str, Any]:
        """Options of the task, which must not change when a run is resumed."""
        return {}

    def sources(self) -> list[Path]:
        """Files outside the data folder that the task reads."""
        return []

    def adopt(self, labels: tuple[str, ...], model: nn.Module) -> None:
        """Prepare for a model: set ``class_names`` and freeze parameters."""
        self.class_names = labels

    def file(self, split: str) -> str:
        """Name of a split's file in the data folder."""
        return f"{split}.json"

    def decisions(self, feature: Feature) -> int:
        """Number of decisions of an input; the loss of a step is the mean over all decisions."""
        return 1

    def inputs(self, features: Sequence[Feature], vocabulary: Vocabulary) -> dict[str, Tensor]:
        """Inputs of the model for a batch."""
        return collate(features, vocabulary.tokenizer.pad, vocabulary.max_mention_length)

    def logits(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The model's logits for a batch, in float32."""
        logits: Tensor = model(**inputs).logits
        return logits.float()

    def outputs(self, logits: Tensor, features: Sequence[Feature]) -> list[np.ndarray]:
        """Outputs that decoding needs, one array per feature."""
        return list(logits.cpu().numpy())


def counted(where: Sequence[str], total: int, problem: str) -> list[str]:
    """A line about what has a fault; none where nothing has it.

    Args:
        where: file and place of each.
        total: how many were read.
        problem: what they are and what is wrong, in the plural.
    """
    return [f"{len(where)} of {total} {problem}, the first at {where[0]}"] if where else []


def repeated(ids: Iterable[tuple[str, str]]) -> list[str]:
    """Where ids occur once more, of pairs of an id and its place."""
    first: set[str] = set()
    return [where for name, where in ids if name in first or first.add(name)]  # type: ignore[func-returns-value]


def label_tensor(features: Sequence[Feature], filler: int, device: torch.device) -> Tensor:
    """Labels of a batch, padded to the longest. *Shape:* (n, labels), int64."""
    width = max(len(f.label) for f in features)
    return torch.tensor([[*f.label, *[filler] * (width - len(f.label))] for f in features], device=device)
