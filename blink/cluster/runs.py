"""Contents of the folder of a training run of this package or the original: models of epochs, and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.errors import MissingFileError
from blink.files import read_mapping

WEIGHTS, PARAMETERS = "pytorch_model.bin", "training_params.txt"
"""Files of a model of the original."""
CONFIG, BEST, CHECKPOINTS = "config.json", "best", "checkpoints"
"""Files and folders of `blink train`: settings, best model, checkpoints."""
WHOLE_RUN = -1
"""Value of ``epoch`` for the model of the run."""


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        path: a folder of `blink train`, or weights of the original (``.bin``).
        parameters: settings of the original's weights; None for a folder.
    """

    path: Path
    parameters: Path | None = None

    def sources(self) -> list[str]:
        """Files to copy to use the model elsewhere; ``folder/.`` for the contents of a folder."""
        if self.parameters is None:
            return [f"{self.path}/."]
        siblings = (self.path.with_name(name) for name in ("vocab.txt", CONFIG))
        return [str(p) for p in (self.path, self.parameters, *(p for p in siblings if p.is_file()))]


def model_of(run: Path, epoch: int) -> Model | None:
    """The model of an epoch or of the run; None if there is none.

    Args:
        run: folder of a run of this package or the original.
        epoch: from 0, or `WHOLE_RUN`.
    """
    folders = [run / BEST, run] if epoch == WHOLE_RUN else [run / f"epoch_{epoch}"]
    for folder in folders:
        if is_model_folder(folder):
            return Model(folder)
    weights = folders[-1] / WEIGHTS
    parameters = weights.with_name(PARAMETERS)
    return Model(weights, parameters if parameters.is_file() else run / PARAMETERS) if weights.is_file() else None


def is_model_folder(folder: Path) -> bool:
    """Whether the folder is a model of `blink train`."""
    return not (folder / WEIGHTS).is_file() and "aggregation" in read_parameters(folder / CONFIG)


def expected_model(run: Path, epoch: int) -> Model:
    """`model_of`, or else the path that the original would read."""
    folder = run if epoch == WHOLE_RUN else run / f"epoch_{epoch}"
    return model_of(run, epoch) or Model(folder / WEIGHTS, run / PARAMETERS)


def epochs_of(run: Path) -> list[int]:
    """Epochs that have a model in the folder of a run."""
    numbers = (p.name.removeprefix("epoch_") for p in run.glob("epoch_*"))
    return sorted(int(n) for n in numbers if n.isdecimal() and model_of(run, int(n)) is not None)


def checkpoints_of(run: Path) -> list[Path]:
    """Checkpoints that `blink train` can resume from."""
    return sorted((run / CHECKPOINTS).glob("step-*.pt"))


def require_model(run: Path, epoch: int) -> None:
    """Check that a model exists.

    Raises:
        MissingFileError: it does not; the message lists the epochs that exist.
    """
    if model_of(run, epoch) is not None:
        return
    if not run.is_dir():
        raise MissingFileError(f"{run} does not exist; train the model first: sbatch examples/train_biencoder.sh ...")
    epochs = ", ".join(map(str, epochs_of(run))) or "none"
    missing = "no model" if epoch == WHOLE_RUN else f"no model of epoch {epoch}"
    raise MissingFileError(f"{run} holds {missing}; epochs that it holds: {epochs}")


def read_parameters(path: Path) -> dict[str, Any]:
    """Read settings in JSON, or in the original's format, a Python dict; empty if they cannot be read."""
    return (read_mapping(path) if path.is_file() else None) or {}
