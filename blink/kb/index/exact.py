"""Exact search by blockwise matrix products, with NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blink.errors import SettingsError, ShapeError
from blink.kb.index.protocol import NO_ROW, Hits, checked_queries, no_hits, padded_hits
from blink.kb.index.scoring import best_of, broken_row
from blink.kb.index.selector import RowSelector

SPARE = 16
"""Hits beyond ``k`` that are scored once more, since products of blocks and of single rows differ in their last bits."""
_SCORES_AT_ONCE = 1 << 20
_BLOCK_ROWS = (1 << 10, 1 << 16)
_CONVERTED_VALUES = 1 << 22
"""Largest block of vectors that is copied: of those that are not float32, or of some rows."""
GATHERED_SHARE = 0.25
"""Share of allowed rows up to which these are copied; above, the products of all rows are masked."""


class ExactIndex:
    """Exact search in bounded memory: blocks of the matrix times the queries, with a running best ``k``.

    The vectors are read at each search from the array or memory map. Equal scores are ordered by row. Only scores above the
    lowest of the running best are looked at, which are few after the first block.
    """

    def __init__(self, vectors: npt.NDArray[Any], *, block_rows: int | None = None, query_rows: int = 256) -> None:
        """Wrap a matrix, which is not copied.

        Args:
            vectors: array or memory map of float32 or float16. *Shape:* (n, d).
            block_rows: vectors multiplied at a time; None for as many as suit the number of queries.
            query_rows: queries multiplied at a time.

        Raises:
            ShapeError: ``vectors`` is not a matrix.
            SettingsError: ``block_rows`` or ``query_rows`` is below 1.
        """
        if vectors.ndim != 2:
            raise ShapeError(f"vectors have {vectors.ndim} dimensions; give a matrix of shape (entities, width)")
        if (block_rows is not None and block_rows < 1) or query_rows < 1:
            raise SettingsError(f"block_rows {block_rows} and query_rows {query_rows} must be at least 1")
        self._vectors = np.asarray(vectors)  # slices of a plain array cost less than those of a memory map
        self._block_rows, self._query_rows = block_rows, query_rows

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self._vectors.shape[1])

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self._vectors.shape[0])

    @property
    def matrix(self) -> npt.NDArray[Any]:
        """The stored vectors. *Shape:* (size, dim)."""
        return self._vectors

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The ``k`` best rows for each query, exactly; see :meth:`Index.search`.

        Raises:
            DataError: the vectors hold NaN (or, as for every index, a query does).
        """
        checked = checked_queries(queries, k, self.dim)
        if not len(checked) or not self.size or (selector is not None and not len(selector)):
            return no_hits(len(checked), k)
        blocks = (checked[i : i + self._query_rows] for i in range(0, len(checked), self._query_rows))
        hits = [self._search(block, k, selector) for block in blocks]
        return np.concatenate([scores for scores, _ in hits]), np.concatenate([rows for _, rows in hits])

    def _search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None) -> Hits:
        allowed = self.size if selector is None else len(selector)
        # Where most rows are allowed, the products of all of them take less time than a copy of the allowed ones.
        gathered = selector.rows if selector is not None and allowed <= GATHERED_SHARE * self.size else None
        mask = selector.mask if selector is not None and gathered is None else None
        best = _RunningBest(len(queries), min(k + SPARE, allowed))
        # The vectors come first in the product, which for few queries is twice as fast as the other order.
        columns = queries.T if len(queries) > 1 else queries[0]
        start, total = 0, self.size if gathered is None else allowed
        with np.errstate(invalid="ignore", over="ignore"):
            for rows in self._blocks(len(queries), total, copied=gathered is not None):
                chosen = slice(start, start + rows) if gathered is None else gathered[start : start + rows]
                block = self._vectors[chosen].astype(np.float32, copy=False)
                best.update((block @ columns).reshape(len(block), -1), start, None if mask is None else mask[chosen])
                start += rows
        if gathered is not None:
            best.rows = np.where(best.rows == NO_ROW, NO_ROW, gathered[best.rows])
        hits = best_of(queries, self._vectors, best.rows, min(k, allowed))
        return padded_hits(*hits, k)

    def _blocks(self, n_queries: int, n_rows: int, copied: bool) -> list[int]:
        """Rows of each block; a small one first, since every score of it is looked at. ``copied``: a block is a copy."""
        if self._block_rows is not None:
            return [self._block_rows] * -(-n_rows // self._block_rows)
        low, high = _BLOCK_ROWS
        most = min(max(_SCORES_AT_ONCE // n_queries, low), high)
        if copied or self._vectors.dtype != np.float32:
            most = max(min(most, _CONVERTED_VALUES // max(1, self.dim)), 1)
        sizes, total, rows = [], 0, min(low, most)
        while total < n_rows:
            sizes.append(rows)
            total += rows
            rows = min(2 * rows, most)
        return sizes


class _RunningBest:
    """The best ``k`` rows of each query over the blocks so far, by score and then by row.

    Attributes:
        rows: -1 where there are fewer. *Shape:* (queries, k), int64.
    """

    def __init__(self, n_queries: int, k: int) -> None:
        self.scores = np.full((n_queries, k), -np.inf, np.float32)
        self.rows = np.full((n_queries, k), NO_ROW, np.int64)

    def update(self, scores: npt.NDArray[np.float32], first_row: int, mask: npt.NDArray[np.bool_] | None = None) -> None:
        """Add a block of scores, which is overwritten. *Shape:* (block, queries).

        Args:
            scores: *Shape:* (block, queries), float32.
            first_row: of the block.
            mask: whether each row is allowed; None if all are. *Shape:* (block,).

        Raises:
            DataError: a score is NaN.
        """
        k = self.rows.shape[1]
        if not k:
            return
        if mask is not None:
            scores[~mask] = -np.inf  # of forbidden rows that are not finite too
        # Rows of later blocks are larger, so one with the score of the lowest hit does not replace it. Negated, NaN passes.
        passed = scores <= self.scores[:, -1]
        np.logical_not(passed, out=passed)
        if first_row == 0 or (np.count_nonzero(passed) > 4 * k * scores.shape[1] and len(scores) > k):
            passed = ~(scores < self._block_threshold(scores, k))
        if mask is not None:
            passed &= mask[:, None]
        self._merge(scores, np.flatnonzero(passed), first_row)

    def _block_threshold(self, scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
        """The k-th largest score of each query in a block, or the lowest of its hits if that is larger."""
        if len(scores) <= k:
            return self.scores[:, -1]
        columns = np.ascontiguousarray(scores.T)
        return np.maximum(np.partition(columns, len(scores) - k, axis=1)[:, -k], self.scores[:, -1])

    def _merge(self, scores: npt.NDArray[np.float32], passed: npt.NDArray[np.int64], first_row: int) -> None:
        if not len(passed):
            return
        n_queries, k = self.rows.shape
        new_rows, new_queries = np.divmod(passed, n_queries)
        new_scores = scores.reshape(-1)[passed]
        if np.isnan(new_scores).any():
            raise broken_row(first_row + int(new_rows[np.isnan(new_scores)][0]))
        old = np.flatnonzero(self.rows != NO_ROW)
        all_queries = np.concatenate([old // k, new_queries])
        all_scores = np.concatenate([self.scores.reshape(-1)[old], new_scores])
        all_rows = np.concatenate([self.rows.reshape(-1)[old], new_rows + first_row])
        order = np.lexsort((all_rows, -all_scores, all_queries))
        all_queries = all_queries[order]
        rank = np.arange(len(order)) - np.searchsorted(all_queries, np.arange(n_queries))[all_queries]
        order, all_queries, rank = (values[rank < k] for values in (order, all_queries, rank))
        self.scores[all_queries, rank] = all_scores[order]
        self.rows[all_queries, rank] = all_rows[order]
