"""Exact search made faster: a bfloat16 shortlist, scored again in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blink.kb.index.exact import ExactIndex, sorted_by_score
from blink.kb.index.protocol import Hits, checked_queries, padded_hits

if TYPE_CHECKING:
    import torch


class CoarseIndex:
    """Exact search made faster: bfloat16 products choose, float32 products score.

    Products of bfloat16 factors put the best entities among the first few dozen, if not in order; these are scored again
    from the float32 vectors. It takes a copy of the matrix in bfloat16.

    Args:
        exact: the index whose vectors are searched; on the CPU.
        depth: candidates that are scored again, at least, and four for each hit asked for.
        block_rows: vectors multiplied at a time: as many as leave the scores in the processor's cache.
        query_rows: queries multiplied at a time.
    """

    def __init__(self, exact: ExactIndex, *, depth: int = 48, block_rows: int = 16_384, query_rows: int = 256) -> None:
        import torch

        self._exact, self._depth, self._block_rows, self._query_rows = exact, depth, block_rows, query_rows
        self._coarse = exact.matrix.to(torch.bfloat16)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._exact.dim

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self._exact.size

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Hits:
        """The ``k`` best rows for each query; see :meth:`Index.search`."""
        import torch

        asked = torch.from_numpy(checked_queries(queries, k, self.dim))
        depth = max(4 * k, self._depth)
        if not len(asked) or self.size <= depth:
            return self._exact.search(queries, k)
        # Written in place: small results kept between large temporaries would leave the memory full of holes.
        scores, rows = np.empty((len(asked), k), np.float32), np.empty((len(asked), k), np.int64)
        with torch.inference_mode():
            for at in range(0, len(asked), self._query_rows):
                part = asked[at : at + self._query_rows]
                found = self._rescored(part, self._chosen(part.to(torch.bfloat16), depth), k)
                scores[at : at + len(part)], rows[at : at + len(part)] = (column.numpy() for column in found)
        if not np.isfinite(scores).all():  # the exact search says which vector is at fault
            return self._exact.search(queries, k)
        return padded_hits(scores, rows, k)

    def _chosen(self, queries: torch.Tensor, depth: int) -> torch.Tensor:
        import torch

        scores, rows = [], []
        for start in range(0, self.size, self._block_rows):
            products = queries @ self._coarse[start : start + self._block_rows].T
            top, columns = products.topk(min(depth, products.shape[1]), dim=1, sorted=False)
            scores.append(top)
            rows.append(columns + start)
        best = torch.cat(scores, 1).topk(depth, dim=1, sorted=False).indices
        return torch.cat(rows, 1).gather(1, best).sort(dim=1).values

    def _rescored(self, queries: torch.Tensor, rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        vectors = self._exact.matrix[rows].to(torch.float32)
        scores, order = sorted_by_score(torch.einsum("qd,qnd->qn", queries, vectors))
        return scores[:, :k], rows.gather(1, order)[:, :k]
