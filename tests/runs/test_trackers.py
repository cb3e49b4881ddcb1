"""Trackers get the numbers of a run's trace, and a resumed run goes on in the same one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blink.errors import SettingsError
from blink.runs.trackers import ID_FILE, numbers, require_tracker, tracking

ROWS = [
    ("run", {"kind": "run", "seed": 1}),
    ("step", {"step": 10, "loss": 0.5, "rate": 1e-3, "epoch": 1}),
    ("epoch", {"step": 10, "loss": 0.5}),
    ("validation", {"step": 10, "mrr": 0.25, "best": True, "updates": {"text": 3}, "note": "x"}),
]


class FakeWandb:
    """The calls of the library that are made."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self.finished = 0

    def init(self, **options: Any) -> SimpleNamespace:
        self.begun.append(options)
        return SimpleNamespace(id=options["id"] or "r1", log=self.logged.append, finish=self._finish)

    def _finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    return fake


def test_rows_of_the_trace_as_numbers(wandb: FakeWandb, tmp_path: Path) -> None:
    with tracking("wandb", tmp_path / "run", {"train.lr": 0.1, "no": None}) as loggers:
        for log in loggers:
            for kind, row in ROWS:
                log(kind, row)
        assert wandb.finished == 0
    assert wandb.logged == [{"loss": 0.5, "rate": 1e-3, "step": 10}, {"valid_mrr": 0.25, "step": 10}]
    assert wandb.finished == 1
    begun = wandb.begun[0]
    assert (begun["name"], begun["config"], begun["id"]) == ("run", {"train.lr": 0.1}, None)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_resumed_run_goes_on_in_the_same_one(wandb: FakeWandb, tmp_path: Path, resumed: bool) -> None:
    (tmp_path / ID_FILE).write_text("old\n")
    with tracking("wandb", tmp_path, {}, resumed=resumed):
        pass
    assert (tmp_path / ID_FILE).read_text() == ("old\n" if resumed else "r1\n")


def test_a_run_that_fails_closes_its_tracker(wandb: FakeWandb, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), tracking("wandb", tmp_path, {}):
        raise RuntimeError
    assert wandb.finished == 1


def test_none(tmp_path: Path) -> None:
    with tracking("none", tmp_path / "run", {}) as loggers:
        assert loggers == ()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(SettingsError, match=f"{name} is not installed; run: pip install {name}"):
        require_tracker(name)
    require_tracker("none")


def test_numbers_alone() -> None:
    assert numbers({"a": 1, "b": True, "c": "x", "step": 3, "epoch": 1, "d": None}, "v_") == {"v_a": 1}


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracking("tensorboard", tmp_path, {"seed": 1}) as (log,):
        for kind, row in ROWS:
            log(kind, row)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]} == pytest.approx(
        {"loss": 0.5, "rate": 1e-3, "valid_mrr": 0.25}
    )
