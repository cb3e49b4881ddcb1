"""The learner of a linker: batches, mined negatives, validation on development texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from blink.evaluation.sweep import SweepPoint
from blink.files import write_json
from blink.model.execution import EXECUTION_KEY
from blink.runs.learner import Due, Learner, TrainerState, every
from blink.training.data.epochs import Epochs, Rank
from blink.training.step.negatives import NegativeSource
from blink.training.step.stepper import Stepper
from blink.training.validation import Validation

BEST_FILE = "best.json"


class LinkerLearner(Learner):
    """Trains the model of a `Stepper`.

    Args:
        stepper: takes the steps.
        epochs: batches of the steps.
        negatives: adds mined negatives to batches; None if no loss needs them.
        validation: scores and stores the model.
        rank: of this process.
        folder: of the run.
    """

    curves = (("entity", "span"), ("f1", "precision", "recall"))

    def __init__(
        self,
        stepper: Stepper,
        epochs: Epochs,
        negatives: NegativeSource | None,
        validation: Validation,
        rank: Rank,
        folder: Path,
    ) -> None:
        self.stepper, self.epochs, self.validation, self.rank = stepper, epochs, validation, rank
        self.model, self.settings, self._accelerator = stepper.model, stepper.settings, stepper.accelerator
        self.patience = self.settings.patience
        self._negatives, self._folder = negatives, folder
        self._rate = 0.0

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs.steps * self.settings.epochs

    def due(self, step: int) -> Due:
        """Validations after each epoch and every ``eval_steps``, checkpoints every ``save_steps``."""
        settings, ended = self.settings, every(step, self.epochs.steps)
        return Due(
            log=(step - 1) % settings.log_steps == 0 or step == self.total_steps,
            epoch_end=ended,
            validate=ended or every(step, settings.eval_steps),
            save=every(step, settings.save_steps),
        )

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, and the mined negatives of all processes."""
        return {**self.stepper.state(), "negatives": None if self._negatives is None else self._negatives.state()}

    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Restore a state, with the threshold of the best validation."""
        self.stepper.load_state(dict(state))
        if self._negatives is not None:
            self._negatives.load_state(state["negatives"])
        if progress.best:
            self.model.config = self.model.config.replace(threshold=progress.best["threshold"])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self, number: int) -> dict[str, float]:
        """Take a step, and return the losses of entities and spans."""
        index, batch = divmod(number, self.epochs.steps)
        epoch = self.epochs[index]
        self.model.train()
        batches = epoch.micro_batches(batch, self.rank)
        if self._negatives is not None:
            batches = self._negatives.add(batches, number, batch, lambda n: epoch.micro_batches(n, self.rank), len(epoch))
        losses = self.stepper.step(number, batches, self.describe_step(number))
        self._rate = self.settings.learning_rate * self.stepper.rate(number)
        return losses

    def describe_step(self, number: int) -> str:
        """The name of a step in messages."""
        epoch, batch = divmod(number, self.epochs.steps)
        return f"epoch {epoch + 1}, step {batch + 1}"

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Losses and learning rate."""
        return {**losses, "rate": self._rate}

    def epoch_row(self, step: int, means: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Mean losses and time."""
        steps = self.epochs.steps
        losses = {f"{name}_loss": value for name, value in means.items()}
        return {"epoch": step // steps - 1, "step": step, "steps": steps, "seconds": seconds, **losses}

    # -- validation ----------------------------------------------------------------------------------------------------

    def validate(self, step: int) -> dict[str, Any]:
        """Scores at the best threshold on the development texts, computed by the main process."""
        points = [self.validation.score() if self._accelerator.is_main_process else None]
        if self._accelerator.num_processes > 1:
            broadcast_object_list(points)
        point = points[0]
        assert point is not None
        return {"epoch": (step - 1) // self.epochs.steps, **dataclasses.asdict(point)}

    def score(self, row: Mapping[str, Any]) -> float:
        """F1."""
        return float(row["f1"])

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """Set the model's threshold to that of the best validation."""
        if better:
            self.model.config = self.model.config.replace(threshold=row["threshold"])
        return dict(row)

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Write the last model, the best one, and that of the epoch if all are kept."""
        ends_epoch = self.settings.keep_epochs and every(row["step"], self.epochs.steps)
        self.validation.store(best=better, epoch=self.settings.first_epoch + row["epoch"] if ends_epoch else None)
        if better:
            execution = self.validation.execution.to_json()
            write_json(self._folder / BEST_FILE, {**row, EXECUTION_KEY: execution})

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        """A line about a validation."""
        return f"epoch {row['epoch'] + 1}: dev covered weak F1 {row['f1']:.4f} at threshold {row['threshold']:g}"


def point_of(row: Mapping[str, Any]) -> SweepPoint:
    """The point on the threshold sweep in the row of a validation."""
    return SweepPoint(**{field.name: row[field.name] for field in dataclasses.fields(SweepPoint)})
