"""Labels of items by number, of those that are needed: sorted arrays, and the texts in one string of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

_BLOCK = 1 << 20


class LabelTable:
    """Labels of items.

    Args:
        ids: file of the numbers of all items with a label, uint64.
        labels: file of their labels, a line each, in the same order.
        needed: numbers of the items whose labels are needed, ascending. *Shape:* (n,), uint64.
    """

    def __init__(self, ids: Path, labels: Path, needed: np.ndarray) -> None:
        numbers, texts = [], []
        with labels.open("rb") as f:
            for block in blocks(ids):
                lines = [f.readline()[:-1] for _ in range(len(block))]
                is_needed = np.flatnonzero(contains(needed, block))
                numbers.append(block[is_needed])
                texts += [lines[i] for i in is_needed.tolist()]
        together = np.concatenate(numbers) if numbers else np.empty(0, np.uint64)
        order = np.argsort(together, kind="stable")
        self._numbers = together[order]
        lengths = np.array([len(text) for text in texts], dtype=np.int64)[order]
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        self._content = b"".join(texts[i] for i in order.tolist())

    def labels(self, numbers: list[int]) -> dict[int, str]:
        """The labels of items, of those that have one."""
        wanted = np.unique(np.array(numbers, dtype=np.uint64))
        rows = np.searchsorted(self._numbers, wanted)
        known = rows < len(self._numbers)
        known[known] = self._numbers[rows[known]] == wanted[known]
        bounds = zip(wanted[known].tolist(), self._starts[rows[known]].tolist(), self._ends[rows[known]].tolist(), strict=True)
        return {number: self._content[start:end].decode() for number, start, end in bounds}


def blocks(path: Path) -> Iterator[np.ndarray]:
    """The numbers of a file in blocks. *Shape:* (n,), uint64."""
    with path.open("rb") as f:
        while content := f.read(8 * _BLOCK):
            yield np.frombuffer(content, dtype="<u8")


def distinct(path: Path) -> np.ndarray:
    """The distinct numbers of a file, ascending, in memory that grows with their number alone. *Shape:* (n,), uint64."""
    numbers = np.empty(0, dtype=np.uint64)
    for block in blocks(path):
        numbers = np.union1d(numbers, block)
    return numbers


def contains(ascending: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Which numbers are among ascending ones. *Shape:* that of ``numbers``, bool."""
    rows = np.minimum(np.searchsorted(ascending, numbers), max(len(ascending) - 1, 0))
    return ascending[rows] == numbers if len(ascending) else np.zeros(len(numbers), dtype=bool)
