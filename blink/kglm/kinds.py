"""Kinds of runs, and what runs them."""

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
"""Kind -> module and class of its `Runner`, which is imported when it is asked for."""


class Runner(Protocol):
    """What can be done with a run of some kind; folders are those of `blink.kglm.run.KglmRun`."""

    def train(
        self, settings: Settings, folder: Path, *, resume: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Train to the end, or go on with a run, and return the metrics that the folder keeps."""

    def evaluate(self, folder: Path, split: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """Measure the best state of a run on a split."""

    def export(self, folder: Path, out: Path) -> dict[str, Any]:
        """Write what the linker reads, and return what was written."""


def runner_for(kind: str) -> Runner:
    """The runner of a kind.

    Raises:
        SettingsError: there is no such kind, or a package that it needs is not installed.
    """
    module, name = KINDS[choice("the kind of a run", kind, KINDS)].split(":")
    try:
        make: Callable[[], Runner] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    return make()
