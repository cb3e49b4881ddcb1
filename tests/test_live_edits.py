"""Edits of a knowledge base: what is acknowledged is there, whatever was edited, undone, rolled back and reopened."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from locks import locked_elsewhere

from blink.errors import BlinkError, DataError, MismatchError, SettingsError
from blink.kb.building import build_knowledge_base
from blink.kb.catalogue_line import entity_from
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live import editing
from blink.kb.live.changes import Edit
from blink.kb.live.journal import JOURNAL_FILE, Journal

N = 12
ENCODE = toys.letter_counts()


@pytest.fixture(scope="module", autouse=True)
def _without_waiting_for_the_disk() -> Iterator[None]:
    """These tests kill no machine; see the tests of faults for what a disk does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@functools.cache
def built_once() -> Path:
    """The folder of a knowledge base without edits."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    build_knowledge_base(toys.write_catalogue(folder / "entity.jsonl", toys.rows(N)), folder / "kb", ENCODE, "toy")
    return folder / "kb"


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    """An opened copy, which can be edited."""
    shutil.copytree(built_once(), tmp_path / "kb")
    return opened(tmp_path / "kb")


def opened(folder: Path) -> KnowledgeBase:
    base = KnowledgeBase.open(folder)
    base.encode = ENCODE
    return base


def lines(kb: KnowledgeBase) -> dict[int, Any]:
    """The line of each entity that is there, by row."""
    return {row: line for row in range(kb.state.rows) if (line := kb.state.line(row)) is not None}


class Edits(RuleBasedStateMachine):
    """Edits of a knowledge base against a plain dict of its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lines: dict[int, dict[str, Any]] = {}
        self.states: list[dict[int, dict[str, Any]]] = []
        """What the lines were after each transaction."""
        self.snapshots: dict[str, int] = {}
        self.used = N
        self.compacted = 0

    @initialize()
    def build(self) -> None:
        shutil.copytree(built_once(), self.folder / "kb")
        self.kb = opened(self.folder / "kb")
        self.lines = lines(self.kb)
        self.states = [dict(self.lines)]
        self.digests = [self.kb.digest()]

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def edited(self) -> None:
        self.states.append(dict(self.lines))
        self.digests.append(self.kb.digest())

    ids = st.sampled_from([None, "X1", "X2", "Q105", "wd:Q106", "https://example.org/7"])

    @rule(title=st.text(min_size=1).filter(lambda t: not t.isspace()), kb_id=ids, aliases=st.lists(st.sampled_from("abc")))
    def add(self, title: str, kb_id: str | None, aliases: list[str]) -> None:
        line = {"title": title, "kb_idx": kb_id, "aliases": aliases}
        if kb_id is not None and self.kb.state.row_of(kb_id) is not None:
            with pytest.raises(DataError, match="the id"):
                self.kb.add(line)
            return
        entity = self.kb.add(line)
        assert entity.row == self.used
        assert (entity.title, entity.kb_id) == (title, kb_id)
        self.lines[self.used] = {k: v for k, v in (line | {"aliases": list(dict.fromkeys(aliases))}).items() if v}
        self.used += 1
        self.edited()

    @rule(data=st.data(), text=st.sampled_from(["", "new", "other"]))
    def update(self, data: st.DataObject, text: str) -> None:
        if not self.lines:
            return
        row = data.draw(st.sampled_from(sorted(self.lines)))
        kb_id = self.lines[row].get("kb_idx")
        before = self.lines[row]
        self.lines[row] = {k: v for k, v in (before | {"text": text}).items() if v}
        self.kb.update(row if kb_id is None else kb_id, text=text)
        if before != self.lines[row]:
            self.edited()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if not self.lines:
            return
        row = data.draw(st.sampled_from(sorted(self.lines)))
        self.kb.remove(row)
        del self.lines[row]
        self.edited()

    @rule(data=st.data(), with_later=st.booleans())
    def undo(self, data: st.DataObject, with_later: bool) -> None:
        number = data.draw(st.integers(1, len(self.states)))
        before = lines(self.kb)
        try:
            undone = self.kb.undo(number, with_later=with_later)
        except DataError:
            assert lines(self.kb) == before
            return
        changed = {edit.row: edit.after for edit in undone.edits}
        self.lines = {row: dict(line) for row, line in (before | changed).items() if line is not None}
        if undone.undoes == (number,) and number == len(self.states) - 1:
            assert self.lines == self.states[-2]  # the last edit
        self.edited()

    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        to = data.draw(st.sampled_from([*range(len(self.states)), *self.snapshots]))
        number = self.snapshots[to] if isinstance(to, str) else to
        if self.states[number] == self.lines:
            with pytest.raises(DataError, match="already"):
                self.kb.rollback(to)
            return
        self.kb.rollback(to)
        self.lines = dict(self.states[number])
        self.edited()
        assert self.digests[-1] == self.digests[number]

    @rule(name=st.sampled_from(["monday", "before the import"]))
    def snapshot(self, name: str) -> None:
        if name in self.snapshots:
            with pytest.raises(DataError, match="exists"):
                self.kb.snapshot(name)
            return
        self.snapshots[name] = self.kb.snapshot(name).number
        self.edited()

    @rule()
    def reopen(self) -> None:
        self.kb = opened(self.folder / "kb")

    @rule()
    def compact(self) -> None:
        number = self.kb.changes.number
        folded = self.kb.compact()
        assert self.kb.compact() == 0
        assert self.kb.manifest is not None
        assert self.kb.manifest.edits == (number if folded else self.compacted)
        self.compacted = self.kb.manifest.edits
        assert not self.kb.changes.entities
        assert [t.number for t in self.kb.history()] == list(range(1, number + 1))

    @rule()
    def tear(self) -> None:
        """What a writer that is killed may leave."""
        if (file := self.kb.state.journal.path).is_file():
            with file.open("ab") as f:
                f.write(b'0123456789abcdef {"number": 7, "edi')
            self.kb.refresh()

    @invariant()
    def same(self) -> None:
        if not self.states:
            return
        assert lines(self.kb) == self.lines
        assert self.kb.changes.number == len(self.states) - 1
        assert self.kb.state.rows == self.used
        assert self.kb.digest() == self.digests[-1]
        changes = self.kb.changes
        there = [row for row, entity in changes.entities.items() if entity is not None]
        assert changes.vector_rows.tolist() == sorted(there)
        expected = ENCODE([entity_from(row, self.lines[row]) for row in changes.vector_rows.tolist()])
        assert np.array_equal(changes.vectors, expected)
        for row, line in self.lines.items():
            if "kb_idx" in line:
                assert self.kb.state.row_of(line["kb_idx"]) == row

    @invariant()
    def equal_digests_are_of_equal_entities(self) -> None:
        for state, digest in zip(self.states, getattr(self, "digests", []), strict=False):
            assert (state == self.lines) == (digest == self.digests[-1])


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=20, stateful_step_count=15, deadline=None, derandomize=True)


def test_changes_that_were_read_stay_as_they_are(kb: KnowledgeBase) -> None:
    earlier = []
    for i in range(200):
        kb.add({"title": f"New {i}", "kb_idx": f"N{i}"})
        if i % 7 == 3:
            kb.update(f"N{i - 1}", text="again")
        if i % 11 == 5:
            kb.remove(f"N{i - 2}")
        changes = kb.changes
        earlier.append((changes, changes.vectors.copy(), dict(changes.entities)))
    for changes, vectors, entities in earlier:
        assert np.array_equal(changes.vectors, vectors)
        assert changes.entities == entities
        assert not changes.vectors.flags.writeable


def test_a_reader_sees_the_edits_of_another(kb: KnowledgeBase) -> None:
    reader = KnowledgeBase.open(kb.require_folder())
    assert not reader.refresh()
    kb.add({"title": "Zorblax"})
    assert reader.changes.number == 0
    assert reader.refresh()
    assert not reader.refresh()
    assert reader.changes.entities[N] == entity_from(N, {"title": "Zorblax"})


WRONG: list[tuple[Callable[[KnowledgeBase], object], str]] = [
    (lambda kb: kb.add({"title": "  "}), "'title' is empty"),
    (lambda kb: kb.add({"text": "no name"}), "no 'title'"),
    (lambda kb: kb.add({"title": 3}), "'title' of an entity is 3"),
    (lambda kb: kb.add({"title": "x", "aliases": {"y": 1}}), "give a list of texts"),
    (lambda kb: kb.add({"title": "x", "aliases": [True]}), "'aliases' of an entity is True"),
    (lambda kb: kb.add({"title": "x", "ids": ["a"]}), "give an object of texts"),
    (lambda kb: kb.add({"title": "x", "ids": {"a": 1.5}}), "'ids' of an entity is 1.5"),
    (lambda kb: kb.add({"title": "\ud800"}), "surrogate"),
    (lambda kb: kb.add({"title": "x", "kb_idx": "Q101"}), "the id 'Q101' is that of row 1"),
    (lambda kb: kb.add({"title": "x", "kb_idx": "wd:Q101"}), "the id 'Q101' is that of row 1 (Tbilisi 1); update"),
    (lambda kb: kb.add("x"), "give an Entity"),  # type: ignore[arg-type]
    (lambda kb: kb.add({"title": "x", "more": object()}), "cannot be stored"),
    (lambda kb: kb.update("Q1", text="x"), "no entity has the id 'Q1'"),
    (lambda kb: kb.update(99, text="x"), "rows 0 to 11 exist"),
    (lambda kb: kb.update(-1, text="x"), "rows 0 to 11 exist"),
    (lambda kb: kb.update(0, txt="x"), "no 'txt'; allowed are"),
    (lambda kb: kb.update(0, title=""), "'title' is empty"),
    (lambda kb: kb.update(0, kb_id="Q102"), "the id 'Q102' is that of row 2"),
    (lambda kb: kb.remove("nobody"), "no entity has the id"),
    (lambda kb: kb.undo(), "no edit to undo"),
    (lambda kb: kb.undo(1), "no edit 1"),
    (lambda kb: kb.rollback(1), "no edit 1"),
    (lambda kb: kb.rollback("monday"), "no snapshot 'monday'"),
    (lambda kb: kb.rollback(0), "already"),
    (lambda kb: kb.snapshot("12"), "cannot have the name"),
    (lambda kb: kb.snapshot("a\nb"), "cannot have the name"),
    (lambda kb: kb.apply("merge", [Edit(0, {"title": "other"}, None)]), "another edit was faster"),
    (lambda kb: kb.apply("merge", [Edit(N + 1, None, {"title": "x"})]), "take the next row"),
    (lambda kb: kb.apply("merge", [Edit(N, None, None)]), "as it is"),
]


@pytest.mark.parametrize(("edit", "message"), WRONG, ids=[message for _, message in WRONG])
def test_mistakes_are_one_line_and_change_nothing(
    kb: KnowledgeBase, edit: Callable[[KnowledgeBase], object], message: str
) -> None:
    before = kb.digest()
    with pytest.raises(BlinkError) as caught:
        edit(kb)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kb.digest() == before
    assert not (kb.require_folder() / JOURNAL_FILE).exists()


def test_removed_rows_are_never_taken_again(kb: KnowledgeBase) -> None:
    kb.remove(3)
    assert kb.add({"title": "x"}).row == N
    kb.remove(N)
    assert kb.add({"title": "y"}).row == N + 1
    with pytest.raises(DataError, match="row 3 cannot be filled"):
        kb.apply("add", [Edit(3, None, {"title": "z"})])
    kb.undo(1)
    assert kb.state.line(3) == toys.rows(N)[3]


def test_an_id_can_be_given_to_another(kb: KnowledgeBase) -> None:
    kb.remove("Q101")
    assert kb.add({"title": "x", "kb_idx": "Q101"}).row == N
    with pytest.raises(DataError, match=f"the id 'Q101' is that of row {N}"):
        kb.undo(1)
    one, two = kb.state.line(2), kb.state.line(3)
    assert one is not None
    assert two is not None
    swapped = [Edit(2, one, {**one, "kb_idx": "Q103"}), Edit(3, two, {**two, "kb_idx": "Q102"})]
    kb.apply("merge", swapped)
    assert (kb.state.row_of("Q102"), kb.state.row_of("Q103")) == (3, 2)


def test_several_edits_are_made_together_or_not_at_all(kb: KnowledgeBase) -> None:
    before = kb.digest()
    edits = [Edit(N, None, {"title": "x"}), Edit(0, kb.state.line(0), None), Edit(N, {"title": "x"}, {"title": "y"})]
    kb.apply("merge", edits, note="the same")
    assert kb.state.line(N) == {"title": "y"}
    assert kb.state.line(0) is None
    (transaction,) = kb.history()
    assert (transaction.kind, transaction.note, len(transaction.edits)) == ("merge", "the same", 2)
    kb.undo()
    assert kb.digest() == before
    with pytest.raises(DataError):
        kb.add_all([{"title": "good"}, {"title": ""}])
    assert kb.digest() == before


def test_known_texts_are_not_encoded_again(kb: KnowledgeBase) -> None:
    kb.add({"title": "x", "kb_idx": "X"})
    kb.update("X", text="first")
    kb.update("X", text="second")
    kb.encode = None
    kb.update("X", tags=["checked"])
    kb.remove("X")
    kb.remove(0)
    for number in (6, 5, 4, 3, 2):
        kb.undo(number)
    with pytest.raises(SettingsError, match="no model"):
        kb.update("X", text="third")


def test_what_an_encoder_gives_is_checked(kb: KnowledgeBase) -> None:
    for wrong in (np.zeros((1, 3), np.float32), np.full((1, 6), np.nan, np.float32)):
        kb.encode = lambda entities, wrong=wrong: wrong  # type: ignore[misc]
        with pytest.raises(DataError, match="the encoder gave"):
            kb.add({"title": "x"})
    assert kb.changes.number == 0


def test_two_writers_wait_for_each_other(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kb.require_folder()
    errors: list[Exception] = []

    def write(name: str) -> None:
        try:
            base = opened(folder)
            for i in range(30):
                base.add({"title": name, "kb_idx": f"{name}{i}"})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    kb.refresh()
    assert kb.changes.number == 90
    assert {kb.state.row_of(f"{name}{i}") for name in "abc" for i in range(30)} == set(range(N, N + 90))
    monkeypatch.setattr(editing, "WAIT_S", 0.05)
    with locked_elsewhere(folder), pytest.raises(SettingsError, match="another process is writing"):
        kb.add({"title": "x"})


def test_a_base_in_memory_keeps_no_edits(kb: KnowledgeBase) -> None:
    memory = KnowledgeBase(kb.catalogue, kb.index)
    assert memory.changes.rows == N
    assert not memory.refresh()
    with pytest.raises(DataError, match="in memory alone"):
        memory.add({"title": "x"})


# -- the journal's file --------------------------------------------------------------------------------------------


@pytest.fixture
def journal(kb: KnowledgeBase) -> tuple[KnowledgeBase, Path, list[str]]:
    """A knowledge base with three edits, its journal, and the digests after 0, 1, 2 and 3 of them."""
    digests = [kb.digest()]
    for i in range(3):
        kb.add({"title": f"New {i}", "kb_idx": f"N{i}"})
        digests.append(kb.digest())
    return kb, kb.require_folder() / JOURNAL_FILE, digests


def test_a_journal_cut_anywhere_has_the_whole_edits_before(journal: tuple[KnowledgeBase, Path, list[str]]) -> None:
    kb, file, digests = journal
    content = file.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == 0x0A]
    sizes = range(len(content))
    watching = KnowledgeBase.open(file.parent)
    for size in sizes:
        file.write_bytes(content[:size])
        n_whole = max(0, sum(end <= size for end in ends) - 1)
        read = Journal(file, kb.state.journal.header).read()
        assert len(read.records) == n_whole
        assert read.position.offset + read.tail == size
        if size % 100 and not {size - 1, size, size + 1} & {0, *ends}:
            continue
        watching.refresh()
        base = opened(file.parent)
        assert watching.digest() == base.digest() == digests[n_whole]
        base.add({"title": "after", "kb_idx": "after"})
        watching.refresh()
        assert watching.digest() == opened(file.parent).digest() == base.digest()
        assert base.changes.number == n_whole + 1


def test_a_changed_byte_is_noticed(journal: tuple[KnowledgeBase, Path, list[str]]) -> None:
    kb, file, digests = journal
    content = file.read_bytes()
    for i in range(len(content)):
        file.write_bytes(content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :])
        if i == len(content) - 1:  # the end of the last line: as if it had not been written to the end
            assert KnowledgeBase.open(file.parent).digest() == digests[2]
            continue
        with pytest.raises((DataError, MismatchError)) as caught:
            Journal(file, kb.state.journal.header).read()
        assert f"{file}, line " in str(caught.value)


def test_lines_that_are_missing_or_moved_are_noticed(journal: tuple[KnowledgeBase, Path, list[str]]) -> None:
    _, file, _ = journal
    header, one, two, three = file.read_bytes().splitlines(keepends=True)
    for wrong in ([header, two, three], [header, one, three, three], [header, two, one, three], [one, two, three]):
        file.write_bytes(b"".join(wrong))
        with pytest.raises(DataError, match="damaged"):
            KnowledgeBase.open(file.parent)


def test_a_journal_of_other_files_is_refused(journal: tuple[KnowledgeBase, Path, list[str]], tmp_path: Path) -> None:
    _, file, _ = journal
    source = toys.write_catalogue(tmp_path / "other.jsonl", toys.rows(N + 1))
    build_knowledge_base(source, tmp_path / "other", ENCODE, "toy")
    shutil.copy(file, tmp_path / "other" / JOURNAL_FILE)
    with pytest.raises(MismatchError, match="edits of other files"):
        KnowledgeBase.open(tmp_path / "other")


def test_lines_keep_what_blink_does_not_know(kb: KnowledgeBase) -> None:
    kb.add({"title": "x", "kb_idx": 7, "sitelinks": 3, "aliases": ("a", "a", " ")})
    kb.update("7", url="https://example.org")
    line = {"title": "x", "kb_idx": "7", "sitelinks": 3, "aliases": ["a"], "idx": "https://example.org"}
    assert kb.state.line(N) == line
    assert json.loads(json.dumps(opened(kb.require_folder()).state.line(N))) == line
