"""Joint training of a graph model and GloVe: ``alpha L_graph + (1 - alpha) L_words + mu L_alignment``.

Each loss is a mean over its batch, so ``alpha`` weights tasks independently of batch sizes. With ``alpha`` 0 or 1, there is one
task, which `WordLearner` or `GraphLearner` trains, and the data of the other is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from blink.errors import SettingsError
from blink.kglm.glove.alignment import Alignment
from blink.kglm.glove.coupling import Coupling, PairDraws, TiedTable
from blink.kglm.glove.inputs import Words
from blink.kglm.glove.learner import HELD_OUT
from blink.kglm.glove.learning import WordSide
from blink.kglm.graph.learner import METRICS, GraphLearner
from blink.kglm.graph.model import GraphModel
from blink.kglm.graph.optimisers import Optimisers
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.vocabulary import VOCABULARY_FILE
from blink.kglm.run import KglmRun
from blink.kglm.settings import GloveSettings
from blink.runs.finite import require_finite
from blink.runs.seeds import seed_for


class JointLearner(GraphLearner):
    """Trains a graph model jointly with word vectors; the graph's validation selects the best checkpoint.

    A step is a step of the graph. In mode ``sum``, it includes a batch of words. In mode ``alternate``, it follows
    ``joint.word_steps`` steps of words, on average. Each step of the graph includes the alignment loss.

    Args:
        graph: the graph.
        words: the text.
        alignment: the alignment of entities and words.
        folder: the run.

    Raises:
        SettingsError, MismatchError, DataError: see `GraphLearner`; or dimensions do not match the coupling.
    """

    settings: GloveSettings
    curves: tuple[Sequence[str], Sequence[str]] = (("graph_loss", "word_loss", "alignment_loss"), (*METRICS, HELD_OUT))

    def __init__(self, graph: Graph, words: Words, alignment: Alignment, folder: KglmRun[GloveSettings]) -> None:
        super().__init__(graph, folder)
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
        # As modules of the model, they are included in its checkpoints.
        self.model.add_module("glove", self.side.model)
        self.model.add_module("coupling", self.coupling)
        self._optimisers = _JointOptimisers(self._optimisers, self.side, self.coupling, options.map_lr)  # type: ignore[assignment]

    def _tie(self, pairs: Alignment) -> None:
        if len(self.model.entity_tables) > 1:
            raise SettingsError(f"{self.settings.model.name} has several vectors per entity; joint.coupling hard needs one")
        rows: Tensor = self.side.model.words.all().detach()  # type: ignore[operator]
        sparse = self.settings.model.sparse
        self.side.model.words = TiedTable(self.model.entity_tables[0], rows, pairs, sparse).to(self.device)
        self.side.optimizer = self.side.make_optimizer()

    def _gradients(self, number: int) -> dict[str, float]:
        """Accumulate the gradients of all tasks; returns the weighted loss and the loss of each task."""
        options, losses = self.settings.joint, dict[str, float]()
        alpha = options.alpha if options.mode == "sum" else 1.0
        if options.mode == "alternate":
            losses |= self._word_steps(int(number * options.word_steps), int((number + 1) * options.word_steps))
        losses["graph_loss"] = super()._gradients(number)["loss"]
        if alpha != 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(alpha)
        total = alpha * losses["graph_loss"]
        if options.mode == "sum":
            losses["word_loss"] = self.side.gradients(number, 1 - alpha)
            total += (1 - alpha) * losses["word_loss"]
        if self.coupling is not None:
            losses["alignment_loss"], weighted = self._align(number, self.coupling)
            total += weighted
        return {"loss": total, **losses}

    def _word_steps(self, first: int, last: int) -> dict[str, float]:
        """Train steps of words; returns the loss of the last step, if any."""
        losses: dict[str, float] = {}
        for number in range(first, last):
            losses["word_loss"] = self.side.gradients(number)
            require_finite(losses["word_loss"], f"step {number + 1} of the words", self.advice)
            self._optimisers.step(self.rate)
        return losses

    def _align(self, number: int, coupling: Coupling) -> tuple[float, float]:
        """Add the gradients of the alignment loss; returns the loss without and with its weight."""
        batch = self._pairs.batch(number)
        loss = coupling(batch, entity_embeddings(self.model, batch.entities, self.settings.model.sparse), self.side.model)
        weighted = self.settings.joint.mu * loss
        weighted.backward()
        return loss.item(), weighted.item()

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Save the best checkpoint and its vocabulary."""
        self.side.words.vocabulary.save(self.folder.path / VOCABULARY_FILE)
        super().store(row, better=better)

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """Validation of the graph, with the loss on held-out pairs of words."""
        held_out = self.side.held_out_loss()
        return {**super().validated(row, better=better), **({} if held_out is None else {HELD_OUT: held_out})}


def make_coupling(settings: GloveSettings, alignment: Alignment, model: GraphModel) -> Coupling:
    """Create the coupling of the settings.

    Raises:
        SettingsError: dimensions do not match the coupling.
    """
    options = settings.joint
    width = sum(table[0].numel() for table in model.entity_tables)
    return Coupling(
        options.coupling, alignment, width, settings.words.dim,
        mapping=options.map, temperature=options.temperature, seed=settings.seed,
    )  # fmt: skip


def entity_embeddings(model: GraphModel, ids: Tensor, sparse: bool = False) -> Tensor:
    """Embeddings of entities with gradients, all tables concatenated. *Shape:* (n,) to (n, width)."""
    tables = [table.view(len(table), -1) for table in model.entity_tables]
    return torch.cat([functional.embedding(ids, table, sparse=sparse) for table in tables], 1)


class _JointOptimisers:
    """The optimisers of graph, words and coupling, which step together; modules without gradients are unchanged.

    Args:
        graph: optimisers of the graph model.
        side: words, with their optimiser.
        coupling: its map is trained by Adam.
        map_lr: learning rate of the map.
    """

    def __init__(self, graph: Optimisers, side: WordSide, coupling: Coupling | None, map_lr: float) -> None:
        self._graph, self._side = graph, side
        learned = [] if coupling is None else list(coupling.parameters())
        self._map = torch.optim.Adam(learned, lr=map_lr) if learned else None

    def step(self, rate: float) -> None:
        """Update all parameters; ``rate`` is the learning rate of the graph."""
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
        """Restore the result of `state`."""
        self._graph.load_state(states[0])
        self._side.optimizer.load_state_dict(states[1])
        if self._map is not None:
            self._map.load_state_dict(states[2])
