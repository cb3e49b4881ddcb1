"""Search on a GPU: which indexes move there, and hits that are those of exact search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.kb.index import ExactIndex, TorchIndex, build_index
from blink.kb.index.on_gpu import GpuIndex, for_device
from blink.linking.linker import Linker
from tests import toys


def vectors_of(n: int, seed: int, dtype: Any = np.float32) -> np.ndarray:
    """Random vectors, some of which are equal."""
    random = np.random.default_rng(seed)
    return random.normal(size=(max(1, n // 2), 8)).astype(dtype)[random.integers(0, max(1, n // 2), n)]


def on_a_cpu(vectors: np.ndarray, device: str) -> TorchIndex:
    """Stands for a GPU."""
    assert device == "fake:1"
    return TorchIndex(vectors, block_rows=7)


def on_a_small_device(vectors: np.ndarray, device: str) -> Any:
    """Stands for a GPU that has no room."""
    index = TorchIndex(vectors, block_rows=7)
    index._device = type(index._device)("meta")
    return index


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float16]))
@settings(deadline=None)
def test_hits_are_those_of_exact_search(n: int, k: int, seed: int, dtype: Any) -> None:
    vectors = vectors_of(n, seed, dtype)
    exact = ExactIndex(vectors)
    index = for_device(exact, vectors, "fake:1", on_a_cpu)
    assert isinstance(index, GpuIndex)
    assert (index.size, index.dim) == (exact.size, exact.dim)
    for queries in (vectors_of(5, seed + 1), np.empty((0, 8), np.float32)):
        for found, expected in zip(index.search(queries, k), exact.search(queries, k), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "moves"),
    [("flat", True), ("coarse", True), ("rabitq2", True), ("ivfpq", False), ("ivfflat", False), ("hnsw", False)],
)
def test_indexes_that_search_all_stored_vectors_move(kind: str, moves: bool) -> None:
    vectors = vectors_of(200, 0)
    index = build_index(vectors, kind)
    assert isinstance(for_device(index, vectors, "fake:1", on_a_cpu), GpuIndex) == moves
    assert for_device(index, vectors, "cpu", on_a_cpu) is index
    assert for_device(index, None, "fake:1", on_a_cpu) is index
    assert for_device(index, vectors, "fake:1", on_a_small_device) is index


def test_a_linker_takes_the_index_for_its_device(tmp_path: Path) -> None:
    model = toys.model(1, cosine=True)
    kb = toys.knowledge_base(tmp_path / "kb", model, toys.rows(20))
    assert Linker(model, kb, device="cpu").stages.candidates.index is kb.index


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a GPU")
def test_a_gpu_finds_what_exact_search_finds(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(100_000, 64)).astype(np.float32)
    queries = np.random.default_rng(1).normal(size=(300, 64)).astype(np.float32)
    exact = ExactIndex(vectors)
    index = for_device(exact, vectors, "cuda")
    assert isinstance(index, GpuIndex)
    for found, expected in zip(index.search(queries, 10), exact.search(queries, 10), strict=True):
        np.testing.assert_array_equal(found, expected)
    model = toys.model(1, cosine=True)
    kb = toys.knowledge_base(tmp_path / "kb", model, toys.rows(20))
    assert isinstance(Linker(model, kb, device="cuda").stages.candidates.index, GpuIndex)
