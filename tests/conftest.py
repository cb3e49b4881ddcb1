"""Fixtures shared by all tests. Data that is not part of the project lies in ``shared`` beside the checkout."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run, however busy the machine; more of them with BLINK_EXAMPLES=200.
settings.register_profile("tests", derandomize=True, deadline=None, max_examples=int(os.environ.get("BLINK_EXAMPLES", "50")))
settings.load_profile("tests")

# Tensors here are tiny: more threads only wait for each other, several times longer than the work takes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Toys are exported where a test is about that alone.
os.environ["BLINK_BACKEND"] = "torch"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[1]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes that are not ASCII by their argument.

    A compressed file may hold the time at which it was made: with its bytes in a test's name, two worker processes that collect
    the tests in different seconds disagree on the names, and none is run.
    """
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.fixture(autouse=True, scope="session")
def curves_drawn_once() -> Iterator[None]:
    """Draw the curves of each kind of run once: further runs get a copy, since drawing takes longer than a toy's training."""
    from blink.runs import curves

    draw, drawn = curves.draw_curves, {}

    def draw_or_copy(rows: Any, losses: Sequence[str], scores: Sequence[str], path: Path) -> None:
        columns = (*losses, "", *scores)
        if columns in drawn:
            path.write_bytes(drawn[columns])
        else:
            draw(rows, losses, scores, path)
            drawn[columns] = path.read_bytes()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(curves, "draw_curves", draw_or_copy)
        yield


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Undo what a test did to the loggers, whose handlers would write to its closed output in the tests that follow."""
    loggers = [logging.getLogger(name) for name in (None, "blink", "uvicorn")]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)


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


@pytest.fixture(scope="session")
def starter() -> Path:
    """The folder of the starter knowledge base, encoded here rather than in a test's own process, whose time is limited."""
    from blink.errors import MissingFileError
    from blink.linking.starter import starter_kb

    try:
        return starter_kb()
    except MissingFileError as error:
        pytest.skip(f"needs the starter: {error}")


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
