"""FAISS indexes in memory and in files, including those of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blink.errors import CheckpointError
from blink.files import atomic_open, require_file
from blink.input_files import open_file, utf8_path
from blink.kb.index.exact import ExactIndex
from blink.kb.index.faiss_module import require_faiss
from blink.kb.index.faiss_selectors import in_one_cell, is_selective, parameters
from blink.kb.index.protocol import NO_ROW, Hits, checked_queries, no_hits
from blink.kb.index.scoring import sorted_hits
from blink.kb.index.selector import RowSelector

DEFAULT_PROBES = 75
_INVERTED_FILE = b"Iw"
"""First bytes of the files of inverted files."""
_BATCHED_SCAN = 15
"""Kernel for 4-bit codes that reads each block once for several queries and keeps candidates in a reservoir. With AVX-512 it
takes three quarters of the time of FAISS's own choice, with AVX2 a little more than it; hits are the same."""
EXACT_ROWS = 1024
"""Allowed rows up to which a filtered search multiplies with all of their stored vectors: a graph or cells lose few rows among
many others."""
GROWTH = 4
"""Factor by which the shortlist of a filtered search grows where FAISS takes no selector."""
_UNSET_PROBES = 1  # the value in a file if none was set


class FaissIndex:
    """A FAISS index that scores by inner product.

    Two forms are supported: an index with the inner-product metric, and the reduction of inner product to L2 distance
    (Bachrach et al. 2014, the Euclidean transformation). The latter stores [x ; sqrt(phi - |x|^2)] for every vector x, so that
    all have the squared norm phi. From the squared L2 distance D to [q ; 0] follows q.x = (|q|^2 + phi - D) / 2.

    Attributes:
        phi: the squared norm of the stored vectors in the second form; None in the first.
    """

    def __init__(self, index: Any, vectors: npt.NDArray[Any] | None = None) -> None:
        """Wrap an index object of ``faiss``.

        Args:
            index: the object.
            vectors: that it is made of, if they are at hand. *Shape:* (n, d).

        Raises:
            CheckpointError: its metric is neither inner product nor the L2 reduction.
        """
        faiss = require_faiss()

        self.faiss_index = index
        metric = self.faiss_index.metric_type
        if metric not in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2):
            raise CheckpointError(f"the index uses FAISS metric {metric}; inner product or L2 is needed, build it again")
        self.phi = _common_squared_norm(self.faiss_index) if metric == faiss.METRIC_L2 else None
        self._exact = None if vectors is None else ExactIndex(vectors)
        self._selective = self.faiss_index if is_selective(self.faiss_index) else None

    @property
    def dim(self) -> int:
        """Dimension of the queries."""
        return int(self.faiss_index.d) - (self.phi is not None)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self.faiss_index.ntotal)

    @property
    def lengthened(self) -> bool:
        """Whether the vectors are stored with an extra dimension for L2 search."""
        return self.phi is not None

    def over(self, vectors: npt.NDArray[Any]) -> FaissIndex:
        """The same index with the vectors that it is made of. *Shape:* (n, d)."""
        return FaissIndex(self.faiss_index, vectors)

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The (for ``hnsw`` and ``ivfflat`` approximately) ``k`` best rows; see :meth:`Index.search`.

        With a selector, queries for which the graph or the cells have fewer hits than there are allowed rows are searched
        exactly, where the stored vectors are at hand.
        """
        checked = checked_queries(queries, k, self.dim)
        n_hits = min(k, self.size if selector is None else len(selector))
        if not len(checked) or not n_hits:
            return no_hits(len(checked), k)
        if selector is not None and self._exact is not None and len(selector) <= EXACT_ROWS:
            return self._exact.search(checked, k, selector)
        scores, rows = sorted_hits(*self.shortlist(checked, n_hits, selector), k)
        if selector is not None and self._exact is not None:
            lacking = np.flatnonzero(rows[:, n_hits - 1] == NO_ROW)
            scores[lacking], rows[lacking] = self._exact.search(checked[lacking], k, selector)
        return scores, rows

    def shortlist(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """Scores and rows as FAISS orders them, at most ``size``; see :meth:`Index.search`. *Shape:* (m, k) each."""
        padded = queries if self.phi is None else np.pad(queries, ((0, 0), (0, 1)))
        scores, rows = self.faiss_index.search(padded, k) if selector is None else self._selected(padded, k, selector)
        if self.phi is not None:
            squares = np.einsum("md,md->m", queries, queries, dtype=np.float64)[:, None]
            scores = ((squares + self.phi - scores) / 2).astype(np.float32)
        return np.where(rows == NO_ROW, np.float32(-np.inf), scores), rows.astype(np.int64)

    def _selected(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector) -> Hits:
        """A search of FAISS that returns allowed rows alone. *Shape:* (m, k) each."""
        if self._selective is None:
            self._selective = in_one_cell(self.faiss_index)
        if self._selective is not None:
            hits: Hits = self._selective.search(queries, k, params=parameters(self._selective, selector))
            return hits
        return self._masked(queries, k, selector)

    def _masked(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector) -> Hits:
        """The same of a class that takes no selector: the search is repeated for more rows until ``k`` are allowed."""
        scores, rows = no_hits(len(queries), k)
        pending, length = np.arange(len(queries)), min(self.size, int(1.5 * k * self.size / len(selector)) + 1)
        while len(pending):
            of_all, found = self.faiss_index.search(queries[pending], length)
            is_allowed = (found != NO_ROW) & selector.mask[found]
            first = np.argsort(~is_allowed, axis=1, kind="stable")[:, :k]
            scores[pending, : first.shape[1]] = np.take_along_axis(np.where(is_allowed, of_all, -np.inf), first, 1)
            rows[pending, : first.shape[1]] = np.take_along_axis(np.where(is_allowed, found, NO_ROW), first, 1)
            pending = pending[is_allowed.sum(1) < k] if length < self.size else pending[:0]
            length = min(self.size, length * GROWTH)
        return scores, rows


def _common_squared_norm(index: Any) -> float:
    """The squared norm phi of all vectors of an L2 index, from a sample of them.

    Raises:
        CheckpointError: the norms differ, so that distances do not determine inner products.
    """
    if not index.ntotal:
        return 0.0
    try:
        sample = np.stack([index.reconstruct(int(row)) for row in np.linspace(0, index.ntotal - 1, 16, dtype=np.int64)])
    except RuntimeError as error:
        raise CheckpointError(f"the vectors of this L2 index cannot be read ({_one_line(error)}); build it again") from error
    squares = np.einsum("nd,nd->n", sample, sample, dtype=np.float64)
    if np.ptp(squares) > 1e-3 * squares.max():
        fault = "the index measures plain L2 distance, which does not rank by inner product"
        raise CheckpointError(f"{fault}; build it again as flat, hnsw or ivfflat")
    return float(squares[0])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[-200:]


def read_index(path: str | Path) -> FaissIndex:
    """Read a FAISS index file, such as the original's ``faiss_*_index.pkl``, which is not a pickle in spite of its name.

    Where FAISS can, the file is memory-mapped: whole vectors and 8-bit codes are, 2-bit codes are not.

    An inverted-file index has the number of probes stored in its file, or 75 if none was set.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is truncated or not a FAISS index, or its metric is not supported.
    """
    faiss = require_faiss()

    path = require_file(path, "give the path of a FAISS index, or build one")
    try:
        index = faiss.read_index(utf8_path(path), _flags(path))
    except (RuntimeError, MemoryError) as error:
        fault = "is empty" if path.stat().st_size == 0 else f"is cut short or no FAISS index ({_one_line(error)})"
        raise CheckpointError(f"{path} {fault}; get it again or build it again") from error
    if isinstance(index, faiss.IndexIVF) and index.nprobe == _UNSET_PROBES:
        index.nprobe = min(DEFAULT_PROBES, index.nlist)
    tune(index)
    try:
        return FaissIndex(index)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _flags(path: Path) -> int:
    """How to map a file: cells by `IO_FLAG_MMAP`, since the other flag reads truncated ones without an error."""
    faiss = require_faiss()

    with open_file(path) as f:
        return int(faiss.IO_FLAG_MMAP if f.read(2) == _INVERTED_FILE else faiss.IO_FLAG_MMAP_IFC)


def tune(index: Any) -> None:
    """Set what FAISS does not store: the kernel for 4-bit codes."""
    faiss = require_faiss()

    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    level_name = getattr(getattr(faiss, "SIMDConfig", None), "get_level_name", str)  # of versions that know their processor
    if isinstance(index, faiss.IndexPQFastScan) and "AVX512" in level_name():
        index.implem = _BATCHED_SCAN


def write_index(index: FaissIndex, path: str | Path) -> None:
    """Write an index atomically, in FAISS's own format.

    Raises:
        OSError: the disk is full or the folder is not writable; an earlier file at ``path`` is unchanged.
    """
    faiss = require_faiss()

    with atomic_open(path, "wb") as f:  # through a callback, since FAISS's writer ignores a full disk at closing
        writer = faiss.PyCallbackIOWriter(f.write)  # type: ignore[attr-defined,unused-ignore]
        faiss.write_index(index.faiss_index, writer)
