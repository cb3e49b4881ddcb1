"""Training of graph models. A resumed run has the same results, bit for bit, and a run ends with the best checkpoint.

PyKEEN's loop is not used, because a resumed run differs from an uninterrupted one, and early stopping ends with the last
checkpoint. Here, order, negatives and dropout of a step are functions of seed and step alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from blink.errors import MismatchError, SettingsError
from blink.kglm.graph.answers import answers_of
from blink.kglm.graph.batches import Batch, Batches, Negatives
from blink.kglm.graph.losses import OVER_ALL, OVER_SAMPLED, loss_options
from blink.kglm.graph.model import GraphModel, make_model
from blink.kglm.graph.optimisers import Optimisers
from blink.kglm.graph.ranking import rank, sampled_candidates, summary
from blink.kglm.graph.start import start_from_vectors
from blink.kglm.graph.triples import Graph
from blink.kglm.memory import require_memory
from blink.kglm.run import EpochLearner, KglmRun, read_best, write_best
from blink.kglm.settings import GraphSections, Settings
from blink.runs.learner import TrainerState
from blink.runs.seeds import generator_for, seed_for

METRICS = ("mrr", "hits@1", "hits@3", "hits@10")


def ranking_options(settings: GraphSections, entities: int, device: torch.device) -> dict[str, Any]:
    """Arguments of `rank` by the section ``eval``."""
    candidates = sampled_candidates(entities, settings.eval.candidates, settings.seed)
    candidates = None if candidates is None else candidates.to(device)
    return {"batch_size": settings.eval.batch_size, "chunk": settings.eval.chunk, "candidates": candidates}


class GraphLearner(EpochLearner):
    """Trains the model of a run's settings.

    Args:
        graph: the graph; its ``valid`` triples select the best checkpoint.
        folder: the run.

    Raises:
        SettingsError, MismatchError, DataError: a setting is not allowed, initial vectors do not match, or there are no
            validation triples.
    """

    curves: tuple[Sequence[str], Sequence[str]] = (("loss",), METRICS)
    advice = "lower train.lr, or raise a regulariser, and start again"

    def __init__(self, graph: Graph, folder: KglmRun[GraphSections]) -> None:
        super().__init__(folder)
        self.graph = graph
        train, options = self.settings.train, self.settings
        if options.model.sparse and train.type != "negative":
            raise SettingsError("model.sparse needs train.type negative: the other types touch every row in each step")
        require_memory(options, len(graph.entities), len(graph.relations), self.device)
        self.model = make_model(options, len(graph.entities), len(graph.relations))
        self.start_note = start_from_vectors(self.model, graph, options)
        self.model.to(self.device)
        size = (len(graph.entities), len(graph.relations))
        splits = [torch.from_numpy(graph.train), torch.from_numpy(graph.split("valid"))]
        answers = answers_of(splits[:1], *size)
        self._batches = Batches(graph, answers, options)
        self.epoch_steps = self._batches.steps
        self._negatives = Negatives(graph, answers.to(self.device), options) if train.type == "negative" else None
        self._loss_options = loss_options(train, self.model.interaction.distance)
        self._optimisers = Optimisers(self.model, train, options.model.sparse)
        self._valid = self._ranked(splits[1]).to(self.device)
        self._filter = answers_of(splits, *size).to(self.device)  # without test triples, which must not influence training
        self._ranking = ranking_options(options, len(graph.entities), self.device)
        self.rate, self._rate_stale = train.lr, 0

    def finish(self) -> None:
        """Load the best checkpoint into the model."""
        load_model(self.model, self.folder, self.graph)

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Weights, optimisers and learning rate."""
        return {
            "graph": self.graph.digest,
            "model": {name: value.detach().cpu() for name, value in self.model.state_dict().items()},
            "optimisers": self._optimisers.state(),
            "rate": self.rate,
            "rate_stale": self._rate_stale,
        }

    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Restore the result of `state`.

        Raises:
            MismatchError: the state is of another graph.
            SettingsError: the end of the run was not a regular validation, so a longer run would differ.
        """
        if state["graph"] != self.graph.digest:
            raise MismatchError(f"{self.folder.path} was started with another graph; bring its files back, or start a new run")
        self.require_scheduled(progress)
        self.model.load_state_dict(state["model"])
        self._optimisers.load_state(state["optimisers"])
        self.rate, self._rate_stale = state["rate"], state["rate_stale"]

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self, number: int) -> dict[str, float]:
        """Train one step; returns its loss."""
        self.model.train()
        torch.manual_seed(seed_for(self.settings.seed, "dropout", number))
        losses = self._gradients(number)
        self._optimisers.step(self.rate)
        return losses

    def describe_step(self, number: int) -> str:
        """Name of a step in messages."""
        epoch, rest = divmod(number, self.epoch_steps)
        return f"step {number + 1} (epoch {epoch + 1}, step {rest + 1})"

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Losses and learning rate."""
        return {**losses, "rate": self.rate}

    def progress_row(self, step: int, losses: Mapping[str, float], best: Mapping[str, Any]) -> dict[str, float]:
        """Epoch, loss and the best validation."""
        mrr = {"mrr": best["mrr"]} if best else {}
        return {"epoch": 1 + (step - 1) // self.epoch_steps, "loss": losses["loss"], **mrr}

    def _ranked(self, valid: Tensor) -> Tensor:
        """The validation triples that select the best checkpoint. *Shape:* (n, 3)."""
        size = self.settings.stop.triples
        if not 0 < size < len(valid):
            return valid
        return valid[torch.randperm(len(valid), generator=generator_for(self.settings.seed, "validation"))[:size]]

    def _gradients(self, number: int) -> dict[str, float]:
        """Accumulate the gradients of the micro-batches of a step; returns its loss."""
        batch = self._batches[number]
        drawn = self._negatives.draw(number, batch).to(self.device) if self._negatives else None
        batch, total, n = batch.to(self.device), 0.0, len(batch.queries)
        size = self.settings.train.part_size or n
        for first in range(0, n, size):
            micro_batch = batch.micro_batch(first, min(first + size, n)) if size < n else batch
            candidates = drawn[first : first + size] if drawn is not None and drawn.dim() == 2 else drawn
            loss = self._loss(micro_batch, candidates) * (len(micro_batch.queries) / n)
            loss.backward()
            total += loss.item()
        return {"loss": total}

    def _loss(self, batch: Batch, drawn: Tensor | None) -> Tensor:
        train, model = self.settings.train, self.model
        if drawn is None:
            losses = OVER_ALL[train.loss](model.scores(batch.queries), batch.rows, batch.targets, self._loss_options)
        else:
            assert self._negatives is not None
            rows, heads = model.rows(batch.queries), batch.queries.heads
            positive = model.scores_of_rows(rows, heads, batch.targets.unsqueeze(1)).squeeze(1)
            negative = model.scores_of_rows(rows, heads, drawn)
            losses = OVER_SAMPLED[train.loss](positive, negative, self._negatives.mask(batch, drawn), self._loss_options)
        loss = (losses if batch.weights is None else losses * batch.weights).mean()
        if train.regularizer == "none" or not train.regularizer_weight:
            return loss
        power = 3.0 if train.regularizer == "n3" else train.regularizer_p
        queries = batch.queries[batch.rows]
        return loss + train.regularizer_weight * model.penalty(queries, batch.targets, power, train.regularizer_weighted)

    # -- validation ----------------------------------------------------------------------------------------------------

    def validate(self, step: int) -> dict[str, Any]:
        """Ranks of the validation triples."""
        self.model.eval()
        ranks = rank(self.model.exact(), self._valid, self._filter, len(self.graph.entities), **self._ranking)
        scores = {name: float(value) for name, value in summary(ranks.realistic).items() if name != "questions"}
        return {**scores, "epoch": step // self.epoch_steps}

    def score(self, row: Mapping[str, Any]) -> float:
        """The metric ``stop.metric``."""
        return float(row[self.settings.stop.metric])

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Save the best checkpoint."""
        if better:
            save_model(self.model, self.folder, self.graph, row)

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """Lower the learning rate after ``train.lr_patience`` validations without improvement."""
        train = self.settings.train
        self._rate_stale = 0 if better else self._rate_stale + 1
        if train.lr_factor != 1 and self._rate_stale >= max(train.lr_patience, 1):
            self.rate, self._rate_stale = self.rate * train.lr_factor, 0
        return {**row, "rate": self.rate}

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        """Message about a validation."""
        best = " (best)" if better else ""
        return f"epoch {row['epoch']}: valid mrr {row['mrr']:.4f}, hits@10 {row['hits@10']:.4f}{best}"


def save_model(model: GraphModel, folder: KglmRun[Settings], graph: Graph, about: Mapping[str, Any]) -> None:
    """Save the best checkpoint; ``model.json`` has the graph and the validation."""
    write_best(folder.best, model.state_dict(), {"graph": graph.digest, **about})


def load_model(model: GraphModel, folder: KglmRun[Settings], graph: Graph) -> None:
    """Load the best checkpoint into a model.

    Raises:
        MissingFileError: the run has none yet.
        CheckpointError: its files are damaged, or changed.
        MismatchError: it is of another graph or model.
    """
    try:
        model.load_state_dict(read_best(folder.best, graph.digest))
    except RuntimeError as error:
        message = " ".join(str(error).split())[:200]
        raise MismatchError(f"{folder.best} does not fit the settings of the run ({message}); train again") from error
    model.eval()
