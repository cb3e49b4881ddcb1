"""Exact search by blockwise matrix products with torch, on a GPU or over tensors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from blink.errors import DataError, SettingsError, ShapeError
from blink.forking import one_thread_when_forked
from blink.kb.index.exact import GATHERED_SHARE
from blink.kb.index.protocol import NO_ROW, Hits, checked_queries, no_hits, padded_hits
from blink.kb.index.scoring import sorted_hits
from blink.kb.index.selector import RowSelector

if TYPE_CHECKING:
    import torch


class TorchIndex:
    """Exact search in bounded memory: blocks of the matrix times blocks of the queries, with a running best k.

    On a GPU the matrix is copied to the device once if it fits. Otherwise, and on the CPU, its blocks are read at each search
    from the array or memory map. Equal scores are ordered by row.
    """

    def __init__(
        self,
        vectors: npt.NDArray[Any] | torch.Tensor,
        *,
        device: str | torch.device = "cpu",
        dtype: Literal["fp32", "bf16"] = "fp32",
        block_rows: int = 65_536,
        query_rows: int = 256,
        on_device: bool | None = None,
    ) -> None:
        """Wrap a matrix, which is copied only to move it to a GPU.

        Args:
            vectors: array, memory map or tensor of float32, float16 or (tensor only) bfloat16. *Shape:* (n, d).
            device: of the products.
            dtype: precision of the factors; sums are in float32 in both cases. ``"bf16"`` halves the memory on the device
                and changes a score by about 0.4% of the largest terms in its sum.
            block_rows: vectors multiplied at a time.
            query_rows: queries multiplied at a time; scores take ``4 * block_rows * query_rows`` bytes.
            on_device: whether to keep the matrix on the device; by default on a GPU with enough free memory.

        Raises:
            ShapeError: ``vectors`` is not a matrix.
            SettingsError: ``dtype``, ``block_rows`` or ``query_rows`` is not allowed.
        """
        import torch

        one_thread_when_forked("torch", "set_num_threads")
        if vectors.ndim != 2:
            raise ShapeError(f"vectors have {vectors.ndim} dimensions; give a matrix of shape (entities, width)")
        if dtype not in ("fp32", "bf16"):
            raise SettingsError(f"dtype {dtype!r} is not known; allowed are fp32 and bf16")
        if block_rows < 1 or query_rows < 1:
            raise SettingsError(f"block_rows {block_rows} and query_rows {query_rows} must be at least 1")
        self._device = torch.device(device)
        self._dtype = torch.float32 if dtype == "fp32" else torch.bfloat16
        self._block_rows, self._query_rows = block_rows, query_rows
        self._vectors = _as_tensor(vectors)
        self._mixed = self._dtype == torch.bfloat16 and _multiplies_mixed(self._device)
        if self._device.type != "cpu" and (self._fits() if on_device is None else on_device):
            self._move()

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self._vectors.shape[1])

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self._vectors.shape[0])

    @property
    def matrix(self) -> torch.Tensor:
        """The stored vectors. *Shape:* (size, dim)."""
        return self._vectors

    @property
    def on_device(self) -> bool:
        """Whether the matrix is on the device, and not read block by block."""
        return self._vectors.device.type == self._device.type

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The ``k`` best rows for each query, exactly; see :meth:`Index.search`.

        Raises:
            DataError: the vectors hold NaN (or, as for every index, a query does).
        """
        import torch

        checked = torch.from_numpy(checked_queries(queries, k, self.dim)).to(self._device)
        if not len(checked) or (selector is not None and not len(selector)):
            return no_hits(len(checked), k)
        allowed, gathered = self._allowed(selector)
        with torch.inference_mode():
            query_blocks = list(torch.split(checked, self._query_rows))
            empty = torch.empty(0, device=self._device)
            best = [(empty.expand(len(block), 0), empty.long().expand(len(block), 0)) for block in query_blocks]
            for start in range(0, self.size if gathered is None else len(gathered), self._block_rows):
                chosen = slice(start, start + self._block_rows)
                vectors = self._block(chosen if gathered is None else gathered[chosen])
                forbidden = None if allowed is None else ~allowed[chosen].to(self._device)
                for number, block in enumerate(query_blocks):
                    products = self._multiply(block, vectors)
                    if forbidden is not None:
                        products.masked_fill_(forbidden, float("-inf"))
                    scores, rows = _best(products, k)
                    best[number] = _merged(best[number], (scores, rows + start), k)
            all_scores, all_rows = (torch.cat(column).cpu().numpy() for column in zip(*best, strict=True))
        if gathered is not None:
            all_rows = gathered.cpu().numpy()[all_rows]
        elif selector is not None:
            is_allowed = selector.mask[all_rows]
            all_scores, all_rows = sorted_hits(all_scores, np.where(is_allowed, all_rows, NO_ROW), k)
        if np.isnan(all_scores).any():
            row = int(all_rows[np.isnan(all_scores)][0])
            raise DataError(f"the vector of row {row} holds NaN or infinity; encode the entities again")
        return padded_hits(all_scores, all_rows, k)

    def _allowed(self, selector: RowSelector | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The mask of allowed rows, or where they are few their numbers, on the device of the vectors. *Shape:* (n,) each."""
        import torch

        if selector is None:
            return None, None
        if len(selector) > GATHERED_SHARE * self.size:
            return torch.from_numpy(selector.mask).to(self._vectors.device), None
        return None, torch.from_numpy(selector.rows).to(self._vectors.device)

    def _block(self, rows: slice | torch.Tensor) -> torch.Tensor:
        import torch

        block = self._vectors[rows].to(self._device).to(self._dtype)
        return block if self._mixed else block.to(torch.float32)

    def _multiply(self, queries: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """Inner products, summed in float32. *Shape:* (m, d) and (n, d) give (m, n)."""
        import torch

        if self._mixed:
            return torch.mm(queries.to(self._dtype), block.T, out_dtype=torch.float32)
        return torch.mm(queries.to(self._dtype).to(torch.float32), block.T)

    def _stored_dtype(self) -> torch.dtype:
        import torch

        return self._dtype if self._dtype == torch.bfloat16 else self._vectors.dtype

    def _fits(self) -> bool:
        import torch

        if self._device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self._device)
        working = self._block_rows * (self._query_rows * 24 + self.dim * 4)
        return self._vectors.numel() * self._stored_dtype().itemsize + working < free

    def _move(self) -> None:
        import torch

        vectors = torch.empty(self._vectors.shape, dtype=self._stored_dtype(), device=self._device)
        for start in range(0, self.size, self._block_rows):
            block = self._vectors[start : start + self._block_rows]
            vectors[start : start + len(block)] = block.to(self._device)
        self._vectors = vectors


def _as_tensor(vectors: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
    import torch

    if isinstance(vectors, torch.Tensor):
        return vectors
    with warnings.catch_warnings():  # torch warns about read-only maps, which are never written here
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(vectors)


def _multiplies_mixed(device: torch.device) -> bool:
    """Whether this device and release of torch support bfloat16 products summed in float32."""
    import torch

    if device.type != "cuda":
        return False
    probe = torch.zeros(16, 16, dtype=torch.bfloat16, device=device)
    try:
        torch.mm(probe, probe, out_dtype=torch.float32)
    except (TypeError, RuntimeError, NotImplementedError):
        return False
    return True


def _best(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest scores of each row, by score and then by column.

    ``topk`` breaks ties arbitrarily. One more score than ``k`` shows which rows have a tie at the end of the list, and only
    those rows are sorted completely.
    """
    if scores.shape[1] <= k:
        return sorted_by_score(scores)
    top, columns = scores.topk(k + 1, dim=1)
    tied = (top[:, k] == top[:, k - 1]).nonzero().squeeze(1)
    columns = columns[:, :k].sort(dim=1).values
    top, order = sorted_by_score(scores.gather(1, columns))
    columns = columns.gather(1, order)
    if len(tied):
        full, order = sorted_by_score(scores[tied])
        top[tied], columns[tied] = full[:, :k], order[:, :k]
    return top, columns


def _merged(
    one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best k of two lists of hits, the first of which has the lower rows."""
    import torch

    scores, order = sorted_by_score(torch.cat([one[0], other[0]], dim=1))
    rows = torch.cat([one[1], other[1]], dim=1).gather(1, order)
    return scores[:, :k], rows[:, :k]


def sorted_by_score(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of each row in descending order, ties by column, and their columns."""
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, order
