"""Vectors by row, in an array that grows; what was handed out of it never changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_FIRST_CAPACITY = 64

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class VectorTable:
    """Vectors by row. Appending rows in ascending order costs the same however many there are.

    Args:
        dim: dimension of the vectors.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._start(0)

    def _start(self, size: int) -> None:
        capacity = max(_FIRST_CAPACITY, 2 * size)
        self._rows, self._vectors = np.empty(capacity, np.int64), np.empty((capacity, self._dim), np.float32)
        self._slots: dict[int, int] = {}
        self._end = 0
        self._shared = 0
        """Slots that arrays which were handed out show; they are never written to."""
        self._in_order = True
        """Whether the slots are of ascending rows, each of one that is still there."""

    def put(self, row: int, vector: Vectors) -> None:
        """Set the vector of a row. ``vector``: *shape* (d,)."""
        slot = self._slots.get(row)
        if slot is None or slot < self._shared:
            self._in_order &= slot is None and (self._end == 0 or bool(self._rows[self._end - 1] < row))
            slot = self._next_slot()
        self._slots[row] = slot
        self._rows[slot], self._vectors[slot] = row, vector

    def _next_slot(self) -> int:
        if self._end == len(self._rows):
            rows, vectors = self._rows, self._vectors
            self._rows, self._vectors = np.empty(2 * len(rows), np.int64), np.empty((2 * len(rows), self._dim), np.float32)
            self._rows[: len(rows)], self._vectors[: len(rows)] = rows, vectors
            self._shared = 0  # of the new arrays
        self._end += 1
        return self._end - 1

    def remove(self, row: int) -> None:
        """Remove the vector of a row, if there is one."""
        if self._slots.pop(row, None) is not None:
            self._in_order = False

    def get(self, row: int) -> Vectors | None:
        """The vector of a row; None if there is none. *Shape:* (d,)."""
        slot = self._slots.get(row)
        return None if slot is None else self._vectors[slot].copy()

    def state(self) -> tuple[Rows, Vectors]:
        """The rows, ascending, and their vectors; they stay as they are. *Shape:* (n,) and (n, d)."""
        if not self._in_order:
            rows, slots, vectors = sorted(self._slots), self._slots, self._vectors
            gathered = vectors[[slots[row] for row in rows]] if rows else vectors[:0]
            self._start(len(rows))
            self._rows[: len(rows)], self._vectors[: len(rows)] = rows, gathered
            self._slots, self._end = {row: slot for slot, row in enumerate(rows)}, len(rows)
        self._shared = self._end
        return _read_only(self._rows[: self._end]), _read_only(self._vectors[: self._end])


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array[:]
    view.flags.writeable = False
    return view
