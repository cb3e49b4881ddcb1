"""Shared code of all kinds of runs: the folder of a run, its device, intervals of epochs, and files of tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from blink.checksums import CHECKSUMS_FILE, missing, require_whole
from blink.errors import CheckpointError, MismatchError, MissingFileError, SettingsError
from blink.files import atomic_open, read_json, require_file, write_json
from blink.input_files import utf8_path
from blink.kglm.config import kind_of, load_settings
from blink.kglm.settings import GraphSections, Settings
from blink.replacing import complete, current_checksums, replacing
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, checkpoints
from blink.runs.folder import TRACE_FILE, RunFolder
from blink.runs.learner import Due, Learner, TrainerState, every
from blink.runs.loop import Loop
from blink.runs.provenance import differing_data, provenance
from blink.runs.trackers import tracking

K = TypeVar("K", bound=Settings, covariant=True)
T = TypeVar("T", bound=Settings)

MODEL_FILE, MODEL_ABOUT = "model.safetensors", "model.json"
CHECKED = "checked"
"""Key by which a stored model says that its folder has checksums."""
_RESUME = "continue the run by: blink kglm resume DIR"
_AGAIN = "copy the whole folder again, or train again"
SETTINGS_FILE = "settings.yaml"
MUTABLE_ON_RESUME = ("train.epochs", "tracker")
"""Settings that may change when a run is resumed: a longer run has the same states as a shorter one, and more."""


class KglmRun(RunFolder, Generic[K]):
    """The folder of a run, with its settings in ``settings.yaml``.

    Args:
        path: path of the folder.
        settings: settings of the run.
    """

    def __init__(self, path: Path, settings: K) -> None:
        super().__init__(path, settings.flat(), MUTABLE_ON_RESUME)
        self.settings = settings

    @classmethod
    def open(cls, path: Path, overrides: Sequence[str] = ()) -> KglmRun[Settings]:
        """Open an existing run; ``overrides`` may only change the settings of `MUTABLE_ON_RESUME`.

        Raises:
            MissingFileError: the folder has no run.
            SettingsError: ``overrides`` change another setting.
        """
        if not (path / SETTINGS_FILE).is_file():
            raise MissingFileError(
                f"{path} holds no run (no {SETTINGS_FILE}); start one by: blink kglm train RUN.yaml --out {path}"
            )
        kind = kind_of(path / SETTINGS_FILE)
        stored = load_settings(kind, path / SETTINGS_FILE).flat()
        changed = load_settings(kind, path / SETTINGS_FILE, overrides)
        names = [name for name, value in changed.flat().items() if stored.get(name) != value]
        if wrong := [name for name in names if name not in MUTABLE_ON_RESUME]:
            allowed = ", ".join(MUTABLE_ON_RESUME)
            raise SettingsError(
                f"{path} was started with another {wrong[0]}; only {allowed} may change, start a new run for the rest"
            )
        return KglmRun(path, changed)

    def of(self, kind: type[T]) -> KglmRun[T]:
        """The run with settings of a kind.

        Raises:
            SettingsError: the run is of another kind.
        """
        return KglmRun(self.path, kind.of(self.settings, self.path))

    def require_free(self) -> None:
        """Check that the folder has no run.

        Raises:
            SettingsError: it has one.
        """
        if (self.path / TRACE_FILE).is_file():
            raise SettingsError(
                f"{self.path} holds a run already; continue it by `blink kglm resume {self.path}`, or name another folder"
            )

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return bool(checkpoints(self.path / CHECKPOINTS_FOLDER))

    def about(self, sources: Sequence[Path] = (), more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The first row of the trace: the provenance of the run.

        Args:
            sources: input files, which the row lists with their hashes.
            more: further columns.
        """
        row = provenance(sources, torch.device(device_for(self.settings)))
        of_run = {"cores": os.cpu_count(), "settings": self.settings.digest(), "seed": self.settings.seed}
        return {**row, **of_run, **(more or {})}

    def require_same(self, about: Mapping[str, Any]) -> None:
        """Check that the run was started with the same files; `open` has compared the settings.

        Raises:
            MismatchError: the contents of a file have changed since.
        """
        if other := differing_data(self.trace.first(), about):
            raise MismatchError(
                f"{self.path} was started with other contents of {other[0]}; bring them back, or start a new run"
            )

    def resume(self, step: int, about: Mapping[str, Any], *, pending: bool) -> None:
        """See `RunFolder.resume`; also stores the settings, because `MUTABLE_ON_RESUME` may have changed."""
        self.write_identity()
        super().resume(step, about, pending=pending)

    def write_identity(self) -> None:
        """Store the settings."""
        self.settings.write(self.path / SETTINGS_FILE)


def run_to_end(loop: Loop, *, resume: bool) -> dict[str, Any]:
    """Run a loop to its end with the tracker of the settings.

    Returns:
        the row of the best validation, the number of steps, and their cost.
    """
    run = loop.folder
    assert isinstance(run, KglmRun)
    with tracking(run.settings.tracker, run.path, run.settings.flat(), resumed=resume) as loop.loggers:
        state = loop.run(resume=resume)
    return {**state.best, "steps": state.step, **loop.cost.row()}


class EpochLearner(Learner):
    """A learner whose epochs have equal numbers of steps, and whose validations and checkpoints follow epochs.

    Args:
        folder: the run.

    Attributes:
        epoch_steps: steps per epoch.
    """

    settings: GraphSections
    epoch_steps: int

    def __init__(self, folder: KglmRun[GraphSections]) -> None:
        self.folder, self.settings = folder, folder.settings
        self.patience, self.delta = self.settings.stop.patience, self.settings.stop.delta
        self.device = torch.device(device_for(self.settings))

    @property
    def total_steps(self) -> int:
        """Number of steps without early stopping."""
        return self.epoch_steps * self.settings.train.epochs

    def due(self, step: int) -> Due:
        """Validations after ``stop.every`` epochs and at the end, checkpoints after ``train.save_epochs``."""
        train, steps = self.settings.train, self.epoch_steps
        return Due(
            log=every(step, train.log_steps),
            epoch_end=every(step, steps),
            validate=every(step, steps * self.settings.stop.every) or step == self.total_steps,
            save=every(step, steps * train.save_epochs),
        )

    def epoch_row(self, step: int, means: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Mean loss and time."""
        return {"epoch": step // self.epoch_steps, "step": step, "loss": means["loss"], "seconds": round(seconds, 3)}

    def require_scheduled(self, state: TrainerState) -> None:
        """Check that this run, if it is longer than the run of a state, also has the last validation of that state.

        Raises:
            SettingsError: the shorter run ended with a validation that the longer run does not have.
        """
        last, interval = state.step if state.pending else state.validated, self.settings.stop.every
        if last == state.step < self.total_steps and last % (self.epoch_steps * interval):
            raise SettingsError(
                f"the run ended between two validations of stop.every {interval}, with one more that a longer run lacks; "
                f"start a new run, or end runs that are to be made longer at a multiple of {interval}"
            )


def device_for(settings: Settings) -> str:
    """The device of the settings; ``auto`` selects a GPU if there is one.

    Raises:
        SettingsError: the device is not available.
    """
    device = settings.device
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device is {device!r}, which is not available; give cpu, cuda or auto") from error
    return str(device)


def write_best(folder: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write the best model of a run into a folder (``best``), together with what is known of it, with checksums."""
    with replacing(folder) as work:
        write_tensors(work / MODEL_FILE, tensors)
        write_json(work / MODEL_ABOUT, {**about, CHECKED: True})


def read_best(folder: Path, graph: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors that `write_best` wrote.

    Args:
        folder: such as ``best`` of a run.
        graph: digest of the graph that it must have been trained on; None where it has none.

    Raises:
        MissingFileError: the run has none yet.
        CheckpointError: files are damaged, or changed.
        MismatchError: it is of another graph.
    """
    complete(folder)
    if not (folder / MODEL_FILE).is_file():
        raise MissingFileError(f"{folder / MODEL_FILE} is missing: the run has no best checkpoint yet; {_RESUME}")
    about = read_json(folder / MODEL_ABOUT, _AGAIN)
    require_stored(folder, about)
    if graph is not None and about.get("graph") != graph:
        raise MismatchError(f"{folder} was trained on another graph; bring its files back, or train again")
    return read_tensors(folder / MODEL_FILE)


def require_stored(folder: Path, about: Any) -> None:
    """Check the files of a stored model by their checksums, which those of earlier versions do not have.

    Args:
        folder: of the model.
        about: its file of settings or figures; `CHECKED` in it says that there are checksums.

    Raises:
        CheckpointError: a file is damaged, missing or changed, or ``about`` is no object.
    """
    if not isinstance(about, dict):
        raise CheckpointError(f"{folder} holds no model of a run; {_AGAIN}")
    stored = current_checksums(folder, _AGAIN)
    if stored is not None:
        require_whole(folder, stored.files, remedy=_AGAIN, kind=CheckpointError, whole=True)
    elif about.get(CHECKED):
        raise CheckpointError(f"{missing(folder / CHECKSUMS_FILE)}; {_AGAIN}")


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path, "wb") as f:
        f.write(save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, dict(about or {})))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of `write_tensors`.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    require_file(path, _RESUME)
    try:
        return load_file(utf8_path(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is cut short or damaged; {_AGAIN}") from error
