"""Losses of the two tasks. The batch of a step is a function of the step number alone, so a run can resume at any step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from blink.kglm.lm.classification import Tables, triple_batch
from blink.kglm.lm.corpus import Corpus, LineStream, bucketed
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.negatives import Negatives, NegativeSampling
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES
from blink.kglm.lm.triples import Facts, TripleTexts
from blink.kglm.lm.vocabulary import BOS, PAD
from blink.runs.seeds import seed_for


@dataclass(frozen=True)
class Loss:
    """Loss of a batch.

    Attributes:
        value: a scalar with gradient.
        units: number of words or triples in the batch.
    """

    value: Tensor
    units: int


class Task(Protocol):
    """A training task.

    Attributes:
        name: its name in `blink.kglm.lm.schedule`.
        unit: unit of its speed, ``words`` or ``triples``.
    """

    name: str
    unit: str

    def loss(self, step: int) -> Loss:
        """The loss of the task's step ``step``, counted from 0 per task."""


class LanguageTask:
    """Next-word prediction.

    Args:
        model: the model.
        corpus: the text.
        lines: batch size in lines.
        seed: seed of the order.
        shuffle: shuffle the lines; otherwise they keep their order.
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
    """Triple classification: true triples against sampled negatives.

    Negatives are sampled again in each epoch, or once as in the original. The order is shuffled in each epoch.

    Args:
        model: the model.
        texts: names of entities and relations in word ids.
        facts: training triples. If they include negatives, no negatives are sampled.
        negatives: samples negatives.
        sampling: its settings.
        rows: batch size, true and false triples together.
        seed: seed of order and negatives.
        redraw: sample negatives again in each epoch.
        tables: rows of a model with entity embeddings.
    """

    name, unit = TRIPLES, "triples"

    def __init__(
        self,
        model: KGLanguageModel,
        texts: TripleTexts,
        facts: Facts,
        negatives: Negatives,
        sampling: NegativeSampling,
        *,
        rows: int,
        seed: int,
        redraw: bool = True,
        tables: Tables | None = None,
    ) -> None:
        self._model, self._texts, self._facts, self._negatives, self._sampling = model, texts, facts, negatives, sampling
        self._rows, self._seed, self._redraw, self._tables = rows, seed_for(seed, TRIPLES), redraw, tables
        self._has_negatives = not facts.label.all()
        self._epoch, self._first_step = -1, 0
        self._labelled, self._order = facts, list[np.ndarray]()

    def loss(self, step: int) -> Loss:
        """Weighted cross-entropy with its penalty, and the alignment distance if the model has entity embeddings."""
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
        words = self._model.name_vectors(*(tensor.to(device) for tensor in self._texts.names(entities)))
        return self._model.tables.distance(torch.from_numpy(tables.entities[entities]).to(device), words)

    def _labelled_batch(self, step: int) -> Facts:
        """Rows of a step. Epochs differ in length, because the number of negatives is random."""
        if step < self._first_step or self._epoch < 0:
            self._start_epoch(0, 0)
        while step >= self._first_step + len(self._order):
            self._start_epoch(self._epoch + 1, self._first_step + len(self._order))
        return self._labelled.select(self._order[step - self._first_step])

    def _start_epoch(self, epoch: int, first: int) -> None:
        random = np.random.default_rng([self._seed, epoch])
        if not self._has_negatives and (self._redraw or epoch == 0):
            generator = random if self._redraw else np.random.default_rng(self._seed)
            self._labelled = self._negatives.with_true(self._facts, self._sampling, generator)
        self._order = bucketed(self._texts.lengths(self._labelled), self._rows, random)
        self._epoch, self._first_step = epoch, first


def _device(model: KGLanguageModel) -> torch.device:
    return next(model.parameters()).device
