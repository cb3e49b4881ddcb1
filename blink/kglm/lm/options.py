"""What a network is made of, checked; the fields are those of the sections of ``lm.yaml`` and ``joint.yaml``."""

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
        kind: ``LSTM``, or ``BiLSTM`` with a second stack that reads backwards.
        layers: width of each layer, the lowest first.
        keep: share of each layer's output that dropout keeps.
    """

    kind: str = "BiLSTM"
    layers: tuple[int, ...] = (256,)
    keep: float = 0.6

    def __post_init__(self) -> None:
        choice("cells.kind", self.kind, CELLS)
        require_share("cells.keep", self.keep)
        if not self.layers or min(self.layers) < 1:
            raise SettingsError(f"cells.layers is {list(self.layers)}; give the width of each layer, such as [256]")

    @property
    def backward(self) -> bool:
        """Whether there is a stack that reads backwards."""
        return self.kind == "BiLSTM"

    @property
    def summary_width(self) -> int:
        """Numbers in what the cells keep of a whole text."""
        return self.layers[-1] * (1 + self.backward)


@dataclass(frozen=True)
class Language:
    """The next-word task.

    Attributes:
        softmax: loss of training: ``full``, or ``sampled``; what is measured is always the full one.
        samples: words drawn for a sampled softmax.
        tied: whether words are predicted by the table that also reads them.
        backward: train the backward cells to predict the word before, too.
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
        hidden: widths of the hidden layers behind the cells.
        keep: share that dropout keeps behind the last hidden layer.
        penalty: weight of half the squared weights of the layers.
        balance: weight of true triples in the loss.
        reach_words: whether its loss reaches the word table; in the original it does not.
        entity_width: width of vectors of entities and relations beside the words; 0 has none.
        entity_keep: share of entity vectors that are kept in a step; without its vector, an entity is but its words.
        align: weight of the distance between an entity's vector and the mean of its words'.
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
        require_share("classifier.keep", self.keep)
        require_share("classifier.entity_keep", self.entity_keep)
        if not self.hidden or min(self.hidden) < 1:
            raise SettingsError(f"classifier.hidden is {list(self.hidden)}; give widths such as [1024, 512, 512]")
        if min(self.penalty, self.entity_width, self.align) < 0 or self.balance <= 0:
            raise SettingsError("classifier.penalty, .entity_width and .align must not be negative, and .balance above 0")


@dataclass(frozen=True)
class Network:
    """A whole network; a task that is None is not in it.

    Attributes:
        vocabulary: number of ids.
        width: of a word vector.
        learn_words: whether the word table is trained.
        scale: standard deviation of a random word vector's numbers.
        entities, relations: rows of the tables of entities and relations; 0 without them.
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
        """What `to_dict` gave, also after a detour through JSON."""
        language, classifier = values["language"], values["classifier"]
        parts = {
            "cells": section(Cells, values["cells"]),
            "language": None if language is None else section(Language, language),
            "classifier": None if classifier is None else section(Classifier, classifier),
        }
        return cls(**{**values, **parts})


def section(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Make one of the dataclasses above from plain values; lists become tuples."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def require_share(name: str, value: float) -> None:
    """Check that a share is above 0 and at most 1.

    Raises:
        SettingsError: it is not.
    """
    if not 0 < value <= 1:
        raise SettingsError(f"{name} is {value}; what is kept must be above 0 and at most 1")
