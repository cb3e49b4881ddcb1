"""The folder of a run, whatever its kind: settings, trace, checkpoints, the best state, metrics and curves."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from blink.errors import BlinkError, CheckpointError, MismatchError, MissingFileError, SettingsError
from blink.files import read_json, write_json
from blink.kglm.config import Settings, kind_of, load_settings, write_yaml
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, clear_checkpoints, load_checkpoint, save_checkpoint
from blink.runs.curves import CURVES_FILE
from blink.runs.provenance import provenance
from blink.runs.trace import Trace, read_trace

SETTINGS_FILE = "settings.yaml"
TRACE_FILE = "trace.jsonl"
METRICS_FILE = "metrics.json"
BEST_FOLDER = "best"
FREE_TO_CHANGE = ("train.epochs",)
"""Settings that may differ when a run is gone on with: a longer run passes through the states of a shorter one."""


class NotFinite(BlinkError):
    """A loss is no number any more."""


@dataclass
class Progress:
    """What a run tells while it works; the defaults tell nothing.

    Attributes:
        start: gets the steps of the whole run and those already done.
        step: gets what to show after each step, such as ``{"loss": 0.31}``.
        say: gets a line about something that happened, such as a validation.
    """

    start: Callable[[int, int], None] = lambda total, done: None
    step: Callable[[Mapping[str, float]], None] = lambda shown: None
    say: Callable[[str], None] = lambda line: None


class RunFolder:
    """A run on the disk.

    Attributes:
        path: the folder.
        settings: the settings of the run.
        trace: its ``trace.jsonl``; rows have a kind: ``run`` (provenance), ``step``, ``epoch``, ``validation``, ``test``.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self.trace = Trace(path / TRACE_FILE)

    @classmethod
    def begin(
        cls, path: Path, settings: Settings, sources: Sequence[Path] = (), about: Mapping[str, Any] | None = None
    ) -> RunFolder:
        """Start a run in a folder that holds none.

        Args:
            path: the folder; it is made where it is missing.
            settings: what is written to ``settings.yaml``.
            sources: files that are read, whose hashes the trace notes.
            about: what else the first line of the trace is to say.

        Raises:
            SettingsError: the folder holds a run already.
        """
        cls.require_free(path)
        folder = cls(path, settings)
        row = folder._about(sources, about or {})
        path.mkdir(parents=True, exist_ok=True)
        clear_checkpoints(path / CHECKPOINTS_FOLDER)
        write_yaml(path / SETTINGS_FILE, settings)
        folder.trace.begin(row)
        return folder

    @staticmethod
    def require_free(path: Path) -> None:
        """Check that a run may begin in a folder.

        Raises:
            SettingsError: it holds one already.
        """
        if (path / TRACE_FILE).is_file():
            raise SettingsError(
                f"{path} holds a run already; go on with it by `blink kglm resume {path}`, or name another folder"
            )

    @classmethod
    def open(cls, path: Path, overrides: Sequence[str] = ()) -> RunFolder:
        """A run that was begun; ``overrides`` may change `FREE_TO_CHANGE` alone.

        Raises:
            MissingFileError: the folder holds no run.
            SettingsError: another setting is to be changed.
        """
        if not (path / SETTINGS_FILE).is_file():
            raise MissingFileError(
                f"{path} holds no run (no {SETTINGS_FILE}); make one by: blink kglm train RUN.yaml --out {path}"
            )
        kind = kind_of(path / SETTINGS_FILE)
        stored = load_settings(kind, path / SETTINGS_FILE)
        wanted = load_settings(kind, path / SETTINGS_FILE, overrides)
        changed = [name for name, value in wanted.flat().items() if stored.flat().get(name) != value]
        if wrong := [name for name in changed if name not in FREE_TO_CHANGE]:
            allowed = ", ".join(FREE_TO_CHANGE)
            raise SettingsError(
                f"{path} was begun with another {wrong[0]}; only {allowed} may change, begin a new run for the rest"
            )
        return cls(path, wanted)

    @property
    def best(self) -> Path:
        """Folder of the best state."""
        return self.path / BEST_FOLDER

    def go_on(
        self, step: int, sources: Sequence[Path] = (), about: Mapping[str, Any] | None = None, *, pending: bool = False
    ) -> None:
        """Note that the run goes on after ``step``; what the trace tells of later steps is done again.

        Raises:
            MismatchError: a file that is read has other contents than when the run was begun.
        """
        row = self._about(sources, about or {})
        first = self.trace.first()
        own, stored = set(row["files"].values()), set(first.get("files", row["files"]).values())
        if own != stored:
            names = [
                name for files in (first["files"], row["files"]) for name, digest in files.items() if digest not in own & stored
            ]
            raise MismatchError(f"{self.path} was begun with other contents of {names[0]}; bring them back, or begin a new run")
        write_yaml(self.path / SETTINGS_FILE, self.settings)
        self.trace.go_on(step, row, pending=pending)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint (tensors and plain values), whole or not at all; the newest two are kept."""
        save_checkpoint(self.path / CHECKPOINTS_FOLDER, step, state)

    def load(self) -> dict[str, Any]:
        """The newest sound checkpoint, on the CPU; empty where the run was stopped before its first.

        Raises:
            CheckpointError: all are damaged.
        """
        return load_checkpoint(self.path / CHECKPOINTS_FOLDER) or {}

    def metrics(self) -> dict[str, Any]:
        """What was measured so far, by split."""
        path = self.path / METRICS_FILE
        return read_json(path) if path.is_file() else {}

    def add_metrics(self, split: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what was measured on a split in ``metrics.json``, and return the whole of it."""
        found = {**self.metrics(), split: dict(values)}
        write_json(self.path / METRICS_FILE, found)
        return found

    def draw(self, losses: Sequence[str], scores: Sequence[str]) -> None:
        """Draw these columns of the trace into ``curves.png``: losses of its steps, scores of its validations."""
        from blink.runs.curves import draw_curves

        draw_curves(read_trace(self.path / TRACE_FILE), losses, scores, self.path / CURVES_FILE)

    def _about(self, sources: Sequence[Path], about: Mapping[str, Any]) -> dict[str, Any]:
        row = provenance(sources, "", torch.device(device_for(self.settings)), 1)
        del row["catalogue"]
        return {**row, "cores": os.cpu_count(), "settings": self.settings.digest(), "seed": self.settings.seed, **about}


def device_for(settings: Settings) -> str:
    """``settings.device``, where that is ``auto`` a GPU if there is one.

    Raises:
        SettingsError: there is no such device here.
    """
    wanted = settings.device
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device is {wanted!r}, which is not here; give cpu, cuda or auto") from error
    return str(wanted)


def seed_for(*parts: int | str) -> int:
    """A seed that follows from ``parts``, such as run, purpose and step: nothing alike for neighbouring ones."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A random generator on the CPU that follows from ``parts``."""
    return torch.Generator().manual_seed(seed_for(*parts))


def require_finite(loss: float, where: str) -> None:
    """Stop a run whose loss is no number.

    Raises:
        NotFinite: it is infinite or not a number; ``where`` says which step.
    """
    if not -float("inf") < loss < float("inf"):
        raise NotFinite(f"the loss is {loss} at {where}; lower train.lr, or raise a regulariser, and begin again")


@dataclass
class Cost:
    """What a run has cost so far, over all its continuations.

    Attributes:
        wall_seconds: time on the clock.
        cpu_seconds: time of all cores together.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    _since: tuple[float, float] = field(default_factory=lambda: _clocks(), repr=False)

    def row(self) -> dict[str, Any]:
        """Seconds, threads and peak memory, as metrics keep them."""
        wall, cpu = _clocks()
        return {
            "wall_seconds": round(self.wall_seconds + wall - self._since[0], 1),
            "cpu_seconds": round(self.cpu_seconds + cpu - self._since[1], 1),
            "threads": torch.get_num_threads(),
            "host_cores": os.cpu_count(),
            "peak_memory_mb": _peak_memory_mb(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Cost:
        """Go on counting from what `row` gave."""
        return cls(row.get("wall_seconds", 0.0), row.get("cpu_seconds", 0.0))


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _peak_memory_mb() -> int | None:
    """The most memory that this process held; None on systems that do not say."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    from safetensors.torch import save

    from blink.files import atomic_open

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path, "wb") as f:
        f.write(save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, dict(about or {})))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read what `write_tensors` wrote.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingFileError(f"{path} is missing: the run has no best state yet; go on with it by: blink kglm resume DIR")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is cut short or damaged; make it again by: blink kglm resume DIR") from error
