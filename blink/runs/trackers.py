"""Trackers: where the numbers of a run go besides its trace, TensorBoard or Weights & Biases.

A tracker is a library of its own, opened only where a run asks for it. It gets the numbers of the trace's rows; the trace stays
what counts.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from blink.errors import SettingsError
from blink.files import atomic_open
from blink.runs.loop import RowLogger

NONE = "none"
PROJECT = "blink"
"""Project of the runs in Weights & Biases."""
ID_FILE = "wandb-id.txt"
"""In the run's folder: its id in Weights & Biases, by which a resumed run goes on there."""


class Tracker(Protocol):
    """Logs numbers by name."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """The numbers of a step."""

    def close(self) -> None:
        """Write what remains."""


class _TensorBoard:
    def __init__(self, folder: Path, config: Mapping[str, Any], resumed: bool) -> None:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"))
        if not resumed:
            self._writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in config.items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, config: Mapping[str, Any], resumed: bool) -> None:
        wandb, file = importlib.import_module("wandb"), folder / ID_FILE
        known = file.read_text(encoding="utf-8").strip() if resumed and file.is_file() else None
        self._run = wandb.init(
            project=PROJECT, name=folder.name, dir=str(folder), config=dict(config), id=known, resume="allow" if known else None
        )
        with atomic_open(file) as f:
            f.write(f"{self._run.id}\n")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, tuple[str, type[_TensorBoard | _WeightsAndBiases]]] = {
    "tensorboard": ("tensorboard", _TensorBoard),
    "wandb": ("wandb", _WeightsAndBiases),
}
"""Value of the setting ``tracker`` -> its package, and how it is used."""


def require_tracker(name: str) -> None:
    """Check that the library of a tracker is installed.

    Raises:
        SettingsError: it is not.
    """
    if name != NONE and importlib.util.find_spec(_TRACKERS[name][0]) is None:
        raise SettingsError(f"the tracker {name} is not installed; run: pip install {_TRACKERS[name][0]}, or leave tracker out")


@contextlib.contextmanager
def tracking(
    name: str, folder: Path, config: Mapping[str, Any], *, resumed: bool = False, validation: str = "valid_"
) -> Iterator[Sequence[RowLogger]]:
    """Open the tracker of a run, and close it with the block.

    Args:
        name: ``none``, ``tensorboard`` or ``wandb``.
        folder: of the run; event files and offline runs go there.
        config: settings of the run by full name.
        resumed: whether the run is continued.
        validation: prefix of the numbers of validations.

    Yields:
        loggers for `blink.runs.loop.Loop`; none for ``none``.

    Raises:
        SettingsError: the library is not installed.
    """
    require_tracker(name)
    if name == NONE:
        yield ()
        return
    folder.mkdir(parents=True, exist_ok=True)
    tracker: Tracker = _TRACKERS[name][1](folder, {k: v for k, v in config.items() if v is not None}, resumed)
    prefixes = {"step": "", "validation": validation}

    def log(kind: str, row: Mapping[str, Any]) -> None:
        if kind in prefixes:
            tracker.log(numbers(row, prefixes[kind]), row["step"])

    try:
        yield (log,)
    finally:
        tracker.close()


def numbers(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row of the trace except its step and epoch, by name."""
    skipped = ("step", "epoch")
    return {
        f"{prefix}{k}": v for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool) and k not in skipped
    }
