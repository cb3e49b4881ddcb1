"""The runner of each kind of run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from blink.kglm.config import missing_extra
from blink.kglm.settings import Settings
from blink.runs.progress import Progress
from blink.runs.settings import choice

KINDS = {
    "graph": "blink.kglm.graph.runner:GraphRunner",
    "lm": "blink.kglm.lm.runner:LanguageRunner",
    "joint": "blink.kglm.lm.runner:LanguageRunner",
    "glove": "blink.kglm.glove.runner:GloveRunner",
}
"""Kind -> module and class of its `Runner`; modules are imported on use."""


class Runner(Protocol):
    """Trains, evaluates and exports runs of a kind; folders are those of `blink.kglm.run.KglmRun`."""

    def train(
        self, settings: Settings, folder: Path, *, resume: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Train to the end, from the start or from the last checkpoint; returns the metrics of ``metrics.json``."""

    def evaluate(self, folder: Path, split: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """Evaluate the best checkpoint of a run on a split; returns the metrics."""

    def evaluate_file(self, folder: Path, file: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Evaluate the best checkpoint of a run on a file of triples or text; returns the metrics."""

    def export(self, folder: Path, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Write the embeddings for the linker; returns a description of the files."""


def runner_for(kind: str) -> Runner:
    """The runner of a kind.

    Raises:
        SettingsError: the kind is unknown, or a package that it needs is not installed.
    """
    module, name = KINDS[choice("the kind of a run", kind, KINDS)].split(":")
    try:
        runner_class: Callable[[], Runner] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    return runner_class()
