"""Run files of the language side, and the table that is made from them, on toy data."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from blink.kglm.config import load_settings
from blink.kglm.lm.network import schedule_of
from blink.kglm.lm.runner import LanguageRunner
from blink.kglm.run import KglmRun
from tests.kglm.lm_toys import write_world

pytest.importorskip("yaml", reason="the extra 'kglm' is not installed")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("original", "fair", "speed", "tenth", "triples")
RUN_FILES = sorted(file for group in GROUPS for file in (ROOT / "examples" / "kglm").glob(f"{group}-*.yaml"))
SIZES = {
    "words.width": 6, "cells.layers": [5], "classifier.hidden": [6], "language.samples": 9, "train.epochs": 2, "train.lines": 4,
    "train.steps_per_epoch_lm": 2, "train.steps_per_epoch_kge": 2, "train.triples": 8, "data.held_out": 0.2,
}  # fmt: skip
TINY = [f"--{name}={value}" for name, value in SIZES.items()]


@pytest.fixture(autouse=True)
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes as long as a toy run; it is tested with runs."""
    monkeypatch.setattr(KglmRun, "draw", lambda folder, losses, scores: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy world in the places that the run files name, with published false triples."""
    world = write_world(tmp_path_factory.mktemp("data"))
    for suffix in ("txt", "ids"):
        (world / "lm" / f"test.{suffix}").rename(world / "lm" / f"valid.{suffix}")
    graph = world / "kg" / "codex-m"
    graph.mkdir()
    rows = (world / "kg" / "train.txt").read_text().splitlines(keepends=True)
    (graph / "train.txt").write_text("".join(rows[:6] + rows[9:]))
    (graph / "valid.txt").write_text("".join(rows[6:9]))
    (graph / "valid_negatives.txt").write_text("Q3\tP19\tJ1\nQ4\tP106\tT1\nQ5\tP19\tJ2\n")
    (world / "relations.json").rename(world / "kg" / "relations.json")
    (world / "kb").mkdir()
    names = [line.split("\t") for line in (world / "names.tsv").read_text().splitlines()]
    (world / "kb" / "entity.jsonl").write_text("".join(json.dumps({"kb_idx": i, "title": t}) + "\n" for i, t in names))
    return world


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kglm_table", ROOT / "scripts" / "kglm_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kglm_table"] = module
    spec.loader.exec_module(module)
    return module


def test_there_are_run_files_for_each_comparison() -> None:
    assert {path.stem.split("-")[0] for path in RUN_FILES} == set(GROUPS)


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda path: path.stem)
def test_a_run_file_trains(file: Path, data: Path, tmp_path: Path) -> None:
    settings = load_settings("joint", file, [*TINY, "--data.root", str(data)])
    metrics = LanguageRunner().train(settings, tmp_path / "run")["test"]
    tasks = schedule_of(settings).tasks
    assert ("perplexity" in metrics) == ("language" in tasks)
    assert ("triples" in metrics) == ("triples" in tasks)
    if "triples" in tasks:
        assert {"easy", "same_type", "published"} <= set(metrics["triples"])


def test_both_arms_of_the_fair_comparison_differ_in_alpha_alone() -> None:
    flat = {
        name: load_settings("joint", ROOT / "examples" / "kglm" / f"{name}.yaml").flat()
        for name in ("fair-lm", "fair-kge", "fair-joint")
    }
    for name in ("fair-lm", "fair-kge"):
        assert {key for key in flat[name] if flat[name][key] != flat["fair-joint"][key]} == {"joint.alpha"}
    for one, other in (("speed-lm", "speed-joint"), ("tenth-lm", "tenth-joint")):
        both = [load_settings("joint", ROOT / "examples" / "kglm" / f"{name}.yaml").flat() for name in (one, other)]
        assert {key for key in both[0] if both[0][key] != both[1][key]} == {"joint.alpha"}


def test_the_table_is_made_row_by_row_and_not_twice(
    script: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    rows = "fair-lm,fair-joint,fair-kge,original-lm,original-joint"
    words = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), "--data", str(data), "--rows", rows]
    script.table.main([*words, "--seeds", "0,1", *TINY], standalone_mode=False)
    page = (tmp_path / "results" / "table.md").read_text()
    metrics = json.loads((tmp_path / "results" / "metrics" / "fair-joint.json").read_text())
    assert set(metrics["seeds"]) == {"0", "1"}
    values = [metrics["seeds"][seed]["test"]["perplexity"] for seed in "01"]
    alone = json.loads((tmp_path / "results" / "metrics" / "fair-lm.json").read_text())["seeds"]
    ratios = [value / alone[seed]["test"]["perplexity"] for value, seed in zip(values, "01", strict=True)]
    assert f"perplexity, together / alone: **{sum(ratios) / 2:.4f} ±" in page
    assert f"| together | LSTM | 2 | {sum(values) / 2:.2f} ±" in page
    assert "issa serge coelo born 1967 | greedy" in page
    valid_metrics = json.loads((tmp_path / "results" / "metrics" / "original-joint.json").read_text())["seeds"]["0"]["valid"]
    assert valid_metrics["each_by_its_own_best"]["perplexity"] <= valid_metrics["perplexity"]
    monkeypatch.setattr(script, "_train", lambda *args: pytest.fail("a complete run was trained again"))
    script.table.main([*words, "--seeds", "0,1", *TINY], standalone_mode=False)
    assert (tmp_path / "results" / "table.md").read_text() == page


def test_a_row_that_is_not_there_is_told(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no row 'nothing'"):
        script.table.main(["--out", str(tmp_path), "--rows", "nothing"], standalone_mode=False)
