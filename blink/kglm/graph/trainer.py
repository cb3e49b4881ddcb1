"""The training loop of graph models: it stops and goes on anywhere, and ends with the best state.

PyKEEN's loop is not used: resumed, it does not repeat what an undisturbed run does, and its early stopping ends with the last
state. Order, negatives and dropout of a step here follow from seed and step alone.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from blink.errors import MismatchError, SettingsError
from blink.files import read_json, write_json
from blink.kglm.config import at_least, choice
from blink.kglm.graph.answers import answers_of
from blink.kglm.graph.batches import Batch, Batches, Negatives
from blink.kglm.graph.losses import OVER_ALL, OVER_DRAWN, loss_options
from blink.kglm.graph.model import GraphModel, make_model
from blink.kglm.graph.optimisers import Optimisers
from blink.kglm.graph.ranking import rank, summary
from blink.kglm.graph.start import start_from_vectors
from blink.kglm.graph.triples import Graph
from blink.kglm.run import (
    Cost,
    Progress,
    RunFolder,
    device_for,
    generator_for,
    read_tensors,
    require_finite,
    seed_for,
    write_tensors,
)
from blink.runs.signals import Interrupted, StopSignals, stop_signals

MODEL_FILE, MODEL_ABOUT = "model.safetensors", "model.json"
SECONDS_OF_A_DRAWING = 30
"""Between two drawings of the curves of a run that goes on."""
METRICS = ("mrr", "hits@1", "hits@3", "hits@10")


@dataclass
class Standing:
    """How far a run is.

    Attributes:
        step: steps done.
        rate: the learning rate.
        pending: whether the validation after that step is still to be done.
        best: the best validation, with its ``step`` and ``epoch``; empty before the first.
        stale: validations since it.
        rate_stale: validations since it or since the rate last fell.
        loss: sum of the losses of the steps of this epoch.
        seconds: time of the steps of this epoch.
    """

    step: int = 0
    rate: float = 0.0
    pending: bool = False
    best: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    rate_stale: int = 0
    loss: float = 0.0
    seconds: float = 0.0


class Trainer:
    """Trains the model that a run's settings describe.

    Args:
        graph: the graph; its ``valid`` triples choose the best state.
        folder: the run.
        progress: hooks for a progress bar.

    Raises:
        SettingsError, MismatchError, DataError: a setting is not allowed, initial vectors do not fit, or there are no
            validation triples.
    """

    def __init__(self, graph: Graph, folder: RunFolder, progress: Progress | None = None) -> None:
        self.graph, self.folder, self.settings = graph, folder, folder.settings
        self._progress = progress or Progress()
        train, options = self.settings.train, self.settings
        self._check()
        self.device = torch.device(device_for(options))
        self.model = make_model(options, len(graph.entities), len(graph.relations))
        self.start_note = start_from_vectors(self.model, graph, options)
        self.model.to(self.device)
        size = (len(graph.entities), len(graph.relations))
        splits = [torch.from_numpy(graph.train), torch.from_numpy(graph.split("valid"))]
        known = answers_of(splits[:1], *size)
        self._batches = Batches(graph, known, options)
        self._negatives = Negatives(graph, known.to(self.device), options) if train.type == "negative" else None
        self._loss_options = loss_options(train, self.model.interaction.distance)
        self._optimisers = Optimisers(self.model, train, options.model.sparse)
        self._valid = self._ranked(splits[1]).to(self.device)
        self._filter = answers_of(splits, *size).to(self.device)  # not the test triples: they may choose nothing
        self.standing, self.cost, self._drawn = Standing(rate=train.lr), Cost(), time.perf_counter()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, if it does not end early."""
        return self._batches.steps * self.settings.train.epochs

    def run(self, *, resume: bool = False) -> dict[str, Any]:
        """Train to the end, with the best state in ``best/`` and in the model.

        Args:
            resume: go on from the newest checkpoint, to what an undisturbed run gives, bit for bit.

        Returns:
            the best validation, and what the run cost.

        Raises:
            Interrupted: a signal asked the run to stop; its state is saved.
            NotFinite: a loss is no number; the step is named.
        """
        if resume:
            self._restore()
        self._progress.start(self.total_steps, self.standing.step)
        with stop_signals() as signals:
            self._validate_pending(signals)
            while self.standing.step < self.total_steps and not self._out_of_patience():
                self._train_step()
                self._after_step(signals)
        self.load_best()
        self._draw()
        return {**self.standing.best, "steps": self.standing.step, **self.cost.row()}

    def load_best(self) -> None:
        """Put the best state into the model."""
        load_model(self.model, self.folder, self.graph)

    # -- setting up ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        settings = self.settings
        at_least(settings, "stop", every=1, patience=0, triples=0)
        at_least(settings, "train", save_epochs=1, log_steps=1, lr=0.0, regularizer_weight=0.0)
        choice("stop.metric", settings.stop.metric, METRICS)
        choice("train.regularizer", settings.train.regularizer, ("none", "lp", "n3"))
        if settings.model.sparse and settings.train.type != "negative":
            raise SettingsError("model.sparse needs train.type negative: the other types touch every row in each step")

    def _ranked(self, valid: Tensor) -> Tensor:
        """The validation triples that choose the best state. *Shape:* (n, 3)."""
        wanted = self.settings.stop.triples
        if not 0 < wanted < len(valid):
            return valid
        return valid[torch.randperm(len(valid), generator=generator_for(self.settings.seed, "validation"))[:wanted]]

    def _restore(self) -> None:
        state = self.folder.load()
        if not state:  # killed before the first checkpoint: its first validation may be there
            return
        if state["graph"] != self.graph.digest:
            raise MismatchError(f"{self.folder.path} was begun with another graph; bring its files back, or begin a new run")
        self.model.load_state_dict(state["model"])
        self._optimisers.load_state(state["optimisers"])
        self.standing = Standing(**state["standing"])
        every = self.settings.stop.every
        if self.standing.pending and self.standing.step < self.total_steps and not self._scheduled():
            found = f"the run ended between two validations of stop.every {every}, with one more that a longer run lacks"
            raise SettingsError(f"{found}; begin a new run, or end runs that are to be made longer at a multiple of {every}")
        self.cost = Cost.from_row(state["cost"])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _train_step(self) -> None:
        started, standing = time.perf_counter(), self.standing
        self.model.train()
        torch.manual_seed(seed_for(self.settings.seed, "dropout", standing.step))
        loss = self._gradients(self._batches[standing.step])
        epoch, place = divmod(standing.step, self._batches.steps)
        require_finite(loss, f"step {standing.step + 1} (epoch {epoch + 1}, step {place + 1})")
        self._optimisers.step(standing.rate)
        standing.step += 1
        standing.loss += loss
        standing.seconds += time.perf_counter() - started
        if standing.step % self.settings.train.log_steps == 0:
            self.folder.trace.add("step", {"step": standing.step, "loss": loss, "rate": standing.rate})
        self._progress.step({"epoch": epoch + 1, "loss": loss, **{k: v for k, v in standing.best.items() if k == "mrr"}})

    def _gradients(self, batch: Batch) -> float:
        """Add up the gradients of the parts of a batch; returns its loss."""
        drawn = self._negatives.draw(self.standing.step, batch).to(self.device) if self._negatives else None
        batch, total, n = batch.to(self.device), 0.0, len(batch.questions)
        size = self.settings.train.part_size or n
        for first in range(0, n, size):
            part = batch.part(first, min(first + size, n)) if size < n else batch
            own = drawn[first : first + size] if drawn is not None and drawn.dim() == 2 else drawn
            loss = self._loss(part, own) * (len(part.questions) / n)
            loss.backward()
            total += loss.item()
        return total

    def _loss(self, batch: Batch, drawn: Tensor | None) -> Tensor:
        train, model = self.settings.train, self.model
        if drawn is None:
            losses = OVER_ALL[train.loss](model.scores(batch.questions), batch.rows, batch.targets, self._loss_options)
        else:
            assert self._negatives is not None
            rows, heads = model.rows(batch.questions), batch.questions.heads
            right = model.scores_of_rows(rows, heads, batch.targets.unsqueeze(1)).squeeze(1)
            wrong = model.scores_of_rows(rows, heads, drawn)
            losses = OVER_DRAWN[train.loss](right, wrong, self._negatives.counted(batch, drawn), self._loss_options)
        loss = (losses if batch.weights is None else losses * batch.weights).mean()
        if train.regularizer == "none" or not train.regularizer_weight:
            return loss
        power = 3.0 if train.regularizer == "n3" else train.regularizer_p
        asked = batch.questions[batch.rows]
        return loss + train.regularizer_weight * model.penalty(asked, batch.targets, power, train.regularizer_weighted)

    def _after_step(self, signals: StopSignals) -> None:
        standing, options = self.standing, self.settings
        epoch, rest = divmod(standing.step, self._batches.steps)
        ended = rest == 0
        if ended:
            row = {"epoch": epoch, "step": standing.step, "loss": standing.loss / self._batches.steps}
            self.folder.trace.add("epoch", {**row, "seconds": round(standing.seconds, 3)})
            standing.loss = standing.seconds = 0.0
            standing.pending = self._scheduled() or standing.step == self.total_steps
        if signals.received or standing.pending or (ended and epoch % options.train.save_epochs == 0):
            self._save()
        if signals.received:
            message = f"stopped after step {standing.step} of {self.total_steps}, saved in {self.folder.path}"
            raise Interrupted(message, signals.received)
        self._validate_pending(signals)

    def _scheduled(self) -> bool:
        return self.standing.step % (self._batches.steps * self.settings.stop.every) == 0

    def _save(self) -> None:
        state = {
            "graph": self.graph.digest,
            "model": {name: value.detach().cpu() for name, value in self.model.state_dict().items()},
            "optimisers": self._optimisers.state(),
            "standing": dataclasses.asdict(self.standing),
            "cost": self.cost.row(),
        }
        self.folder.save(self.standing.step, state)

    # -- validation ----------------------------------------------------------------------------------------------------

    def _out_of_patience(self) -> bool:
        return 0 < self.settings.stop.patience <= self.standing.stale

    def _validate_pending(self, signals: StopSignals) -> None:
        if not self.standing.pending:
            return
        signals.urgent = True  # the step before is saved; a validation is done again
        try:
            self._validate()
        except Interrupted as stop:
            message = f"stopped while validating step {self.standing.step} of {self.total_steps}, saved in {self.folder.path}"
            raise Interrupted(message, stop.signal) from stop
        finally:
            signals.urgent = False

    def _validate(self) -> None:
        standing, options = self.standing, self.settings
        self.model.eval()
        sizes = {"batch_size": options.eval.batch_size, "chunk": options.eval.chunk}
        ranks = rank(self.model.exact(), self._valid, self._filter, len(self.graph.entities), **sizes)
        found = {k: float(v) for k, v in summary(ranks.realistic).items() if k != "questions"}
        epoch = standing.step // self._batches.steps
        metric = options.stop.metric
        better = not standing.best or found[metric] > standing.best[metric] + options.stop.delta
        if better:
            standing.best = {**found, "step": standing.step, "epoch": epoch}
            save_model(self.model, self.folder, self.graph, standing.best)
        standing.stale = 0 if better else standing.stale + 1
        standing.rate_stale = 0 if better else standing.rate_stale + 1
        if options.train.lr_factor != 1 and standing.rate_stale >= max(options.train.lr_patience, 1):
            standing.rate, standing.rate_stale = standing.rate * options.train.lr_factor, 0
        standing.pending = False
        self.folder.trace.add("validation", {"epoch": epoch, "step": standing.step, **found, "rate": standing.rate})
        self._progress.say(f"epoch {epoch}: valid mrr {found['mrr']:.4f}, hits@10 {found['hits@10']:.4f}" + " (best)" * better)
        if time.perf_counter() - self._drawn > SECONDS_OF_A_DRAWING:
            self._draw()

    def _draw(self) -> None:
        self.folder.draw(["loss"], METRICS)
        self._drawn = time.perf_counter()


def save_model(model: GraphModel, folder: RunFolder, graph: Graph, about: dict[str, float]) -> None:
    """Write the best state; ``model.json`` says of which graph and validation."""
    write_tensors(folder.best / MODEL_FILE, model.state_dict())
    write_json(folder.best / MODEL_ABOUT, {"graph": graph.digest, **about})


def load_model(model: GraphModel, folder: RunFolder, graph: Graph) -> None:
    """Read the best state into a model.

    Raises:
        MissingFileError: the run has none yet.
        MismatchError: it is of another graph or model.
    """
    tensors = read_tensors(folder.best / MODEL_FILE)
    about = read_json(folder.best / MODEL_ABOUT)
    if about["graph"] != graph.digest:
        raise MismatchError(f"{folder.best} was trained on another graph; bring its files back, or train again")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        found = " ".join(str(error).split())[:200]
        raise MismatchError(f"{folder.best} does not fit the settings of the run ({found}); train again") from error
    model.eval()
