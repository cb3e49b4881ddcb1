"""Run files can be read, and what is kept of their runs was made with their settings and meets its bars."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from graph_toys import family

from blink.errors import MismatchError, SettingsError

pytest.importorskip("yaml", reason="needs the extra kglm")

from blink.kglm.config import kind_of, load_settings
from blink.kglm.graph.runner import GraphRunner

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "kglm"
RUN_FILES = sorted(EXAMPLES.glob("*.yaml"))
KEPT = {p.stem: json.loads(p.read_text()) for p in sorted((EXAMPLES / "metrics").glob("*.json"))}
OF_GRAPHS = {name: kept for name, kept in KEPT.items() if isinstance(kept, dict) and "run_file" in kept}


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
    kept, file = OF_GRAPHS[name], EXAMPLES / f"{name}.yaml"
    now = load_settings(kind_of(file), file).flat()
    own = {"data.root", "device", "seed"}
    assert [k for k, v in kept["settings"].items() if k not in own and k in now and now[k] != v] == []
    bars = script().BARS.get(name, {})
    assert {k: row["bar"] for k, row in kept["bars"].items()} == bars
    assert [k for k, low in bars.items() if script().figure(kept, k) < low] == []


def test_results_are_kept_without_paths_of_the_machine(tmp_path: Path) -> None:
    graph = family(tmp_path / "family")
    file = tmp_path / "toy.yaml"
    file.write_text(f"kind: graph\ndevice: cpu\ndata: {{graph: {graph}}}\nmodel: {{dim: 4}}\ntrain: {{epochs: 1}}\n")
    run = tmp_path / "run"
    GraphRunner().train(load_settings("graph", file), run)
    with pytest.raises(SettingsError, match="was not measured yet"):
        script().results(file, run)
    GraphRunner().evaluate(run, "test")
    found = script().results(file, run)
    assert found["test"]["ranking"]["questions"] == 16
    assert set(found["data"]) == {"train.txt", "valid.txt", "test.txt"}
    assert "host" not in found["host"]
    file.write_text(file.read_text().replace("dim: 4", "dim: 6"))
    with pytest.raises(MismatchError, match=r"another model\.dim"):
        script().results(file, run)
