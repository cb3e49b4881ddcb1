"""How many of the exact neighbours an index returns."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from blink.kb.index.exact import ExactIndex
from blink.kb.index.protocol import NO_ROW, Hits, Index
from blink.kb.index.selector import RowSelector

_TOLERANCE = 1e-5


class ComparedIndex:
    """An index whose searches are repeated exactly, to measure its recall (Manning et al. 2008, 8.3: recall at k).

    Args:
        index: which answers.
        vectors: those that it should search. *Shape:* (size, dim).
        answers_exactly: answer with the exact neighbours instead.
    """

    def __init__(self, index: Index, vectors: np.ndarray, *, answers_exactly: bool = False) -> None:
        self._index, self._vectors, self._answers_exactly = index, vectors, answers_exactly
        self._exact = ExactIndex(vectors)
        self._hits = self._neighbours = 0
        self._seconds = self._exact_seconds = 0.0

    @property
    def dim(self) -> int:
        """Dimension of the queries."""
        return self._index.dim

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self._index.size

    @property
    def recall(self) -> float | None:
        """Share of the exact neighbours in the answers of the index; None before any search."""
        return round(self._hits / self._neighbours, 4) if self._neighbours else None

    @property
    def time_ratio(self) -> float | None:
        """Time of the index by that of exact search, in the same calls; None before any search."""
        return round(self._seconds / self._exact_seconds, 4) if self._exact_seconds else None

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The answer of the index; see `Index.search`."""
        start = time.perf_counter()
        scores, rows = self._index.search(queries, k, selector)
        middle = time.perf_counter()
        exact_scores, exact_rows = self._exact.search(queries, k, selector)
        self._seconds += middle - start
        self._exact_seconds += time.perf_counter() - middle
        n_neighbours = (exact_rows != NO_ROW).sum(axis=1)
        if len(rows) and n_neighbours.min() > 0:
            last = np.take_along_axis(exact_scores, n_neighbours[:, None] - 1, axis=1)
            of_answer = np.asarray(self._vectors[rows.clip(min=0)], np.float32)
            true_scores = np.einsum("md,mkd->mk", np.asarray(queries, np.float32), of_answer)
            # Any entity as near as the last neighbour is one: several may have equal vectors.
            near = (rows != NO_ROW) & (true_scores >= last - _TOLERANCE * np.maximum(1, np.abs(last)))
            self._hits += int(np.minimum(near.sum(axis=1), n_neighbours).sum())
            self._neighbours += int(n_neighbours.sum())
        return (exact_scores, exact_rows) if self._answers_exactly else (scores, rows)
