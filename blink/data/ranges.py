"""Consecutive ranges of flat arrays, such as the candidates of each of several spans."""

from __future__ import annotations

import numpy as np


def bounds_of(sizes: np.ndarray) -> np.ndarray:
    """Start of each of n consecutive ranges, and the end of the last. *Shape:* (n,) gives (n + 1,), int64."""
    bounds = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return bounds


def numbers_of(begin: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """All numbers of several ranges.

    Args:
        begin: first number of each range. *Shape:* (n,), int.
        sizes: how many numbers it has. *Shape:* (n,), int.

    Returns:
        *Shape:* (sum of sizes,), int64.
    """
    past = np.cumsum(sizes)
    numbers = np.repeat(begin - past + sizes, sizes)
    numbers += np.arange(len(numbers))
    return numbers


def expand(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of several ranges, and the range of each.

    Args:
        begin: first number of each range. *Shape:* (n,), int.
        end: number after its last. *Shape:* (n,), int.

    Returns:
        the numbers and the index of their range. *Shape:* (numbers,), int64, each.
    """
    sizes = end - begin
    return numbers_of(begin, sizes), np.repeat(np.arange(len(sizes)), sizes)


class Groups:
    """Groups of a flat array: those of a group are consecutive, and groups may be empty.

    Attributes:
        sizes: of the groups. *Shape:* (m,), int64.
        bounds: start of each, and the end of the last. *Shape:* (m + 1,), int64.
        owner: group of each element. *Shape:* (n,), int64.
    """

    def __init__(self, sizes: np.ndarray) -> None:
        self.sizes, self.bounds = sizes, bounds_of(sizes)
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        self._some = None if sizes.all() else np.flatnonzero(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def max(self, values: np.ndarray) -> np.ndarray:
        """The maximum of each group, -inf of an empty one. *Shape:* (..., n) to (..., m)."""
        return self._reduced(np.maximum, values, -np.inf)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of each group. *Shape:* (..., n) to (..., m)."""
        return self._reduced(np.add, values, 0)

    def _reduced(self, ufunc: np.ufunc, values: np.ndarray, empty: float) -> np.ndarray:
        if self._some is None and len(self.owner):
            reduced: np.ndarray = ufunc.reduceat(values, self.bounds[:-1], axis=-1)
            return reduced
        reduced = np.full((*values.shape[:-1], len(self)), empty, dtype=values.dtype)
        if len(self.owner):
            # An empty group would take the element behind it.
            reduced[..., self._some] = ufunc.reduceat(values, self.bounds[self._some], axis=-1)
        return reduced
