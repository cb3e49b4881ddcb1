"""Sweeps: what is tried, what is kept, and a sweep that is killed and continues to the same results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from graph_toys import family
from outcomes import done, refused

pytest.importorskip("pykeen", reason="needs the extra kglm")
pytest.importorskip("optuna", reason="needs the extra kglm")

from blink.errors import DataError
from blink.kglm import sweep as module
from blink.kglm.config import kind_of, load_settings
from blink.kglm.sweep import Sweep, run_sweep

Blink = Callable[..., tuple[int, str, str]]
RANGES = "sweep: {train.lr: {low: 1.0e-3, high: 0.1, log: true}, model.dim: [4, 8]}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    graph = family(tmp_path / "g")
    path = tmp_path / "sweep.yaml"
    run = f"kind: graph\ndata: {{graph: {graph}}}\ndevice: cpu\ntrain: {{epochs: 2, batch_size: 8}}\nstop: {{every: 1}}\n"
    path.write_text(run + RANGES)
    return path


def table(folder: Path) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "trials.tsv").read_text().splitlines()]


def test_results_and_the_best_settings(blink: Blink, file: Path, tmp_path: Path) -> None:
    _, err = done(blink("kglm", "sweep", file, "--out", tmp_path / "s", "--trials", 3))
    rows = table(tmp_path / "s")
    assert rows[0] == ["trial", "mrr", "train.lr", "model.dim", "run"]
    values = [float(row[1]) for row in rows[1:]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 3
    assert all(1e-3 <= float(row[2]) <= 0.1 and row[3] in ("4", "8") for row in rows[1:])
    best = load_settings(kind_of(tmp_path / "s" / "best.yaml"), tmp_path / "s" / "best.yaml")
    assert best.flat()["train.lr"] == float(rows[1][2])
    assert f"best: trial {rows[1][0]}, mrr" in err
    done(blink("kglm", "train", tmp_path / "s" / "best.yaml", "--out", tmp_path / "run"))


def test_a_killed_sweep_continues_to_the_same_results(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_sweep(Sweep.read(file), tmp_path / "whole", 4)
    runner, calls = module.runner_for("graph"), list[Path]()

    class Killed:
        def train(self, settings: Any, folder: Path, **options: Any) -> Any:
            calls.append(folder)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return runner.train(settings, folder, **options)

    monkeypatch.setattr(module, "runner_for", lambda kind: Killed())
    with pytest.raises(KeyboardInterrupt):
        run_sweep(Sweep.read(file), tmp_path / "killed", 4)
    assert len(table(tmp_path / "killed")) == 3
    assert run_sweep(Sweep.read(file), tmp_path / "killed", 4) == whole
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    before = len(calls)
    assert run_sweep(Sweep.read(file), tmp_path / "killed", 4) == whole
    assert len(calls) == before  # nothing is trained twice


def test_a_trial_that_fails_is_said_and_passed_over(file: Path, tmp_path: Path) -> None:
    file.write_text(
        file.read_text().replace(
            RANGES, "sweep: {train.lr: [1.0e+30, 0.01, 0.01001, 0.01002]}\nmodel: {dim: 4, name: distmult}\n"
        )
    )
    lines: list[str] = []
    best = run_sweep(Sweep.read(file), tmp_path / "s", 8, lines.append)
    assert len([line for line in lines if "failed" in line]) + len(table(tmp_path / "s")) - 1 == 8
    assert best["train.lr"] < 0.02
    assert [line for line in lines if "failed" in line]


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ("", ("has no ranges",)),
        ("sweep: {}", ("has no ranges",)),
        ("sweep: {train.lr: 0.1}", ("sweep.train.lr is 0.1, which is no range", "{low: A, high: B}")),
        ("sweep: {train.lr: {low: 0.1}}", ("which is no range",)),
        ("sweep: {train.lr: {low: 1e-3, high: 0.1}}", ("1.0e-3",)),
        ("sweep: {train.lr: {low: 0.2, high: 0.1}}", ("from 0.2 to 0.1",)),
        ("sweep: {train.lr: []}", ("has no choices",)),
        ("sweep: {lr: [0.1]}", ("lr", "did you mean train.lr")),
        ("sweep: {model.dim: [0]}", ("model.dim",)),
    ],
)
def test_mistakes_are_one_line(blink: Blink, file: Path, tmp_path: Path, ranges: str, words: tuple[str, ...]) -> None:
    file.write_text(file.read_text().replace(RANGES, ranges))
    refused(blink("kglm", "sweep", file, "--out", tmp_path / "s"), *words)
    assert not (tmp_path / "s").exists()


def test_another_sweep_and_an_unknown_metric(blink: Blink, file: Path, tmp_path: Path) -> None:
    refused(blink("kglm", "sweep", file, "--out", tmp_path / "m", "--metric", "f1"), "no metric 'f1'", "mrr")
    done(blink("kglm", "sweep", file, "--out", tmp_path / "s", "--trials", 1))
    refused(blink("kglm", "sweep", file, "--out", tmp_path / "s", "--seed", 3), "a sweep with other settings")


@pytest.mark.parametrize("content", [b"7", b'"text"', b"{}", b"\xff\xfe", b"{", bytes(64), b'{"op_code": 99}'])
def test_a_damaged_journal_is_one_line(content: bytes, tmp_path: Path) -> None:
    import optuna

    (tmp_path / "journal.log").write_bytes(content + b"\n")
    with pytest.raises(DataError, match=r"journal\.log"):
        module._opened(optuna, tmp_path / "journal.log", "maximize")
