"""The interface of indexes: search by inner product. Rows are 0-based lines of the catalogue."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blink.errors import DataError, MismatchError, SettingsError, ShapeError
from blink.kb.index.selector import RowSelector

Hits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Scores and rows, both of *shape* (queries, k), best first, padded with -inf and -1."""
NO_ROW = -1


class Index(Protocol):
    """An index of entity vectors."""

    @property
    def dim(self) -> int:
        """Dimension of the queries."""

    @property
    def size(self) -> int:
        """Number of vectors."""

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The ``k`` rows with the largest inner product for each query.

        Args:
            queries: *Shape:* (m, dim), float32.
            k: hits per query, at least 1; may exceed ``size``.
            selector: rows that may be hits; None for all. The hits are the best of these rows.

        Returns:
            scores, float32, and rows, int64, best first, padded with -inf and -1. *Shape:* (m, k) each.

        Raises:
            ShapeError: ``queries`` is not a matrix.
            MismatchError: the dimension of the queries is not ``dim``.
            SettingsError: ``k`` is below 1.
            DataError: a query holds NaN.
        """


def no_hits(n_queries: int, k: int) -> Hits:
    """Hits where there are no rows. *Shape:* (queries, k) each."""
    return np.full((n_queries, k), -np.inf, np.float32), np.full((n_queries, k), NO_ROW, np.int64)


def checked_queries(queries: npt.NDArray[Any], k: int, dim: int) -> npt.NDArray[np.float32]:
    """The queries as a contiguous float32 matrix; raises as `Index.search` does."""
    if queries.ndim != 2:
        raise ShapeError(f"queries have {queries.ndim} dimensions; give a matrix of shape (queries, {dim})")
    if queries.shape[1] != dim:
        remedy = "use the model that the index was built with, or build the index again"
        raise MismatchError(f"queries have {queries.shape[1]} columns and the index {dim}; {remedy}")
    if k < 1:
        raise SettingsError(f"{k} hits were requested; request at least 1")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if np.isnan(queries).any():
        raise DataError("a query vector holds NaN; check the model's weights and its input")
    return queries


def padded_hits(scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], k: int) -> Hits:
    """Pad hits to ``k`` columns with -inf and `NO_ROW`. *Shape:* (m, hits) gives (m, k), each."""
    missing = ((0, 0), (0, k - scores.shape[1]))
    return np.pad(scores, missing, constant_values=-np.inf), np.pad(rows, missing, constant_values=NO_ROW)
