"""A text has the same scores whichever way the starter is opened: in Python, by each command, and by the original's script."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BufferedReader, BytesIO, StringIO
from pathlib import Path

import pytest

import blink
from blink.apps.shell.stream import link_stream
from blink.bulk.linkers import linker_settings
from blink.cluster.plans import linking_plan
from blink.compat.elq import files as original_files
from blink.compat.elq.flags import SCRIPT
from blink.compat.elq.plan import resolve
from blink.evaluation.run import evaluate_file
from blink.linking.linker import Linker
from blink.linking.opening import open_linker
from blink.linking.starter import prior_of, starter_kb, starter_model, starter_prior
from blink.model.loading import load_model

Run = Callable[..., tuple[int, str, str]]
Scores = list[tuple[int, int, int, float]]

TEXTS = (
    "Who is the president of Georgia?",
    "Java and Mercury near Paris",
    "nothing of note here",
    "Michael Jordan played for the Chicago Bulls.",
)
KINDS = (("onnx", "fp32"), ("onnx", "int8"), ("torch", "fp32"), ("torch", "bf16"))
"""Backend and precision."""


def of_linker(linker: Linker) -> list[Scores]:
    return [[(x.start, x.end, x.row, x.score) for x in linked.links] for linked in linker(list(TEXTS))]


def of_lines(text: str) -> list[Scores]:
    return [[(x["start"], x["end"], x["row"], x["score"]) for x in json.loads(line)["links"]] for line in text.splitlines()]


def compare(got: list[Scores], expected: list[Scores], tolerance: float = 2e-4) -> None:
    assert [[x[:3] for x in links] for links in got] == [[x[:3] for x in links] for links in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert [x[3] for x in mine] == pytest.approx([x[3] for x in theirs], abs=tolerance)


@pytest.fixture(autouse=True)
def own_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLINK_BACKEND")


@pytest.fixture(scope="module")
def folders(starter: Path) -> tuple[str, str]:
    return str(starter_model()), str(starter)


@pytest.fixture(scope="module")
def expected(folders: tuple[str, str]) -> dict[tuple[str, str], list[Scores]]:
    """What ``load()`` gives, by backend and precision."""
    return {kind: of_linker(blink.load(backend=kind[0], precision=kind[1])) for kind in KINDS}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS))
    return file


def test_the_prior_changes_these_scores(expected: dict[tuple[str, str], list[Scores]], folders: tuple[str, str]) -> None:
    """So that the comparisons below can fail."""
    bare = of_linker(blink.load(backend="onnx", precision="fp32", prior="none"))
    assert abs(bare[0][0][3] - expected["onnx", "fp32"][0][0][3]) > 0.05
    assert sum(map(len, expected["onnx", "fp32"])) >= 5


def test_in_python(expected: dict[tuple[str, str], list[Scores]], folders: tuple[str, str]) -> None:
    options = {"backend": "onnx", "precision": "fp32"}
    model, kb = folders
    opened = blink.KnowledgeBase.open(kb)
    ways = (
        Linker.from_pretrained("starter", **options),
        Linker.from_pretrained(model, kb, **options),
        Linker.from_pretrained(f"{model}/../starter", opened, **options),
        blink.load(kb=kb, **options),
        blink.load(kb=opened, **options),
        open_linker(None, None, **options),
        open_linker(model, kb, **options),
    )
    for linker in ways:
        compare(of_linker(linker), expected["onnx", "fp32"])
        assert linker.options.prior_file == starter_prior()


def test_objects_in_memory(expected: dict[tuple[str, str], list[Scores]], folders: tuple[str, str]) -> None:
    linker = Linker(load_model(folders[0]), blink.KnowledgeBase.open(folders[1]), prior=starter_prior(), precision="fp32")
    compare(of_linker(linker), expected["torch", "fp32"])


@pytest.mark.parametrize("kind", KINDS)
def test_by_command(
    blink: Run, expected: dict[tuple[str, str], list[Scores]], folders: tuple[str, str], kind: tuple[str, str]
) -> None:
    how = ("--backend", kind[0], "--precision", kind[1])
    named = ("--model", folders[0], "--kb", folders[1])
    for command in (("link", *TEXTS, "--json", *how), ("link", *TEXTS, "--json", *how, *named)):
        status, out, err = blink(*command)
        assert status == 0, err
        compare(of_lines(out), expected[kind])


def test_files_pipes_and_jobs(
    blink: Run,
    expected: dict[tuple[str, str], list[Scores]],
    folders: tuple[str, str],
    lines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    how = ("--backend", "onnx", "--precision", "fp32")
    assert blink("link", "--file", lines, "--out", tmp_path / "bulk.jsonl", *how)[0] == 0
    compare(of_lines((tmp_path / "bulk.jsonl").read_text()), expected["onnx", "fp32"])
    sharded = ("slurm", "link", lines, "--out", tmp_path / "job.jsonl", "--shards", 2, "--submit", "local", *how)
    assert blink(*sharded, "--model", folders[0], "--kb", folders[1])[0] == 0
    compare(of_lines((tmp_path / "job.jsonl").read_text()), expected["onnx", "fp32"])
    monkeypatch.setattr("sys.stdout", printed := StringIO())
    link_stream(open_linker(None, None, backend="onnx", precision="fp32"), BufferedReader(BytesIO(lines.read_bytes())))
    compare(of_lines(printed.getvalue()), expected["onnx", "fp32"])


def test_an_evaluation_scores_the_same_links(
    expected: dict[tuple[str, str], list[Scores]], folders: tuple[str, str], tmp_path: Path
) -> None:
    gold = tmp_path / "gold.jsonl"
    with gold.open("w") as f:
        for number, (text, links) in enumerate(zip(TEXTS, expected["onnx", "fp32"], strict=True)):
            row = {"id": str(number), "text": text, "mentions": [x[:2] for x in links], "label_id": [x[2] for x in links]}
            f.write(json.dumps(row) + "\n")
    for named in ({}, {"model": folders[0], "kb": folders[1]}):
        results = evaluate_file(str(gold), backend="onnx", precision="fp32", **named)
        assert results.figures["all"]["strong"]["f1"] == 1.0
        rows = [[(p["start"], p["end"], p["score"]) for p in row["predicted"]] for row in results.rows]
        for mine, theirs in zip(rows, expected["onnx", "fp32"], strict=True):
            assert [x[:2] for x in mine] == [x[:2] for x in theirs]
            assert [x[2] for x in mine] == pytest.approx([x[3] for x in theirs], abs=2e-4)


def test_the_original_s_script(expected: dict[tuple[str, str], list[Scores]], folders: tuple[str, str]) -> None:
    plan = resolve(SCRIPT.parse(["-i", "--precision", "fp32"]))
    assert plan is not None
    compare(of_linker(original_files.open_linker(replace(plan, device="cpu"))), expected["torch", "fp32"])


def test_records_of_runs_name_the_prior_however_the_starter_is_named(folders: tuple[str, str], lines: Path) -> None:
    bare = {"model": None, "kb": None, "prior": None, "rank": True, "without": ()}
    named = bare | {"model": folders[0], "kb": folders[1]}
    assert linker_settings(bare)["prior"] == linker_settings(named)["prior"] is not None
    options = {"threshold": None, "document": None, "batch_size": 4, "precision": "fp32", "backend": "onnx", "device": None}
    records = {"text_key": None, "id_key": None, "carry": None, "no_text": False, "descriptions": False, "no_candidates": False}
    plans = [
        linking_plan([str(lines)], str(lines.with_suffix(".jsonl")), 1, o | options, records, hashes=True)[0]
        for o in (bare, named)
    ]
    assert plans[0].inputs["prior"] == plans[1].inputs["prior"]


def test_another_model_or_knowledge_base_has_no_prior_of_the_starter(folders: tuple[str, str], tmp_path: Path) -> None:
    model, kb = folders
    (tmp_path / "kb").mkdir()
    memory = blink.KnowledgeBase.open(kb)
    memory._folder = None
    assert prior_of(model, kb, {}) == prior_of(None, kb, {}) == prior_of("starter", None, {}) == starter_prior() is not None
    for pair in ((None, str(tmp_path / "kb")), (str(tmp_path), kb), (None, memory), (str(tmp_path / "missing"), kb)):
        assert prior_of(*pair, {}) is None
    assert prior_of(model, kb, {"rank": False}) is prior_of(model, kb, {"without": ["names"]}) is None
    assert starter_kb() == Path(kb)


def test_no_prior_is_none_in_python_and_in_commands(blink: Run) -> None:
    without = of_linker(Linker.from_pretrained(prior="none"))
    compare(of_linker(open_linker(None, None, prior="none")), without)
    code, printed, _ = blink("link", "--json", "--prior", "none", *TEXTS)
    assert code == 0
    compare(of_lines(printed), without)
    assert without != of_linker(open_linker(None, None))
