"""What learns in a run: the mathematics that `blink.runs.loop.Loop` puts in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class TrainerState:
    """How far a run is.

    Attributes:
        step: steps done.
        pending: whether the validation after that step is still to be done.
        best: row of the best validation; empty before the first.
        stale: validations since it.
        validated: step of the last validation; -1 before the first.
        sums: by name of a loss, its sum over the steps of this epoch and their number.
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
    """What follows a step.

    Attributes:
        log: its losses go into the trace.
        epoch_end: it is the last of its epoch.
        validate: a validation.
        save: a checkpoint; there is one before each validation too.
    """

    log: bool = False
    epoch_end: bool = False
    validate: bool = False
    save: bool = False


class Learner(ABC):
    """Learns in steps. Whatever a step depends on follows from its number and from `state`.

    Attributes:
        patience: validations without a better one that end the run; 0 never does.
        delta: a validation is better if its score exceeds that of the best by more than this.
        curves: columns of the trace to draw, losses of steps and scores of validations; None draws nothing.
        advice: what to do if a loss is not a number.
    """

    patience: int = 0
    delta: float = 0.0
    curves: tuple[Sequence[str], Sequence[str]] | None = None
    advice: str = "lower the learning rate, and begin a new run"

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """Steps of the whole run, unless patience ends it."""

    @abstractmethod
    def step(self, number: int) -> Mapping[str, float]:
        """Take step ``number``, counted from 0; returns its losses by name."""

    @abstractmethod
    def due(self, step: int) -> Due:
        """What follows after ``step`` steps; a function of that number alone."""

    @abstractmethod
    def validate(self, step: int) -> dict[str, Any]:
        """Scores of the model after ``step`` steps; the epoch among them where the trace is to hold it."""

    @abstractmethod
    def score(self, row: Mapping[str, Any]) -> float:
        """The score of a validation by which the best is chosen; greater is better."""

    @abstractmethod
    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        """Write the model that was just validated, as far as it is to be kept; of several processes, in the main one."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `load_state` needs: tensors and plain values. Called in all processes."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        """Return to a state.

        Args:
            state: a result of `state`.
            progress: how far the run was then.

        Raises:
            BlinkError: the state does not belong to this run.
        """

    def describe_step(self, number: int) -> str:
        """Names a step, counted from 0, in messages."""
        return f"step {number + 1}"

    def step_row(self, losses: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """The row of the trace for the step just taken."""
        return dict(losses)

    def displayed(self, step: int, losses: Mapping[str, float], best: Mapping[str, Any]) -> Mapping[str, float]:
        """What a progress bar shows of the step just taken; ``step`` counts from 1."""
        return losses

    def epoch_row(self, step: int, means: Mapping[str, float], seconds: float) -> dict[str, Any] | None:
        """The row of the trace for an epoch that ended with ``step``: its mean losses; None writes none."""
        return None

    def validated(self, row: Mapping[str, Any], *, better: bool) -> dict[str, Any]:
        """Change what follows from a validation, such as a learning rate; returns its row for the trace."""
        return dict(row)

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        """A line for the user about a validation; empty for none."""
        return ""

    def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """Called once after the last step."""


def every(steps: int, interval: int) -> bool:
    """Whether ``steps`` is a multiple of an interval; of 0, never."""
    return bool(interval) and steps % interval == 0
