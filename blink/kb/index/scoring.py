"""Products of queries with single rows, and the order of hits, which are the same for every index that scores exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blink.errors import DataError
from blink.kb.index.protocol import NO_ROW, Hits, padded_hits
from blink.kb.index.stored_rows import StoredRows

_VALUES_AT_ONCE = 1 << 18
"""Values of the rows that are gathered for one product, 1 MB as float32: they stay in the processor's cache."""


def best_of(queries: npt.NDArray[np.float32], vectors: npt.NDArray[Any], rows: npt.NDArray[np.int64], k: int) -> Hits:
    """The ``k`` best of some rows of each query: `products_of`, then `sorted_hits`, with the arguments of both."""
    return sorted_hits(products_of(queries, vectors, rows), rows, k)


def products_of(
    queries: npt.NDArray[np.float32], vectors: npt.NDArray[Any] | StoredRows, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Inner products of each query with some rows, in float32.

    A matrix product sums in an order that depends on its shape, so its last bits do too. Here every product is summed in one
    order, which makes hits independent of blocks and batches, and those of different indexes equal.

    Args:
        queries: *Shape:* (m, d), float32.
        vectors: array or memory map of float32 or float16. *Shape:* (n, d).
        rows: candidates of each query, -1 where there is none. *Shape:* (m, candidates), int64.

    Returns:
        *Shape:* (m, candidates), float32; -inf where there is no candidate.

    Raises:
        DataError: the vector of a candidate holds NaN, or infinity times zero.
    """
    scores = np.empty(rows.shape, np.float32)
    step = max(1, _VALUES_AT_ONCE // max(1, rows.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), step):
        block = vectors[rows[start : start + step]].astype(np.float32, copy=False)
        with np.errstate(invalid="ignore", over="ignore"):
            np.einsum("qnd,qd->qn", block, queries[start : start + step], out=scores[start : start + step], optimize=False)
    scores[rows == NO_ROW] = -np.inf
    if np.isnan(scores).any():
        raise broken_row(int(rows[np.isnan(scores)][0]))
    return scores


def sorted_hits(scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], k: int) -> Hits:
    """The ``k`` best candidates, by score and then by row, padded with -inf and -1. *Shape:* (m, candidates) gives (m, k)."""
    order = np.lexsort((rows, -scores, rows == NO_ROW), axis=1)[:, :k]
    return padded_hits(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1), k)


def broken_row(row: int) -> DataError:
    """The error about a vector that is not finite."""
    return DataError(f"the vector of row {row} holds NaN or infinity; encode the entities again")
