"""The estimate of memory: what tables are, what settings change it, and a refusal before anything is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from graph_toys import family, toy_settings

pytest.importorskip("pykeen", reason="needs the extra kglm")

from blink.errors import SettingsError
from blink.kglm.config import load_settings
from blink.kglm.graph.model import make_model
from blink.kglm.kinds import runner_for
from blink.kglm.memory import estimate, require_memory
from blink.kglm.settings import GraphSettings

CPU = torch.device("cpu")


def settings_of(**changes: Any) -> GraphSettings:
    return GraphSettings.of(load_settings("graph").replace({name.replace("__", "."): v for name, v in changes.items()}))


@pytest.mark.parametrize("name", ["transe", "rotate", "complex", "distmult", "tucker", "quate", "rescal"])
@pytest.mark.parametrize("reciprocal", [True, False])
def test_tables_are_those_of_the_model(name: str, reciprocal: bool) -> None:
    settings = settings_of(model__name=name, model__dim=8, model__reciprocal=reciprocal, train__optimizer="sgd")
    model = make_model(settings, 20, 3)
    values = sum(p.numel() for p in model.parameters())
    assert estimate(settings, 20, 3)["tables"] == 4 * values * 2


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"train__part_size": 8}, "a step"),
        ({"train__type": "negative", "negatives__count": 4, "negatives__shared": True}, "a step"),
        ({"model__sparse": True}, "tables"),
        ({"train__optimizer": "rowwise_adagrad"}, "tables"),
        ({"model__dim": 8}, "tables"),
        ({"eval__batch_size": 2}, "a validation"),
    ],
)
def test_what_needs_less(more: dict[str, Any], part: str) -> None:
    assert estimate(settings_of(**more), 5000, 3)[part] < estimate(settings_of(), 5000, 3)[part]


def test_a_million_entities_against_all_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blink.kglm.memory.free_bytes", lambda: 16 * 10**9)
    with pytest.raises(
        SettingsError, match=r"needs at least [\d.]+ GB .*1,000,000 entities, and 16\.0 GB are free; "
    ) as raised:
        require_memory(settings_of(), 1_000_000, 50, CPU)
    for remedy in ("set train.part_size to", "train.type negative", "rowwise_adagrad", "lower model.dim"):
        assert remedy in str(raised.value)
    sparse = {
        "train__type": "negative",
        "model__sparse": True,
        "train__optimizer": "rowwise_adagrad",
        "negatives__shared": True,
    }
    require_memory(settings_of(model__dim=128, **sparse), 1_000_000, 50, CPU)
    monkeypatch.setattr("blink.kglm.memory.free_bytes", lambda: None)
    require_memory(settings_of(), 1_000_000, 50, CPU)


def test_a_run_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blink.kglm.memory.free_bytes", lambda: 1000)
    with pytest.raises(SettingsError, match="are free"):
        runner_for("graph").train(toy_settings(family(tmp_path / "g")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
