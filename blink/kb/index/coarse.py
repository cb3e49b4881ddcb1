"""Two-stage search: a bfloat16 shortlist, rescored in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blink.kb.index.exact import ExactIndex, sorted_by_score
from blink.kb.index.protocol import Hits, checked_queries, padded_hits

if TYPE_CHECKING:
    import torch


class CoarseIndex:
    """Search in two stages: bfloat16 products give a shortlist, float32 products score it.

    Memory bandwidth limits exact search on a CPU, and bfloat16 halves the bytes read. It rounds each factor by at most 2**-8
    of its value, which reorders close entities but rarely changes a rank by dozens. A shortlist a few times as long as the
    result therefore contains the best entities, and their float32 scores are those of exact search (the scheme of FAISS's
    ``IndexRefine``). The bfloat16 copy takes half the memory of the float32 matrix.

    Args:
        exact: the index of the vectors; on the CPU.
        depth: least length of the shortlist; it is also at least four times the number of hits.
        block_rows: vectors multiplied at a time, so that the scores fit into the processor's cache.
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

        checked = torch.from_numpy(checked_queries(queries, k, self.dim))
        depth = max(4 * k, self._depth)
        if not len(checked) or self.size <= depth:
            return self._exact.search(queries, k)
        # Allocated once, since small results between large temporaries fragment the memory.
        scores, rows = np.empty((len(checked), k), np.float32), np.empty((len(checked), k), np.int64)
        with torch.inference_mode():
            for start in range(0, len(checked), self._query_rows):
                block = checked[start : start + self._query_rows]
                best_scores, best_rows = self._rescore(block, self._shortlist(block.to(torch.bfloat16), depth), k)
                scores[start : start + len(block)] = best_scores.numpy()
                rows[start : start + len(block)] = best_rows.numpy()
        if not np.isfinite(scores).all():  # exact search raises an error that names the vector
            return self._exact.search(queries, k)
        return padded_hits(scores, rows, k)

    def _shortlist(self, queries: torch.Tensor, depth: int) -> torch.Tensor:
        """The ``depth`` best rows by bfloat16 products, ascending. *Shape:* (m, d) gives (m, depth), int64."""
        import torch

        scores, rows = [], []
        for start in range(0, self.size, self._block_rows):
            products = queries @ self._coarse[start : start + self._block_rows].T
            top, columns = products.topk(min(depth, products.shape[1]), dim=1, sorted=False)
            scores.append(top)
            rows.append(columns + start)
        best = torch.cat(scores, 1).topk(depth, dim=1, sorted=False).indices
        # By row, so that the stable sort of `_rescore` orders equal scores by row, as exact search does.
        return torch.cat(rows, 1).gather(1, best).sort(dim=1).values

    def _rescore(self, queries: torch.Tensor, rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The ``k`` best of each shortlist by float32 products: scores and rows. *Shape:* (m, k) each."""
        import torch

        vectors = self._exact.matrix[rows].to(torch.float32)
        scores, order = sorted_by_score(torch.einsum("qd,qnd->qn", queries, vectors))
        return scores[:, :k], rows.gather(1, order)[:, :k]
