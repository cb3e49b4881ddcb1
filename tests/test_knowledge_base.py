"""Knowledge bases: what is built opens again, a kill or a full disk costs nothing that was there, and what does not belong
together is refused."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blink.data.records import Entity
from blink.errors import BlinkError, DataError, MismatchError, MissingFileError, SettingsError
from blink.kb import building as module
from blink.kb import catalogue_sidecar, title_table
from blink.kb.building import BuildProgress, build_knowledge_base
from blink.kb.catalogue import Catalogue
from blink.kb.fuzzy_index import FuzzyIndex, file_of
from blink.kb.grams import N_TRIGRAMS
from blink.kb.index import ExactIndex
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.manifest import CATALOGUE_FILE, CHUNKS_FOLDER, INDEX_FILE, MANIFEST_FILE, VECTORS_FILE, read_manifest
from blink.kb.reindex import reindex
from blink.kb.vectors import EncodingPlan, chunk_file, encode_chunks, load_vectors, merge_chunks
from tests import toys

pytestmark = pytest.mark.quick

MODEL = "fingerprint"
ENCODE = toys.letter_counts()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows(23))


def build(source: Path, out: Path, encode: Any = ENCODE, model: str = MODEL, **options: Any) -> Any:
    return build_knowledge_base(source, out, encode, model, **{"chunk_rows": 5, **options})


def content(folder: Path) -> dict[str, bytes]:
    """The files of a knowledge base; not the catalogue's sidecar, which is made when it is opened."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.endswith(".offsets")}


def answers(base: KnowledgeBase) -> list[list[int]]:
    """The nearest row of each entity's own vector, and the titles in order."""
    queries = ENCODE(list(base.catalogue))
    return base.index.search(queries, 3)[1].tolist()


def one_line(caught: pytest.ExceptionInfo[BlinkError], *phrases: str) -> None:
    message = str(caught.value)
    assert "\n" not in message
    for phrase in phrases:
        assert phrase in message


class Encoder:
    """Encodes, counts, and can fail at a call."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.rows: list[list[int]] = []
        self.fail_at, self.error = fail_at, error or RuntimeError("out of memory")

    def __call__(self, entities: Sequence[Entity]) -> np.ndarray:
        if len(self.rows) == self.fail_at:
            raise self.error
        self.rows.append([e.row for e in entities])
        return ENCODE(entities)


# --- build and open -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("index", ["flat", "hnsw", "ivfflat"])
def test_what_is_built_opens_again(tmp_path: Path, source: Path, index: str, dtype: str) -> None:
    manifest = build(source, tmp_path / "kb", index=index, dtype=dtype)
    base = KnowledgeBase.open(tmp_path / "kb")
    assert base.manifest == manifest == read_manifest(tmp_path / "kb")
    assert (manifest.entities, manifest.dim, manifest.index, manifest.dtype, manifest.skipped) == (23, 6, index, dtype, 0)
    assert list(base.catalogue) == list(Catalogue.open(source))
    assert (base.index.size, base.index.dim) == (23, 6)
    stored = load_vectors(tmp_path / "kb" / VECTORS_FILE)
    expected = ENCODE(list(base.catalogue))
    assert stored.dtype == {"fp32": np.float32, "fp16": np.float16}[dtype]
    assert np.allclose(stored, expected, rtol=1e-3)
    scores, rows = base.index.search(expected[:4], 3)
    exact_scores, exact_rows = ExactIndex(stored).search(expected[:4], 3)
    assert np.allclose(scores, exact_scores, rtol=1e-3)
    assert rows[:, 0].tolist() == exact_rows[:, 0].tolist()
    assert (tmp_path / "kb" / INDEX_FILE).is_file() == (index != "flat")
    assert not (tmp_path / "kb" / ".build").exists()


def test_the_last_short_chunk_is_not_lost(tmp_path: Path, source: Path) -> None:
    encode = Encoder()
    build(source, tmp_path / "kb", encode)
    assert encode.rows == [list(range(s, min(s + 5, 23))) for s in range(0, 23, 5)]


def test_a_build_with_chunks_of_another_size_is_continued(tmp_path: Path, source: Path) -> None:
    failing = Encoder(fail_at=3)
    with pytest.raises(RuntimeError):
        build(source, tmp_path / "kb", failing, chunk_rows=5)
    rest = Encoder()
    build(source, tmp_path / "kb", rest, chunk_rows=None)
    assert [len(rows) for rows in rest.rows] == [5, 3]
    base = KnowledgeBase.open(tmp_path / "kb")
    np.testing.assert_array_equal(np.asarray(base.vectors), ENCODE(list(base.catalogue)))


@pytest.mark.parametrize("chunk_rows", [1, 22, 23, 24, 5000])
def test_chunks_leave_no_trace_in_the_vectors(tmp_path: Path, source: Path, chunk_rows: int) -> None:
    build(source, tmp_path / "kb", chunk_rows=chunk_rows)
    assert np.array_equal(load_vectors(tmp_path / "kb" / VECTORS_FILE), ENCODE(list(Catalogue.open(source))))


def test_another_kind_of_index_leaves_none_of_the_old(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "kb", index="hnsw")
    build(source, tmp_path / "kb", index="flat")
    assert not (tmp_path / "kb" / INDEX_FILE).exists()
    assert isinstance(KnowledgeBase.open(tmp_path / "kb").index, ExactIndex)


def test_a_build_that_failed_leaves_no_index_to_the_next(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(old: Path, new: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(OSError, match="No space"):
        build(source, tmp_path / "kb", index="hnsw")
    monkeypatch.undo()
    build(source, tmp_path / "kb", index="flat")
    assert not (tmp_path / "kb" / INDEX_FILE).exists()


def test_progress_names_the_stages_and_counts_every_row(tmp_path: Path, source: Path) -> None:
    stages: list[tuple[str, int]] = []
    done: list[int] = []
    build(source, tmp_path / "kb", progress=BuildProgress(lambda name, total: stages.append((name, total)), done.append))
    assert ("encoding", 23) in stages
    assert ("indexing names", 23) in stages
    assert sum(done) == 2 * 23


def test_building_in_place_reads_the_catalogue_of_the_folder(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "kb")
    with (tmp_path / "kb" / CATALOGUE_FILE).open("a") as f:
        f.write('{"title": "Samarkand"}\n')
    with pytest.raises(MismatchError):
        KnowledgeBase.open(tmp_path / "kb")
    build(tmp_path / "kb" / CATALOGUE_FILE, tmp_path / "kb")
    base = KnowledgeBase.open(tmp_path / "kb")
    assert base.catalogue.title(23) == "Samarkand"
    assert np.array_equal(load_vectors(tmp_path / "kb" / VECTORS_FILE), ENCODE(list(base.catalogue)))


def test_broken_lines_keep_their_row(tmp_path: Path) -> None:
    lines: list[Any] = toys.rows(4)
    lines[2] = "no JSON"
    source = toys.write_catalogue(tmp_path / "entity.jsonl", lines)
    with pytest.raises(DataError, match="line 3"):
        build(source, tmp_path / "kb")
    assert build(source, tmp_path / "kb", skip_bad=True).skipped == 1
    base = KnowledgeBase.open(tmp_path / "kb")
    assert [base.catalogue.is_bad(row) for row in range(4)] == [False, False, True, False]
    assert base.index.size == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtype": "fp8"}, SettingsError, "fp8"),
        ({"chunk_rows": 0}, SettingsError, "chunk of 0 rows"),
        ({"index": "tree"}, SettingsError, "tree"),
    ],
)
def test_options_that_are_not_allowed_cost_nothing(
    tmp_path: Path, source: Path, options: dict[str, Any], error: type[BlinkError], message: str
) -> None:
    encode = Encoder()
    with pytest.raises(error, match=message):
        build(source, tmp_path / "kb", encode, **options)
    assert encode.rows == []


def test_a_catalogue_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        build(tmp_path / "no.jsonl", tmp_path / "kb")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no entities"):
        build(tmp_path / "empty.jsonl", tmp_path / "kb")


@pytest.mark.parametrize(
    "bad",
    [
        lambda e: ENCODE(e)[:-1],
        lambda e: np.full((len(e), 6), np.nan, np.float32),
        lambda e: np.full((len(e), 6), np.inf, np.float32),
    ],
)
def test_vectors_that_cannot_be_are_refused(
    tmp_path: Path, source: Path, bad: Callable[[Sequence[Entity]], np.ndarray]
) -> None:
    with pytest.raises(DataError, match=r"no finite fp32 vector for every row of \[0, 5\)"):
        build(source, tmp_path / "kb", bad)


def test_a_number_too_large_for_half_precision_is_found_before_it_is_stored(tmp_path: Path, source: Path) -> None:
    def large(entities: Sequence[Entity]) -> np.ndarray:
        return np.full((len(entities), 6), 1e5, np.float32)

    with pytest.raises(DataError, match="finite"):
        build(source, tmp_path / "kb", large, dtype="fp16")
    assert build(source, tmp_path / "kb", large, dtype="fp32").dim == 6


# --- kills and failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [0, 1, 4])
def test_a_build_that_broke_off_goes_on_where_it_was(tmp_path: Path, source: Path, done: int) -> None:
    build(source, tmp_path / "whole")
    first = Encoder(fail_at=done)
    with pytest.raises(RuntimeError, match="out of memory"):
        build(source, tmp_path / "kb", first)
    with pytest.raises(MissingFileError, match="is not a knowledge base"):
        KnowledgeBase.open(tmp_path / "kb")
    second = Encoder()
    build(source, tmp_path / "kb", second)
    assert first.rows + second.rows == [list(range(s, min(s + 5, 23))) for s in range(0, 23, 5)]
    assert content(tmp_path / "kb") == content(tmp_path / "whole")


def lengths(entities: Sequence[Entity]) -> np.ndarray:
    """An encoder of one line, for a process that should start quickly."""
    return np.array([[len(e.title), len(e.text), e.row] for e in entities], dtype=np.float32)


KILLED = """
import sys, time
import numpy as np
from blink.kb.building import build_knowledge_base
def slow(entities):
    if entities[0].row == 10:
        print("third", flush=True); time.sleep(60)
    return np.array([[len(e.title), len(e.text), e.row] for e in entities], dtype=np.float32)
build_knowledge_base(sys.argv[1], sys.argv[2], slow, "fingerprint", chunk_rows=5)
"""


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "whole", lengths)
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "kb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"third\n"
        process.send_signal(signal.SIGKILL)
    first_rows: list[int] = []

    def encode(entities: Sequence[Entity]) -> np.ndarray:
        first_rows.append(entities[0].row)
        return lengths(entities)

    build(source, tmp_path / "kb", encode)
    assert first_rows == [10, 15, 20]
    assert content(tmp_path / "kb") == content(tmp_path / "whole")


@pytest.mark.parametrize("change", ["catalogue", "model", "dtype", "chunk_rows"])
def test_chunks_of_another_plan_are_not_used(tmp_path: Path, source: Path, change: str) -> None:
    with pytest.raises(RuntimeError):
        build(source, tmp_path / "kb", Encoder(fail_at=2))
    options: dict[str, Any] = {"model": {"model": "another"}, "dtype": {"dtype": "fp16"}, "chunk_rows": {"chunk_rows": 4}}.get(
        change, {}
    )
    if change == "catalogue":
        toys.write_catalogue(source, [*toys.rows(22), {"title": "Samarkand"}])
    encode = Encoder()
    build(source, tmp_path / "kb", encode, **options)
    assert encode.rows[0][0] == 0
    stored = load_vectors(tmp_path / "kb" / VECTORS_FILE)
    assert np.allclose(stored, ENCODE(list(Catalogue.open(source))), rtol=1e-3)


def test_a_plan_that_cannot_be_read_is_made_again(tmp_path: Path, source: Path) -> None:
    with pytest.raises(RuntimeError):
        build(source, tmp_path / "kb", Encoder(fail_at=2))
    (tmp_path / "kb" / ".build" / CHUNKS_FOLDER / "plan.json").write_text("{")
    encode = Encoder()
    build(source, tmp_path / "kb", encode)
    assert len(encode.rows) == 5


def test_a_good_knowledge_base_stays_in_use_while_a_rebuild_fails(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "kb")
    before, opened = content(tmp_path / "kb"), KnowledgeBase.open(tmp_path / "kb")
    expected = answers(opened)
    toys.write_catalogue(source, toys.rows(30, seed=1))
    for error in (RuntimeError("out of memory"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            build(source, tmp_path / "kb", Encoder(fail_at=2, error=error), "another")
        assert content(tmp_path / "kb") == before
        assert answers(opened) == expected
        assert answers(KnowledgeBase.open(tmp_path / "kb")) == expected
    assert build(source, tmp_path / "kb", model="another").entities == 30
    assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == 30
    # A knowledge base that was open before reads the files that it opened.
    assert answers(opened) == expected


@pytest.mark.parametrize("writes_before", range(12))
def test_a_full_disk_never_harms_a_good_knowledge_base(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, writes_before: int
) -> None:
    build(source, tmp_path / "kb", index="hnsw")
    before = content(tmp_path / "kb")
    toys.write_catalogue(source, toys.rows(30, seed=1))
    Catalogue.open(source).close()
    writes_left = [writes_before]

    def fsync(descriptor: int) -> None:
        writes_left[0] -= 1
        if writes_left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        build(source, tmp_path / "kb", index="hnsw", chunk_rows=10)
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - later writes than there are all succeed
        assert content(tmp_path / "kb") == before
        monkeypatch.undo()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == 23
        build(source, tmp_path / "kb", index="hnsw", chunk_rows=10)
    else:
        assert writes_before > 6
    assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == 30


def test_a_kill_while_files_are_put_in_place_is_never_a_mixture(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(source, tmp_path / "kb")
    toys.write_catalogue(source, toys.rows(30, seed=1))
    original, renames_left = Path.replace, [1]

    def replace(self: Path, target: Path) -> Path:
        renames_left[0] -= 1
        if renames_left[0] < 0:
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "kb", model="another")
    monkeypatch.setattr(Path, "replace", original)
    assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == 30
    encode = Encoder()
    build(source, tmp_path / "kb", encode, model="another")
    assert encode.rows == []
    assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == 30
    assert not list((tmp_path / "kb").glob("compacted-*"))
    assert not list((tmp_path / "kb").glob(".*"))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_on_a_disk_where_files_have_one_name_the_new_files_stay_in_a_folder(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    build(source, tmp_path / "kb")
    toys.write_catalogue(source, toys.rows(30, seed=1))

    def link(old: Path, new: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    for rows in (30, 25, 20):
        toys.write_catalogue(source, toys.rows(rows, seed=1))
        build(source, tmp_path / "kb")
        assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == rows
        assert len(list((tmp_path / "kb").glob("compacted-*"))) == 1
    reindex(tmp_path / "kb", "hnsw")
    assert KnowledgeBase.open(tmp_path / "kb").manifest.index == "hnsw"
    monkeypatch.undo()
    build(source, tmp_path / "kb", index="flat")
    assert not list((tmp_path / "kb").glob("compacted-*"))
    assert len(KnowledgeBase.open(tmp_path / "kb").catalogue) == 20


def test_a_catalogue_that_changes_during_the_build_is_noticed_and_the_old_stays(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "kb")
    before = content(tmp_path / "kb")

    def editing(entities: Sequence[Entity]) -> np.ndarray:
        vectors = ENCODE(entities)
        other = source.with_name("other.jsonl")
        toys.write_catalogue(other, toys.rows(23, seed=9))
        other.replace(source)
        return vectors

    with pytest.raises(DataError) as caught:
        build(source, tmp_path / "kb", editing, model="another")
    one_line(caught, str(source), "changed while")
    assert content(tmp_path / "kb") == before
    KnowledgeBase.open(tmp_path / "kb")


# --- merging --------------------------------------------------------------------------------------------------------


@pytest.fixture
def chunks(tmp_path: Path, source: Path) -> Path:
    with Catalogue.open(source) as catalogue:
        encode_chunks(catalogue, ENCODE, EncodingPlan(23, catalogue.sha256, MODEL, chunk_rows=5), tmp_path / "chunks")
    return tmp_path / "chunks"


def test_merging_keeps_every_row_in_order(tmp_path: Path, source: Path, chunks: Path) -> None:
    merge_chunks(chunks, tmp_path / "all.npy")
    assert np.array_equal(load_vectors(tmp_path / "all.npy"), ENCODE(list(Catalogue.open(source))))
    assert np.array_equal(np.load(tmp_path / "all.npy"), ENCODE(list(Catalogue.open(source))))


@pytest.mark.parametrize(("start", "end"), [(0, 5), (10, 15), (20, 23)])
def test_a_gap_is_refused_and_named(tmp_path: Path, chunks: Path, start: int, end: int) -> None:
    path = chunk_file(chunks, start, end)
    path.unlink()
    with pytest.raises(MismatchError) as caught:
        merge_chunks(chunks, tmp_path / "all.npy")
    one_line(caught, path.name, f"rows [{start}, {end}) are not encoded")
    assert not (tmp_path / "all.npy").exists()


def test_a_short_chunk_is_refused_and_named(tmp_path: Path, chunks: Path) -> None:
    path = chunk_file(chunks, 10, 15)
    np.save(path, np.load(path)[:4])
    with pytest.raises(MismatchError) as caught:
        merge_chunks(chunks, tmp_path / "all.npy")
    one_line(caught, path.name, "4 x 6", "expected 5 x 6")


def test_a_chunk_of_another_width_is_refused_and_named(tmp_path: Path, chunks: Path) -> None:
    path = chunk_file(chunks, 10, 15)
    np.save(path, np.ones((5, 7), np.float32))
    with pytest.raises(MismatchError) as caught:
        merge_chunks(chunks, tmp_path / "all.npy")
    one_line(caught, path.name, "5 x 7")


def test_a_chunk_of_another_number_format_is_refused_and_named(tmp_path: Path, chunks: Path) -> None:
    path = chunk_file(chunks, 10, 15)
    np.save(path, np.load(path).astype(np.float16))
    with pytest.raises(MismatchError) as caught:
        merge_chunks(chunks, tmp_path / "all.npy")
    one_line(caught, path.name)


@pytest.mark.parametrize("keep", [0, 50, 140])
def test_a_truncated_chunk_is_refused_and_named(tmp_path: Path, chunks: Path, keep: int) -> None:
    path = chunk_file(chunks, 10, 15)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MismatchError) as caught:
        merge_chunks(chunks, tmp_path / "all.npy")
    one_line(caught, path.name, "damaged")


CHUNK_FAULTS: dict[str, Callable[[Path, Path], object]] = {
    "flipped": lambda path, other: path.write_bytes(path.read_bytes()[:-40] + b"?" + path.read_bytes()[-39:]),
    "swapped": lambda path, other: path.write_bytes(other.read_bytes()),
    "written by an earlier version": lambda path, other: np.save(path, np.load(path)),
    "deleted plan": lambda path, other: (path.parent / "plan.json").unlink(),
}


@pytest.mark.parametrize("fault", CHUNK_FAULTS)
def test_a_chunk_that_is_not_what_was_written_is_encoded_again(tmp_path: Path, source: Path, chunks: Path, fault: str) -> None:
    path = chunk_file(chunks, 10, 15)
    CHUNK_FAULTS[fault](path, chunk_file(chunks, 5, 10))
    if fault != "deleted plan":
        with pytest.raises(MismatchError, match=r"is damaged, or not of this encoding; run the encoding again"):
            merge_chunks(chunks, tmp_path / "all.npy")
    rows, notes = list[int](), list[str]()

    def encode(entities: Sequence[Entity]) -> np.ndarray:
        rows.extend(entity.row for entity in entities)
        return ENCODE(entities)

    with Catalogue.open(source) as catalogue:
        plan = EncodingPlan(23, catalogue.sha256, MODEL, chunk_rows=5)
        encode_chunks(catalogue, encode, plan, chunks, note=notes.append)
    assert rows == list(range(23) if fault == "deleted plan" else range(10, 15))
    assert len(notes) == 1
    assert "encoded again" in notes[0]
    merge_chunks(chunks, tmp_path / "all.npy")
    assert np.array_equal(load_vectors(tmp_path / "all.npy"), ENCODE(list(Catalogue.open(source))))


@pytest.mark.parametrize("bad", [np.ones(3, np.float32), np.ones((2, 2), np.int64), np.ones((2, 2, 2), np.float32)])
def test_arrays_that_are_no_vectors_are_refused(tmp_path: Path, bad: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", bad)
    with pytest.raises(MismatchError, match="2-d float32 or float16"):
        load_vectors(tmp_path / "a.npy")


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MismatchError, match="damaged"):
        load_vectors(tmp_path / "a.npy")


# --- what does not belong together ----------------------------------------------------------------------------------


@pytest.fixture
def kb(tmp_path: Path, source: Path) -> Path:
    build(source, tmp_path / "kb")
    return tmp_path / "kb"


def test_a_changed_catalogue_is_refused(kb: Path) -> None:
    KnowledgeBase.open(kb)
    path = kb / CATALOGUE_FILE
    time.sleep(0.01)
    path.write_text(path.read_text().replace("Georgia 0", "Georgia 9"))
    with pytest.raises(MismatchError) as caught:
        KnowledgeBase.open(kb)
    one_line(caught, str(path), "was changed", "blink kb build")


@pytest.mark.parametrize("shape", [(22, 6), (23, 6), (23, 7)])
def test_swapped_vectors_are_refused(kb: Path, shape: tuple[int, int]) -> None:
    np.save(kb / VECTORS_FILE, np.ones(shape, np.float32))
    with pytest.raises(MismatchError) as caught:
        KnowledgeBase.open(kb)
    one_line(caught, VECTORS_FILE, "not made with the rest", "blink kb build")


def test_a_swapped_index_is_refused(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "kb", index="hnsw")
    other = toys.write_catalogue(tmp_path / "other.jsonl", toys.rows(9))
    build(other, tmp_path / "other", index="hnsw")
    shutil.copy(tmp_path / "other" / INDEX_FILE, tmp_path / "kb" / INDEX_FILE)
    with pytest.raises(MismatchError) as caught:
        KnowledgeBase.open(tmp_path / "kb")
    one_line(caught, INDEX_FILE, "not made with the rest")


def test_another_model_is_refused(kb: Path) -> None:
    base = KnowledgeBase.open(kb)
    base.require_model(MODEL)
    base.require_model(None)
    with pytest.raises(MismatchError) as caught:
        base.require_model("another")
    one_line(caught, str(kb), "another model", "blink kb build ENTITY.jsonl --model")


def test_a_catalogue_and_an_index_of_different_size_are_refused(kb: Path) -> None:
    base = KnowledgeBase.open(kb)
    with pytest.raises(MismatchError) as caught:
        KnowledgeBase(base.catalogue, ExactIndex(np.ones((5, 6), np.float32)))
    one_line(caught, "23 entities", "5")


@pytest.mark.parametrize("name", [MANIFEST_FILE, CATALOGUE_FILE, VECTORS_FILE])
def test_a_missing_file_is_named(kb: Path, name: str) -> None:
    (kb / name).unlink()
    with pytest.raises(MissingFileError) as caught:
        KnowledgeBase.open(kb)
    one_line(caught, name)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        KnowledgeBase.open(tmp_path / "no")
    one_line(caught, str(tmp_path / "no"), "blink kb build")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"a"', '{"entities": 3}'])
def test_a_manifest_that_is_none_is_refused(kb: Path, text: str) -> None:
    (kb / MANIFEST_FILE).write_text(text)
    with pytest.raises(DataError) as caught:
        KnowledgeBase.open(kb)
    one_line(caught, MANIFEST_FILE)


@pytest.mark.parametrize("changes", [{"format": 1}, {"index": "tree"}])
def test_a_manifest_of_another_version_is_refused(kb: Path, changes: dict[str, Any]) -> None:
    values = json.loads((kb / MANIFEST_FILE).read_text())
    (kb / MANIFEST_FILE).write_text(json.dumps(values | changes))
    with pytest.raises(DataError, match="another version"):
        KnowledgeBase.open(kb)


# --- reading only ---------------------------------------------------------------------------------------------------


def test_a_copy_opens_the_folder_again(kb: Path) -> None:
    base = KnowledgeBase.open(kb)
    for copied in (pickle.loads(pickle.dumps(base)), copy.deepcopy(base)):
        assert copied is not base
        assert copied.catalogue.path == base.catalogue.path
        assert answers(copied) == answers(base)
    with pytest.raises(DataError, match="in memory alone"):
        pickle.dumps(KnowledgeBase(base.catalogue, base.index))


def test_a_folder_that_cannot_be_written_opens(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in kb.iterdir()}
    original = catalogue_sidecar.atomic_open

    def refusing(path: Path, mode: str = "w") -> Any:
        if Path(path).is_relative_to(kb):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, mode)

    monkeypatch.setattr(catalogue_sidecar, "atomic_open", refusing)
    monkeypatch.setattr(module, "atomic_open", refusing)
    for _ in range(2):
        base = KnowledgeBase.open(kb)
        assert [rows[0] for rows in answers(base)] == [rows[0] for rows in answers(KnowledgeBase.open(kb))]
    assert {p.name: p.read_bytes() for p in kb.iterdir()} == before


def test_opening_writes_nothing_but_the_sidecar(kb: Path) -> None:
    before = content(kb)
    KnowledgeBase.open(kb)
    assert content(kb) == before
    assert {p.name for p in kb.iterdir()} - set(before) == {CATALOGUE_FILE + ".offsets"}


def test_vectors_are_mapped_for_reading_only(kb: Path) -> None:
    vectors = load_vectors(kb / VECTORS_FILE)
    assert isinstance(vectors, np.memmap)
    assert not vectors.flags.writeable


# --- titles and earlier formats -------------------------------------------------------------------------------------


def test_titles_and_ids_by_row_are_those_of_the_lines(tmp_path: Path) -> None:
    lines: list[Any] = [*toys.rows(6), {"title": "Žižkov\n川 😀"}, "no JSON", {"title": "Ä", "kb_idx": "local:ä"}]
    build(toys.write_catalogue(tmp_path / "entity.jsonl", lines), tmp_path / "kb", skip_bad=True)
    base = KnowledgeBase.open(tmp_path / "kb")
    rows = [8, 0, 7, 6, 6]
    assert (
        base.titles(rows)
        == [base.catalogue.title(row) for row in rows]
        == ["Ä", base.catalogue.title(0), "", *[lines[6]["title"]] * 2]
    )
    assert base.kb_ids(np.array(rows)) == [base.catalogue[row].kb_id for row in rows]
    assert base.titles([]) == base.kb_ids([]) == []


def as_format_5(folder: Path) -> None:
    """Give a knowledge base the files of format 5: no table of titles, and the names of each trigram."""
    load = partial(np.load, allow_pickle=False)
    grams, gram_at = load(folder / file_of("grams")), load(folder / file_of("gram_at"))
    for name in (*title_table.FILES, file_of("keys")):
        (folder / name).unlink()
    order = np.argsort(grams, kind="stable")
    np.save(folder / file_of("postings"), np.searchsorted(gram_at, order, side="right").astype(np.int32) - 1)
    np.save(folder / file_of("posting_at"), np.searchsorted(grams[order], np.arange(N_TRIGRAMS + 1)))
    samples = module.file_samples(folder)
    toys.change_manifest(folder, format=5, samples=samples, sha256={})


def test_a_knowledge_base_of_format_5_still_opens(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "kb")
    new = KnowledgeBase.open(tmp_path / "kb")
    shutil.copytree(tmp_path / "kb", tmp_path / "old")
    as_format_5(tmp_path / "old")
    old = KnowledgeBase.open(tmp_path / "old")
    assert old.names is not None
    assert new.names is not None
    assert old.names.fuzzy_index.keys is None
    assert old.titles([4, 2]) == new.titles([4, 2])
    assert old.kb_ids([4, 2]) == new.kb_ids([4, 2])
    for title in new.titles(range(23)):
        for mention in (title, title[1:], title[:-2], title + "e"):
            assert old.names.fuzzy_index.similar(mention) == new.names.fuzzy_index.similar(mention)
            measured = [base.names.fuzzy_index.compare(mention, range(23)) for base in (old, new)]  # type: ignore[union-attr]
            assert np.array_equal(*measured)


def test_grams_that_are_missing_are_not_taken_for_those_of_format_5(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path / "kb")
    (tmp_path / "kb" / file_of("keys")).unlink()
    with pytest.raises(MismatchError, match="grams of the fuzzy index"):
        FuzzyIndex.open(tmp_path / "kb")
    with pytest.raises(MissingFileError, match="build it again"):
        KnowledgeBase.open(tmp_path / "kb")
