"""Fixtures for the entity-aware tasks: a tiny random model, built once, and the command line in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

Examples = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def tasks(root: Path) -> Path:
    """The folder ``examples`` of the checkout."""
    return root / "examples"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, as ``make-tiny-model`` makes it."""
    from examples.cli import cli

    folder = tmp_path_factory.mktemp("luke") / "tiny"
    cli.main(["make-tiny-model", str(folder)], prog_name="examples", standalone_mode=False)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Path) -> object:
    """The same, loaded."""
    from examples.luke.loading import load_base

    return load_base(str(tiny_folder), None, lambda text: None)


@pytest.fixture(scope="session")
def vocabulary(tiny_base: object) -> object:
    """Tokens, entities and markers of the tiny model, with the labels ``a`` and ``b``."""
    from transformers import LukeForEntityClassification

    from examples.luke.loading import THIRD, Base

    assert isinstance(tiny_base, Base)
    tuned = tiny_base.with_head(LukeForEntityClassification, ["a", "b"], all_entities=True, markers=[THIRD])
    return tuned.vocabulary()


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Converted archives go where the test's files are, not to the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)


@pytest.fixture
def run_examples(capfd: pytest.CaptureFixture[str]) -> Examples:
    """Runs the command line in this process: exit status and standard error."""
    from blink.apps.common import guarded
    from examples.cli import cli

    def run(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        words = [str(a) for a in arguments]
        try:
            status = guarded(lambda: cli.main(words, prog_name="examples", standalone_mode=False), "examples")
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, capfd.readouterr().err

    return run
