"""Selectors inside searches: never a forbidden row, and the best of the allowed rows for every kind that searches exactly."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.kb.building import build_knowledge_base
from blink.kb.index import KINDS, NO_ROW, CoarseIndex, ExactIndex, Index, TorchIndex, build_index, faiss_index
from blink.kb.index.compared import ComparedIndex
from blink.kb.index.faiss_index import FaissIndex
from blink.kb.index.on_gpu import GpuIndex
from blink.kb.index.selector import RowSelector
from blink.kb.index.storage import build_codes
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.subset import subset
from tests import toys

pytest.importorskip("faiss")

EXACT = {
    "exact": ExactIndex,
    "small blocks": lambda vectors: ExactIndex(vectors, block_rows=7, query_rows=2),
    "torch": lambda vectors: TorchIndex(vectors, block_rows=9, query_rows=2),
    "gpu": lambda vectors: GpuIndex(TorchIndex(vectors, block_rows=9), vectors),
    "compared": lambda vectors: ComparedIndex(ExactIndex(vectors), vectors),
}
shares = st.sampled_from([0.0, 0.02, 0.2, 0.5, 0.98, 1.0])


def drawn(n: int, share: float, seed: int, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray, RowSelector]:
    """Vectors, some of which are equal, queries and a selector."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((n, 8)).astype(dtype)[random.integers(0, n, n)]
    queries = random.standard_normal((5, 8)).astype(np.float32)
    return vectors, queries, RowSelector(random.random(n) < share)


def best_allowed(vectors: np.ndarray, queries: np.ndarray, k: int, selector: RowSelector) -> tuple[np.ndarray, np.ndarray]:
    """Exact search of a matrix of the allowed rows alone."""
    scores, rows = ExactIndex(vectors[selector.mask]).search(queries, k)
    return scores, np.where(rows == NO_ROW, NO_ROW, np.append(selector.rows, NO_ROW)[rows])


def assert_allowed(rows: np.ndarray, selector: RowSelector) -> None:
    """No hit is forbidden, and none is there twice."""
    assert selector.mask[rows[rows != NO_ROW]].all()
    for of_query in rows:
        found = of_query[of_query != NO_ROW]
        assert len(set(found.tolist())) == len(found)


@pytest.mark.parametrize("kind", EXACT)
@given(st.integers(1, 120), shares, st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float16]))
@settings(max_examples=25, deadline=None)
def test_hits_are_the_best_allowed_rows(kind: str, n: int, share: float, k: int, seed: int, dtype: Any) -> None:
    vectors, queries, selector = drawn(n, share, seed, dtype)
    scores, rows = EXACT[kind](vectors).search(queries, k, selector)
    expected_scores, expected_rows = best_allowed(vectors, queries, k, selector)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)
    if kind != "torch":  # which sums in another order, so that equal scores may differ in their last bits
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(scores, expected_scores)
    assert_allowed(rows, selector)


def test_a_forbidden_row_that_is_not_finite_is_not_looked_at() -> None:
    vectors = np.ones((40, 8), np.float32)
    vectors[3], vectors[5, 2] = np.nan, np.inf
    mask = np.ones(40, bool)
    mask[[3, 5]] = False
    for index in (ExactIndex(vectors), TorchIndex(vectors)):
        scores, rows = index.search(np.ones((2, 8), np.float32), 40, RowSelector(mask))
        assert (scores[:, :38] == 8).all()
        assert ((rows == NO_ROW) == (np.arange(40) >= 38)).all()


MATRIX = np.random.default_rng(0).standard_normal((3_000, 16)).astype(np.float32)
INDEXES: dict[str, Index] = {}


def built(kind: str) -> Index:
    """An index of `MATRIX`, built once."""
    if kind not in INDEXES:
        INDEXES[kind] = build_index(MATRIX, kind)
    return INDEXES[kind]


@pytest.mark.parametrize("kind", KINDS)
@given(shares, st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None)
def test_every_kind_returns_allowed_rows_alone(kind: str, share: float, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    selector = RowSelector(random.random(len(MATRIX)) < share)
    queries = random.standard_normal((4, 16)).astype(np.float32)
    scores, rows = built(kind).search(queries, k, selector)
    assert_allowed(rows, selector)
    assert ((rows == NO_ROW) == (scores == -np.inf)).all()
    assert ((rows != NO_ROW).sum(1) == min(k, len(selector))).all()
    expected = best_allowed(MATRIX, queries, k, selector)
    if kind not in ("ivfpq", "ivfflat", "hnsw") or len(selector) <= faiss_index.EXACT_ROWS:
        np.testing.assert_array_equal(scores, expected[0])
        np.testing.assert_array_equal(rows, expected[1])


@pytest.mark.parametrize("kind", ["coarse", "rabitq2", "rabitq4"])
def test_the_scores_of_one_cell_are_those_of_the_scan(kind: str) -> None:
    codes = build_codes(MATRIX, KINDS[kind])
    assert codes is not None
    queries = np.random.default_rng(1).standard_normal((6, 16)).astype(np.float32)
    everything = RowSelector(np.ones(len(MATRIX), bool))
    scores, rows = codes.shortlist(queries, len(MATRIX))
    filtered_scores, filtered_rows = codes.shortlist(queries, len(MATRIX), everything)
    by_row, by_row_filtered = np.argsort(rows, axis=1), np.argsort(filtered_rows, axis=1)
    np.testing.assert_array_equal(
        np.take_along_axis(scores, by_row, 1), np.take_along_axis(filtered_scores, by_row_filtered, 1)
    )


def test_codes_without_selectors_are_searched_for_longer_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a class that a later version of FAISS may have."""
    monkeypatch.setattr(faiss_index, "in_one_cell", lambda index: None)
    codes = build_codes(MATRIX, KINDS["rabitq2"])
    assert codes is not None
    selector = RowSelector(np.arange(len(MATRIX)) % 97 == 0)
    queries = np.random.default_rng(1).standard_normal((6, 16)).astype(np.float32)
    _, rows = codes.shortlist(queries, len(selector), selector)
    assert (np.sort(rows, axis=1) == selector.rows).all()
    _, of_all = codes.shortlist(queries, len(MATRIX))
    for found, whole in zip(rows, of_all, strict=True):
        np.testing.assert_array_equal(found, whole[selector.mask[whole]])


def test_an_index_without_stored_vectors_is_filtered_too() -> None:
    """As that of the original, whose vectors are in the index alone."""
    import faiss

    flat = faiss.IndexFlatIP(16)
    flat.add(MATRIX)
    selector = RowSelector(np.arange(len(MATRIX)) % 3 == 0)
    queries = np.random.default_rng(1).standard_normal((6, 16)).astype(np.float32)
    scores, rows = FaissIndex(flat).search(queries, 9, selector)
    expected = best_allowed(MATRIX, queries, 9, selector)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5)


def test_shortlists_of_allowed_rows_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tiny first shortlist the hits are still those of exact search."""
    codes = build_codes(MATRIX, KINDS["coarse"])
    assert codes is not None
    index = CoarseIndex(codes, MATRIX, depth=1, deviations=8.0)
    selector = RowSelector(np.random.default_rng(2).random(len(MATRIX)) < 0.3)
    queries = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    np.testing.assert_array_equal(index.search(queries, 3, selector)[1], best_allowed(MATRIX, queries, 3, selector)[1])


@given(st.integers(1, 60), shares, st.integers(1, 70), st.integers(0, 99), st.sampled_from([0, 3, 1000]))
@settings(max_examples=8, deadline=None)
def test_a_service_filters(n: int, share: float, k: int, seed: int, most_ids: int) -> None:
    """By ids, or by longer lists where there are too many ids."""
    client = pytest.importorskip("qdrant_client")
    from blink.kb.index import qdrant_index

    vectors, queries, selector = drawn(n, share, seed)
    vectors = np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32)  # the service orders no equal scores
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(qdrant_index, "MAX_FILTERED_IDS", most_ids)
        address = qdrant_index.QdrantAddress("http://localhost:6333", "entities")
        index = qdrant_index.upload(vectors, client.QdrantClient(":memory:"), address)
        scores, rows = index.search(queries, k, selector)
    expected = best_allowed(vectors, queries, k, selector)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_allclose(scores, expected[0], atol=1e-5)


ENCODE = toys.letter_counts()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("names")
    lines = toys.rows(90)  # nine entities of every name, more than the limits with the shared alias
    for line in lines:
        line["aliases"] = [*line.get("aliases", ()), "New Jersey", f"N {line['title'][0]}"]
    source = toys.write_catalogue(folder / "entity.jsonl", lines)
    build_knowledge_base(source, folder / "kb", ENCODE, "fingerprint")
    return KnowledgeBase.open(folder / "kb")


@given(st.sets(st.integers(0, 89), max_size=88))
@settings(max_examples=6, deadline=None)
def test_names_are_looked_up_among_allowed_rows(base: KnowledgeBase, removed: set[int]) -> None:
    """As in a knowledge base without the others: limits count allowed rows alone."""
    small = subset(base, removed)
    assert base.names is not None
    assert small.base.names is not None
    selector, row_in_whole = RowSelector(small.row_of >= 0), np.flatnonzero(small.row_of >= 0)
    texts = ["New Jersey", "new-jersey", "Oslo 7", "oslo the 7", "Turing", "NJ", "Lake Gardas 4", "Atlanta the 32nd", "", "zz"]
    counts, values = base.names.candidates_all(texts, selector)
    expected_counts, expected_values = small.base.names.candidates_all(texts)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(values, row_in_whole[expected_values >> 2] << 2 | expected_values & 3)
    for text in texts:
        matches = [(int(row_in_whole[m.row]), m.kind) for m in small.base.names.candidates(text)]
        assert [(m.row, m.kind) for m in base.names.candidates(text, selector)] == matches
        similar = base.names.fuzzy_index.similar(text, selector=selector)
        assert all(selector.mask[similar])
        assert set(similar) == set(row_in_whole[small.base.names.fuzzy_index.similar(text)].tolist()) or len(similar) == 8
