"""Search by inner product: exact against brute force, FAISS files of every flavour, and what happens at the edges."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.errors import CheckpointError, DataError, MismatchError, MissingFileError, SettingsError, ShapeError
from blink.kb.index import (
    INDEX_KINDS,
    CoarseIndex,
    ExactIndex,
    FaissIndex,
    Index,
    IndexOptions,
    build_index,
    read_index,
    write_index,
)

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
    index = ExactIndex(matrix, block_rows=block, query_rows=query_rows)
    assert (index.dim, index.size) == (d, n)
    assert_hits(index.search(queries, k), brute_force(matrix, queries, k))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("on_device", [None, False, True])
@pytest.mark.parametrize("n", [1, 99, 100, 101, 250])
def test_blocks_and_their_tail(device: str, on_device: bool | None, n: int) -> None:
    matrix, queries = vectors(n, 16), vectors(9, 16, 1)
    queries[0] = matrix[-1] * 10  # the last row must be found
    index = ExactIndex(matrix, device=device, block_rows=100, query_rows=4, on_device=on_device)
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
        index = ExactIndex(source, device=device, dtype="bf16", block_rows=128, on_device=on_device)
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
        ExactIndex(vectors(3, 2), dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="at least 1"):
        ExactIndex(vectors(3, 2), block_rows=0)
    with pytest.raises(ShapeError, match="3 dimensions"):
        ExactIndex(np.zeros((2, 1, 4), np.float32))


# --- all kinds ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=INDEX_KINDS)
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
    minimum = 0.95 if kind in ("hnsw", "ivfflat") else 1.0
    assert recall(build_index(matrix, kind, IndexOptions(ef_construction=80, links=32)), matrix, queries, 10) >= minimum


def test_progress_and_blocks(kind: str) -> None:
    calls: list[tuple[int, int]] = []
    index = build_index(
        vectors(25, 4).astype(np.float16),
        kind,
        IndexOptions(block_rows=10),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert index.size == 25
    assert calls == ([] if kind == "exact" else [(10, 25), (20, 25), (25, 25)])


def test_build_is_deterministic() -> None:
    matrix, queries = vectors(3000, 8), vectors(5, 8, 1)
    options = IndexOptions(lists=20, probes=2)
    one, two = (build_index(matrix, "ivfflat", options).search(queries, 5) for _ in range(2))
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize(("n", "lists"), [(1, 1), (38, 1), (78, 2), (4000, 100)])
def test_lists_suit_the_number_of_vectors(n: int, lists: int) -> None:
    index = build_index(vectors(n, 4), "ivfflat")
    assert isinstance(index, FaissIndex)
    assert (index.faiss_index.nlist, index.faiss_index.nprobe) == (lists, min(75, lists))
    assert index.size == n


def test_published_parameters() -> None:
    index = build_index(vectors(10, 4), "hnsw")
    assert isinstance(index, FaissIndex)
    graph = index.faiss_index.hnsw
    assert (graph.efConstruction, graph.efSearch, graph.nb_neighbors(1)) == (200, 256, 128)
    assert index.faiss_index.metric_type == faiss.METRIC_INNER_PRODUCT


def test_build_refusals(kind: str) -> None:
    with pytest.raises(DataError, match="no vectors"):
        build_index(np.empty((0, 4), np.float32), kind)
    with pytest.raises(ShapeError, match="1 dimensions"):
        build_index(np.zeros(4, np.float32), kind)
    with pytest.raises(SettingsError, match="choose one of exact, flat, hnsw, ivfflat"):
        build_index(vectors(3, 4), "annoy")
    with pytest.raises(SettingsError, match="probes is 0"):
        build_index(vectors(3, 4), kind, IndexOptions(probes=0))
    if kind != "exact":
        matrix = vectors(30, 4)
        matrix[21, 2] = np.nan
        with pytest.raises(DataError, match="row 21 "):
            build_index(matrix, kind, IndexOptions(block_rows=8))


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfflat"])
def test_written_and_read_again(tmp_path: Path, kind: str) -> None:
    matrix, queries = vectors(400, 8), vectors(6, 8, 1)
    index = build_index(matrix, kind, IndexOptions(probes=3, ef_search=77))
    assert isinstance(index, FaissIndex)
    write_index(index, tmp_path / "index")
    again = read_index(tmp_path / "index")
    assert (again.dim, again.size) == (8, 400)
    for one, two in zip(index.search(queries, 9), again.search(queries, 9), strict=True):
        np.testing.assert_array_equal(one, two)
    if kind == "ivfflat":
        assert again.faiss_index.nprobe == 3
    if kind == "hnsw":
        assert again.faiss_index.hnsw.efSearch == 77


def test_probes_that_were_never_set(tmp_path: Path) -> None:
    plain = faiss.IndexIVFFlat(faiss.IndexFlatIP(4), 4, 80, faiss.METRIC_INNER_PRODUCT)
    plain.train(vectors(4000, 4))
    faiss.write_index(plain, str(tmp_path / "index"))
    assert read_index(tmp_path / "index").faiss_index.nprobe == 75


def test_write_keeps_the_old_file_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = build_index(vectors(20, 4), "flat")
    assert isinstance(index, FaissIndex)
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
    index = build_index(vectors(20, 4), "flat")
    assert isinstance(index, FaissIndex)
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


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfflat"])
@pytest.mark.parametrize("defect", damaged(b""))
def test_damaged_file(tmp_path: Path, kind: str, defect: str) -> None:
    index = build_index(vectors(100, 4), kind)
    assert isinstance(index, FaissIndex)
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
    vectors = random.standard_normal((size, 48)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = (40 * vectors[random.integers(size, size=50)] + random.standard_normal((50, 48))).astype(np.float32)
    exact = ExactIndex(vectors)
    wanted_scores, expected = exact.search(queries, k)
    scores, rows = CoarseIndex(exact, block_rows=1_000, query_rows=16).search(queries, k)
    np.testing.assert_array_equal(rows, expected)
    finite = np.isfinite(wanted_scores)
    np.testing.assert_allclose(scores[finite], wanted_scores[finite], atol=1e-4)
