"""Runs of every kind, killed or stopped anywhere, end with the weights and losses of an undisturbed one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from run_kinds import KINDS, Kind, assert_same_weights, weights

from blink.files import read_json
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, checkpoints
from blink.runs.cost import Cost
from blink.runs.folder import METRICS_FILE, RunFolder
from blink.runs.loop import Loop
from blink.runs.progress import Progress
from blink.runs.signals import Interrupted

pytest.importorskip("yaml", reason="the extra 'kglm' is not installed")
torch.set_num_threads(1)

EVENTS = ("_step", "_end_epoch", "_save", "_validate", "_record", "_draw")
"""Calls of the loop, before and behind each of which a run may be killed."""


class Run:
    """Runs of one kind on the same data."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.data = kind.prepare(folder / "data")
        self.events = 0

    def train(self, name: str, *, resume: bool = False, progress: Progress | None = None, epochs: int = 0) -> Path:
        """Train to the end in this process; returns the folder of the run."""
        run = self.folder / name
        self.kind.train(self.data, run, resume, progress or Progress(), epochs or self.kind.epochs)
        return run

    def train_undisturbed(self) -> Path:
        """The run that the others are compared with."""
        with counted_events(lambda number: setattr(self, "events", number)):
            return self.train("undisturbed")

    def kill(self, name: str, event: int, *, resume: bool) -> int:
        """Train in a process that is killed at an event; returns its exit code."""
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            with counted_events(lambda number: number == event and os.kill(os.getpid(), signal.SIGKILL)):
                self.train(name, resume=resume)
            os._exit(0)
        finally:
            os._exit(1)  # never back into the tests


@contextlib.contextmanager
def counted_events(notice: Callable[[int], Any]) -> Iterator[None]:
    """Tell ``notice`` the number of each event, from 1."""
    number = 0

    def event() -> None:
        nonlocal number
        number += 1
        notice(number)

    def noticed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            event()
            result = method(*args, **more)
            event()
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in EVENTS:
            patch.setattr(Loop, name, noticed(getattr(Loop, name)))
        yield


def trace(run: Path) -> list[dict[str, Any]]:
    """Rows of steps, epochs and validations, without times."""
    rows = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if name != "seconds" and not name.endswith("/s")}
        for row in rows
        if row["kind"] in ("step", "epoch", "validation")
    ]


@pytest.fixture(scope="module", autouse=True)
def _no_curves() -> Iterator[None]:
    """Drawing takes as long as these runs; tests of the loop draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw", lambda folder, losses, scores: None)
        yield


@pytest.fixture(scope="module", params=KINDS, ids=lambda name: name.replace(" ", "-"))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A kind, with its undisturbed run."""
    undisturbed = Run(KINDS[request.param](), tmp_path_factory.mktemp("run"))
    undisturbed.train_undisturbed()
    return undisturbed


def metrics(run: Path) -> dict[str, Any]:
    """What a run of `blink.kglm` measured, without costs."""
    path = run / METRICS_FILE
    stored = read_json(path) if path.is_file() else {}
    if "train" in stored:
        stored["train"] = {name: value for name, value in stored["train"].items() if name not in Cost().row()}
    return {name: value for name, value in stored.items() if name not in ("cost", "speed")}


def assert_as_undisturbed(run: Run, name: str) -> None:
    undisturbed, other = run.folder / "undisturbed", run.folder / name
    assert_same_weights(weights(undisturbed), weights(other))
    assert trace(other) == trace(undisturbed)
    assert metrics(other) == metrics(undisturbed)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_killed_anywhere_it_ends_the_same(run: Run, seed: int) -> None:
    """By SIGKILL three times: anywhere, then anywhere in what is left; the first time perhaps before any checkpoint."""
    name, chance = f"killed-{seed}", random.Random(seed)
    for number in range(3):
        event = chance.randint(1, max(run.events // (number + 1), 1))
        code = run.kill(name, event, resume=(run.folder / name / "trace.jsonl").is_file())
        assert code in (-signal.SIGKILL, 0), code  # 0: what was left had fewer events
        assert number or code == -signal.SIGKILL
    run.train(name, resume=(run.folder / name / "trace.jsonl").is_file())
    assert_as_undisturbed(run, name)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_the_step_and_ends(run: Run, number: signal.Signals) -> None:
    name = f"stopped-{number}"
    last = max(row["step"] for row in trace(run.folder / "undisturbed"))
    stop, steps = random.Random(7).randint(2, last - 1), 0

    def step(losses: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == stop:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match=f"stopped after step {stop} of {last}, saved in") as stopped:
        run.train(name, progress=Progress(step=step))
    assert stopped.value.signal == number
    assert steps == stop
    assert checkpoints(run.folder / name / CHECKPOINTS_FOLDER)[-1].name.startswith(f"step-{stop:09d}-")
    run.train(name, resume=True)
    assert_as_undisturbed(run, name)


def test_stopped_while_validating_it_repeats_the_validation_alone(run: Run) -> None:
    steps = 0

    def validate(loop: Loop) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def step(losses: Any) -> None:
        nonlocal steps
        steps += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_validate", validate)
        with pytest.raises(Interrupted, match="stopped while validating step"):
            run.train("validating", progress=Progress(step=step))
    first = steps
    run.train("validating", resume=True, progress=Progress(step=step))
    assert steps == max(row["step"] for row in trace(run.folder / "undisturbed"))
    assert 0 < first < steps
    assert_as_undisturbed(run, "validating")


def test_a_longer_run_passes_through_the_states_of_a_shorter_one(run: Run) -> None:
    if not run.kind.shorter:
        pytest.skip("the length decides the learning rate of each step")
    run.train("longer", epochs=run.kind.shorter)
    run.train("longer", resume=True)
    assert_as_undisturbed(run, "longer")


def test_a_finished_run_stays_as_it_is(run: Run) -> None:
    def step(losses: Any) -> None:
        raise AssertionError("a step was taken")

    run.train("undisturbed", resume=True, progress=Progress(step=step))
    rows = trace(run.folder / "undisturbed")
    assert [row["step"] for row in rows if row["kind"] == "step"] == sorted(
        {row["step"] for row in rows if row["kind"] == "step"}
    )
