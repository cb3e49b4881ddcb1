"""Search in two stages: compressed vectors in memory give a shortlist, the stored vectors score it exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blink.errors import SettingsError
from blink.kb.index.exact import ExactIndex
from blink.kb.index.faiss_index import EXACT_ROWS, FaissIndex
from blink.kb.index.protocol import NO_ROW, Hits, checked_queries
from blink.kb.index.scoring import products_of, sorted_hits
from blink.kb.index.selector import RowSelector
from blink.kb.index.stored_rows import StoredRows

DEPTH = 128
GROWTH = 4
"""A shortlist that may be too short grows by this factor."""
MAX_DEPTH = 2048
DEVIATIONS = 4.0
"""Standard deviations of the coarse scores' errors that the shortlist must have in reserve."""


class CoarseIndex:
    """Search in two stages: scores of compressed vectors give a shortlist, exact products order it.

    Memory bandwidth limits exact search on a CPU. Codes of 64 bytes a vector (product quantization, Jégou et al. 2011, after
    `blink.kb.index.reduction`), scanned in registers (André et al. 2015), are a thirty-second of 1024 dimensions in float16.
    The scheme is that of FAISS's ``IndexRefine``, with two differences. The exact vectors are those that the knowledge base
    stores, and may be a memory map. And the shortlist of a query grows until it is long enough: the differences of coarse and
    exact scores in its second half estimate by how much a row that is not in it may exceed its coarse score. Where that could
    reach the ``k``-th exact score, the query is searched again with a longer shortlist.

    Scores and ties are those of `ExactIndex`, bit for bit.

    Args:
        coarse: an index of FAISS over compressed vectors, with inner product.
        vectors: the stored vectors, array or memory map. *Shape:* (n, d), float32 or float16.
        depth: least length of the shortlist; it is also at least four times the number of hits.
        max_depth: longest shortlist.
        adaptive: whether shortlists grow; if not, their length is ``depth``.
        deviations: of the coarse scores' errors that the shortlist must have in reserve.
    """

    def __init__(
        self,
        coarse: FaissIndex,
        vectors: npt.NDArray[Any],
        *,
        depth: int = DEPTH,
        max_depth: int = MAX_DEPTH,
        adaptive: bool = True,
        deviations: float = DEVIATIONS,
    ) -> None:
        if not 1 <= depth <= max_depth:
            raise SettingsError(f"the shortlist has {depth} to {max_depth} rows; allowed are 1 or more, ascending")
        self.coarse = coarse
        self.depth, self.max_depth, self.adaptive, self.deviations = depth, max_depth, adaptive, deviations
        self._exact = ExactIndex(vectors)
        self._rows = StoredRows(vectors)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._exact.dim

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self.coarse.size

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The ``k`` best rows for each query; see :meth:`Index.search`."""
        checked = checked_queries(queries, k, self.dim)
        depth = max(4 * k, self.depth)
        allowed = self.size if selector is None else len(selector)
        few = 2 * depth if selector is None or self.adaptive else max(2 * depth, EXACT_ROWS)
        if not len(checked) or allowed <= few:
            return self._exact.search(checked, k, selector)
        scores, rows = np.empty((len(checked), k), np.float32), np.empty((len(checked), k), np.int64)
        pending = np.arange(len(checked))
        while len(pending):
            scores[pending], rows[pending], is_enough = self._rescored(checked[pending], depth, k, selector)
            depth *= GROWTH
            if not self.adaptive or depth > self.max_depth or depth >= allowed:
                break
            pending = pending[~is_enough]
        if selector is not None and not self.adaptive:
            lacking = np.flatnonzero(rows[:, -1] == NO_ROW)  # the cells that were visited have fewer allowed rows
            scores[lacking], rows[lacking] = self._exact.search(checked[lacking], k, selector)
        return scores, rows

    def _rescored(
        self, queries: npt.NDArray[np.float32], depth: int, k: int, selector: RowSelector | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The hits of a shortlist, and whether it is long enough. *Shape:* (m, k), (m, k), (m,)."""
        coarse, rows = self.coarse.shortlist(queries, depth, selector)
        exact = products_of(queries, self._rows, rows)
        hit_scores, hit_rows = sorted_hits(exact, rows, k)
        half = slice(depth // 2, depth)
        with np.errstate(invalid="ignore"):
            errors = exact[:, half] - coarse[:, half]
            reserve = errors.mean(1) + self.deviations * errors.std(1)
            # A shortlist that is not full holds all rows that the coarse index visits. Not a number compares false: search on.
            is_enough = (coarse[:, -1] + reserve < hit_scores[:, -1]) | (rows[:, -1] == NO_ROW)
        return hit_scores, hit_rows, is_enough
