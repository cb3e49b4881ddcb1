"""A graph and words learned together: ``alpha L_graph + (1 - alpha) L_words + mu L_alignment``.

Each loss is a mean over its own batch, so that ``alpha`` weighs tasks and not sizes. With ``alpha`` 0 or 1 there is one task
alone, which runs in `WordTrainer` or in the graph's own `Trainer`: no word of the other is read.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from blink.errors import SettingsError
from blink.kglm.config import Settings, at_least, choice
from blink.kglm.glove.alignment import Alignment
from blink.kglm.glove.coupling import COUPLINGS, MAPS, Coupling, PairDraws, TiedTable
from blink.kglm.glove.inputs import Words
from blink.kglm.glove.learning import WordSide
from blink.kglm.glove.trainer import DRAWN_EVERY_S, HELD_OUT
from blink.kglm.graph.batches import Batch
from blink.kglm.graph.model import GraphModel
from blink.kglm.graph.optimisers import Optimisers
from blink.kglm.graph.trainer import METRICS, Trainer
from blink.kglm.graph.triples import Graph
from blink.kglm.run import Progress, RunFolder, require_finite, seed_for

MODES = ("sum", "alternate")


def check_joint(settings: Settings) -> None:
    """Check the section ``joint``.

    Raises:
        SettingsError: a setting is not allowed.
    """
    options = settings.joint
    if not 0 <= options.alpha <= 1:
        raise SettingsError(f"joint.alpha is {options.alpha}; give a share from 0 (words alone) to 1 (the graph alone)")
    choice("joint.mode", options.mode, MODES)
    choice("joint.coupling", options.coupling, COUPLINGS)
    choice("joint.map", options.map, MAPS)
    at_least(settings, "joint", mu=0.0, batch_size=1, word_steps=0.0, temperature=1e-6, map_lr=0.0)


class JointTrainer(Trainer):
    """Trains a graph's vectors together with word vectors; the graph's validation chooses the best state.

    A step is one of the graph. In mode ``sum`` a batch of words has part in it; in mode ``alternate`` it follows
    ``joint.word_steps`` steps of words, on average. The alignment has part in each step of the graph.

    Args:
        graph: the graph.
        words: the text.
        alignment: which words stand for which entities.
        folder: the run.
        progress: hooks for a progress bar.

    Raises:
        SettingsError, MismatchError, DataError: as of `Trainer`; or widths do not go with the coupling.
    """

    def __init__(
        self, graph: Graph, words: Words, alignment: Alignment, folder: RunFolder, progress: Progress | None = None
    ) -> None:
        super().__init__(graph, folder, progress)
        options, self.alignment = self.settings.joint, alignment
        self.side = WordSide(words, self.settings, self.device)
        self.tied: Alignment | None = None
        self.coupling: Coupling | None = None
        if options.coupling == "hard":
            self.tied = alignment.singles()
            self._tie(self.tied)
        elif options.coupling != "none" and options.mu > 0:
            self.coupling = make_coupling(self.settings, alignment, self.model).to(self.device)
            self._pairs = PairDraws(alignment, options.batch_size, seed_for(self.settings.seed, "aligned"), self.device)
        # As parts of the model they are in its checkpoints and in its best state.
        self.model.add_module("glove", self.side.model)
        self.model.add_module("coupling", self.coupling)
        self._optimisers = _Together(self._optimisers, self.side, self.coupling, options.map_lr)  # type: ignore[assignment]
        self._losses: dict[str, float] = {}
        self._drawn = time.monotonic()

    def _tie(self, pairs: Alignment) -> None:
        if len(self.model.entity_tables) > 1:
            raise SettingsError(f"{self.settings.model.name} has several vectors per entity; joint.coupling hard needs one")
        own: Tensor = self.side.model.words.all().detach()  # type: ignore[operator]
        sparse = self.settings.model.sparse
        self.side.model.words = TiedTable(self.model.entity_tables[0], own, pairs, sparse).to(self.device)
        self.side.optimizer = self.side.make_optimizer()

    def _train_step(self) -> None:
        super()._train_step()
        if self.standing.step % self.settings.train.log_steps == 0:
            self.folder.trace.add("step", {"step": self.standing.step, **self._losses})

    def _gradients(self, batch: Batch) -> float:
        """Add up the gradients of all tasks; returns their weighted loss."""
        options, step = self.settings.joint, self.standing.step
        alpha = options.alpha if options.mode == "sum" else 1.0
        if options.mode == "alternate":
            self._word_steps(int(step * options.word_steps), int((step + 1) * options.word_steps))
        self._losses["graph_loss"] = super()._gradients(batch)
        if alpha != 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(alpha)
        total = alpha * self._losses["graph_loss"]
        if options.mode == "sum":
            self._losses["word_loss"] = self.side.gradients(step, 1 - alpha)
            total += (1 - alpha) * self._losses["word_loss"]
        return total + self._align(step)

    def _word_steps(self, first: int, last: int) -> None:
        for number in range(first, last):
            loss = self.side.gradients(number)
            require_finite(loss, f"step {number + 1} of the words")
            self._optimisers.step(self.standing.rate)
            self._losses["word_loss"] = loss

    def _align(self, step: int) -> float:
        """Add the gradients of the alignment; returns its weighted loss."""
        if self.coupling is None:
            return 0.0
        batch = self._pairs.batch(step)
        loss = self.coupling(batch, entity_numbers(self.model, batch.entities, self.settings.model.sparse), self.side.model)
        weighted = self.settings.joint.mu * loss
        weighted.backward()
        self._losses["alignment_loss"] = loss.item()
        return weighted.item()

    def _validate(self) -> None:
        super()._validate()
        if (loss := self.side.held_out_loss()) is not None:
            self.folder.trace.add("validation", {"step": self.standing.step, HELD_OUT: loss})

    def _draw(self) -> None:
        ended = self.standing.step == self.total_steps or self._out_of_patience()
        if not ended and time.monotonic() - self._drawn < DRAWN_EVERY_S:
            return
        self._drawn = time.monotonic()
        self.folder.draw(["graph_loss", "word_loss", "alignment_loss"], [*METRICS, HELD_OUT])


def make_coupling(settings: Settings, alignment: Alignment, model: GraphModel) -> Coupling:
    """The coupling that settings describe.

    Raises:
        SettingsError: widths do not go with it.
    """
    options = settings.joint
    width = sum(table[0].numel() for table in model.entity_tables)
    return Coupling(
        options.coupling, alignment, width, settings.words.dim,
        mapping=options.map, temperature=options.temperature, seed=settings.seed,
    )  # fmt: skip


def entity_numbers(model: GraphModel, ids: Tensor, sparse: bool = False) -> Tensor:
    """All numbers of entities, of complex vectors both halves, with gradients. *Shape:* (n,) to (n, numbers)."""
    tables = [table.view(len(table), -1) for table in model.entity_tables]
    return torch.cat([functional.embedding(ids, table, sparse=sparse) for table in tables], 1)


class _Together:
    """The optimisers of all parts, which step together; a part without gradients stays as it is.

    Args:
        graph: of the graph.
        side: of the words.
        coupling: whose map learns by Adam.
        map_lr: learning rate of that.
    """

    def __init__(self, graph: Optimisers, side: WordSide, coupling: Coupling | None, map_lr: float) -> None:
        self._graph, self._side = graph, side
        learned = [] if coupling is None else list(coupling.parameters())
        self._map = torch.optim.Adam(learned, lr=map_lr) if learned else None

    def step(self, rate: float) -> None:
        """Move all parameters; ``rate`` is that of the graph."""
        self._graph.step(rate)
        self._side.move()
        if self._map is not None:
            self._map.step()
            self._map.zero_grad(set_to_none=True)

    def state(self) -> list[Any]:
        """Tensors and plain values."""
        more = [] if self._map is None else [self._map.state_dict()]
        return [self._graph.state(), self._side.optimizer.state_dict(), *more]

    def load_state(self, states: list[Any]) -> None:
        """Take back what `state` gave."""
        self._graph.load_state(states[0])
        self._side.optimizer.load_state_dict(states[1])
        if self._map is not None:
            self._map.load_state_dict(states[2])
