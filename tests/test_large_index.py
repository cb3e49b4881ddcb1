"""Rows of large memory maps, and the reduction before product quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.arrays import map_array, save_array
from blink.kb.index import stored_rows
from blink.kb.index.reduction import balanced, learn, new_reduced, principal_axes
from blink.kb.index.stored_rows import StoredRows

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("limit", [0, 1 << 29])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_are_those_of_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, dtype: type) -> None:
    monkeypatch.setattr(stored_rows, "PREFETCHED_FROM", limit)
    monkeypatch.setattr(stored_rows, "RELEASED_AFTER", 64)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3000, 48)).astype(dtype)
    save_array(tmp_path / "m.npy", matrix)
    mapped = map_array(tmp_path / "m.npy", "")
    for source in (matrix, mapped, np.asarray(mapped)):
        rows = StoredRows(source)
        for shape in ((7,), (3, 40), (0, 5), (2, 0)):
            wanted = rng.integers(-1, len(matrix), shape)
            np.testing.assert_array_equal(rows[wanted], matrix[wanted])


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_every_subspace_gets_as_many_axes(subspaces: int, width: int, seed: int) -> None:
    moments = np.sort(np.random.default_rng(seed).exponential(size=subspaces * width) ** 3)[::-1]
    order = balanced(moments, subspaces)
    assert sorted(order.tolist()) == list(range(subspaces * width))
    if width == 2:  # the largest with the smallest, and so on
        pairs = {tuple(sorted(pair)) for pair in order.reshape(subspaces, 2).tolist()}
        assert pairs == {(i, 2 * subspaces - 1 - i) for i in range(subspaces)}


def test_no_moment_at_all_is_no_error() -> None:
    assert sorted(balanced(np.zeros(8), 4).tolist()) == list(range(8))


def low_rank(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1, 0.02, 96)
    basis = np.linalg.qr(np.random.default_rng(9).standard_normal((96, 96)))[0]
    vectors = (rng.standard_normal((n, 96)) * scales) @ basis
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_axes_are_orthonormal_and_keep_most_of_the_length() -> None:
    sample = low_rank(2000, 1)
    axes = principal_axes(sample, 32, 16)
    np.testing.assert_allclose(axes @ axes.T, np.eye(32), atol=1e-4)
    kept = np.square(sample @ axes.T).sum(1).mean()
    assert kept > 0.8
    assert kept > np.square(sample[:, :32]).sum(1).mean() + 0.3


def test_a_shortlist_of_reduced_vectors_has_the_nearest() -> None:
    vectors, queries = low_rank(4000, 2), low_rank(50, 3)
    index = new_reduced(96, 48)
    learn(index, vectors[:2000])
    index.add(vectors)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    scores, rows = index.search(queries, 200)
    assert np.mean([np.isin(e, r).mean() for e, r in zip(exact, rows, strict=True)]) > 0.98
    # Coarse scores approximate inner products: they are not shifted by a mean.
    errors = np.take_along_axis(queries @ vectors.T, rows, 1) - scores
    assert abs(errors.mean()) < 0.1
