"""A subset of a knowledge base is the knowledge base of the filtered catalogue, and nothing is encoded for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blink.data.mention_files import bind
from blink.data.records import NOT_IN_CATALOGUE, Mention, Sample
from blink.errors import BlinkError, DataError
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.manifest import CATALOGUE_FILE
from blink.kb.subset import subset
from blink.linking.linker import Linker
from tests import toys

pytestmark = pytest.mark.quick

ENCODE = toys.letter_counts()
N = 23
BROKEN = 7
LINES = [*toys.rows(N)[:BROKEN], "{broken", *toys.rows(N)[BROKEN + 1 :]]


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.endswith(".offsets")}


def build(lines: list, folder: Path, **options: object) -> KnowledgeBase:
    folder.mkdir(parents=True)
    source = toys.write_catalogue(folder.with_name(folder.name + ".jsonl"), lines)
    build_knowledge_base(source, folder, ENCODE, "fingerprint", **options)
    return KnowledgeBase.open(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return build(LINES, tmp_path_factory.mktemp("whole") / "kb", skip_bad=True)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(removed=st.sets(st.integers(0, N - 1), max_size=N - 2))
@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_saved_files_are_those_of_the_filtered_catalogue(
    index: str, removed: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp = tmp_path_factory.mktemp("bases")
    whole = build(LINES, tmp / "whole", skip_bad=True, index=index)
    removed -= {BROKEN + 1}  # at least one remains
    expected = build([line for i, line in enumerate(LINES) if i not in removed | {BROKEN}], tmp / "expected", index=index)
    small = subset(whole, removed, tmp / "small")
    assert files(tmp / "small") == files(tmp / "expected")
    assert [e.title for e in small.base.catalogue] == [e.title for e in expected.catalogue]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(removed=st.sets(st.integers(0, N - 1), max_size=N - 2))
def test_memory_and_folder_agree(whole: KnowledgeBase, removed: set[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    removed -= {BROKEN + 1}
    saved = subset(whole, removed, tmp_path_factory.mktemp("small")).base
    memory, row_of = (made := subset(whole, removed)).base, made.row_of
    assert list(memory.catalogue) == list(saved.catalogue)
    assert memory.catalogue.sha256 == saved.catalogue.sha256
    np.testing.assert_array_equal(memory.vectors, saved.vectors)
    queries = ENCODE(list(whole.catalogue))
    for one, other in zip(memory.index.search(queries, 4), saved.index.search(queries, 4), strict=True):
        np.testing.assert_array_equal(one, other)
    assert memory.names is not None
    assert saved.names is not None
    for entity in whole.catalogue:
        for name in (entity.title, entity.title.lower()[:-1], *entity.aliases):
            assert memory.names.candidates(name) == saved.names.candidates(name)
            assert memory.names.fuzzy_index.similar(name) == saved.names.fuzzy_index.similar(name)
    np.testing.assert_array_equal(memory.names.popularity, saved.names.popularity)
    for entity in whole.catalogue:
        row = int(row_of[entity.row])
        assert (row == -1) == (entity.row in removed | {BROKEN})
        assert row == -1 or memory.catalogue[row].title == entity.title
        if entity.kb_id:
            assert memory.catalogue.row_of(entity.kb_id) == (None if row == -1 else row)


def test_samples_are_relabelled(whole: KnowledgeBase) -> None:
    small = subset(whole, [1, 1, 2])
    gold = (Mention(0, 2, 1, "Q101"), Mention(3, 4, 3, "Q103"), Mention(5, 6), Mention(6, 7, 0))
    sample = Sample("a", "some text", gold)
    assert [m.row for m in small.relabel(sample).mentions or ()] == [NOT_IN_CATALOGUE, 1, NOT_IN_CATALOGUE, 0]
    (bound,) = bind([Sample("a", "some text", gold[:3])], small.base.catalogue)
    assert [m.row for m in bound.mentions or ()] == [NOT_IN_CATALOGUE, 1, NOT_IN_CATALOGUE]
    assert small.relabel(Sample("b", "x")) == Sample("b", "x")


def test_a_linker_never_links_removed_entities(tmp_path: Path) -> None:
    model = toys.model()
    whole = toys.knowledge_base(tmp_path / "kb", model, toys.rows(20))
    text = "Oslo 7 and Georgia 10 are by Lake Garda 4."
    before = {link.candidates[0].row for link in Linker(model, whole)([text])[0].links}
    assert before
    small = subset(whole, before)
    after = Linker(model, small.base)([text])[0].links
    assert after
    titles = {whole.catalogue.title(row) for row in before}
    assert not titles & {candidate.title for link in after for candidate in link.candidates}


def test_repeated_ids_are_looked_up_in_what_remains(tmp_path: Path) -> None:
    lines = [{"title": "A", "kb_idx": "Q5"}, {"title": "B", "kb_idx": "Q5"}, {"title": "C", "kb_idx": "Q6"}]
    whole = build(lines, tmp_path / "kb", skip_bad=True)
    assert whole.catalogue.row_of("Q5") == 1
    small = subset(whole, [1], tmp_path / "small").base
    assert small.catalogue.row_of("Q5") == 0
    assert small.manifest is not None
    assert small.manifest.skipped == 0


def test_an_earlier_folder_is_replaced_as_a_whole(whole: KnowledgeBase, tmp_path: Path) -> None:
    subset(whole, [0], tmp_path / "kb")
    assert len(subset(whole, [0, 1, 2], tmp_path / "kb").base.catalogue) == N - 4
    assert (tmp_path / "kb" / CATALOGUE_FILE).read_bytes().count(b"\n") == N - 4
    assert json.loads((tmp_path / "kb" / "manifest.json").read_text())["entities"] == N - 4


@pytest.mark.parametrize(
    ("rows", "fault"), [([N], "row 23 cannot be removed"), ([-1], "row -1 cannot"), (range(N), "leave at least one")]
)
def test_rows_that_cannot_be_removed_are_refused(whole: KnowledgeBase, rows: list[int], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        subset(whole, rows)


def test_a_knowledge_base_in_memory_cannot_be_saved(whole: KnowledgeBase, tmp_path: Path) -> None:
    bare = KnowledgeBase(whole.catalogue, whole.index)
    with pytest.raises(BlinkError, match="no stored vectors"):
        subset(bare, [0])
    unsigned = KnowledgeBase(whole.catalogue, whole.index, None, whole.vectors, whole.names)
    assert len(subset(unsigned, [0]).base.catalogue) == N - 2
    with pytest.raises(BlinkError, match="leave out the folder"):
        subset(unsigned, [0], tmp_path / "kb")
