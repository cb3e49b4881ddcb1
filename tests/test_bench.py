"""`blink bench`: figures of toy models in processes of their own, the original's way beside, and its one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from blink.apps.cli import cli
from blink.errors import BlinkError
from blink.evaluation.speed.bench import BenchPlan, SideRequest, measure, texts_of_catalogue
from blink.evaluation.speed.machine import machine, peak_memory_mib
from blink.evaluation.speed.table import as_table
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.starter import starter_kb, starter_model


@pytest.fixture(scope="module")
def folders() -> tuple[Path, Path]:
    return starter_model(), starter_kb()


@pytest.fixture(scope="module")
def result(folders: tuple[Path, Path]) -> dict[str, object]:
    texts = ["who wrote hamlet?", "The Nile flows through Egypt.", "where is berlin?"]
    model, kb = map(str, folders)
    padded = {"model": model, "kb": kb, "padding": 32, "encodings": 2}
    sides = [
        SideRequest("blink", "blink", {"model": None, "kb": None, "precision": "fp32", "rank": False}),
        SideRequest("original", "original-way", padded),
    ]
    plan = BenchPlan(texts, batch_size=2, rounds=2, single_texts=2, starts=0, threads=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("BLINK_BACKEND", raising=False)
        return measure(plan, sides, folders)


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


def test_the_same_weights_give_the_same_links_the_original_way(result: dict) -> None:
    assert result["sides"]["blink"]["links"] > 0
    assert result["ratios"]["original"]["texts_linked_differently"] == 0


def test_the_table_says_the_machine_and_every_side(result: dict) -> None:
    table = as_table(result)
    assert machine()["processor"] in table
    assert "against original: times faster" in table
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
    assert json.loads(json.dumps(result))["sides"].keys() == {"blink", "original"}
