"""What readers see of edits: the same as in a knowledge base built from the edited catalogue, with any edits and any index."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_toys import weighing

from blink.data.records import Entity
from blink.kb.building import build_knowledge_base
from blink.kb.fuzzy_index import FuzzyIndex
from blink.kb.index import KINDS, ExactIndex, build_index
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live import live_names
from blink.kb.live.changes import Edit
from blink.kb.live.live_index import LiveIndex, fitted
from blink.kb.live.patched import PatchedMatrix
from blink.kb.live.view import View
from blink.kb.subset import subset
from blink.linking.graph_prior import EntityAlignment
from blink.linking.linker import Linker
from blink.linking.splitting import SpanSplitter
from blink.model.biencoder import BiEncoder
from blink.model.config import FEATURE_GROUPS
from tests import prior_toys, toys

pytest.importorskip("faiss")
ENCODE = toys.letter_counts()
N = 40
BROKEN = 11
LINES: list[Any] = [*toys.rows(N)[:BROKEN], "{broken", *toys.rows(N)[BROKEN + 1 :]]
MOST_BYTES_LEFT = 1600
"""Of a row that was added and removed: its number, two transactions and a filter, as often as states hold them."""
TEXTS = ["Oslo 7", "oslo the 7", "Zorblax", "zorb lax", "The Zorb", "Lake Garda", "TZ", "Merc", "New Java 8", "java", ""]
KEYS = st.integers(0, N + 3)
NAMES = st.sampled_from(["Zorblax", "Oslo 7", "Java (island)", "Tall Zorb", "Mercury 45"])
ALIASES = st.lists(st.sampled_from(["The Zorb", "oslo", "New Java", "TZ"]), max_size=2, unique=True)
IDS = st.sampled_from(["", "Q500000", "X1", "Q101"])
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES, ALIASES, IDS),
        st.tuples(st.just("update"), KEYS, NAMES, ALIASES),
        st.tuples(st.just("remove"), KEYS),
        st.tuples(st.just("undo")),
    ),
    min_size=1,
    max_size=9,
)


def apply(kb: KnowledgeBase, edit: tuple[Any, ...]) -> None:
    """Make an edit; one that is refused changes nothing."""
    from blink.errors import BlinkError

    kind, *of = edit
    try:
        if kind == "add":
            others = {"own": "7", "wikidata": "Q500000"} if of[1] else {}
            kb.add({"title": of[0], "text": f"thing {len(of[1])}", "aliases": of[1], "kb_idx": of[2], "ids": others})
        elif kind == "update":
            kb.update(of[0], title=of[1], aliases=of[2])
        elif kind == "remove":
            kb.remove(of[0])
        else:
            kb.undo()
    except BlinkError:
        pass


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a fresh copy of a knowledge base with an index of some kind."""
    root, built = tmp_path_factory.mktemp("live"), dict[str, Path]()

    def fresh(kind: str) -> Path:
        if kind not in built:
            built[kind] = root / kind
            build(LINES, built[kind], kind)
        folder = root / f"copy{len(list(root.iterdir()))}"
        shutil.copytree(built[kind], folder)
        return folder

    return fresh


def build(lines: list[Any], folder: Path, kind: str = "flat") -> KnowledgeBase:
    folder.mkdir(parents=True)
    source = toys.write_catalogue(folder.with_name(folder.name + ".jsonl"), lines)
    build_knowledge_base(source, folder, ENCODE, "fingerprint", index=kind, skip_bad=True)
    return KnowledgeBase.open(folder)


def opened(folder: Path) -> KnowledgeBase:
    kb = KnowledgeBase.open(folder)
    kb.encode = ENCODE
    return kb


def rebuilt(kb: KnowledgeBase, folder: Path) -> KnowledgeBase:
    """A knowledge base of the same rows, removed ones as broken lines; words are as rare as among the names of the files."""
    expected = build([kb.catalogue.line(row).decode() or "removed" for row in range(len(kb.catalogue))], folder)
    assert expected.names is not None
    assert isinstance(expected.names.fuzzy_index, FuzzyIndex)
    of_files = kb.view.base.names
    assert of_files is not None
    assert isinstance(of_files.fuzzy_index, FuzzyIndex)
    compared = replace(expected.names.fuzzy_index, rarities=of_files.fuzzy_index.bucket_rarities)
    files = replace(expected.view.base, names=replace(expected.names, fuzzy_index=compared))
    expected.view = View(files, expected.changes)
    return expected


def assert_same(kb: KnowledgeBase, expected: KnowledgeBase) -> None:
    """All that is read of both is the same."""
    rows = np.arange(len(expected.catalogue))
    assert list(kb.catalogue) == list(expected.catalogue)
    assert kb.titles(rows) == expected.titles(rows)
    assert kb.titles_and_ids(rows[::-1]) == expected.titles_and_ids(rows[::-1])
    assert kb.catalogue.bad_rows == expected.catalogue.bad_rows
    for kb_id in ("Q101", "wd:Q500000", "X1", "Q102", "Q139", "none", "own:7", "wikidata:Q500000", "row:41", "row:0"):
        assert list(kb.catalogue.rows_of(kb_id)) == list(expected.catalogue.rows_of(kb_id)), kb_id
    filled = np.setdiff1d(rows, expected.catalogue.bad_rows)
    assert kb.vectors is not None
    assert expected.vectors is not None
    np.testing.assert_array_equal(kb.vectors[filled], expected.vectors[filled])
    assert kb.names is not None
    assert expected.names is not None
    np.testing.assert_array_equal(kb.names.popularity[filled], expected.names.popularity[filled])
    queries = ENCODE([Entity(0, text, text) for text in TEXTS])
    for selector in (None, RowSelector(rows % 3 > 0), RowSelector(np.zeros(len(rows), bool))):
        for measured, reference in zip(*(base.index.search(queries, 6, selector) for base in (kb, expected)), strict=True):
            np.testing.assert_array_equal(measured, reference)
        for measured, reference in zip(
            kb.names.candidates_all(TEXTS, selector), expected.names.candidates_all(TEXTS, selector), strict=True
        ):
            np.testing.assert_array_equal(measured, reference)
        for text in TEXTS:
            assert kb.names.candidates(text, selector) == expected.names.candidates(text, selector)
            similar = kb.names.fuzzy_index.similar(text, selector=selector)
            assert similar == expected.names.fuzzy_index.similar(text, selector=selector)
    measured, reference = (names.fuzzy_index.compare("the zorblax 7", rows, "oslo new") for names in (kb.names, expected.names))
    np.testing.assert_allclose(measured, reference, atol=1e-6)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@given(edits=EDITS)
@settings(max_examples=4, deadline=None)
def test_edits_read_as_a_base_built_from_the_edited_catalogue(
    kind: str, edits: list[tuple[Any, ...]], folders: Callable[[str], Path]
) -> None:
    kb = opened(folders(kind))
    reader = KnowledgeBase.open(kb.require_folder())
    for edit in edits:
        apply(kb, edit)
    expected = rebuilt(kb, kb.require_folder().with_name(kb.require_folder().name + "-built"))
    assert_same(kb, expected)
    assert reader.refresh() == bool(kb.changes.number)  # another process
    assert_same(reader, expected)
    assert_same(KnowledgeBase.open(kb.require_folder()), expected)


def test_all_is_as_before_after_undo(folders: Callable[[str], Path]) -> None:
    kb, before = opened(folders("flat")), KnowledgeBase.open(folders("flat"))
    kb.add({"title": "Zorblax", "text": "a moon"})
    kb.update(3, title="Zorblax")
    kb.remove(7)
    for _ in range(3):
        kb.undo()
    assert kb.names is not None
    assert before.names is not None
    assert [entity for entity in kb.catalogue if entity.title] == [entity for entity in before.catalogue if entity.title]
    queries = ENCODE([Entity(0, text, text) for text in TEXTS])
    for measured, reference in zip(kb.index.search(queries, 9), before.index.search(queries, 9), strict=True):
        np.testing.assert_array_equal(measured, reference)
    for text in TEXTS:
        assert kb.names.candidates(text) == before.names.candidates(text)
        assert kb.names.fuzzy_index.similar(text) == before.names.fuzzy_index.similar(text)


def test_without_edits_the_objects_are_those_of_the_files(folders: Callable[[str], Path]) -> None:
    kb = opened(folders("coarse"))
    files = kb.view.base
    assert kb.catalogue is files.catalogue
    assert kb.names is files.names
    assert kb.vectors is files.vectors


def test_many_edits_are_in_two_tables_of_names(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The recent one is small, so that an edit costs little however many there were before."""
    kb, sizes = opened(folders("flat")), list[int]()
    assert kb.names is not None
    build_tables = live_names.NameSegment.build

    def counted(entities: Any, rarities: Any) -> live_names.NameSegment:
        sizes.append(len(entities))
        return build_tables(entities, rarities)

    monkeypatch.setattr(live_names.NameSegment, "build", counted)
    monkeypatch.setattr(live_names, "RECENT", 4)
    for i in range(24):
        kb.add({"title": f"Zorblax {i}"})
        assert kb.names is not None
        assert [match.row for match in kb.names.candidates(f"zorblax {i}")] == [N + i]
        assert [match.row for match in kb.names.candidates("zorblax 0")] == [N]
    assert sum(sizes) < 24 * 8
    assert sum(size > 4 for size in sizes) < 7
    before = len(sizes)
    kb.snapshot("nothing changes")
    assert kb.names is not None
    kb.names.candidates("x")
    assert len(sizes) == before


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_index_is_searched_with_its_edits(kind: str) -> None:
    random = np.random.default_rng(0)
    base = random.standard_normal((2_500, 16)).astype(np.float32)
    index, queries = build_index(base, kind), random.standard_normal((5, 16)).astype(np.float32)
    changed = np.sort(random.choice(2_600, 300, replace=False))
    current = RowSelector(~np.isin(np.arange(2_500), changed))
    rows = changed[::2]  # the others are removed
    values = random.standard_normal((len(rows), 16)).astype(np.float32)
    live = LiveIndex(index, current, rows, values, 2_600)
    edited = np.zeros((2_600, 16), np.float32)
    edited[:2_500], edited[rows] = base, values
    filled = np.append(current.mask, np.zeros(100, bool))
    filled[rows] = True
    for selector in (None, RowSelector(np.arange(2_600) % 2 == 0), RowSelector(np.arange(2_000) % 3 == 0)):
        allowed = filled if selector is None else filled & fitted(selector.mask, 2_600)
        scores, rows = live.search(queries, 8, selector)
        assert allowed[rows].all()
        expected_scores, expected = ExactIndex(edited).search(queries, 8, RowSelector(allowed))
        if kind in ("ivfpq", "ivfflat", "hnsw"):
            assert (scores[:, 0] <= expected_scores[:, 0] + 1e-5).all()
            assert np.isin(rows, expected).mean() > 0.5
        else:
            np.testing.assert_array_equal(rows, expected)
            np.testing.assert_array_equal(scores, expected_scores)


def test_links_by_name_are_those_of_the_edited_entities(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """They decide which of many entities of a name are candidates."""
    kb = opened(folders("flat"))
    for i in range(20):
        kb.add({"title": f"Zorb {i}", "aliases": ["Zorblax"], "alias_counts": {"zorblax": 5 * i} if i else {}})
    for row, changes in (
        (N + 19, {"alias_counts": {"Zorblax": 1}}),
        (0, {"title": "Zorblax", "alias_counts": {"ZORBLAX": 700}}),
    ):
        line = kb.state.line(row)
        kb.apply("update", [Edit(row, line, {**(line or {}), **changes})])
    assert_same(kb, rebuilt(kb, tmp_path / "built"))
    assert kb.names is not None
    rows = [match.row for match in kb.names.candidates("zorblax")]
    assert len(rows) == 16
    assert {0, N + 18} <= set(rows)
    assert not {N, N + 19} & set(rows)


def test_tables_of_names_do_not_wait_for_the_disk(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    kb, synced = opened(folders("flat")), list[int]()
    kb.add({"title": "Zorblax"})
    monkeypatch.setattr(os, "fsync", synced.append)
    assert kb.names is not None
    assert kb.names.candidates("zorblax")
    assert synced == []
    kb.add({"title": "Zorblax the second"})
    assert synced


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(11, threshold=-9.0)
    weights = {name: 0.3 for names in FEATURE_GROUPS.values() for name in names} | {"topic": 0.01, "logit": 0.02}
    biencoder.reranker = weighing(-3.0, **weights)
    return biencoder


OPTIONS: dict[str, Any] = {"precision": "fp32", "device": "cpu"}
SENTENCES = [
    "see Oslo 7 and the java the 8th",
    "Zorblax 77 is by Lake Garda 4, and Oslo 7 is not.",
    "the zorb, Mercury 5 and Turing 9",
]


@pytest.fixture
def linker(model: BiEncoder, tmp_path: Path) -> Linker:
    kb = toys.knowledge_base(tmp_path / "kb", model, toys.rows(20))
    kb.encode = model.encode_entities
    return Linker(model, kb, threshold=0.01, **OPTIONS)


def links_of(linker: Linker) -> list[list[tuple[Any, ...]]]:
    return [
        [(x.start, x.end, x.row, x.kb_id, x.title, round(x.score, 5), [c.row for c in x.candidates]) for x in linked.links]
        for linked in linker(SENTENCES)
    ]


def test_a_linker_follows_edits_as_if_it_were_opened_over_them(linker: Linker, model: BiEncoder, tmp_path: Path) -> None:
    kb, before = linker.kb, links_of(linker)
    added = kb.add({"title": "Zorblax 77", "text": "a moon of Oslo", "aliases": ["the zorb"], "kb_idx": "X1"})
    kb.update("Q105", title="Mercury 5", aliases=["Mercury 5"], text="another text")
    kb.remove("Q107")
    edited = links_of(linker)
    rows = {x[2] for links in edited for x in links} | {row for links in edited for x in links for row in x[6]}
    assert added.row in rows
    assert 7 not in rows
    assert edited == links_of(Linker(model, KnowledgeBase.open(kb.require_folder()), threshold=0.01, **OPTIONS))
    lines = [kb.catalogue.line(row).decode() or "removed" for row in range(len(kb.catalogue))]
    expected = toys.knowledge_base(tmp_path / "built", model, lines, skip_bad=True)
    assert expected.names is not None
    assert kb.view.base.names is not None
    of_files = kb.view.base.names.fuzzy_index
    assert isinstance(expected.names.fuzzy_index, FuzzyIndex)
    assert isinstance(of_files, FuzzyIndex)
    compared = replace(expected.names.fuzzy_index, rarities=of_files.bucket_rarities)
    expected.view = View(replace(expected.view.base, names=replace(expected.names, fuzzy_index=compared)), expected.changes)
    assert edited == links_of(Linker(model, expected, threshold=0.01, **OPTIONS))
    for _ in range(3):
        kb.undo()
    assert links_of(linker) == before  # the row that was added and removed counts no more


def test_earlier_states_are_freed_without_the_garbage_collector(linker: Linker) -> None:
    def n_states() -> int:
        return sum(type(of) in (PatchedMatrix, SpanSplitter, LiveIndex) for of in gc.get_objects())

    def edit(number: int) -> None:
        linker.kb.add({"title": f"Qwx {number}", "kb_idx": f"X{number}"})
        links_of(linker)
        linker(f"We saw Qwx {number}.", where=f"id=X{number}")
        linker.kb.remove(f"X{number}")
        links_of(linker)
        linker(f"We saw Qwx {number}.", where=f"id=X{number}")

    edit(0)
    gc.collect()
    gc.disable()
    try:
        before = n_states()
        for number in range(1, 6):
            edit(number)
        assert n_states() <= before + 2
    finally:
        gc.enable()


def test_an_entity_that_was_added_and_removed_leaves_few_bytes(linker: Linker) -> None:
    kb = linker.kb

    def edit(number: int) -> None:
        kb.add({"title": f"Qwx {number}", "kb_idx": f"X{number}"})
        assert len(kb.selector(f"id=X{number}") or ()) == 1
        _ = kb.index, kb.vectors
        kb.remove(f"X{number}")
        assert len(kb.selector(f"id=X{number}") or ()) == 0
        _ = kb.index, kb.vectors

    def bytes_after(numbers: range) -> int:
        for number in numbers:
            edit(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    kb.encode = lambda entities: np.ones((len(entities), kb.index.dim), np.float32)
    tracemalloc.start()
    try:
        before = bytes_after(range(40))  # as many as any cache holds
        after = bytes_after(range(40, 140))
    finally:
        tracemalloc.stop()
    assert after - before < 100 * MOST_BYTES_LEFT


def test_an_analysis_of_before_links_nothing_that_was_removed(linker: Linker) -> None:
    (analysis,) = linker.analyze([SENTENCES[0]])
    rows = {link.row for link in linker.decode(analysis).links}
    assert rows
    for row in rows:
        linker.kb.remove(row)
    left = linker.decode(analysis).links
    assert not rows & {link.row for link in left}
    assert all(link.title for link in left)


def test_an_analysis_of_other_files_links_nothing_that_they_lack(linker: Linker, model: BiEncoder, tmp_path: Path) -> None:
    (analysis,) = linker.analyze([SENTENCES[0]])
    toys.knowledge_base(tmp_path / "kb", model, toys.rows(3))
    linker.kb.refresh()
    assert all(link.row < 3 for link in linker.decode(analysis).links)


def test_the_prior_follows_edits(linker: Linker) -> None:
    kb = linker.kb
    table = prior_toys.table([f"Q{100 + i}" for i in range(1, 12)] + ["X1"])
    alignment = EntityAlignment(table, kb.view.base.catalogue)
    kb.add({"title": "Zorblax", "kb_idx": "X1"})
    kb.add({"title": "Zorblax the second", "ids": {"wikidata": "Q101"}})
    kb.remove("Q102")
    kb.update("Q103", kb_idx="Q999")
    kb.update("Q106", kb_idx="http://www.wikidata.org/entity/Q103")
    kb.update("Q107", kb_idx="Q998", ids={"wikidata": "wd:Q105"})
    kb.update("Q109", kb_idx="Q997", ids={"wikidata": "Q107"})
    rows = np.array([-1, *range(len(kb.catalogue))])
    followed = alignment.following(kb.view)[rows]
    np.testing.assert_array_equal(followed, EntityAlignment(table, kb.catalogue)[rows])
    assert followed[[21, 22, 3, 4, 7, 8, 10, 6, 0]].tolist() == [11, -1, -1, -1, 2, -1, 6, 4, -1]
    assert alignment[np.array([2])].tolist() == [1]


def test_readers_in_other_threads_never_see_half_of_an_edit(linker: Linker) -> None:
    """Title, alias, id, vector and index of a row always belong together, and nobody crashes."""
    kb, errors, stop = linker.kb, list[BaseException](), threading.Event()

    def check(view: View) -> None:
        assert view.names is not None
        assert view.vectors is not None
        for match in view.names.candidates("the wanderer"):
            entity = view.catalogue[match.row]
            assert "The Wanderer" in entity.aliases
            assert view.catalogue.row_of(entity.kb_id or "") == match.row
            assert view.titles([match.row]) == [entity.title]
            vector = np.asarray(view.vectors[np.array([match.row])], np.float32)
            _, rows = view.index.search(vector, 1 + len(view.catalogue))
            assert match.row in rows[0]
        assert sum(bool(entity.title) and "The Wanderer" in entity.aliases for entity in view.catalogue) <= 1

    def read() -> None:
        try:
            while not stop.is_set():
                kb.refresh()
                check(kb.view)
                links_of(linker)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(8):
        kb.add({"title": f"Wanderer {i}", "aliases": ["The Wanderer"], "kb_idx": "W1"})
        kb.remove("W1")
        kb.update(3, title=f"Mercury {i}", aliases=["The Wanderer"], kb_idx=f"M{i}")
        kb.undo()
        if i % 4 == 3:
            KnowledgeBase.open(kb.require_folder()).compact()  # as another process does
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def test_a_linker_follows_files_that_are_replaced(linker: Linker, model: BiEncoder, tmp_path: Path) -> None:
    """As a compaction or a build in another process does."""
    lines: list[Any] = [*toys.rows(20), {"title": "Zorblax 77", "text": "a moon", "aliases": ["the zorb"], "kb_idx": "X1"}]
    before = links_of(linker)
    toys.knowledge_base(tmp_path / "kb", model, lines, index="hnsw")
    after = links_of(linker)
    assert after != before
    assert after == links_of(Linker(model, KnowledgeBase.open(tmp_path / "kb"), threshold=0.01, **OPTIONS))
    assert len(linker.catalogue) == 21
    added = linker.kb.add({"title": "Zorblax 78"})
    assert added.row == 21
    assert "Zorblax 78" in linker.kb.titles(range(22))


def test_links_are_the_same_after_a_compaction(linker: Linker, model: BiEncoder) -> None:
    """Made by another process; the words of edited names are then among those whose rarity is counted."""
    linker.kb.add({"title": "Zorblax 77", "text": "a moon of Oslo", "aliases": ["the zorb"], "kb_idx": "X1"})
    linker.kb.update("Q105", title="Mercury 5", text="another text")
    linker.kb.remove("Q107")
    linker.kb.remove(linker.kb.add({"title": "Zorblax 78"}).row)
    before = links_of(linker)
    KnowledgeBase.open(linker.kb.require_folder()).compact()
    after = links_of(linker)
    assert linker.kb.changes.number == 0 or not linker.kb.changes.entities
    assert [[x[:5] for x in links] for links in after] == [[x[:5] for x in links] for links in before]
    assert after == links_of(Linker(model, KnowledgeBase.open(linker.kb.require_folder()), threshold=0.01, **OPTIONS))
    assert not {7, 21} & {row for links in after for x in links for row in x[6]}


def test_a_subset_of_an_edited_base_has_the_entities_as_they_are(folders: Callable[[str], Path]) -> None:
    kb = opened(folders("flat"))
    kb.add({"title": "Zorblax", "text": "a moon", "ids": {"own": "7"}})
    kb.update(3, title="Titan")
    kb.remove(5)
    small = subset(kb, [0, 4]).base
    titles = [entity.title for entity in kb.catalogue if entity.title and entity.row not in (0, 4)]
    assert [entity.title for entity in small.catalogue] == titles
    assert {"Zorblax", "Titan"} <= set(titles)
    assert small.vectors is not None
    np.testing.assert_array_equal(np.asarray(small.vectors), ENCODE(list(small.catalogue)))


def test_pickles_and_copies_open_the_folder_with_its_edits(linker: Linker) -> None:
    linker.kb.add({"title": "Zorblax 77", "kb_idx": "X1"})
    other = copy(linker.kb)
    assert other.catalogue.row_of("X1") == 20
    assert [entity.title for entity in other.catalogue][20:] == ["Zorblax 77"]


# --- matrices -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 9), st.integers(0, 5), st.sets(st.integers(0, 13)), st.data())
@settings(max_examples=50, deadline=None)
def test_a_patched_matrix_reads_as_an_array(n: int, added: int, changed: set[int], data: st.DataObject) -> None:
    base = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
    rows = np.array(sorted(row for row in changed if row < n + added), np.int64)
    values = -1.0 - np.arange(len(rows) * 3, dtype=np.float32).reshape(-1, 3)
    matrix = PatchedMatrix(base, rows, values, n + added)
    whole = np.concatenate([base, np.zeros((added, 3), np.float32)])
    whole[rows] = values
    np.testing.assert_array_equal(np.asarray(matrix), whole)
    assert (matrix.shape, matrix.dtype, len(matrix), matrix.nbytes) == (whole.shape, whole.dtype, len(whole), whole.nbytes)
    np.testing.assert_array_equal(matrix[2:7], whole[2:7])
    np.testing.assert_array_equal(matrix[::-2], whole[::-2])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole))), bool)
    np.testing.assert_array_equal(matrix[mask], whole[mask])
    if len(whole):
        at = np.array(data.draw(st.lists(st.integers(-len(whole), len(whole) - 1), max_size=6)), np.int64)
        np.testing.assert_array_equal(matrix[at], whole[at])
        np.testing.assert_array_equal(matrix[at.reshape(1, -1)], whole[at.reshape(1, -1)])
        np.testing.assert_array_equal(matrix[len(whole) - 1], whole[len(whole) - 1])
    with pytest.raises(IndexError):
        matrix[np.array([len(whole)])]
    assert (base == np.arange(n * 3).reshape(n, 3)).all()
