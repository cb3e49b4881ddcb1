"""``blink doctor`` and ``blink export`` on a toy: what they report, what they advise, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

from blink import machine as blink_machine
from blink.apps.cli import cli
from blink.apps.common import guarded
from blink.errors import CheckpointError, SettingsError
from blink.evaluation.speed import backends, doctor
from blink.kb.building import build_knowledge_base
from blink.kb.index.budget import StoredVectors, most_vectors, plan_memory
from blink.kb.index.kinds import BEST_FIRST, KINDS
from blink.model.backends.layout import GRAPHS, SETTINGS_FILE
from blink.model.backends.onnx_backend import OnnxBackend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    toys.model(reads_case=True, cosine=True).save_pretrained(path)
    return path


def blink(*arguments: str) -> int:
    return guarded(lambda: cli.main(list(arguments), prog_name="blink", standalone_mode=False), "blink")


def test_every_backend_is_measured_against_the_first(folder: Path) -> None:
    rows = backends.compare_backends(folder, budget_s=0, bf16=False)
    by_side = {(row["backend"], row["precision"]): row for row in rows}
    assert list(by_side) == list(backends.SIDES)
    assert by_side["torch", "bf16"]["skipped"] == "the processor has no bfloat16"
    exact, int8 = by_side["onnx", "fp32"], by_side["onnx", "int8"]
    assert exact["score_difference"] < 1e-4
    assert exact["least_cosine"] > 0.999999
    assert int8["score_difference"] > 1e-4
    assert 0.9 < int8["least_cosine"] < 0.999999
    assert all(row["single_ms"] > 0 and row["texts_per_s"] > 0 for row in rows if "skipped" not in row)


def test_a_backend_that_cannot_run_is_skipped(folder: Path) -> None:
    sides = [("torch", "fp32"), ("onnx", "fp64")]
    rows = backends.compare_backends(folder, sides=sides, budget_s=0)
    assert "fp64" in rows[1]["skipped"]
    assert "texts_per_s" in rows[0]


def row(backend: str, precision: str, single: float, batched: float) -> dict[str, Any]:
    return {"backend": backend, "precision": precision, "single_ms": single, "texts_per_s": batched}


def test_advice_follows_the_figures() -> None:
    """bfloat16 wins batches, ONNX Runtime single texts; int8 is an offer, as links change."""
    rows = [
        row("torch", "fp32", 10, 100),
        row("torch", "bf16", 8, 400),
        row("onnx", "fp32", 4, 120),
        row("onnx", "int8", 2, 300),
    ]
    single, offer, bulk = backends.advice(rows)
    assert "--backend onnx --precision fp32" in single
    assert "2.5 times as fast as torch fp32" in single
    assert "--backend onnx --precision int8: 2.0 times" in offer
    assert "--backend torch --precision bf16" in bulk
    assert "4.0 times as fast" in bulk
    skipped = {"backend": "onnx", "precision": "fp32", "skipped": "not installed"}
    assert backends.advice([row("torch", "fp32", 10, 100), skipped]) == [
        "one text at a time: --backend torch --precision fp32 (10 ms a text)",
        "many texts: --backend torch --precision fp32 (100 texts a second)",
    ]


def test_fast_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.examine, "__kwdefaults__", {"budget_s": 0.0, "bars": backends.no_bars})
    assert blink("doctor", "--fast", "--model", str(folder)) == 0
    printed = capsys.readouterr().out
    assert "one text at a time: --backend" in printed
    assert "many texts: --backend" in printed
    assert blink("doctor", "--fast", "--model", str(folder), "--json") == 0
    assert [r["precision"] for r in json.loads(capsys.readouterr().out)["rows"]] == ["fp32", "bf16", "fp32", "int8"]


def test_doctor_examines_the_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert blink("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert found["linker"]["links"] == ["Paris, Texas"]
    assert found["backends"] == {"PyTorch": True, "ONNX Runtime": True, "FAISS": True}
    assert found["machine"]["versions"]["numpy"] == np.__version__


def test_problems_end_with_an_exit_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise CheckpointError("models/starter is\n damaged")

    monkeypatch.setattr("blink.linking.opening.open_linker", fail)
    monkeypatch.setattr(doctor, "free_bytes", lambda: 300 << 20)
    with pytest.raises(SystemExit) as stop:
        blink("doctor")
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "next        blink doctor (after the problems are solved)\n" in printed
    assert "problem     the starter does not open: models/starter is damaged\n" in printed
    assert "problem     only 300 MiB" in printed
    assert "all is well" not in printed


@pytest.mark.parametrize("int8", [False, True])
def test_export_writes_a_folder_that_runs(int8: bool, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "onnx"
    assert blink("export", "--onnx", str(folder), "--out", str(out), *(["--int8"] if int8 else [])) == 0
    printed = capsys.readouterr().out
    assert f"exported {folder} into {out}" in printed
    assert "fp32 differs from PyTorch: mention scores by" in printed
    assert ("int8 differs" in printed) == (out / GRAPHS["int8"]).is_file() == int8
    assert OnnxBackend(out, "int8" if int8 else "fp32").entity_size == toys.HIDDEN
    assert blink("export", "--onnx", str(folder), "--out", str(out)) == 0  # an earlier export is replaced
    assert not (out / GRAPHS["int8"]).exists()


def test_export_refuses_what_it_cannot_do(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for arguments, message in (
        (("--onnx", str(folder), "--out", str(tmp_path)), "holds other files"),
        (("--onnx", str(tmp_path / "nowhere")), "is no model folder"),
        ((str(folder),), "--onnx"),
    ):
        assert blink("export", *arguments) in (1, 2)
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert not (tmp_path / SETTINGS_FILE).exists()
    assert blink("doctor", "--model", str(folder)) == 1  # the starter's knowledge base is of another model
    assert blink("doctor", "--fast", "--kb", str(folder)) == 2
    assert "--fast" in capsys.readouterr().err


def test_every_damaged_file_of_a_knowledge_base_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = toys.model(reads_case=True, cosine=True)
    entities = tmp_path / "entity.jsonl"
    entities.write_text("".join(json.dumps({"title": f"Entity {i}", "text": "."}) + "\n" for i in range(5)))
    kb = tmp_path / "kb"
    build_knowledge_base(entities, kb, model.encode_entities, model.candidate_fingerprint())
    options = ("doctor", "--model", str(folder), "--kb", str(kb))
    assert blink(*options) == 0
    assert f"next        blink shell --model {folder} --kb {kb}\n" in capsys.readouterr().out
    (kb / "popularity.npy").unlink()
    with (kb / "forms.rows.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(SystemExit) as stop:
        blink(*options, "--json")
    assert stop.value.code == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert f"{kb / 'popularity.npy'} is missing" in problems
    assert any(problem.startswith(f"{kb / 'forms.rows.npy'} is not the file of the manifest") for problem in problems)


@pytest.mark.parametrize("name", BEST_FIRST)
@pytest.mark.parametrize("limit", [1 << 29, 3 << 30, 1 << 36])
def test_what_fits_is_what_the_plan_allows(name: str, limit: int) -> None:
    n = most_vectors(KINDS[name], 384, limit)
    assert plan_memory(StoredVectors(n, 384), limit, name).needed <= limit
    with pytest.raises(SettingsError):
        plan_memory(StoredVectors(n + 1 + n // 1000, 384), limit, name)


def test_free_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blink_machine, "CONTROL_GROUP", tmp_path)
    whole = blink_machine.free_bytes()
    for name, content in (
        ("memory.max", "1000000"),
        ("memory.current", "900000"),
        ("memory.stat", "anon 1\ninactive_file 5000"),
    ):
        (tmp_path / name).write_text(content)
    assert blink_machine.free_bytes() == 105_000
    (tmp_path / "memory.max").write_text("max\n")
    assert blink_machine.free_bytes() is not None
    assert whole is None or whole > 105_000
