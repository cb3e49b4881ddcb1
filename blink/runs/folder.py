"""The folder of a run: settings, trace, checkpoints, the best state, metrics and curves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blink.errors import DataError, MismatchError
from blink.files import locked, read_json, write_json
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, clear_checkpoints, load_checkpoint, save_checkpoint
from blink.runs.provenance import differing_data
from blink.runs.trace import Trace

SETTINGS_FILE = "settings.json"
TRACE_FILE = "trace.jsonl"
METRICS_FILE = "metrics.json"
CURVES_FILE = "curves.png"
BEST_FOLDER = "best"


class RunFolder:
    """A run on disk.

    Args:
        path: the folder.
        identity: settings of the run and all else that its weights depend on; mappings are compared key by key.
        mutable: names of settings that may change when the run is resumed.

    Attributes:
        trace: its ``trace.jsonl``; rows have a kind: ``run`` (provenance), ``step``, ``epoch``, ``validation``, ``test``.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], mutable: Collection[str] = ()) -> None:
        self.path, self.identity, self.mutable = path, identity, mutable
        self.trace = Trace(path / TRACE_FILE)

    @property
    def best(self) -> Path:
        """Folder of the best state."""
        return self.path / BEST_FOLDER

    def begin(self, about: Mapping[str, Any]) -> None:
        """Start a run with ``about`` as the first row of its trace. Checkpoints and trace of an earlier run are removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        clear_checkpoints(self.path / CHECKPOINTS_FOLDER)
        self.write_identity()
        self.trace.begin(about)

    def require_same(self, about: Mapping[str, Any]) -> None:
        """Check that the run has the same settings and files.

        Raises:
            MismatchError: some differ; the message names them.
        """
        stored, current = self.stored_identity(), flattened(self.identity)
        changed = [name for name, value in current.items() if name not in self.mutable and stored.get(name) != value]
        if changed := [*changed, *differing_data(self.trace.first(), about)]:
            message = f"{self.path} was started with other settings or files ({', '.join(changed)})"
            raise MismatchError(f"{message}; give the same ones, or another folder")

    def resume(self, step: int, about: Mapping[str, Any], *, pending: bool) -> None:
        """Record in the trace that the run continues after ``step``, and drop rows of later steps, which are repeated.

        With ``pending``, the validation after that step is repeated too.
        """
        self.trace.resume(step, about, pending=pending)

    def stored_identity(self) -> dict[str, Any]:
        """The stored identity of the run, by full names."""
        stored = read_json(self.path / SETTINGS_FILE)
        if not isinstance(stored, Mapping):
            raise DataError(f"{self.path / SETTINGS_FILE} holds no settings; copy the whole folder again, or start a new run")
        return flattened(stored)

    def write_identity(self) -> None:
        """Store the identity of the run."""
        write_json(self.path / SETTINGS_FILE, dict(self.identity))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint (tensors and plain values) atomically, and keep the newest two."""
        save_checkpoint(self.path / CHECKPOINTS_FOLDER, step, state)

    def load(self) -> dict[str, Any]:
        """The newest checkpoint that is not damaged, on the CPU; empty if there is no checkpoint.

        Raises:
            CheckpointError: all checkpoints are damaged.
        """
        return load_checkpoint(self.path / CHECKPOINTS_FOLDER) or {}

    def metrics(self) -> dict[str, Any]:
        """Metrics so far, by split."""
        path = self.path / METRICS_FILE
        return read_json(path) if path.is_file() else {}

    def add_metrics(self, split: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Store the metrics of a split in ``metrics.json``, and return the metrics of all splits."""
        metrics = {**self.metrics(), split: dict(values)}
        write_json(self.path / METRICS_FILE, metrics)
        return metrics

    def draw(self, losses: Sequence[str], scores: Sequence[str]) -> None:
        """Draw columns of the trace into ``curves.png``: losses of steps, scores of validations."""
        from blink.runs.curves import draw_curves

        draw_curves(self.trace.rows(), losses, scores, self.path / CURVES_FILE)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping, with names such as ``model.aggregation``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
        flat |= inner
    return flat


@contextlib.contextmanager
def locked_run(path: Path) -> Iterator[Path]:
    """The folder of a run, which is made, and which no other run writes to inside the block.

    Of several processes of one run the first has the lock. A folder that is empty afterwards, because the run failed before it
    began, is removed if it was made.

    Raises:
        BusyError: another run has the folder.
    """
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        with locked(path) if os.environ.get("RANK", "0") == "0" else contextlib.nullcontext():
            yield path
    finally:
        if is_new and not any(path.iterdir()):
            path.rmdir()
