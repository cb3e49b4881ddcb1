"""Run files can be read, and what is kept of their runs was made with their settings and meets its bars."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from graph_toys import TRAIN, family

from blink.errors import MismatchError, SettingsError

pytest.importorskip("yaml", reason="needs the extra kglm")

from blink.kglm.config import kind_of, load_settings
from blink.kglm.graph.runner import GraphRunner
from blink.kglm.run import KglmRun

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "kglm"
RUN_FILES = sorted(EXAMPLES.glob("*.yaml"))
METRICS = {p.stem: json.loads(p.read_text()) for p in sorted((EXAMPLES / "metrics").glob("*.json"))}
OF_GRAPHS = {name: metrics for name, metrics in METRICS.items() if isinstance(metrics, dict) and "run_file" in metrics}


def script() -> Any:
    spec = importlib.util.spec_from_file_location("kglm_results", ROOT / "scripts" / "kglm_results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda f: f.stem)
def test_a_run_file_can_be_read_and_is_described(file: Path) -> None:
    assert load_settings(kind_of(file), file).kind == kind_of(file)
    assert file.read_text().startswith("#")


@pytest.mark.parametrize("name", sorted(OF_GRAPHS))
def test_what_is_kept_was_made_with_the_run_file_and_meets_its_bars(name: str) -> None:
    metrics, file = OF_GRAPHS[name], EXAMPLES / f"{name}.yaml"
    now = load_settings(kind_of(file), file).flat()
    local_keys = {"data.root", "device", "seed"}
    assert [k for k, v in metrics["settings"].items() if k not in local_keys and k in now and now[k] != v] == []
    assert metrics["bars"] == script().bars_of(name, metrics)
    assert [k for k, row in metrics["bars"].items() if not row["met"]] == []


@pytest.mark.parametrize(
    "name", sorted(name for name, metrics in OF_GRAPHS.items() if metrics["settings"]["data.graph"] == ["kg/codex-s"])
)
def test_what_is_kept_beats_counting_answers_by_relation(name: str) -> None:
    assert OF_GRAPHS[name]["test"]["ranking"]["mrr"] > OF_GRAPHS[name]["test"]["relation_frequency"]["mrr"] > 0.2


def test_rotate_is_not_below_transe_at_its_budget() -> None:
    rotate, transe = (OF_GRAPHS[name] for name in ("rotate-codex-s", "transe-codex-s"))
    assert rotate["test"]["ranking"]["mrr"] >= transe["test"]["ranking"]["mrr"]
    assert rotate["settings"]["train.epochs"] == transe["settings"]["train.epochs"]
    assert rotate["settings"]["model.dim"] == transe["settings"]["model.dim"]


def test_texts_do_not_lower_the_ranks_of_rare_answers() -> None:
    against = OF_GRAPHS["init-text-codex-m"]["against"]
    assert (against["split"], against["differs_by"]) == ("test", ["model.vectors"])
    ranked = [
        OF_GRAPHS[name]["test"]["ranking"]["by_answer_degree"]["0-5"]["mrr"]
        for name in ("init-text-codex-m", "init-random-codex-m")
    ]
    assert against["mrr"]["0-5"]["difference"] == pytest.approx(ranked[0] - ranked[1])
    assert against["mrr"]["0-5"]["interval"][0] >= 0


def test_results_are_kept_without_paths_of_the_machine(tmp_path: Path) -> None:
    graph = family(tmp_path / "family")
    file = tmp_path / "toy.yaml"
    file.write_text(f"kind: graph\ndevice: cpu\ndata: {{graph: {graph}}}\nmodel: {{dim: 4}}\ntrain: {{epochs: 1}}\n")
    run = tmp_path / "run"
    GraphRunner().train(load_settings("graph", file), run)
    with pytest.raises(SettingsError, match="was not measured yet"):
        script().results(file, run)
    GraphRunner().evaluate(run, "test")
    result = script().results(file, run)
    assert result["test"]["ranking"]["questions"] == 16
    assert set(result["data"]) == {"family/train.txt", "family/valid.txt", "family/test.txt"}
    assert "host" not in result["host"]
    other = tmp_path / "other"
    GraphRunner().train(load_settings("graph", file, ["--train.lr", "0.5"]), other)
    GraphRunner().evaluate(other, "test")
    against = script().results(file, run, other)["against"]
    assert (against["split"], against["differs_by"]) == ("test", ["train.lr"])
    mrr = [KglmRun.open(path).metrics()["test"]["ranking"]["mrr"] for path in (run, other)]
    assert against["mrr"]["all"]["difference"] == pytest.approx(mrr[0] - mrr[1])
    low, high = against["mrr"]["all"]["interval"]
    assert low < against["mrr"]["all"]["difference"] < high
    degree = Counter(name for head, _, tail in TRAIN for name in (head, tail))
    assert against["mrr"]["0-5"]["questions"] == sum(degree[name] <= 5 for h, _, t in TRAIN for name in (h, t))
    with pytest.raises(MismatchError, match="resuming is broken"):
        script().check_twins(run, [other])
    twin = tmp_path / "twin"
    GraphRunner().train(load_settings("graph", file), twin)
    assert script().check_twins(run, [twin])["runs"] == 2
    file.write_text(file.read_text().replace("dim: 4", "dim: 6"))
    with pytest.raises(MismatchError, match=r"another model\.dim"):
        script().results(file, run)
