"""What a task says of itself; all else (models, the loop, evaluation, files) is the same for all."""

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
    """A task: its files, its inputs, its loss, its answers and their score.

    Attributes:
        name: as on the command line.
        criterion: score on the development set by which weights are kept.
        splits: what is evaluated, in order; the first is the development set.
        prefixed: whether results bear the name of their split.
        all_entities: whether the model keeps its whole entity table, which then does not learn.
        markers: markers that the task adds to the vocabulary.
        original_markers: markers that its original checkpoints have behind RoBERTa's words, in their order.
        class_names: of the model in use.
    """

    name: ClassVar[str]
    criterion: ClassVar[str] = "f1"
    splits: ClassVar[tuple[str, ...]] = (DEV, TEST)
    prefixed: ClassVar[bool] = True
    all_entities: ClassVar[bool] = False
    markers: ClassVar[tuple[str, ...]] = ()
    original_markers: ClassVar[tuple[str, ...]] = ()
    class_names: tuple[str, ...] = ()

    # -- what differs --------------------------------------------------------------------------------------------

    @abstractmethod
    def head(self) -> HeadClass:
        """Class of the model."""

    @abstractmethod
    def read(self, folder: Path, split: str) -> list[Example]:
        """The examples of a split.

        Raises:
            MissingFileError: the file is not there.
            DataError: it is malformed; the message names file and line.
        """

    @abstractmethod
    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Names of the classes, from the training examples."""

    @abstractmethod
    def features(self, examples: Sequence[Example], vocabulary: Vocabulary, *, training: bool) -> Iterable[list[Feature]]:
        """Inputs of the model for each example, with labels if it is for training."""

    @abstractmethod
    def loss(self, logits: Tensor, features: Sequence[Feature]) -> Tensor:
        """Sum of the losses of all that is decided in a batch."""

    @abstractmethod
    def decode(self, examples: Sequence[Example], features: Sequence[Feature], outputs: Sequence[np.ndarray]) -> Any:
        """Answers to examples, from the model's outputs for their features."""

    @abstractmethod
    def score(self, examples: Sequence[Example], answers: Any) -> dict[str, float]:
        """The task's metric."""

    @abstractmethod
    def write(self, folder: Path, split: str, examples: Sequence[Example], answers: Any) -> None:
        """Write the answers to a split as the original does, atomically."""

    # -- what differs for some -----------------------------------------------------------------------------------

    def read_for_training(self, folder: Path) -> list[Example]:
        """The examples that are learnt from."""
        return self.read(folder, TRAIN)

    def summary(self, examples: Sequence[Example]) -> str:
        """How many there are of what counts, so that a user sees whether the data is all there."""
        return f"{len(examples)} examples"

    def head_settings(self) -> dict[str, Any]:
        """Settings of the head in the model's configuration."""
        return {}

    def choices(self) -> dict[str, Any]:
        """Options of the task, which a run and its continuation must share."""
        return {}

    def sources(self) -> list[Path]:
        """Files that are read beside those of the data folder."""
        return []

    def adopt(self, labels: tuple[str, ...], model: nn.Module) -> None:
        """Take over the classes of a model, ``self.class_names``, before it is used."""
        self.class_names = labels

    def file(self, split: str) -> str:
        """Name of a split's file in the data folder."""
        return f"{split}.json"

    def decisions(self, feature: Feature) -> int:
        """How many decisions there are in an input; the loss of a step is the mean over all of them."""
        return 1

    def inputs(self, features: Sequence[Feature], vocabulary: Vocabulary) -> dict[str, Tensor]:
        """A batch for the model."""
        return collate(features, vocabulary.tokenizer.pad, vocabulary.max_mention_length)

    def logits(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The model's answer to a batch, in float32."""
        logits: Tensor = model(**inputs).logits
        return logits.float()

    def outputs(self, logits: Tensor, features: Sequence[Feature]) -> list[np.ndarray]:
        """What decoding needs of a batch's answer, an array for each feature."""
        return list(logits.cpu().numpy())


def label_tensor(features: Sequence[Feature], filler: int, device: torch.device) -> Tensor:
    """Labels of a batch, filled up to the longest. *Shape:* (n, labels), int64."""
    width = max(len(f.label) for f in features)
    return torch.tensor([[*f.label, *[filler] * (width - len(f.label))] for f in features], device=device)
