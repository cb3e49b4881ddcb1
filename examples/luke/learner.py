"""The learner of fine-tuning: steps, scores of each epoch, weights to keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from blink.runs.folder import RunFolder
from blink.runs.learner import Due, Learner, TrainerState, every
from blink.runs.loop import Loop
from blink.runs.processes import AcceleratorGroup
from blink.runs.progress import Progress
from examples.luke.features import Feature
from examples.luke.loggers import Logger, Silent
from examples.luke.settings import MUTABLE_ON_RESUME, TuneSettings
from examples.luke.steps import Order, Stepper


class TuneLearner(Learner):
    """Fine-tunes a model.

    Args:
        stepper: takes the steps.
        features: training inputs.
        criterion: score that selects the best epoch; greater is better.
        validate: returns scores on the development set, in all processes; None without one.
        store: writes the weights to keep, given the step, in the main process.

    Attributes:
        epochs: scores of each epoch so far.
        best_epoch: number of the best of them; -1 before the first.
    """

    def __init__(
        self,
        stepper: Stepper,
        features: Sequence[Feature],
        criterion: str,
        *,
        validate: Callable[[], dict[str, float]] | None,
        store: Callable[[int], None],
    ) -> None:
        self.stepper, self.settings, self.criterion = stepper, stepper.settings, criterion
        self.epochs: list[dict[str, float]] = []
        self.best_epoch = -1
        self._features, self._measure, self._store = features, validate, store
        self._order = make_order(len(features), stepper.settings, stepper.accelerator)
        self._inputs_per_s = 0.0

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.stepper.total

    def due(self, step: int) -> Due:
        """A validation after each epoch and the last step, checkpoints every ``save_steps``."""
        ended = every(step, self._order.steps)
        validate = ended or step == self.total_steps
        return Due(log=True, epoch_end=ended, validate=validate, save=every(step, self.settings.save_steps))

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, and the scores of the epochs."""
        return {**self.stepper.state(), "epochs": list(self.epochs), "best_epoch": self.best_epoch}

    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Restore a state."""
        self.stepper.load_state(dict(state))
        self.epochs, self.best_epoch = list(state["epochs"]), state["best_epoch"]

    def step(self, number: int) -> dict[str, float]:
        """Take a step on this process's share of its inputs; returns the mean loss."""
        began, accelerator = time.perf_counter(), self.stepper.accelerator
        inputs = self._order[number]
        inputs_of_process = inputs[accelerator.process_index :: accelerator.num_processes]
        loss = self.stepper.step(number, [self._features[i] for i in inputs_of_process])
        self._inputs_per_s = len(inputs) / (time.perf_counter() - began)
        return {"loss": loss}

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Loss, learning rate and time."""
        return {**losses, "rate": self.stepper.optimizer.param_groups[0]["lr"], "seconds": seconds}

    def progress_row(self, step: int, losses: Mapping[str, float], best: Mapping[str, Any]) -> dict[str, float]:
        """Loss and speed."""
        return {**losses, "inputs/s": self._inputs_per_s}

    def validate(self, step: int) -> dict[str, Any]:
        """Scores of the epoch."""
        return {"epoch": len(self.epochs), **(self._measure() if self._measure is not None else {})}

    def score(self, row: Mapping[str, Any]) -> float:
        """The criterion; where the last weights are kept, the number of the epoch."""
        return float(row["epoch"] if self.settings.keep == "last" else row[self.criterion])

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """Record the scores of the epoch."""
        self.epochs.append(scores_of(row))
        if better:
            self.best_epoch = row["epoch"]
        return dict(row)

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Write the weights if they are better."""
        if better:
            self._store(row["step"])


def make_loop(
    learner: TuneLearner,
    folder: Path,
    *,
    about: Mapping[str, Any],
    identity: Mapping[str, Any],
    progress: Progress,
    logger: Logger | None = None,
) -> Loop:
    """The loop of a run.

    Args:
        learner: the learner.
        folder: folder of the run: settings, ``trace.jsonl``, checkpoints.
        about: provenance, see `blink.runs.provenance`.
        identity: values besides the settings that must not change on resume.
        progress: hooks for a progress bar.
        logger: additional logger of losses and scores.
    """
    group, target = AcceleratorGroup(learner.stepper.accelerator), logger or Silent()

    def log(kind: str, row: Mapping[str, Any]) -> None:
        if kind == "step":
            target.log({"loss": row["loss"], "learning_rate": row["rate"]}, row["step"])
        elif kind == "validation":
            target.log({f"dev_{name}": value for name, value in scores_of(row).items()}, row["step"])

    compared = {**learner.settings.to_dict(), **identity, "processes": group.count}
    run = RunFolder(folder, compared, MUTABLE_ON_RESUME)
    return Loop(learner, run, about, progress=progress, processes=group, loggers=[log])


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The scores in the row of a validation."""
    return {name: value for name, value in row.items() if name not in ("epoch", "step")}


def make_order(count: int, settings: TuneSettings, accelerator: Accelerator) -> Order:
    """The order of a run's inputs: a step takes those of all processes and accumulated batches."""
    group = settings.train_batch_size * settings.gradient_accumulation_steps * accelerator.num_processes
    return Order(count, group, settings.seed)


def total_steps(count: int, settings: TuneSettings, accelerator: Accelerator) -> int:
    """Steps of a run over ``count`` inputs: at least one, however few."""
    return max(1, round(make_order(count, settings, accelerator).steps * settings.num_train_epochs))
