"""Builds an index of a matrix of vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blink.errors import DataError, SettingsError, ShapeError
from blink.kb.index.exact import ExactIndex
from blink.kb.index.faiss_index import DEFAULT_PROBES, FaissIndex
from blink.kb.index.protocol import Index

Progress = Callable[[int, int], None]
"""Called with (vectors done, total vectors) while an index is built."""


@dataclass(frozen=True)
class IndexOptions:
    """Parameters of the index kinds; the defaults are those of the published indexes.

    Attributes:
        lists: cells of an inverted file; fewer if there are less than 39 vectors per cell.
        probes: cells visited by a search.
        links: neighbours of a vector in the graph (M).
        ef_construction: breadth of the search while the graph is built.
        ef_search: breadth of a search in the graph.
        block_rows: vectors added at a time.
        seed: of the sample that the cells are trained on.
    """

    lists: int = 100
    probes: int = DEFAULT_PROBES
    links: int = 128
    ef_construction: int = 200
    ef_search: int = 256
    block_rows: int = 50_000
    seed: int = 0


_POINTS_PER_LIST = (39, 256)  # fewest and most vectors per cell for k-means in FAISS


def _new_flat(vectors: npt.NDArray[Any], _options: IndexOptions) -> Any:
    import faiss

    return faiss.IndexFlatIP(vectors.shape[1])


def _new_hnsw(vectors: npt.NDArray[Any], options: IndexOptions) -> Any:
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], options.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = options.ef_construction
    index.hnsw.efSearch = options.ef_search
    return index


def _new_ivfflat(vectors: npt.NDArray[Any], options: IndexOptions) -> Any:
    """Cells around L2 means; within a cell, inner product."""
    import faiss

    n, dim = vectors.shape
    lists = max(1, min(options.lists, n // _POINTS_PER_LIST[0]))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(options.probes, lists)
    size = min(n, lists * _POINTS_PER_LIST[1])
    sample = np.sort(np.random.default_rng(options.seed).choice(n, size, replace=False))
    index.cp.min_points_per_centroid = 1
    index.train(_finite(vectors, sample))
    return index


_FAISS_KINDS: dict[str, Callable[[npt.NDArray[Any], IndexOptions], Any]] = {
    "flat": _new_flat,
    "hnsw": _new_hnsw,
    "ivfflat": _new_ivfflat,
}

INDEX_KINDS: tuple[str, ...] = ("exact", *_FAISS_KINDS)
"""Kinds of ``build_index``."""


def build_index(
    vectors: npt.NDArray[Any], kind: str = "flat", options: IndexOptions | None = None, *, progress: Progress | None = None
) -> Index:
    """Build an index of vectors, which may be a memory map; they are read in blocks.

    Args:
        vectors: one row per entity, of any float dtype. *Shape:* (n, d).
        kind: one of ``INDEX_KINDS``: ``exact`` searches ``vectors`` without a copy, the others copy them. ``flat`` is
            exhaustive, ``hnsw`` a graph (fastest, largest, slow to build), ``ivfflat`` cells around means.
        options: parameters; None for the defaults.
        progress: called after each block.

    Raises:
        SettingsError: ``kind`` is not known, or an option is below 1.
        ShapeError: ``vectors`` is not a matrix.
        DataError: there are no vectors, or one holds NaN or infinity.
    """
    options = options or IndexOptions()
    if kind not in INDEX_KINDS:
        raise SettingsError(f"index kind {kind!r} is not known; choose one of {', '.join(INDEX_KINDS)}")
    for name in ("lists", "probes", "links", "ef_construction", "ef_search", "block_rows"):
        if getattr(options, name) < 1:
            raise SettingsError(f"index option {name} is {getattr(options, name)}; give at least 1")
    if vectors.ndim != 2:
        raise ShapeError(f"vectors have {vectors.ndim} dimensions; give a matrix of shape (entities, width)")
    if not len(vectors):
        raise DataError("there are no vectors to index; encode the catalogue first")
    if kind == "exact":
        return ExactIndex(vectors)
    index = _FAISS_KINDS[kind](vectors, options)
    for start in range(0, len(vectors), options.block_rows):
        index.add(_finite(vectors, range(start, min(start + options.block_rows, len(vectors)))))
        if progress:
            progress(index.ntotal, len(vectors))
    return FaissIndex(index)


def _finite(vectors: npt.NDArray[Any], rows: range | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Rows as contiguous float32.

    Raises:
        DataError: a row holds NaN or infinity.
    """
    subset = vectors[rows.start : rows.stop] if isinstance(rows, range) else vectors[rows]
    block = np.ascontiguousarray(subset, dtype=np.float32)
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        row = int(rows[int(np.argmin(finite))])
        raise DataError(f"the vector of row {row} holds NaN or infinity; encode the entities again")
    return block
