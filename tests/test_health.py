"""`blink kb check`: a whole knowledge base has no problem, and every fault is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blink.apps.cli import cli
from blink.data.arrays import save_array
from blink.evaluation.index_check import index_cost, stated_cost
from blink.files import read_json, sample_hash, sha256
from blink.kb import attribute_table, verifying
from blink.kb.building import build_knowledge_base
from blink.kb.health import Health, check_knowledge_base
from blink.kb.index import ExactIndex
from blink.kb.index.compared import ComparedIndex
from blink.kb.index.protocol import NO_ROW
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.view import View
from blink.kb.manifest import INDEX_FILE, MANIFEST_FILE, VECTORS_FILE, read_manifest
from blink.kb.vectors import CandidateEncoder
from blink.linking.linker import Linker
from tests import toys

MODEL = "fingerprint"
ROWS = 60


def encode(entities: Any) -> np.ndarray:
    """Distinct unit vectors of titles."""
    seeds = [sum(ord(c) * 31**i for i, c in enumerate(e.title)) % 2**32 for e in entities]
    vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def build(folder: Path, rows: list[dict[str, Any]] | None = None, **options: Any) -> Path:
    source = toys.write_catalogue(folder.with_name(f"{folder.name}.jsonl"), rows or toys.rows(ROWS))
    build_knowledge_base(source, folder, encode, MODEL, **options)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("whole") / "kb")


@pytest.fixture
def kb(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "kb"))


def check(folder: Path, **options: Any) -> Health:
    return check_knowledge_base(folder, sample=30, **options)


def messages(health: Health) -> str:
    for problem in health.problems:
        assert "\n" not in problem.message
        assert "build it again" in problem.message or "build the knowledge base again" in problem.message
    return "\n".join(f"{p.check}: {p.message}" for p in health.problems)


def accept(folder: Path, *names: str) -> None:
    """Let the manifest describe files that were exchanged, so that their content alone can give the fault away."""
    manifest = read_manifest(folder)
    samples, hashes = ({name: of(folder / name) for name in names} for of in (sample_hash, sha256))
    toys.change_manifest(folder, samples={**manifest.samples, **samples}, sha256={**manifest.sha256, **hashes})


def rewrite_vectors(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    save_array(folder / VECTORS_FILE, change(np.array(np.load(folder / VECTORS_FILE))))
    accept(folder, VECTORS_FILE)


KINDS = [{"index": kind} for kind in ("flat", "coarse", "ivfpq", "hnsw")]


@pytest.mark.parametrize("options", [*KINDS, {"dtype": "fp16"}], ids=str)
def test_a_whole_knowledge_base_has_no_problem(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = build(tmp_path / "kb", **options)
    before = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    health = check(folder, encoder=CandidateEncoder(encode, MODEL))
    assert messages(health) == ""
    assert health.figures["entities"] == ROWS
    assert health.figures["index_recall_at_10_of_entities"] >= 0.99
    assert health.figures["least_cosine_encoded_again"] > 0.999
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_named(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    name = data.draw(st.sampled_from(sorted([*read_json(folder / MANIFEST_FILE)["samples"], "entity.jsonl"])))
    content = bytearray((folder / name).read_bytes())
    at, change = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    content[at] ^= change
    (folder / name).write_bytes(content)
    assert f"files: {name} is not the file of the manifest" in messages(check(folder))


def test_a_changed_byte_between_the_sampled_blocks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "WHOLE_BYTES", 0)
    folder = build(tmp_path / "kb", toys.rows(9000))
    content = bytearray((folder / VECTORS_FILE).read_bytes())
    digest = sample_hash(folder / VECTORS_FILE)
    for at in range(5000, len(content), 97):
        content[at] ^= 1
        (folder / VECTORS_FILE).write_bytes(content)
        if sample_hash(folder / VECTORS_FILE) == digest:
            break
        content[at] ^= 1
    KnowledgeBase.open(folder)
    assert f"files: {VECTORS_FILE} is not the file of the manifest" in messages(check(folder))


def test_a_missing_file_is_named(kb: Path) -> None:
    (kb / "forms.keys.npy").unlink()
    assert "files: forms.keys.npy is missing" in messages(check(kb))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda v: np.where(np.arange(len(v))[:, None] == 7, np.nan, v), "1 vectors hold NaN or infinity, such as row 7"),
        (lambda v: np.where(np.arange(len(v))[:, None] == 8, np.inf, v), "1 vectors hold NaN or infinity, such as row 8"),
        (lambda v: np.where(np.arange(len(v))[:, None] < 2, 0, v), "2 vectors are zero, such as rows 0, 1"),
        (lambda v: v[:, :8], "60 vectors of dimension 8 (float32), the manifest says 60 of 16 (fp32)"),
        (lambda v: v[:-1], "59 vectors of dimension 16 (float32), the manifest says 60 of 16 (fp32)"),
        (lambda v: v.astype(np.float16), "60 vectors of dimension 16 (float16), the manifest says 60 of 16 (fp32)"),
        (lambda v: v[[*range(50), *range(10)]], "10 pairs of entities of different titles have equal vectors, such as row 0"),
    ],
)
def test_wrong_vectors_are_named(kb: Path, change: Callable[[np.ndarray], np.ndarray], fault: str) -> None:
    rewrite_vectors(kb, lambda v: change(v).astype(change(v).dtype if change(v).dtype == np.float16 else np.float32))
    assert fault in messages(check(kb))


def test_equal_vectors_of_one_title_are_no_problem(tmp_path: Path) -> None:
    rows = toys.rows(ROWS)
    health = check(build(tmp_path / "kb", [*rows, {"title": rows[3]["title"].upper()} | {"title": rows[3]["title"]}]))
    assert messages(health) == ""
    assert health.figures["vectors_duplicate"] == 1
    assert "1 vectors equal that of an earlier entity of the same title, such as rows 3, 60" in health.notes


def test_vectors_of_other_entities_are_named_with_the_model(kb: Path) -> None:
    rewrite_vectors(kb, lambda v: v[::-1])
    assert messages(check(kb)) == ""
    assert "not 1: vectors and catalogue do not belong together" in messages(check(kb, encoder=CandidateEncoder(encode, MODEL)))


def test_another_model_is_named(kb: Path) -> None:
    assert "the vectors are of another model" in messages(check(kb, encoder=CandidateEncoder(encode, "other")))


@pytest.mark.parametrize("kind", ["hnsw", "coarse", "ivfpq"])
def test_an_index_of_other_vectors_is_named(tmp_path: Path, kind: str) -> None:
    folder = build(tmp_path / "kb", toys.rows(2000), index=kind)
    other = build(tmp_path / "other", [{"title": f"other {i}"} for i in range(2000)], index=kind)
    shutil.copy(other / INDEX_FILE, folder / INDEX_FILE)
    assert f"files: {INDEX_FILE} is not the file of the manifest" in messages(check(folder))
    accept(folder, INDEX_FILE)
    assert "index: the index returns " in messages(check(folder))


def test_the_manifest_of_another_knowledge_base_is_named(kb: Path, tmp_path: Path) -> None:
    other = build(tmp_path / "other", toys.rows(ROWS - 1, seed=1))
    shutil.copy(other / MANIFEST_FILE, kb / MANIFEST_FILE)
    faults = messages(check(kb))
    assert f"files: {VECTORS_FILE} is not the file of the manifest" in faults
    assert "entity.jsonl has 60 lines, the manifest 59" in faults


@pytest.mark.parametrize("text", ["", "[]", '{"entities": 3}'])
def test_a_broken_manifest_is_named(kb: Path, text: str) -> None:
    (kb / MANIFEST_FILE).write_text(text)
    health = check(kb)
    assert [p.check for p in health.problems] == ["manifest"]


def test_another_metric_is_named(kb: Path) -> None:
    toys.change_manifest(kb, metric="L2")
    assert "manifest: the metric is 'L2'" in messages(check(kb))


def test_broken_lines_are_named(kb: Path, tmp_path: Path) -> None:
    lines = (kb / "entity.jsonl").read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace('"title"', '"titel"')
    (kb / "entity.jsonl").write_text("".join(lines))
    toys.change_manifest(kb, catalogue_sha256=sha256(kb / "entity.jsonl"))
    accept(kb, "entity.jsonl")
    assert "has 1 broken lines or repeated ids (line 5), the manifest counts 0" in messages(check(kb))
    skipped = build(tmp_path / "skipped", [*toys.rows(ROWS), "no json"], skip_bad=True)  # type: ignore[list-item]
    health = check(skipped)
    assert messages(health) == ""
    assert any("1 broken lines" in note for note in health.notes)


@pytest.mark.parametrize(
    ("files", "table"),
    [
        ("forms.", "alias table"),
        ("spelling.", "fuzzy index"),
        ("names.", "table of titles"),
        ("popularity", "table of popularity"),
    ],
)
def test_names_of_another_catalogue_are_named(kb: Path, tmp_path: Path, files: str, table: str) -> None:
    rows = toys.rows(ROWS)
    other = build(tmp_path / "other", [{**rows[i], "title": f"{rows[i]['title']}x", "kb_idx": f"Q{i}"} for i in range(ROWS)])
    moved = [p.name for p in other.iterdir() if p.name.startswith(files)]
    for name in moved:
        shutil.copy(other / name, kb / name)
    accept(kb, *moved)
    assert f"names: the {table} does not agree with the catalogue on" in messages(check(kb))


def test_the_command_prints_problems_and_fails(kb: Path) -> None:
    good = CliRunner().invoke(cli, ["kb", "check", str(kb), "--sample", "20"], catch_exceptions=False)
    assert good.exit_code == 0
    assert good.stdout.splitlines()[-1] == f"{kb}: no problem"
    rewrite_vectors(kb, lambda v: np.where(np.arange(len(v))[:, None] == 7, np.nan, v).astype(np.float32))
    bad = CliRunner().invoke(cli, ["kb", "check", str(kb), "--json"], catch_exceptions=False)
    assert bad.exit_code == 1
    report = json.loads(bad.stdout)
    assert report["healthy"] is False
    assert report["problems"][0]["message"].startswith("1 vectors hold NaN or infinity, such as row 7")
    absent = CliRunner().invoke(cli, ["kb", "check", str(kb / "absent")], catch_exceptions=False)
    assert absent.exit_code == 1
    assert "is not a knowledge base" in absent.stdout


class ShuffledIndex:
    """Returns rows that have nothing to do with the query, for a share of the queries."""

    def __init__(self, vectors: np.ndarray, wrong: float) -> None:
        self.exact, self.wrong = ExactIndex(vectors), wrong
        self.dim, self.size = vectors.shape[1], len(vectors)

    def search(self, queries: np.ndarray, k: int, selector: RowSelector | None = None) -> Any:
        scores, rows = self.exact.search(queries, k)
        worst, worst_rows = self.exact.search(-queries, k)
        n_wrong = round(self.wrong * len(queries))
        return np.concatenate([-worst[:n_wrong], scores[n_wrong:]]), np.concatenate([worst_rows[:n_wrong], rows[n_wrong:]])


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_recall_is_the_share_of_right_answers(size: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors, queries = random.normal(size=(size, 6)).astype(np.float32), random.normal(size=(8, 6)).astype(np.float32)
    exact = ComparedIndex(ExactIndex(vectors), vectors)
    rows = exact.search(queries, k)[1]
    assert exact.recall == 1
    assert (rows != NO_ROW).sum() == 8 * min(size, k)
    if size >= 2 * k:
        half = ComparedIndex(ShuffledIndex(vectors, 0.5), vectors)
        half.search(queries, k)
        assert half.recall == 0.5


def test_recall_does_not_depend_on_the_order_of_equal_vectors() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)

    class Reversed(ShuffledIndex):
        def search(self, queries: np.ndarray, k: int, selector: RowSelector | None = None) -> Any:
            scores, rows = self.exact.search(queries, 20)
            return scores[:, ::-1][:, :k], rows[:, ::-1][:, :k]

    compared = ComparedIndex(Reversed(vectors, 0), vectors)
    compared.search(np.eye(4, dtype=np.float32), 10)
    assert compared.recall == 1


def test_links_that_an_index_changes_are_counted(tmp_path: Path) -> None:
    model = toys.model(1, cosine=True)
    kb = toys.knowledge_base(tmp_path / "kb", model, toys.rows(40))
    names = [f"{toys.NAMES[i]} {i}" for i in range(10)]
    texts = [
        {"id": str(i), "text": f"where is {name}?", "mentions": [[9, 9 + len(name)]], "label_id": [i]}
        for i, name in enumerate(names)
    ]
    file = tmp_path / "gold.jsonl"
    file.write_text("".join(json.dumps(text) + "\n" for text in texts))
    linker = Linker(model, kb, threshold=float("-inf"))
    same = index_cost(linker, str(file))
    assert same.links > 0
    assert same.changed == 0
    assert same.f1 == same.exact_f1
    kb.view = View(replace(kb.view.base, index=ShuffledIndex(np.asarray(kb.vectors), 1.0)), kb.changes)
    other = index_cost(Linker(model, kb, threshold=float("-inf")), str(file))
    assert other.recall is not None
    assert other.recall < 0.5
    assert other.changed > 0
    health = Health()
    other.add_to(health, "build it again")
    assert health.problems


def test_the_cost_of_an_index_is_stated(tmp_path: Path) -> None:
    model = toys.model(1, cosine=True)
    toys.knowledge_base(tmp_path / "kb", model, toys.rows(40))
    model.save_pretrained(tmp_path / "model")
    line = stated_cost(tmp_path / "kb", str(tmp_path / "model"))
    assert "\n" not in line
    assert re.search(r"recall@10 1\.0000, 0 of \d+ links changed, \d+\.\d\d of its time; 40 texts about its entities", line)
    (tmp_path / "texts.txt").write_text(f"where is {toys.NAMES[0]}?\n")
    assert "1 texts of " in stated_cost(tmp_path / "kb", str(tmp_path / "model"), str(tmp_path / "texts.txt"))
    toys.model(2, cosine=True).save_pretrained(tmp_path / "other")
    assert "not measured, since the vectors of" in stated_cost(tmp_path / "kb", str(tmp_path / "other"))


@given(st.integers(1, 5))
def test_times_of_searches_are_compared(searches: int) -> None:
    vectors = np.eye(4, dtype=np.float32)
    compared = ComparedIndex(ExactIndex(vectors), vectors)
    assert compared.time_ratio is None
    for _ in range(searches):
        compared.search(vectors, 2)
    assert compared.time_ratio is not None
    assert compared.time_ratio >= 0


def test_a_table_of_types_of_other_entities_is_named(tmp_path: Path) -> None:
    for name, kind in (("kb", "city"), ("other", "town")):
        source = toys.write_catalogue(tmp_path / f"{name}.jsonl", [row | {"types": [kind]} for row in toys.rows(9)])
        build_knowledge_base(source, tmp_path / name, toys.letter_counts(), "fingerprint")
    for file in attribute_table.FILES:
        (tmp_path / "other" / file).replace(tmp_path / "kb" / file)
    accept(tmp_path / "kb", *attribute_table.FILES)
    problems = [problem.message for problem in check_knowledge_base(tmp_path / "kb").problems]
    assert any("the table of types and tags does not agree with the catalogue on 9 of 9 entities" in line for line in problems)
