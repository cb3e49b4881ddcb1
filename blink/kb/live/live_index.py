"""Search of the vectors of a knowledge base's files and of those that follow them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blink.data.caches import cached_calls
from blink.kb.index.exact import ExactIndex
from blink.kb.index.protocol import NO_ROW, Hits, Index, checked_queries
from blink.kb.index.scoring import sorted_hits
from blink.kb.index.selector import RowSelector

SELECTORS = 8
"""Selectors of callers that are kept as the two searches need them."""


class LiveIndex:
    """Search of an index without the rows that are no longer as it has them, and exact search of the changed ones.

    Args:
        base: index of the files.
        current: rows of ``base`` that are searched there; None for all.
        rows: the changed rows, ascending. *Shape:* (changed,), int64.
        vectors: of these rows. *Shape:* (changed, d), float32.
        size: number of rows, the empty ones included.
    """

    def __init__(
        self,
        base: Index,
        current: RowSelector | None,
        rows: npt.NDArray[np.int64],
        vectors: npt.NDArray[np.float32],
        size: int,
    ) -> None:
        self.base, self.size, self.dim = base, size, base.dim
        self._current, self._rows, self._changed = current, rows, ExactIndex(vectors)
        self._selected = cached_calls(self._both, SELECTORS)

    def over(self, base: Index) -> LiveIndex:
        """The same with another index of the files, such as one on a GPU."""
        return LiveIndex(base, self._current, self._rows, self._changed.matrix, self.size)

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The ``k`` best rows; see `Index.search`. Rows that the selector does not name are not allowed."""
        checked = checked_queries(queries, k, self.dim)
        if not len(self._rows):
            return self.base.search(checked, k, self._of_base(selector))
        of_base = self.base.search(checked, k, self._of_base(selector))
        scores, at = self._changed.search(checked, k, None if selector is None else self._selected(selector)[1])
        rows = np.where(at == NO_ROW, NO_ROW, self._rows[at])
        return sorted_hits(np.concatenate([of_base[0], scores], axis=1), np.concatenate([of_base[1], rows], axis=1), k)

    def _of_base(self, selector: RowSelector | None) -> RowSelector | None:
        return self._current if selector is None else self._selected(selector)[0]

    def _both(self, selector: RowSelector) -> tuple[RowSelector, RowSelector]:
        """The rows of the files and the changed rows that a selector allows."""
        of_base = RowSelector(fitted(selector.mask, self.base.size))
        of_changed = RowSelector(fitted(selector.mask, self.size)[self._rows])
        return of_base if self._current is None else of_base & self._current, of_changed


def fitted(mask: npt.NDArray[np.bool_], rows: int) -> npt.NDArray[np.bool_]:
    """A mask of so many rows: those it lacks are not allowed. *Shape:* (n,) to (rows,)."""
    return mask[:rows] if len(mask) >= rows else np.pad(mask, (0, rows - len(mask)))
