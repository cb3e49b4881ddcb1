"""The interface of learners, which `blink.runs.loop.Loop` runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class TrainerState:
    """Progress of a run.

    Attributes:
        step: steps done.
        pending: whether the validation after that step is still to be done.
        best: row of the best validation; empty before the first validation.
        stale: validations since the best one.
        validated: step of the last validation; -1 before the first one.
        sums: name of a loss -> its sum over the steps of this epoch, and the number of steps.
        seconds: time of the steps of this epoch.
    """

    step: int = 0
    pending: bool = False
    best: dict[str, Any] = field(default_factory=dict)
    stale: int = 0
    validated: int = -1
    sums: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


class Due(NamedTuple):
    """Actions after a step.

    Attributes:
        log: write its losses into the trace.
        epoch_end: the step is the last of its epoch.
        validate: validate the model.
        save: write a checkpoint; one is written before each validation too.
    """

    log: bool = False
    epoch_end: bool = False
    validate: bool = False
    save: bool = False


class Learner(ABC):
    """Trains a model in steps. A step depends only on its number and on `state`.

    Attributes:
        patience: validations without improvement after which the run ends; 0 for no limit.
        delta: least improvement of the score of a better validation.
        curves: columns of the trace to draw, losses of steps and scores of validations; None draws nothing.
        advice: next step for the user if a loss is NaN or infinite.
    """

    patience: int = 0
    delta: float = 0.0
    curves: tuple[Sequence[str], Sequence[str]] | None = None
    advice: str = "lower the learning rate, and start a new run"

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """Steps of the whole run, unless patience ends it earlier."""

    @abstractmethod
    def step(self, number: int) -> Mapping[str, float]:
        """Take step ``number``, counted from 0, and return its losses by name."""

    @abstractmethod
    def due(self, step: int) -> Due:
        """Actions after ``step`` steps; must depend on that number only."""

    @abstractmethod
    def validate(self, step: int) -> dict[str, Any]:
        """Scores of the model after ``step`` steps, as a row of the trace."""

    @abstractmethod
    def score(self, row: Mapping[str, Any]) -> float:
        """The score that determines the best validation; higher is better."""

    @abstractmethod
    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Store the validated model as needed; called in the main process only."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The state for `load_state`: tensors and plain values. Called in all processes."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Restore a state.

        Args:
            state: a result of `state`.
            progress: of the run at that state.

        Raises:
            BlinkError: the state does not belong to this run.
        """

    def describe_step(self, number: int) -> str:
        """The name of a step, counted from 0, in messages."""
        return f"step {number + 1}"

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """The row of the trace for the step just taken."""
        return dict(losses)

    def progress_row(self, step: int, losses: Mapping[str, float], best: Mapping[str, Any]) -> Mapping[str, float]:
        """Values for the progress bar after a step; ``step`` counts from 1."""
        return losses

    def epoch_row(self, step: int, means: Mapping[str, float], seconds: float) -> dict[str, Any] | None:
        """The row of the trace for an epoch that ended with ``step``, from its mean losses; None writes no row."""
        return None

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """Update the learner after a validation, such as its learning rate, and return the row for the trace."""
        return dict(row)

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        """A line for the user about a validation; empty for none."""
        return ""

    def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """Called once after the last step."""


def every(steps: int, interval: int) -> bool:
    """Whether ``steps`` is a multiple of ``interval``; False for an interval of 0."""
    return bool(interval) and steps % interval == 0
