"""What a step of either task computes; each follows from the step's number alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from blink.kglm.lm.classification import Tables, triple_batch
from blink.kglm.lm.corpus import Corpus, LineStream, bucketed
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.negatives import Making, Negatives
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES
from blink.kglm.lm.triples import Facts, TripleTexts
from blink.kglm.lm.vocabulary import BOS, PAD
from blink.kglm.run import seed_for


@dataclass(frozen=True)
class Loss:
    """A loss to go back from.

    Attributes:
        value: a scalar.
        units: words, or triples, that it is the mean of.
    """

    value: Tensor
    units: int


class Task(Protocol):
    """A task that learns.

    Attributes:
        name: of it, as in `blink.kglm.lm.schedule`.
        unit: what its speed counts.
    """

    name: str
    unit: str

    def loss(self, step: int) -> Loss:
        """The loss of the task's own step ``step``, counted from 0."""


class LanguageTask:
    """Predicting words of lines.

    Args:
        model: what learns.
        corpus: the text.
        lines: of a step.
        seed: of the order.
        shuffle: otherwise lines come as they stand.
    """

    name, unit = LANGUAGE, "words"

    def __init__(self, model: KGLanguageModel, corpus: Corpus, *, lines: int, seed: int, shuffle: bool = True) -> None:
        self._model = model
        self.stream = LineStream(corpus, lines, seed_for(seed, LANGUAGE), shuffle)

    def loss(self, step: int) -> Loss:
        """Mean loss per predicted word."""
        ids = self.stream.batch(step)
        units = int(((ids != PAD) & (ids != BOS)).sum())
        return Loss(self._model.language_loss(ids.to(_device(self._model))), units)


class TripleTask:
    """Telling true triples from false ones.

    In each pass over the true triples, false ones are made anew, or once and for all as in the original, and rows are mixed.

    Args:
        model: what learns.
        texts: what it reads.
        facts: triples of training; with false ones among them, those are taken instead of any that are made.
        negatives: makes false ones.
        making: how.
        rows: triples of a step, true and false.
        seed: of order and chance.
        redraw: make false triples anew in each pass.
        tables: of a model with vectors of entities.
    """

    name, unit = TRIPLES, "triples"

    def __init__(
        self,
        model: KGLanguageModel,
        texts: TripleTexts,
        facts: Facts,
        negatives: Negatives,
        making: Making,
        *,
        rows: int,
        seed: int,
        redraw: bool = True,
        tables: Tables | None = None,
    ) -> None:
        self._model, self._texts, self._facts, self._negatives, self._making = model, texts, facts, negatives, making
        self._rows, self._seed, self._redraw, self._tables = rows, seed_for(seed, TRIPLES), redraw, tables
        self._given = not facts.label.all()
        self._at = (-1, 0)  # pass, and the first step of it
        self._labelled, self._order, self._sizes = facts, list[np.ndarray](), list[int]()

    def loss(self, step: int) -> Loss:
        """Weighted cross-entropy with its penalty, and where entities have vectors, their distance from their words."""
        facts = self._labelled_batch(step)
        device = _device(self._model)
        labels = torch.from_numpy(facts.label.astype(np.float32)).to(device)
        value = self._model.classifier_loss(triple_batch(self._texts, facts, self._tables, device), labels)
        options = self._model.network.classifier
        if options is not None and options.align and self._tables is not None:
            value = value + options.align * self._distance(facts, self._tables, device)
        return Loss(value, len(facts))

    def _distance(self, facts: Facts, tables: Tables, device: torch.device) -> Tensor:
        entities = np.unique(np.concatenate([facts.head, facts.tail]))
        entities = entities[tables.entities[entities] >= 0]
        assert self._model.tables is not None
        words = self._model.name_vectors(*(part.to(device) for part in self._texts.names(entities)))
        return self._model.tables.distance(torch.from_numpy(tables.entities[entities]).to(device), words)

    def _labelled_batch(self, step: int) -> Facts:
        """Rows of a step; passes differ in length, for chance decides how many false triples there are."""
        if step < self._at[1] or self._at[0] < 0:
            self._begin(0, 0)
        while step >= self._at[1] + len(self._order):
            self._begin(self._at[0] + 1, self._at[1] + len(self._order))
        return self._labelled.select(self._order[step - self._at[1]])

    def _begin(self, turn: int, first: int) -> None:
        random = np.random.default_rng([self._seed, turn])
        if not self._given and (self._redraw or turn == 0):
            chance = random if self._redraw else np.random.default_rng(self._seed)
            self._labelled = self._negatives.with_true(self._facts, self._making, chance)
        self._order = bucketed(self._texts.lengths(self._labelled), self._rows, random)
        self._at = (turn, first)


def _device(model: KGLanguageModel) -> torch.device:
    return next(model.parameters()).device
