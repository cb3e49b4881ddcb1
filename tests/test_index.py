"""Search by inner product: exact against brute force, FAISS files of every flavour, and what happens at the edges."""

from __future__ import annotations

import os
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.errors import CheckpointError, DataError, MismatchError, MissingFileError, SettingsError, ShapeError
from blink.kb.index import (
    KINDS,
    CoarseIndex,
    ExactIndex,
    FaissIndex,
    Index,
    TorchIndex,
    build_index,
    open_index,
    read_index,
    resolved_kind,
    save_index,
    write_index,
)
from blink.kb.index.kinds import COARSE_FROM, sub_quantizers
from blink.kb.index.storage import build_codes

faiss = pytest.importorskip("faiss")
pytestmark = pytest.mark.quick

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def vectors(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def brute_force(matrix: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Best first, equal scores by row, padded with -inf and -1: slowly, but plainly."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for query, products in enumerate(queries @ matrix.T):
        order = sorted(range(len(matrix)), key=lambda row: (-products[row], row))[:k]
        scores[query, : len(order)], rows[query, : len(order)] = products[order], order
    return scores, rows


def assert_hits(hits: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray], atol: float = 0.0) -> None:
    """Equal scores; equal rows wherever a score differs from its neighbours by more than the tolerance."""
    scores, rows = hits
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    assert scores.shape == rows.shape == expected[0].shape
    np.testing.assert_allclose(scores, expected[0], rtol=0, atol=atol)
    with np.errstate(invalid="ignore"):
        close = np.abs(np.diff(expected[0], axis=1)) <= 2 * atol
    tied = np.pad(close, ((0, 0), (0, 1)), constant_values=atol > 0) | np.pad(close, ((0, 0), (1, 0)))
    free = tied if atol else np.zeros_like(tied)
    np.testing.assert_array_equal(rows[~free], expected[1][~free])


# --- exact ----------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(0, 40),
    d=st.integers(1, 5),
    m=st.integers(0, 7),
    k=st.integers(1, 50),
    block=st.integers(1, 45),
    query_rows=st.integers(1, 8),
    span=st.sampled_from([1, 2, 30]),
    seed=st.integers(0, 2**32 - 1),
)
def test_exact_is_brute_force(n: int, d: int, m: int, k: int, block: int, query_rows: int, span: int, seed: int) -> None:
    """Small whole numbers make many equal scores, and sums without rounding: rows must agree to the last."""
    draw = np.random.default_rng(seed)
    matrix = draw.integers(-span, span + 1, (n, d)).astype(np.float32)
    queries = draw.integers(-span, span + 1, (m, d)).astype(np.float32)
    indexes = (
        ExactIndex(matrix, block_rows=block, query_rows=query_rows),
        ExactIndex(matrix.astype(np.float16)),
        TorchIndex(matrix, block_rows=block, query_rows=query_rows),
    )
    for index in indexes:
        assert (index.dim, index.size) == (d, n)
        assert_hits(index.search(queries, k), brute_force(matrix, queries, k))


@pytest.mark.parametrize("ascending", [False, True])
def test_sorted_vectors_pass_every_block(ascending: bool) -> None:
    """Where the best rows come last, every score of a block is above the best so far."""
    sizes = np.linspace(1, 100, 5_000, dtype=np.float32)[:, None]
    matrix = (sizes if ascending else sizes[::-1]) * np.ones((1, 8), np.float32)
    queries = np.stack([np.ones(8), -np.ones(8), np.zeros(8)]).astype(np.float32)
    for block in (None, 64):
        assert_hits(ExactIndex(matrix, block_rows=block).search(queries, 10), brute_force(matrix, queries, 10), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 3_000), m=st.integers(1, 12), k=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_hits_do_not_depend_on_batches_and_blocks(n: int, m: int, k: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    matrix = draw.standard_normal((n, 24)).astype(np.float32)[draw.integers(n, size=n)]  # with equal rows
    queries = draw.standard_normal((m, 24)).astype(np.float32)
    together = ExactIndex(matrix).search(queries, k)
    single = [ExactIndex(matrix, block_rows=100).search(query[None], k) for query in queries]
    for column in range(2):
        np.testing.assert_array_equal(together[column], np.concatenate([hits[column] for hits in single]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("on_device", [None, False, True])
@pytest.mark.parametrize("n", [1, 99, 100, 101, 250])
def test_blocks_and_their_tail(device: str, on_device: bool | None, n: int) -> None:
    matrix, queries = vectors(n, 16), vectors(9, 16, 1)
    queries[0] = matrix[-1] * 10  # the last row must be found
    index = TorchIndex(matrix, device=device, block_rows=100, query_rows=4, on_device=on_device)
    hits = index.search(queries, 10)
    assert hits[1][0, 0] == n - 1
    assert_hits(hits, brute_force(matrix, queries, 10), atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("on_device", [False, True])
def test_bf16_is_the_product_of_rounded_vectors(device: str, on_device: bool) -> None:
    matrix, queries = vectors(300, 32), vectors(5, 32, 1)
    rounded = [torch.from_numpy(x).bfloat16().float().numpy() for x in (matrix, queries)]
    expected = brute_force(rounded[0], rounded[1], 7)
    for source in (matrix, torch.from_numpy(matrix).bfloat16()):
        index = TorchIndex(source, device=device, dtype="bf16", block_rows=128, on_device=on_device)
        assert_hits(index.search(queries, 7), expected, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exact_over_a_read_only_memory_map(tmp_path: Path, dtype: str, recwarn: pytest.WarningsRecorder) -> None:
    matrix, queries = vectors(130, 8).astype(dtype), vectors(3, 8, 1)
    np.save(tmp_path / "v.npy", matrix)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    hits = ExactIndex(mapped, block_rows=50).search(queries, 5)
    assert_hits(hits, brute_force(matrix.astype(np.float32), queries, 5), atol=1e-4)
    assert not recwarn.list


def test_ties_do_not_depend_on_blocks() -> None:
    matrix = np.ones((500, 4), np.float32)
    for block in (1, 7, 64, 499, 500, 501):
        scores, rows = ExactIndex(matrix, block_rows=block).search(np.ones((2, 4), np.float32), 6)
        assert rows.tolist() == [[0, 1, 2, 3, 4, 5]] * 2
        assert (scores == 4).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_exact_says_which_vector_is_broken(bad: float) -> None:
    matrix = vectors(50, 4)
    matrix[33, 1] = bad
    query = np.ones((1, 4), np.float32)
    query[0, 1] = 0
    with pytest.raises(DataError, match="row 33 "):
        ExactIndex(matrix, block_rows=20).search(query, 2)


def test_exact_refuses_odd_settings() -> None:
    with pytest.raises(SettingsError, match="allowed are fp32 and bf16"):
        TorchIndex(vectors(3, 2), dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="at least 1"):
        ExactIndex(vectors(3, 2), block_rows=0)
    with pytest.raises(ShapeError, match="3 dimensions"):
        ExactIndex(np.zeros((2, 1, 4), np.float32))


# --- all kinds ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("n", [1, 5])
def test_fewer_vectors_than_hits(kind: str, n: int) -> None:
    matrix, queries = vectors(n, 6), vectors(3, 6, 1)
    assert_hits(build_index(matrix, kind).search(queries, 8), brute_force(matrix, queries, 8), atol=1e-5)


def test_no_queries(kind: str) -> None:
    scores, rows = build_index(vectors(5, 6), kind).search(np.empty((0, 6), np.float32), 4)
    assert scores.shape == rows.shape == (0, 4)


def test_wrong_queries(kind: str) -> None:
    index = build_index(vectors(5, 6), kind)
    with pytest.raises(MismatchError, match="queries have 7 columns and the index 6"):
        index.search(vectors(2, 7), 3)
    with pytest.raises(ShapeError, match="1 dimensions"):
        index.search(np.zeros(6, np.float32), 3)
    with pytest.raises(SettingsError, match="at least 1"):
        index.search(vectors(2, 6), 0)
    with pytest.raises(DataError, match="NaN"):
        index.search(np.full((1, 6), np.nan, np.float32), 3)


def test_float64_and_strided_queries(kind: str) -> None:
    matrix, queries = vectors(60, 6), vectors(6, 12, 1)
    expected = brute_force(matrix, queries[:, ::2], 4)
    index = build_index(matrix, kind)
    assert_hits(index.search(queries[:, ::2], 4), expected, atol=1e-5)
    assert_hits(index.search(queries[:, ::2].astype(np.float64), 4), expected, atol=1e-5)  # type: ignore[arg-type]


def recall(index: Index, matrix: np.ndarray, queries: np.ndarray, k: int) -> float:
    _, exact = ExactIndex(matrix).search(queries, k)
    _, approximate = index.search(queries, k)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(exact.tolist(), approximate.tolist(), strict=True)]))


def test_recall_at_10(kind: str) -> None:
    matrix, queries = vectors(4000, 24), vectors(50, 24, 1)
    minimum = {"hnsw": 0.95, "ivfflat": 0.6, "ivfpq": 0.6}.get(kind, 1.0)
    assert recall(build_index(matrix, kind), matrix, queries, 10) >= minimum


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kinds_that_score_again_equal_exact_search(kind: str, dtype: str) -> None:
    if not KINDS[kind].adaptive or not KINDS[kind].rescored:
        pytest.skip("not exact")
    matrix = vectors(4000, 32).astype(dtype)
    matrix[500] = 0
    queries = np.concatenate([vectors(40, 32, 1), matrix[:5].astype(np.float32), np.zeros((1, 32), np.float32)])
    for hits, expected in zip(
        build_index(matrix, kind).search(queries, 10), ExactIndex(matrix).search(queries, 10), strict=True
    ):
        np.testing.assert_array_equal(hits[:-1], expected[:-1])


def test_progress_and_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blink.kb.index.storage.BLOCK_ROWS", 10)
    calls: list[int] = []
    codes = build_codes(vectors(25, 4).astype(np.float16), KINDS[kind], calls.append)
    if kind == "flat":
        assert codes is None
    else:
        assert codes is not None
        assert codes.size == 25
        assert calls == [10, 10, 5]


@pytest.mark.parametrize("kind", ["ivfflat", "ivfpq", "coarse"])
def test_build_is_deterministic(kind: str) -> None:
    matrix, queries = vectors(3000, 8), vectors(5, 8, 1)
    one, two = (build_index(matrix, kind).search(queries, 5) for _ in range(2))
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize(("n", "cells"), [(1, 1), (38, 1), (78, 2), (4000, 102), (100_000, 1265)])
def test_cells_suit_the_number_of_vectors(n: int, cells: int) -> None:
    index = build_index(vectors(n, 2), "ivfflat")
    assert isinstance(index, FaissIndex)
    assert (index.faiss_index.nlist, index.faiss_index.nprobe) == (cells, min(cells, max(8, cells // 8)))
    assert index.size == n


def test_auto_follows_the_number_of_entities() -> None:
    assert [resolved_kind("auto", n).name for n in (0, COARSE_FROM - 1, COARSE_FROM, 10**7)] == [
        "flat",
        "flat",
        "coarse",
        "coarse",
    ]
    with pytest.raises(SettingsError, match="allowed are auto, flat, coarse"):
        resolved_kind("annoy", 10)


@pytest.mark.parametrize(("dim", "expected"), [(384, 192), (1024, 512), (2, 1), (1, 1), (9, 3), (7, 7), (49, 49)])
def test_subspaces_divide_the_dimension(dim: int, expected: int) -> None:
    assert sub_quantizers(dim) == expected
    assert build_index(vectors(300, dim), "coarse").search(vectors(2, dim, 1), 3)[1].shape == (2, 3)


def test_build_refusals(kind: str) -> None:
    if kind != "flat":
        with pytest.raises(DataError, match="no vectors"):
            build_index(np.empty((0, 4), np.float32), kind)
    with pytest.raises(ShapeError, match="1 dimensions"):
        build_index(np.zeros(4, np.float32), kind)
    if kind != "flat":
        matrix = vectors(30, 4)
        matrix[21, 2] = np.nan
        with pytest.raises(DataError, match="row 21 "):
            build_index(matrix, kind)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_mapped_from_a_file_as_in_memory(tmp_path: Path, kind: str, dtype: str) -> None:
    matrix, queries = vectors(4000, 8).astype(dtype), vectors(6, 8, 1)
    np.save(tmp_path / "v.npy", matrix)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    save_index(mapped, KINDS[kind], tmp_path / "index")
    assert (tmp_path / "index").exists() == (kind != "flat")
    again = open_index(tmp_path / "index", KINDS[kind], mapped)
    assert (again.dim, again.size) == (8, 4000)
    for one, two in zip(build_index(matrix, kind).search(queries, 9), again.search(queries, 9), strict=True):
        np.testing.assert_array_equal(one, two)


def test_settings_of_a_search_are_stored(tmp_path: Path) -> None:
    for kind, name, value in (("ivfflat", "nprobe", 3), ("ivfpq", "nprobe", 3), ("hnsw", "hnsw.efSearch", 77)):
        index = build_codes(vectors(400, 8), KINDS[kind])
        assert index is not None
        *path, attribute = name.split(".")
        setattr(reduce(getattr, path, index.faiss_index), attribute, value)
        write_index(index, tmp_path / "index")
        assert reduce(getattr, name.split("."), read_index(tmp_path / "index").faiss_index) == value


def test_an_index_of_other_vectors_is_refused(tmp_path: Path) -> None:
    save_index(vectors(400, 8), KINDS["coarse"], tmp_path / "index")
    with pytest.raises(MismatchError, match="400 vectors of dimension 8, not 399 of 8"):
        open_index(tmp_path / "index", KINDS["coarse"], vectors(399, 8))


def test_probes_that_were_never_set(tmp_path: Path) -> None:
    plain = faiss.IndexIVFFlat(faiss.IndexFlatIP(4), 4, 80, faiss.METRIC_INNER_PRODUCT)
    plain.train(vectors(4000, 4))
    faiss.write_index(plain, str(tmp_path / "index"))
    assert read_index(tmp_path / "index").faiss_index.nprobe == 75


def test_write_keeps_the_old_file_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = FaissIndex(faiss.IndexFlatIP(4))
    path = tmp_path / "index"
    write_index(index, path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_index(index, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_error_while_writing_reaches_the_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    class Opened:
        def __enter__(self) -> Full:
            return Full()

        def __exit__(self, *args: object) -> None:
            return None

    monkeypatch.setattr("blink.kb.index.faiss_index.atomic_open", lambda path, mode: Opened())
    index = FaissIndex(faiss.IndexFlatIP(4))
    with pytest.raises(OSError, match="No space"):
        write_index(index, tmp_path / "index")


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "header only": content[:20],
        "cut short": content[:-5],
        "half": content[: len(content) // 2],
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}.",
        "zip": b"PK\x03\x04" + bytes(100),
    }


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "flat"])
@pytest.mark.parametrize("defect", damaged(b""))
def test_damaged_file(tmp_path: Path, kind: str, defect: str) -> None:
    index = build_codes(vectors(100, 4), KINDS[kind])
    assert index is not None
    path = tmp_path / "faiss_index.pkl"
    write_index(index, path)
    path.write_bytes(damaged(path.read_bytes())[defect])
    with pytest.raises(CheckpointError, match=r"faiss_index\.pkl is (empty|cut short or no FAISS index)") as caught:
        read_index(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        read_index(tmp_path / "index")


def lengthened(matrix: np.ndarray) -> Any:
    """The graph over [x ; sqrt(phi - |x|^2)] with L2 distance."""
    squares = (matrix.astype(np.float64) ** 2).sum(1)
    extra = np.sqrt(np.maximum(squares.max() - squares, 0)).astype(np.float32)
    index = faiss.IndexHNSWFlat(matrix.shape[1] + 1, 128)
    index.hnsw.efConstruction, index.hnsw.efSearch = 200, 256
    index.add(np.column_stack([matrix, extra]))
    return index


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_lengthened_l2_answers_in_inner_products(tmp_path: Path, scale: float) -> None:
    matrix, queries = vectors(300, 32) * np.float32(scale), vectors(8, 32, 1)
    faiss.write_index(lengthened(matrix), str(tmp_path / "faiss_hnsw_index.pkl"))
    index = read_index(tmp_path / "faiss_hnsw_index.pkl")
    assert (index.dim, index.size, index.lengthened) == (32, 300, True)
    assert_hits(index.search(queries, 10), brute_force(matrix, queries, 10), atol=2e-4 * max(scale, 1) ** 2)
    with pytest.raises(MismatchError):
        index.search(vectors(2, 33), 3)


def test_lengthened_with_few_or_no_vectors() -> None:
    matrix, queries = vectors(2, 4), vectors(3, 4, 1)
    assert_hits(FaissIndex(lengthened(matrix)).search(queries, 5), brute_force(matrix, queries, 5), atol=1e-5)
    scores, rows = FaissIndex(faiss.IndexHNSWFlat(5, 8)).search(queries, 2)
    assert (rows == -1).all()
    assert np.isneginf(scores).all()


def test_plain_l2_and_other_metrics_are_refused(tmp_path: Path) -> None:
    plain = faiss.IndexFlatL2(4)
    plain.add(vectors(20, 4))
    faiss.write_index(plain, str(tmp_path / "index"))
    with pytest.raises(CheckpointError, match=r"index: .*plain L2 distance"):
        read_index(tmp_path / "index")
    with pytest.raises(CheckpointError, match="metric"):
        FaissIndex(faiss.IndexFlat(4, faiss.METRIC_L1))


# --- golden numbers of the original ---------------------------------------------------------------------------------


@pytest.fixture(params=["labelled", "unlabelled"])
def golden(parity: Path, request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    with np.load(parity / "golden" / f"{request.param}_base.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def entity_vectors(parity: Path) -> np.ndarray:
    return torch.load(parity / "all_entities.t7", weights_only=True).numpy()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfflat"])
def test_files_of_the_original(parity: Path, golden: dict[str, np.ndarray], kind: str) -> None:
    index = read_index(parity / f"faiss_{kind}_index.pkl")
    assert (index.dim, index.size, index.lengthened) == (32, 300, False)
    if kind == "ivfflat":
        assert index.faiss_index.nprobe == 75
    expected = golden[f"{kind}_scores"], golden[f"{kind}_ids"].astype(np.int64)
    assert_hits(index.search(golden["mention_reps"], 10), expected, atol=1e-4)


def test_exact_search_of_the_original(parity: Path, golden: dict[str, np.ndarray]) -> None:
    expected = golden["cand_logits"], golden["cand_ids"].astype(np.int64)
    index = ExactIndex(entity_vectors(parity), block_rows=70)
    assert_hits(index.search(golden["mention_reps"], 10), expected, atol=1e-4)


def test_lengthened_l2_of_the_original_vectors(parity: Path, golden: dict[str, np.ndarray], tmp_path: Path) -> None:
    faiss.write_index(lengthened(entity_vectors(parity)), str(tmp_path / "faiss_hnsw_index.pkl"))
    scores, rows = read_index(tmp_path / "faiss_hnsw_index.pkl").search(golden["mention_reps"], 10)
    products = np.einsum("mkd,md->mk", entity_vectors(parity)[rows], golden["mention_reps"])
    np.testing.assert_allclose(scores, products, atol=1e-4)
    assert_hits((scores, rows), (golden["cand_logits"], golden["cand_ids"].astype(np.int64)), atol=1e-4)


@pytest.mark.parametrize(("size", "k"), [(5_000, 10), (40_000, 10), (100, 10), (60, 20), (30, 50)])
def test_coarse_search_finds_what_exact_search_finds(size: int, k: int) -> None:
    random = np.random.default_rng(size)
    matrix = random.standard_normal((size, 48)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    queries = (40 * matrix[random.integers(size, size=50)] + random.standard_normal((50, 48))).astype(np.float32)
    for hits, expected in zip(
        build_index(matrix, "coarse").search(queries, k), ExactIndex(matrix).search(queries, k), strict=True
    ):
        np.testing.assert_array_equal(hits, expected)


def test_shortlists_grow_where_they_must() -> None:
    """One bit a dimension misses hits at a fixed depth; growing shortlists have them."""
    matrix, queries = vectors(20_000, 32), vectors(60, 32, 1)
    codes = faiss.index_factory(32, "PQ8x4fs", faiss.METRIC_INNER_PRODUCT)
    codes.train(matrix)
    codes.add(matrix)
    fixed, growing = (CoarseIndex(FaissIndex(codes), matrix, depth=48, adaptive=adaptive) for adaptive in (False, True))
    assert recall(fixed, matrix, queries, 10) < 0.9
    assert recall(growing, matrix, queries, 10) > recall(fixed, matrix, queries, 10) + 0.08


def test_shortlist_limits() -> None:
    with pytest.raises(SettingsError, match="1 or more, ascending"):
        CoarseIndex(FaissIndex(faiss.IndexFlatIP(4)), vectors(3, 4), depth=0)


def test_a_broken_vector_of_a_shortlist_is_named() -> None:
    matrix = vectors(2_000, 8)
    codes = build_codes(matrix, KINDS["coarse"])
    assert codes is not None
    query = matrix[7:8].copy()
    matrix[7, 3] = np.nan
    with pytest.raises(DataError, match="row 7 "):
        CoarseIndex(codes, matrix).search(query, 5)
