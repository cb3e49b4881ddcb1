"""Converts the training state in checkpoints of earlier versions to the current form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from blink.runs.learner import Due, TrainerState

STATE_KEY = "standing"
"""Of the `TrainerState` in a checkpoint."""
EARLIER_KEYS = (STATE_KEY, "at")
EARLIER_NAMES = {"waited": "stale", "own": "task_steps"}
"""Name in an earlier record -> present one."""


def current_state(saved: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], due: Callable[[int], Due]) -> dict[str, Any]:
    """A checkpoint in the current form: a `TrainerState` under `STATE_KEY`, and the state of the learner.

    Args:
        saved: checkpoint of this or an earlier version.
        rows: of the run's trace, with the rows of validations.
        due: of the learner, see `Learner.due`.
    """
    key = next(key for key in EARLIER_KEYS if key in saved)
    record = {EARLIER_NAMES.get(name, name): value for name, value in saved[key].items()}
    if "validated" in record:
        return dict(saved)
    step, sums = record["step"], record.get("sums", {"loss": record.get("loss", 0.0)})
    seconds = record.get("seconds", 0.0) if "seconds" not in sums else sums["seconds"]
    steps = next(n for n in count() if n == step or due(step - n).epoch_end)  # of the epoch
    state = TrainerState(
        step=step,
        pending=record["pending"] and due(step).validate if key == "at" else record["pending"],
        best=_best(record, rows),
        stale=record.get("stale", 0),
        sums={name: _sum(value, steps) for name, value in sums.items() if name != "seconds" and (steps or key == "at")},
        seconds=seconds,
    )
    of_learner = {name: value for name, value in record.items() if name not in vars(state)}
    return {**saved, **of_learner, "rules": record.get("best"), STATE_KEY: vars(state)}


def _best(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row of the best validation: the stored one, else that of the trace with the mark or epoch of the best."""
    best = record.get("best") or {}
    validations = [row for row in rows if row["kind"] == "validation" and row["step"] <= record["step"]]
    if "best_epoch" in record:
        return next((dict(row) for row in reversed(validations) if row["epoch"] == record["best_epoch"]), {})
    if any(isinstance(value, list) for value in best.values()):  # a value and a step by rule
        return next((dict(row) for row in reversed(validations) if row.get("best")), {})
    return dict(best)


def _sum(value: Any, steps: int) -> list[float]:
    return list(value) if isinstance(value, list | tuple) else [value, steps]
