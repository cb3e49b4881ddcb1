"""The rows that a search may return, as a mask, a list or bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class RowSelector:
    """Rows that a search may return.

    Attributes:
        mask: whether each row is allowed. *Shape:* (entities,), bool.
    """

    mask: npt.NDArray[np.bool_]

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """The allowed rows, ascending. *Shape:* (allowed,), int64."""
        return np.flatnonzero(self.mask)

    @cached_property
    def bits(self) -> npt.NDArray[np.uint8]:
        """The mask as bits, the lowest first, as FAISS takes it. *Shape:* (entities / 8,), uint8."""
        return np.packbits(self.mask, bitorder="little")

    @cached_property
    def _count(self) -> int:
        return int(np.count_nonzero(self.mask))

    def __len__(self) -> int:
        return self._count

    def __and__(self, other: RowSelector) -> RowSelector:
        """Rows that both allow."""
        return RowSelector(self.mask & other.mask)
