"""Exact search on a GPU, which holds the vectors, instead of an index on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from blink.kb.index.coarse import CoarseIndex
from blink.kb.index.exact import ExactIndex
from blink.kb.index.protocol import Hits, Index, checked_queries
from blink.kb.index.scoring import products_of, sorted_hits
from blink.kb.index.selector import RowSelector
from blink.kb.index.stored_rows import StoredRows

if TYPE_CHECKING:
    from blink.kb.index.torch_exact import TorchIndex

SPARE = 16
"""Further rows of a shortlist: a GPU sums products in another order, so that nearly equal scores may change places."""
ROOM_FOR_MODEL = 2 << 30
"""Bytes of the GPU's memory that are left for activations of the encoder."""


class Resident(Protocol):
    """An index of vectors that may be on the device."""

    @property
    def on_device(self) -> bool:
        """Whether they are."""

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """See `Index.search`."""


class GpuIndex:
    """Exact search: products on a GPU give a shortlist, products with the stored vectors order it.

    Scores and ties are those of `ExactIndex`, bit for bit.

    Args:
        resident: the vectors on the device.
        vectors: the same as they are stored. *Shape:* (n, d), float32 or float16.
    """

    def __init__(self, resident: Resident, vectors: npt.NDArray[Any]) -> None:
        self._resident, self._rows = resident, StoredRows(vectors)
        self.size, self.dim = int(vectors.shape[0]), int(vectors.shape[1])

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The ``k`` best rows for each query, exactly; see `Index.search`."""
        checked = checked_queries(queries, k, self.dim)
        rows = self._resident.search(checked, k + SPARE, selector)[1]
        return sorted_hits(products_of(checked, self._rows, rows), rows, k)


def moved_to(vectors: npt.NDArray[Any], device: str) -> TorchIndex:
    """The vectors on a GPU, in the precision that they are stored in, unless they leave no room for the encoder."""
    import torch

    from blink.kb.index.torch_exact import TorchIndex

    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0
    return TorchIndex(vectors, device=device, on_device=vectors.nbytes + ROOM_FOR_MODEL < free)


def for_device(
    index: Index,
    vectors: npt.NDArray[Any] | None,
    device: str,
    move: Callable[[npt.NDArray[Any], str], Resident] = moved_to,
) -> Index:
    """The index that searches where the encoder runs.

    Args:
        index: of the knowledge base, on the CPU.
        vectors: stored vectors; None where there are none.
        device: of the encoder, such as ``cpu`` or ``cuda:1``.
        move: makes an index on a device.

    Returns:
        exact search on the device, with the hits of exact search on the CPU; ``index`` itself on a CPU, where the vectors do
        not fit on the device, and where it does not search the stored vectors or is meant to be approximate.
    """
    searches_all = isinstance(index, ExactIndex) or (isinstance(index, CoarseIndex) and index.adaptive)
    if device == "cpu" or vectors is None or not searches_all:
        return index
    resident = move(vectors, device)
    return GpuIndex(resident, vectors) if resident.on_device else index
