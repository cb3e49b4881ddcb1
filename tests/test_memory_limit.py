"""Limits of memory: sizes, the index that fits, and one line where none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.bulk.linkers import linker_settings
from blink.data.arrays import save_array
from blink.data.records import Entity
from blink.errors import SettingsError
from blink.kb.building import build_knowledge_base
from blink.kb.index import KINDS, save_index
from blink.kb.index.budget import (
    RESERVES,
    StoredVectors,
    index_bytes,
    plan_memory,
    require_memory,
)
from blink.kb.index.kinds import names_for, resolved_kind
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.manifest import INDEX_FILE
from blink.kb.reindex import reindex
from blink.limits import format_size, parse_size

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 << 20),
        ("4G", 4 << 30),
        ("4GB", 4 << 30),
        ("4 GiB", 4 << 30),
        ("1.5g", 3 << 29),
        ("100", 100),
        ("2kb", 2048),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-4G", "4 Gigs", "0", "0G", "1e3M", "4G4M", "nan"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(SettingsError, match="no size of memory; give one such as 512M"):
        parse_size(text)


@given(st.integers(1, 1 << 50))
def test_a_shown_size_is_enough_and_no_tenth_too_large(size: int) -> None:
    shown = parse_size(format_size(size))
    assert size <= shown <= size * 1.11 + 1


SIZES = st.builds(StoredVectors, st.integers(1, 10**8), st.integers(1, 4096), st.sampled_from([2, 4]))


BACKENDS = st.sampled_from(sorted(RESERVES))


@given(SIZES, BACKENDS, st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_more_memory_is_never_worse(vectors: StoredVectors, backend: str, one: int, other: int) -> None:
    low, high = sorted((one, other))
    order = names_for("auto", vectors.n)
    least = min(RESERVES[backend] + index_bytes(KINDS[name], vectors) for name in order)
    if low < least:
        with pytest.raises(SettingsError) as caught:
            plan_memory(vectors, low, backend=backend)
        assert "\n" not in str(caught.value)
        advised = parse_size(str(caught.value).rsplit("--max-ram ", 1)[1].split(",")[0])
        assert plan_memory(vectors, advised, backend=backend).needed <= advised
        return
    small, large = (plan_memory(vectors, limit, backend=backend) for limit in (low, high))
    assert small.needed <= low
    assert large.needed <= high
    assert order.index(large.kind.name) <= order.index(small.kind.name)
    if small.kind == large.kind:
        assert large.vectors_cached >= small.vectors_cached


@given(SIZES, SIZES)
def test_more_vectors_need_more(one: StoredVectors, other: StoredVectors) -> None:
    larger = StoredVectors(max(one.n, other.n), one.dim, one.value_bytes)
    for kind in KINDS.values():
        assert index_bytes(kind, one) <= index_bytes(kind, larger)


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "flat"])
def test_estimates_are_those_of_files(kind: str, tmp_path: Path) -> None:
    count = 8_000 if kind == "hnsw" else 20_000  # its graph takes longest, and has no tables that smaller sizes pay for
    vectors = np.random.default_rng(0).standard_normal((count, 64)).astype(np.float32)
    save_index(vectors, KINDS[kind], tmp_path / "index")
    actual = (tmp_path / "index").stat().st_size
    estimate = index_bytes(KINDS[kind], StoredVectors(*vectors.shape))
    assert 0.85 * actual < estimate < 1.3 * actual


def test_six_million_entities_fit_into_two_gigabytes() -> None:
    vectors = StoredVectors(5_900_000, 1024, 2)
    assert plan_memory(vectors, 2 << 30).kind.name == "coarse"
    assert not plan_memory(vectors, 4 << 30).vectors_cached
    assert plan_memory(vectors, 16 << 30).vectors_cached
    with pytest.raises(SettingsError, match=r"index flat need \d+\.\dG of memory .*, or another --index"):
        plan_memory(vectors, 4 << 30, "flat")


@given(SIZES)
def test_few_entities_are_searched_exactly_and_no_kind_is_binary(vectors: StoredVectors) -> None:
    names = names_for("auto", vectors.n)
    assert names[0] == resolved_kind("auto", vectors.n).name
    assert set(names) == {"flat", "coarse", "rabitq2", "sq8", "ivfpq"}
    assert names[-1] == "ivfpq"


def a_knowledge_base(tmp_path: Path, rows: int = 60) -> Path:
    source = tmp_path / "entity.jsonl"
    source.write_text("".join(f'{{"title": "Entity {row}"}}\n' for row in range(rows)), encoding="utf-8")
    vectors = np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)
    build_knowledge_base(source, tmp_path / "kb", lambda entities: vectors[[e.row for e in entities]], "model")
    return tmp_path / "kb"


@pytest.mark.parametrize("kind", KINDS)
def test_another_index_finds_the_same(kind: str, tmp_path: Path) -> None:
    folder = a_knowledge_base(tmp_path)
    queries = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    expected = KnowledgeBase.open(folder).index.search(queries, 3)[1]
    for name in (kind, "flat", kind):
        manifest, plan = reindex(folder, name)
        assert (manifest.index, plan) == (name, None)
        assert (folder / INDEX_FILE).exists() == (name != "flat")
        base = KnowledgeBase.open(folder)
        assert base.manifest == manifest
        np.testing.assert_array_equal(base.index.search(queries, 3)[1], expected)
    assert not list(folder.glob("*.new"))


def test_limits_of_a_stored_index(tmp_path: Path) -> None:
    folder = a_knowledge_base(tmp_path)
    assert KnowledgeBase.open(folder).memory is None
    assert "index flat needs 385M of 4G (1.9K of vectors, 384M for the rest" in str(KnowledgeBase.open(folder, "4G").memory)
    assert KnowledgeBase.open(folder, "4G").manifest == KnowledgeBase.open(folder, 4 << 30).manifest
    for opened in (lambda: KnowledgeBase.open(folder, "100M"), lambda: reindex(folder, max_ram=100 << 20)):
        with pytest.raises(SettingsError, match=r"60 vectors .* need 385M of memory .* limit is 100M; give --max-ram 385M"):
            opened()
    with pytest.raises(SettingsError, match="no size of memory"):
        KnowledgeBase.open(folder, "much")
    large = StoredVectors(1_000_000, 384)
    with pytest.raises(SettingsError, match=r"index flat of kb needs 1.9G .* blink kb index kb --max-ram 1G"):
        require_memory(Path("kb"), "flat", large, 1 << 30)
    with pytest.raises(SettingsError, match=r"needs 2.2G .* backend torch.* give --backend onnx"):
        require_memory(Path("kb"), "flat", large, 2 << 30, "torch")
    assert "1.9G of 2G (1.5G of vectors, 384M for the rest" in str(require_memory(Path("kb"), "flat", large, "2G"))


def test_a_limit_is_refused_before_entities_are_encoded(tmp_path: Path) -> None:
    source = tmp_path / "entity.jsonl"
    source.write_text('{"title": "Nile"}\n' * 40, encoding="utf-8")
    encoded: list[int] = []

    def encode(entities: Sequence[Entity]) -> np.ndarray:
        encoded.append(len(entities))
        return np.ones((len(entities), 8), np.float32)

    with pytest.raises(SettingsError, match=r"40 vectors of dimension 8 .* limit is 100M"):
        build_knowledge_base(source, tmp_path / "kb", encode, "model", max_ram=100 << 20)
    assert encoded == [1]
    with pytest.raises(SettingsError, match="or --backend onnx, which needs less"):
        plan_memory(StoredVectors(40, 8), 500 << 20, backend="torch")


def test_an_index_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    folder = a_knowledge_base(tmp_path)
    reindex(folder, "coarse")
    before = KnowledgeBase.open(folder).manifest
    assert before is not None
    broken = np.full((60, 8), np.nan, np.float32)
    save_array(folder / "vectors.npy", broken)
    with pytest.raises(Exception, match="NaN"):
        reindex(folder, "sq8")
    from blink.kb.manifest import read_manifest

    assert read_manifest(folder) == replace(before)


@given(st.one_of(st.none(), st.sampled_from(["500M", "4G", "1T"])))
def test_a_killed_run_continues_with_another_limit(limit: str | None) -> None:
    options = {"model": "a", "kb": "b", "max_ram": limit, "threshold": 0.5}
    with patch("blink.bulk.linkers.linker_hashes", return_value={}):
        assert linker_settings(options) == linker_settings(options | {"max_ram": "8G"})
        assert linker_settings(options) != linker_settings(options | {"threshold": 0.6})
