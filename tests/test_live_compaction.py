"""Compaction, and builds over edits: nothing is lost, nothing half done, and the files are those of a build."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.cluster.encoding import Encoding
from blink.data.records import Entity
from blink.errors import DataError, SettingsError
from blink.evaluation.saved import kb_hash
from blink.files import read_json, write_json
from blink.kb import building
from blink.kb.building import build_knowledge_base
from blink.kb.health import check_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.carrying import DISCARD, KEEP
from blink.kb.live.journal import JOURNAL_FILE, Journal, write_history
from blink.kb.manifest import CATALOGUE_FILE, MANIFEST_FILE, VECTORS_FILE
from blink.kb.name_tables import FILES as NAME_FILES
from blink.kb.reindex import reindex
from blink.kb.subset import subset
from blink.linking import starter
from blink.linking.opening import open_kb_for_edits
from blink.linking.starter import starter_kb
from blink.training.inputs import RunInputs

N = 12
ENCODE = toys.letter_counts()


@pytest.fixture(scope="module", autouse=True)
def _without_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


def built(folder: Path, lines: Sequence[Any] | None = None, **options: Any) -> Path:
    source = toys.write_catalogue(folder.with_suffix(".jsonl"), toys.rows(N) if lines is None else lines)
    build_knowledge_base(source, folder, ENCODE, "toy", **options)
    return folder


def opened(folder: Path) -> KnowledgeBase:
    base = KnowledgeBase.open(folder)
    base.encode = ENCODE
    return base


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    return opened(built(tmp_path / "kb"))


def edit(kb: KnowledgeBase) -> None:
    """Edits of every kind."""
    kb.add({"title": "Zorblax (moon)", "text": "new", "kb_idx": "X1", "aliases": ["Zorb"], "types": ["moon"]})
    kb.add({"title": "Zorblax", "kb_idx": "X2"})
    kb.update("Q101", text="changed", aliases=["Tiflis"])
    kb.remove("Q102")
    kb.remove("X2")


def content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def problems(folder: Path) -> list[str]:
    return [f"{problem.check}: {problem.message}" for problem in check_knowledge_base(folder).problems]


@pytest.mark.parametrize("options", [{"dtype": "fp16"}, {"index": "sq8"}, {"index": "hnsw"}], ids=str)
def test_the_files_are_those_of_a_build(tmp_path: Path, options: dict[str, Any]) -> None:
    kb = opened(built(tmp_path / "kb", **options))
    edit(kb)
    digest = kb.digest()
    assert kb.compact() == 5
    assert kb.digest() == digest
    assert kb.manifest is not None
    files = tmp_path / "kb" / kb.manifest.folder
    other = tmp_path / "other"
    build_knowledge_base(files / CATALOGUE_FILE, other, ENCODE, "toy", **options)
    assert opened(other).digest() == digest
    for name in NAME_FILES:
        assert content(files / name) == content(other / name), name
    removed = kb.catalogue.removed_rows
    assert removed == [2, N + 1]
    kept = np.delete(np.arange(N + 2), removed)
    ours, theirs = np.load(files / VECTORS_FILE), np.load(other / VECTORS_FILE)
    assert np.array_equal(ours[kept], theirs[kept])
    assert not ours[removed].any()
    assert (kb.manifest.skipped, kb.catalogue.skipped) == (0, 0)
    health = check_knowledge_base(tmp_path / "kb")
    assert (health.problems, health.notes, health.figures["vectors_duplicate"]) == ([], [], 0)
    assert {path.name for path in (tmp_path / "kb").iterdir()} == {CATALOGUE_FILE, MANIFEST_FILE, files.name}


def test_nothing_is_encoded_and_what_else_lies_there_stays(kb: KnowledgeBase) -> None:
    (kb.require_folder() / "prior.safetensors").write_text("mine")
    edit(kb)
    kb.encode = None
    kb.compact()
    assert (kb.require_folder() / "prior.safetensors").read_text() == "mine"
    assert kb.compact() == 0


def test_readers_reopen(kb: KnowledgeBase) -> None:
    reader = opened(kb.require_folder())
    edit(kb)
    kb.compact()
    kb.add({"title": "after"})
    assert reader.refresh()
    assert reader.digest() == kb.digest()
    assert (len(reader.catalogue), reader.changes.number) == (len(kb.catalogue), 6)
    assert reader.encode is ENCODE


def test_edits_before_a_compaction_can_be_undone(kb: KnowledgeBase) -> None:
    before = kb.digest()
    kb.snapshot("first")
    edit(kb)
    after = kb.digest()
    kb.compact()
    kb.undo(4)
    assert kb.state.line(1) == toys.rows(N)[1]
    kb.rollback("first")
    assert kb.digest() == before
    kb.compact()
    kb.undo()
    kb.undo(7)
    assert kb.digest() == after
    assert [t.kind for t in kb.history()] == [
        "snapshot",
        "add",
        "add",
        "update",
        "remove",
        "remove",
        "undo",
        "rollback",
        *["undo"] * 2,
    ]
    vectors = {row: vector.tolist() for row, vector in zip(kb.changes.vector_rows.tolist(), kb.changes.vectors, strict=True)}
    for row, entity in kb.changes.entities.items():
        if entity is not None:
            assert vectors[row] == ENCODE([entity])[0].tolist()


def test_other_commands_work_on_a_compacted_base(kb: KnowledgeBase, tmp_path: Path) -> None:
    edit(kb)
    first = kb_hash(tmp_path / "kb")
    kb.compact()
    kb.add({"title": "after", "kb_idx": "A"})
    assert kb_hash(tmp_path / "kb") != first
    digest = kb.digest()
    reindex(tmp_path / "kb", "sq8")
    assert opened(tmp_path / "kb").digest() == digest
    assert kb.refresh()
    assert kb.manifest is not None
    assert kb.manifest.index == "sq8"
    assert problems(tmp_path / "kb") == []
    smaller = subset(kb, [0], tmp_path / "smaller").base
    assert smaller.catalogue.row_of("Q101") is not None
    with pytest.raises(SettingsError, match="--keep-edits"):
        subset(smaller, [0], tmp_path / "kb")


def test_what_reads_the_files_alone_says_so(kb: KnowledgeBase, tmp_path: Path) -> None:
    edit(kb)
    inputs = RunInputs(str(tmp_path / "kb"), "starter")
    with pytest.raises(SettingsError, match="blink kb compact"):
        inputs.knowledge_base()
    encoding = Encoding("entity.jsonl", str(tmp_path / "kb"), "kb", 5, N, "hash", "toy")
    with pytest.raises(SettingsError, match="--keep-edits"):
        encoding.prepare()
    kb.compact()
    assert len(inputs.knowledge_base().catalogue) == N + 2


# -- builds over edits ---------------------------------------------------------------------------------------------


def test_a_build_over_edits_is_refused_unless_told(kb: KnowledgeBase, tmp_path: Path) -> None:
    edit(kb)
    digest = kb.digest()
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"entities that differ: 3\).* --keep-edits .* or --discard-edits"):
            built(tmp_path / "kb")
        assert opened(tmp_path / "kb").digest() == digest
        kb.compact()
    built(tmp_path / "kb", edits=DISCARD)
    assert opened(tmp_path / "kb").state.rows == N
    assert opened(tmp_path / "kb").history() == []
    assert not list((tmp_path / "kb").glob("compacted-*"))


@pytest.mark.parametrize("compacted", [False, True])
def test_edits_are_made_again_over_new_files(kb: KnowledgeBase, tmp_path: Path, compacted: bool) -> None:
    edit(kb)
    kb.update(4, text="without an id")
    kb.remove("Q105")
    kb.update("Q106", text="gone")
    kb.update("Q107", aliases=["seven"])
    if compacted:
        kb.compact()
    rows = toys.rows(N)
    rows[7] = {**rows[7], "text": "new in the catalogue"}
    new = [{"title": "first"}, *rows[:4], rows[4], rows[5], rows[7], {"title": "Zorb", "kb_idx": "X1", "text": "other"}]
    notes: list[str] = []
    built(tmp_path / "kb", [rows[4], *new], edits=KEEP, progress=building.BuildProgress(note=notes.append))
    base = opened(tmp_path / "kb")
    kept = {str(line.get("kb_idx")): line for row in range(base.state.rows) if (line := base.state.line(row))}
    assert kept["Q101"]["text"] == "changed"
    assert not {"Q102", "Q105", "X2"} & kept.keys()
    assert (kept["Q107"]["text"], kept["Q107"]["aliases"]) == ("new in the catalogue", ["seven"])
    assert kept["X1"]["text"] == "new"
    assert base.state.row_of("X1") == 9
    assert "5 edited entities are as they were; 2 are not" in notes[-1]
    changes = base.changes
    assert np.array_equal(changes.vectors, ENCODE([base_entity(base, row) for row in changes.vector_rows.tolist()]))
    assert problems(tmp_path / "kb") == []
    built(tmp_path / "kb", new, edits=KEEP)
    assert opened(tmp_path / "kb").state.line(7) == kept["Q107"]


def base_entity(base: KnowledgeBase, row: int) -> Entity:
    entity = base.changes.entities[row]
    assert entity is not None
    return entity


@settings(max_examples=12)
@given(data=st.data())
def test_edits_over_the_same_catalogue_give_the_same_entities(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("same")
    kb = opened(built(folder / "kb"))
    rows = st.integers(0, N - 1)
    for number in range(data.draw(st.integers(1, 6))):
        row = data.draw(rows)
        if kb.state.line(row) is None:
            kb.add({"title": f"New {number}", "kb_idx": f"N{number}"})
        elif data.draw(st.booleans()):
            kb.update(row, text=f"text {number}")
        else:
            kb.remove(row)
    digest = kb.digest()
    built(folder / "kb", edits=KEEP)
    assert opened(folder / "kb").digest() == digest


def test_the_starter_keeps_its_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "HOMES", (tmp_path,))
    toys.model(3).save_pretrained(tmp_path / "starter")
    (tmp_path / "starter-kb").mkdir()
    source = toys.write_catalogue(tmp_path / "starter-kb" / CATALOGUE_FILE, toys.rows(N))
    base = open_kb_for_edits(starter_kb())
    base.add({"title": "Zorblax", "kb_idx": "X1"})
    base.compact()
    manifest = (tmp_path / "starter-kb" / MANIFEST_FILE).read_bytes()
    base.remove("Q101")
    starter_kb()
    assert (tmp_path / "starter-kb" / MANIFEST_FILE).read_bytes() == manifest
    toys.write_catalogue(source, [{"title": "one more"}, *toys.rows(N)])
    again = KnowledgeBase.open(starter_kb())
    assert (again.state.row_of("X1"), again.state.row_of("Q101"), again.state.row_of("Q102")) == (N + 1, None, 3)


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("compacted", [False, True])
def test_a_build_that_is_killed_while_it_moves_files_loses_no_edit(
    kb: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    edit(kb)
    if compacted:
        kb.compact()
    digest = kb.digest()
    shutil.copytree(tmp_path / "kb", tmp_path / "copy")
    link, replace, calls = os.link, os.replace, 0

    def build(killed_at: int) -> None:
        """Build over the edits; the process ends before that file is moved."""
        nonlocal calls
        calls = 0
        shutil.rmtree(tmp_path / "kb")
        shutil.copytree(tmp_path / "copy", tmp_path / "kb")

        def counted(call: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
            def counting(old: Any, new: Any) -> None:
                nonlocal calls
                if building.WORK_FOLDER not in Path(new).parts:
                    calls += 1
                    if calls > killed_at:
                        raise _KilledError
                call(old, new)

            return counting

        with monkeypatch.context() as patch:
            patch.setattr(os, "link", counted(link))
            patch.setattr(os, "replace", counted(replace))
            built(tmp_path / "kb", edits=KEEP)

    build(1000)
    assert calls > 10
    assert opened(tmp_path / "kb").digest() == digest
    for killed_at in (0, 1, calls // 2, calls - 2, calls - 1):
        with pytest.raises(_KilledError):
            build(killed_at)
        assert opened(tmp_path / "kb").digest() == digest
        with pytest.raises(SettingsError, match="--keep-edits"):
            built(tmp_path / "kb")
        built(tmp_path / "kb", edits=KEEP)
        assert opened(tmp_path / "kb").digest() == digest


# -- what kb check says --------------------------------------------------------------------------------------------


def test_check_names_what_is_wrong_with_a_journal(kb: KnowledgeBase, tmp_path: Path) -> None:
    edit(kb)
    health = check_knowledge_base(tmp_path / "kb")
    assert health.problems == []
    assert (health.figures["edits"], health.figures["edited_entities"]) == (5, 4)
    file = tmp_path / "kb" / JOURNAL_FILE
    content = file.read_bytes()
    file.write_bytes(content + b"0123456789abcdef {")
    health = check_knowledge_base(tmp_path / "kb")
    assert health.problems == []
    assert any("18 bytes of an edit that was never acknowledged" in note for note in health.notes)
    file.write_bytes(content[:-9] + b"x" + content[-8:])
    assert any("line 6: damaged" in problem for problem in problems(tmp_path / "kb"))


def test_check_compares_edits_with_the_encoder(kb: KnowledgeBase, tmp_path: Path) -> None:
    from blink.kb.health import CandidateEncoder

    kb.encode = lambda entities: -ENCODE(entities)
    kb.add({"title": "Zorblax"})
    found = check_knowledge_base(tmp_path / "kb", encoder=CandidateEncoder(ENCODE, "toy")).problems
    assert any(f"row {N} (Zorblax) encoded again" in problem.message for problem in found)


def test_removed_lines_are_no_broken_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [json.dumps({"title": "", "removed": True}, separators=(",", ":")), {"title": "x"}, {"title": "y"}]
    folder = built(tmp_path / "kb", lines)
    base = opened(folder)
    assert (base.catalogue.removed_rows, base.catalogue.skipped, base.state.line(0)) == ([0], 0, None)
    assert caplog.text == ""
    with pytest.raises(DataError, match="line 1: 'title' is empty"):
        built(tmp_path / "other", [{"title": ""}])


def test_a_manifest_names_no_file_elsewhere(kb: KnowledgeBase, tmp_path: Path) -> None:
    path = tmp_path / "kb" / MANIFEST_FILE
    for key in ("samples", "sha256"):
        write_json(path, {**read_json(path), key: {"../precious": "0" * 64}})
        with pytest.raises(DataError, match="names of files beside each other"):
            KnowledgeBase.open(tmp_path / "kb")


def test_a_manifest_names_no_folder_elsewhere(kb: KnowledgeBase, tmp_path: Path) -> None:
    for folder in ("../other", "a/b", 3, "..", "photos"):
        write_json(tmp_path / "kb" / MANIFEST_FILE, {**read_json(tmp_path / "kb" / MANIFEST_FILE), "folder": folder})
        with pytest.raises(DataError, match=r"folder' (must|is)"):
            KnowledgeBase.open(tmp_path / "kb")


def test_a_history_in_place_of_the_journal_is_named(tmp_path: Path) -> None:
    kb = opened(built(tmp_path / "kb"))
    kb.add({"title": "Zorblax"})
    journal = Journal(tmp_path / "kb" / JOURNAL_FILE, kb.state.journal.header)
    records = journal.read().records
    write_history(journal.path, journal.header, iter(records))
    with pytest.raises(DataError, match=r"edit 1 lacks the vectors of its entities.*keeps the files"):
        opened(tmp_path / "kb")
    journal.path.rename(tmp_path / "aside")
    assert len(opened(tmp_path / "kb").catalogue) == N
