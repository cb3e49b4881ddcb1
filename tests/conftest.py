"""Fixtures shared by all tests. Data that is not part of the project lies in ``shared`` beside the checkout."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, however busy the machine.
settings.register_profile("tests", derandomize=True, deadline=None)
settings.load_profile("tests")

# Tensors here are tiny: more threads only wait for each other, several times longer than the work takes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Toys are exported where a test is about that alone.
os.environ["BLINK_BACKEND"] = "torch"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden numbers; skips the test where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder 'shared' beside the checkout")
    return folder


@pytest.fixture(scope="session")
def parity(shared: Path) -> Path:
    """The golden files made by the original implementation."""
    return shared / "parity" / "elq-tiny"


@pytest.fixture
def blink(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit status, standard output, standard error."""
    from blink.apps.cli import cli
    from blink.apps.common import guarded

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = guarded(lambda: cli.main([str(a) for a in arguments], prog_name="blink", standalone_mode=False), "blink")
        out, err = capfd.readouterr()
        return status, out, err

    return run
