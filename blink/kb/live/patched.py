"""A matrix of which some rows are replaced, and to which rows are added."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[Any]


class PatchedMatrix:
    """Reads rows of a matrix that is not copied, with the current values of the changed rows.

    It reads as an array does where whole rows are taken; ``np.asarray`` copies it into one.

    Args:
        base: array or memory map. *Shape:* (n, d).
        rows: the changed rows, ascending; those from ``n`` on are added. *Shape:* (changed,), int64.
        values: of these rows. *Shape:* (changed, d).
        n_rows: number of rows; those that are in neither are zeros.
    """

    ndim = 2

    def __init__(self, base: Matrix, rows: npt.NDArray[np.int64], values: Matrix, n_rows: int) -> None:
        self._base, self._rows, self._values = np.asarray(base), rows, values
        self.shape, self.dtype = (n_rows, int(base.shape[1])), base.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.shape[0] * self.shape[1] * int(self.dtype.itemsize)

    def __getitem__(self, rows: Any) -> Matrix:
        """Rows by number, slice or mask, as of an array."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64, copy=False)
        if rows.size and (int(rows.max()) >= len(self) or int(rows.min()) < -len(self)):
            raise IndexError(f"there is no row {int(rows.max())} among {len(self)}")
        rows = np.where(rows < 0, rows + len(self), rows)
        n_base = len(self._base)
        inside = rows < n_base
        gathered: Matrix
        if inside.all():
            gathered = self._base[rows]
        else:
            gathered = np.zeros((*rows.shape, self.shape[1]), self.dtype)
            gathered[inside] = self._base[rows[inside]]
        if len(self._rows):
            at = np.searchsorted(self._rows, rows).clip(max=len(self._rows) - 1)
            changed = self._rows[at] == rows
            if changed.any():
                gathered = np.array(gathered)
                gathered[changed] = self._values[at[changed]]
        return gathered

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Matrix:
        whole: Matrix = np.zeros(self.shape, self.dtype if dtype is None else dtype)
        whole[: len(self._base)] = self._base
        whole[self._rows] = self._values
        return whole


def plain(matrix: Any) -> Any:
    """A matrix without the extra Python call that each slice of a memory map costs; a `PatchedMatrix` as it is."""
    return matrix if isinstance(matrix, PatchedMatrix) else np.asarray(matrix)
