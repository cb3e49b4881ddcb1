"""Knowledge bases from Python objects, empty ones, and rebuilds that take over vectors."""

from __future__ import annotations

import gc
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import blink as package
from blink.data.records import Entity
from blink.errors import DataError, MismatchError, SettingsError
from blink.kb.building import BuildProgress, build_knowledge_base
from blink.kb.health import check_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.vectors import CandidateEncoder
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from tests import toys

RECORDS = [{"name": "Oslo", "description": "A city.", "id": 7}, {"name": "Java", "aliases": "Jawa|J"}, {"name": "Turing"}]


class CountingEncoder:
    """Counts the entities that are encoded."""

    def __init__(self, dim: int = 6) -> None:
        self.titles: list[str] = []
        self._encode = toys.letter_counts(dim)

    def __call__(self, entities: Sequence[Entity]) -> np.ndarray:
        self.titles += [entity.title for entity in entities]
        return self._encode(entities)

    def of_model(self, fingerprint: str = "model") -> CandidateEncoder:
        return CandidateEncoder(self, fingerprint, lambda entity: (entity.title, entity.text))


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model()


@pytest.fixture
def of_toy(model: BiEncoder) -> CandidateEncoder:
    return CandidateEncoder(model.encode_entities, model.candidate_fingerprint(), model.entity_texts)


# -- from records --------------------------------------------------------------------------------------------------------


def test_records_become_a_base_that_links(model: BiEncoder, of_toy: CandidateEncoder, tmp_path: Path) -> None:
    base = KnowledgeBase.from_records(RECORDS, encoder=of_toy)
    assert [e.title for e in base.catalogue] == ["Oslo", "Java", "Turing"]
    assert base.catalogue[1].aliases == ("Jawa", "J")
    assert base.encode is of_toy.encode
    model.save_pretrained(tmp_path / "model")
    options: dict[str, Any] = {"threshold": -20.0, "precision": "fp32", "device": "cpu"}
    linker = Linker.from_pretrained(tmp_path / "model", base, **options)
    assert linker.kb is base
    (link,) = linker("in oslo", spans=[(3, 7)]).links
    assert base.catalogue[link.row].title == link.title
    assert package.load(tmp_path / "model", kb=base, **options)("in oslo", spans=[(3, 7)]).links == (link,)
    with pytest.raises(SettingsError, match="max_ram is given with an opened knowledge base"):
        Linker.from_pretrained(tmp_path / "model", base, max_ram="1G")


def test_a_temporary_folder_is_gone_with_its_base(of_toy: CandidateEncoder) -> None:
    base = KnowledgeBase.from_records(RECORDS, encoder=of_toy)
    folder = base.require_folder()
    copy = pickle.loads(pickle.dumps(base))
    assert copy.catalogue[0].title == "Oslo"
    assert folder.is_dir()
    del base
    gc.collect()
    assert not folder.exists()


def test_a_wrong_record_leaves_nothing(of_toy: CandidateEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DataError, match="record 4: none is named as a title"):
        KnowledgeBase.from_records([*RECORDS, {"nome": "x"}], encoder=of_toy)
    assert list(tmp_path.iterdir()) == []


def test_a_base_without_a_model_to_open_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnowledgeBase, "open_encoder", None)
    with pytest.raises(SettingsError, match=r"import blink\.KnowledgeBase, or give an encoder"):
        KnowledgeBase.from_records(RECORDS)
    assert package.KnowledgeBase is KnowledgeBase


# -- empty ---------------------------------------------------------------------------------------------------------------


def test_an_empty_base_links_nothing_and_is_whole(model: BiEncoder, of_toy: CandidateEncoder, tmp_path: Path) -> None:
    base = KnowledgeBase.from_records([], out=tmp_path / "kb", encoder=of_toy)
    assert (len(base.catalogue), base.index.size, base.index.dim) == (0, 0, toys.HIDDEN)
    assert base.manifest is not None
    assert base.manifest.model == of_toy.fingerprint
    scores, rows = base.index.search(np.ones((2, toys.HIDDEN), np.float32), 5)
    assert scores.shape == rows.shape == (2, 5)
    assert (rows == -1).all()
    assert base.names is not None
    linker = Linker(model, base, threshold=-20.0, precision="fp32", device="cpu")
    assert linker("who governed ohio").links == ()
    assert linker("who governed ohio", spans=[(13, 17)]).links == ()
    with pytest.raises(DataError, match="has no row 0: it is empty"):
        base.catalogue[0]


def test_an_empty_base_is_filled_by_edits(model: BiEncoder, of_toy: CandidateEncoder, tmp_path: Path) -> None:
    base = KnowledgeBase.from_records([], out=tmp_path / "kb", encoder=of_toy)
    linker = Linker(model, base, threshold=-20.0, precision="fp32", device="cpu")
    assert linker("in oslo", spans=[(3, 7)]).links == ()
    added = base.add({"title": "Oslo", "text": "A city.", "kb_idx": "Q585"})
    assert added.row == 0
    assert [link.title for link in linker("in oslo", spans=[(3, 7)]).links] == ["Oslo"]
    assert KnowledgeBase.open(tmp_path / "kb").changes.rows == 1


def test_a_base_may_become_empty(tmp_path: Path) -> None:
    of_model = CountingEncoder().of_model()
    KnowledgeBase.from_records(["a", "b"], out=tmp_path / "kb", encoder=of_model)
    base = KnowledgeBase.from_records([], out=tmp_path / "kb", encoder=of_model, max_ram=1 << 30)
    assert len(base.catalogue) == 0
    assert len(KnowledgeBase.from_records(["a"], out=tmp_path / "kb", encoder=of_model).catalogue) == 1


def test_no_source_is_empty_by_accident(tmp_path: Path) -> None:
    (tmp_path / "entity.jsonl").write_text("")
    with pytest.raises(DataError, match="has no entities"):
        build_knowledge_base(tmp_path / "entity.jsonl", tmp_path / "kb", toys.letter_counts(), "model")


# -- rebuilds ------------------------------------------------------------------------------------------------------------


def lines_of(titles: Sequence[str], text: str = "x") -> list[dict[str, Any]]:
    return [{"title": title, "text": text} for title in titles]


def build(folder: Path, lines: list[dict[str, Any]], encoder: CandidateEncoder, **options: Any) -> list[str]:
    notes: list[str] = []
    source = toys.write_catalogue(folder / "source.jsonl", lines)
    build_knowledge_base(source, folder / "kb", encoder, progress=BuildProgress(note=notes.append), **options)
    return notes


Entities = list[tuple[str, str]]
entity_lists = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["x", "y", " x "])), min_size=1, max_size=9)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=entity_lists, after=entity_lists, chunk_rows=st.integers(1, 4), dtype=st.sampled_from(["fp32", "fp16"]))
def test_a_rebuild_encodes_what_changed_and_gives_what_a_fresh_build_does(
    tmp_path_factory: pytest.TempPathFactory, before: Entities, after: Entities, chunk_rows: int, dtype: str
) -> None:
    tmp_path, encoder = tmp_path_factory.mktemp("rebuild"), CountingEncoder()
    options: dict[str, Any] = {"chunk_rows": chunk_rows, "dtype": dtype}
    build(tmp_path, [{"title": t, "text": d} for t, d in before], encoder.of_model(), **options)
    encoder.titles.clear()
    # What the encoder does not read may change without an effect.
    lines = [{"title": t, "text": d, "kb_idx": f"new{i}"} for i, (t, d) in enumerate(after)]
    notes = build(tmp_path, lines, encoder.of_model(), **options)
    known = {(title, text.strip()) for title, text in before}
    wanted = [title for title, text in after if (title, text.strip()) not in known]
    assert encoder.titles == wanted
    if len(wanted) == len(after):
        assert notes == []
    else:
        assert f"{len(after) - len(wanted)} of {len(after)} vectors are taken over" in notes[-1]
    fresh = tmp_path_factory.mktemp("fresh")
    build(fresh, lines, encoder.of_model(), **options)
    assert (tmp_path / "kb" / "vectors.npy").read_bytes() == (fresh / "kb" / "vectors.npy").read_bytes()
    assert (tmp_path / "kb" / "manifest.json").read_bytes() == (fresh / "kb" / "manifest.json").read_bytes()


def test_vectors_of_another_model_or_damaged_ones_are_not_taken_over(tmp_path: Path) -> None:
    encoder, titles = CountingEncoder(), ["a", "b", "c"]
    (tmp_path / "other").mkdir()
    build(tmp_path / "other", lines_of(titles), encoder.of_model())
    for folder, options in (("model", {}), ("dtype", {"dtype": "fp16"}), ("damage", {})):
        (tmp_path / folder).mkdir()
        encoder.titles.clear()
        if folder == "damage":
            vectors = tmp_path / "other" / "kb" / "vectors.npy"
            content = bytearray(vectors.read_bytes())
            content[-1] ^= 1
            vectors.write_bytes(content)
        of_model = encoder.of_model("another" if folder == "model" else "model")
        with pytest.raises(MismatchError, match="build without --reuse"):
            build(tmp_path / folder, lines_of(titles), of_model, reuse=tmp_path / "other" / "kb", **options)
        assert encoder.titles == []
    build(tmp_path / "other", lines_of(titles), encoder.of_model())  # its own, unasked
    assert encoder.titles == titles


def test_reuse_of_another_base_after_edits(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    build(tmp_path, lines_of("abcd"), encoder.of_model())
    base = KnowledgeBase.open(tmp_path / "kb")
    base.encode = encoder
    base.update(0, text="changed")
    base.remove(1)
    base.add({"title": "new", "text": "x"})
    encoder.titles.clear()
    (tmp_path / "second").mkdir()
    lines = [*lines_of("abcd"), {"title": "a", "text": "changed"}, *lines_of(["new"])]
    build(tmp_path / "second", lines, encoder.of_model(), reuse=tmp_path / "kb")
    assert encoder.titles == ["a", "b"]
    stored = np.asarray(KnowledgeBase.open(tmp_path / "second" / "kb").vectors)
    expected = toys.letter_counts()([Entity(0, line["title"], line["text"]) for line in lines])
    np.testing.assert_array_equal(stored, expected)


def test_a_rebuild_never_forgets_edits_unasked(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    build(tmp_path, lines_of("ab"), encoder.of_model())
    base = KnowledgeBase.open(tmp_path / "kb")
    base.encode = encoder
    base.add({"title": "c"})
    with pytest.raises(SettingsError, match=r"was edited \(entities that differ: 1\).*--discard-edits"):
        build(tmp_path, lines_of("abd"), encoder.of_model())
    assert KnowledgeBase.open(tmp_path / "kb").changes.rows == 3
    build(tmp_path, lines_of("abd"), encoder.of_model(), edits="discard")
    again = KnowledgeBase.open(tmp_path / "kb")
    assert [e.title for e in again.catalogue] == ["a", "b", "d"]
    assert again.changes.number == 0
    assert again.history() == []


def test_the_model_says_what_it_reads(model: BiEncoder) -> None:
    long = Entity(0, "Oslo", "word " * 400, aliases=("x",))
    same = Entity(5, "Oslo", "word " * 400 + "and more that is beyond what is read", "Q1", aliases=("y",))
    assert model.entity_texts(long) == model.entity_texts(same)
    np.testing.assert_allclose(*model.encode_entities([long, same]), atol=1e-6)
    with_aliases = toys.model(candidate_fields="title_aliases_text")
    assert with_aliases.entity_texts(long) != with_aliases.entity_texts(same)


def test_commands(blink: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = CountingEncoder()
    for target in ("blink.linking.opening.open_encoder_for_builds", "blink.kb.knowledge_base.KnowledgeBase.open_encoder"):
        monkeypatch.setattr(target, lambda *options: encoder.of_model())
    assert blink("kb", "new", tmp_path / "empty")[0] == 0
    status, _, err = blink("kb", "new", tmp_path / "empty")
    assert status == 1
    assert "is a knowledge base already" in err
    assert check_knowledge_base(tmp_path / "empty").problems == []
    table = tmp_path / "a.csv"
    table.write_text("Begriff;Text;Preis\nAda;Frau;1\nBob;;2\n", encoding="utf-16")
    status, _, err = blink("kb", "build", table, "--out", tmp_path / "kb", "--columns", "title=Begriff")
    assert status == 0, err
    assert "title=Begriff, text=Text; columns that are not used: Preis" in err
    status, _, err = blink(
        "kb", "build", table, "--out", tmp_path / "kb", "--columns", "title=Begriff", "--reuse", tmp_path / "kb"
    )
    assert "2 of 2 vectors are taken over" in err
    assert json.loads((tmp_path / "kb" / "manifest.json").read_text())["entities"] == 2
