"""Loggers besides the trace of a run: Comet, as in the original, or TensorBoard."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from blink.errors import SettingsError

PACKAGES = {"comet": "comet_ml", "tensorboard": "tensorboard"}


class Logger(Protocol):
    """Logs metrics by name."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""

    def close(self) -> None:
        """End logging."""


class Silent:
    """Logs nothing."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Comet:
    """Logs to comet.com, or into an offline folder.

    Args:
        options: of comet_ml.Experiment, and ``offline`` with ``offline_dir``.
        parameters: settings of the run.
    """

    def __init__(self, options: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        comet_ml = importlib.import_module("comet_ml")
        experiment_options = {k: v for k, v in options.items() if k not in ("offline", "offline_dir")}
        offline = options.get("offline")
        where = {"offline_directory": options.get("offline_dir", ".")} if offline else {}
        self._experiment = (comet_ml.OfflineExperiment if offline else comet_ml.Experiment)(**where, **experiment_options)
        self._experiment.log_parameters(dict(parameters))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""
        self._experiment.log_metrics(dict(values), step=step)

    def close(self) -> None:
        """Send remaining metrics."""
        self._experiment.end()


class TensorBoard:
    """Logs event files into the run's folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write remaining metrics."""
        self._writer.close()


def make_logger(kind: str | None, folder: Path, options: Mapping[str, Any], parameters: Mapping[str, Any]) -> Logger:
    """The logger of a name; None for one that logs nothing.

    Raises:
        SettingsError: its package is not installed.
    """
    if kind is None:
        return Silent()
    if importlib.util.find_spec(PACKAGES[kind]) is None:
        raise SettingsError(f"--logger {kind} needs a package that is not installed; run: pip install {PACKAGES[kind]}")
    return Comet(options, parameters) if kind == "comet" else TensorBoard(folder)
