"""`blink bench`: figures of toy models in processes of their own, the original's way beside, and its one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from blink.apps.cli import cli
from blink.errors import BlinkError
from blink.evaluation.speed.bench import BenchPlan, SideRequest, measure, texts_of_catalogue
from blink.evaluation.speed.machine import machine, peak_memory_mib
from blink.evaluation.speed.original_way import OriginalWay
from blink.evaluation.speed.table import as_table
from blink.evaluation.speed.worker import BlinkSide
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.starter import starter_kb, starter_model


@pytest.fixture(scope="module")
def folders() -> tuple[Path, Path]:
    return starter_model(), starter_kb()


TEXTS = ["who wrote hamlet?", "The Nile flows through Egypt.", "where is berlin?"]
PLAIN = {"model": None, "kb": None, "precision": "fp32", "rank": False}


def measured(folders: tuple[Path, Path], other: SideRequest) -> dict[str, Any]:
    plan = BenchPlan(TEXTS, batch_size=2, rounds=2, single_texts=2, starts=0, threads=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("BLINK_BACKEND", raising=False)
        return measure(plan, [SideRequest("blink", "blink", PLAIN), other], folders)


@pytest.fixture(scope="module")
def result(folders: tuple[Path, Path]) -> dict[str, Any]:
    """Figures of two sides that are the same, which start in little time."""
    return measured(folders, SideRequest("again", "blink", PLAIN))


def test_figures_are_those_of_the_runs(result: dict) -> None:
    ours = result["sides"]["blink"]
    assert ours["entities"] > 20_000
    assert ours["tokens"] > 10
    assert 0 < ours["call_ms"]["cpu"]["p50"] <= ours["call_ms"]["cpu"]["p99"]
    split = ours["batches"]["cpu_ms_per_text"]
    assert set(split) == {"encode", "search", "rerank", "rest"}
    assert split["rerank"] == 0  # the reranker is off
    assert split["encode"] > 0
    assert ours["peak_mib"] > 50
    assert ours["ready"]["cpu_s"] > 0
    assert ours["links"] > 0
    assert result["ratios"]["again"]["texts_linked_differently"] == 0


def test_the_same_weights_give_the_same_links_the_original_way(folders: tuple[Path, Path]) -> None:
    original = OriginalWay(*folders, padding=32, encodings=2)
    linked = BlinkSide(**PLAIN, backend="onnx").link(TEXTS, 2)
    assert sum(map(len, linked)) > 0
    assert [sorted(links) for links in original.link(TEXTS, 2)] == [sorted(links) for links in linked]


@pytest.mark.slow
def test_the_original_way_in_a_process_of_its_own(folders: tuple[Path, Path]) -> None:
    padded = {"model": str(folders[0]), "kb": str(folders[1]), "padding": 32, "encodings": 2}
    result = measured(folders, SideRequest("original", "original-way", padded))
    assert result["ratios"]["original"]["texts_linked_differently"] == 0
    assert "against original: times faster" in as_table(result)


def test_the_table_says_the_machine_and_every_side(result: dict) -> None:
    table = as_table(result)
    assert machine()["processor"] in table
    assert "against again: times faster" in table
    assert f"{result['sides']['blink']['entities']:,} entities" in table


def test_a_side_that_does_not_open_is_named(folders: tuple[Path, Path]) -> None:
    sides = [SideRequest("blink", "blink", {"model": "no-such-model", "kb": str(folders[1])})]
    with pytest.raises(BlinkError, match="no-such-model is no model folder"):
        measure(BenchPlan(["a text"], starts=0), sides, folders)


def test_texts_are_made_of_titles(folders: tuple[Path, Path]) -> None:
    catalogue = KnowledgeBase.open(folders[1]).catalogue
    texts = texts_of_catalogue(catalogue, 8)
    assert texts == texts_of_catalogue(catalogue, 8)
    titles = {entity.title for entity in catalogue}
    assert all(any(title in text for title in titles) for text in texts)


def test_memory_is_that_of_this_process() -> None:
    before = peak_memory_mib()
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert peak_memory_mib() >= before
    assert peak_memory_mib() > 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--padding", "32"], "give --against original-way too"),
        (["missing.txt"], "missing.txt"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    outcome = CliRunner().invoke(cli, ["bench", *arguments])
    assert isinstance(outcome.exception, BlinkError)
    assert message in str(outcome.exception)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    outcome = CliRunner().invoke(cli, ["bench", str(tmp_path / "empty.txt")])
    assert "has no text" in str(outcome.exception)


def test_figures_are_json(result: dict, tmp_path: Path) -> None:
    assert json.loads(json.dumps(result))["sides"].keys() == {"blink", "again"}
