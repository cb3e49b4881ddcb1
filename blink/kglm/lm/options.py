"""Validated configuration of a network; the fields are those of the sections of ``lm.yaml`` and ``joint.yaml``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blink.errors import SettingsError
from blink.runs.settings import choice

CELLS = ("LSTM", "BiLSTM")
SOFTMAXES = ("full", "sampled")


@dataclass(frozen=True)
class Cells:
    """Recurrent cells.

    Attributes:
        kind: ``LSTM``, or ``BiLSTM`` with a second stack for the backward direction.
        layers: width of each layer, the lowest first.
        keep: fraction of each layer's output that dropout keeps.
    """

    kind: str = "BiLSTM"
    layers: tuple[int, ...] = (256,)
    keep: float = 0.6

    def __post_init__(self) -> None:
        choice("cells.kind", self.kind, CELLS)
        require_fraction("cells.keep", self.keep)
        if not self.layers or min(self.layers) < 1:
            raise SettingsError(f"cells.layers is {list(self.layers)}; give the width of each layer, such as [256]")

    @property
    def backward(self) -> bool:
        """Whether there is a backward stack."""
        return self.kind == "BiLSTM"

    @property
    def summary_width(self) -> int:
        """Dimension of `blink.kglm.lm.model.Encoder.summary`."""
        return self.layers[-1] * (1 + self.backward)


@dataclass(frozen=True)
class Language:
    """The next-word task.

    Attributes:
        softmax: training loss: ``full`` or ``sampled``; evaluation always uses the full softmax.
        samples: number of sampled words.
        tied: whether input and output embeddings are tied.
        backward: also train the backward cells to predict the previous word.
    """

    softmax: str = "full"
    samples: int = 4000
    tied: bool = False
    backward: bool = False

    def __post_init__(self) -> None:
        choice("language.softmax", self.softmax, SOFTMAXES)
        if self.samples < 1:
            raise SettingsError(f"language.samples is {self.samples}; it must be at least 1")


@dataclass(frozen=True)
class Classifier:
    """The triple classifier.

    Attributes:
        hidden: widths of the hidden layers after the cells.
        keep: fraction of the last hidden layer that dropout keeps.
        penalty: weight of the L2 penalty, half the sum of the layers' squared weights.
        balance: weight of true triples in the loss.
        reach_words: whether gradients of its loss reach the word table; in the original they do not.
        entity_width: dimension of entity and relation embeddings; 0 for none.
        entity_keep: fraction of entity embeddings that are kept in a step; the others are set to 0.
        align: weight of the distance between an entity's embedding and the mean of its word vectors.
    """

    hidden: tuple[int, ...] = (1024, 512, 512)
    keep: float = 0.2
    penalty: float = 0.01
    balance: float = 3.0
    reach_words: bool = True
    entity_width: int = 0
    entity_keep: float = 0.8
    align: float = 0.0

    def __post_init__(self) -> None:
        require_fraction("classifier.keep", self.keep)
        require_fraction("classifier.entity_keep", self.entity_keep)
        if not self.hidden or min(self.hidden) < 1:
            raise SettingsError(f"classifier.hidden is {list(self.hidden)}; give widths such as [1024, 512, 512]")
        if min(self.penalty, self.entity_width, self.align) < 0 or self.balance <= 0:
            raise SettingsError("classifier.penalty, .entity_width and .align must not be negative, and .balance above 0")


@dataclass(frozen=True)
class Network:
    """A network; a task that is None has no layers.

    Attributes:
        vocabulary: number of ids.
        width: dimension of word vectors.
        learn_words: whether the word table is trained.
        scale: standard deviation of the values of random word vectors.
        entities, relations: rows of the entity and relation tables; 0 without tables.
    """

    vocabulary: int
    width: int
    cells: Cells
    language: Language | None = None
    classifier: Classifier | None = None
    learn_words: bool = True
    scale: float = 0.3
    entities: int = 0
    relations: int = 0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SettingsError(f"words.width is {self.width}; it must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Network:
        """Inverse of `to_dict`; accepts values from JSON."""
        language, classifier = values["language"], values["classifier"]
        sections = {
            "cells": section(Cells, values["cells"]),
            "language": None if language is None else section(Language, language),
            "classifier": None if classifier is None else section(Classifier, classifier),
        }
        return cls(**{**values, **sections})


def section(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Create one of the dataclasses above from plain values; lists become tuples."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def require_fraction(name: str, value: float) -> None:
    """Check that a fraction is above 0 and at most 1.

    Raises:
        SettingsError: it is not.
    """
    if not 0 < value <= 1:
        raise SettingsError(f"{name} is {value}; it must be above 0 and at most 1")
