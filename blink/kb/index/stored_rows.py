"""Single rows of a matrix that may be a memory map larger than memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

PREFETCHED_FROM = 1 << 29
"""Bytes of a mapped file from which rows are requested from the disk all at once, before the first is read."""
RELEASED_AFTER = 2048
"""Rows after which the pages of a mapped file leave the memory of the process. They stay in the system's cache."""


class StoredRows:
    """Gathers rows of a matrix.

    The system reads much of a mapped file ahead of a row that it has not in its cache, and counts the pages around every row as
    memory of the process. For large files it is therefore told to read single pages, and of all rows before the first is read,
    which lets the disk work on many at once; and pages are released again and again.

    Args:
        vectors: array or memory map. *Shape:* (n, d).
    """

    def __init__(self, vectors: npt.NDArray[Any]) -> None:
        self.vectors = vectors
        self._map = _large_map(vectors)
        self._first = 0 if self._map is None else vectors.ctypes.data - np.frombuffer(self._map, np.uint8).ctypes.data
        self._gathered = 0
        if self._map is not None:
            self._map.madvise(mmap.MADV_RANDOM)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Rows by number. *Shape:* any shape gives (*shape, d), of the dtype of the matrix."""
        if self._map is None:
            return self.vectors[rows]
        self._prefetch(np.unique(rows[rows >= 0]))
        gathered = self.vectors[rows]
        self._gathered += rows.size
        if self._gathered >= RELEASED_AFTER:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._gathered = 0
        return gathered

    def _prefetch(self, rows: npt.NDArray[np.int64]) -> None:
        width = self.vectors.strides[0]
        begin = self._first + rows * width
        first = begin // mmap.PAGESIZE * mmap.PAGESIZE
        for at, length in zip(first.tolist(), (begin + width - first).tolist(), strict=True):
            self._map.madvise(mmap.MADV_WILLNEED, at, length)


def release(vectors: npt.NDArray[Any]) -> None:
    """Let the pages of a large memory map leave the memory of the process; the next reading brings them back."""
    mapped = _large_map(vectors)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def _large_map(vectors: npt.NDArray[Any]) -> Any:
    """The mapped file of a large matrix; None if it is in memory, small, or the system takes no advice."""
    base: Any = vectors
    while isinstance(base, np.ndarray):
        base = base.base
    is_large = isinstance(base, mmap.mmap) and vectors.nbytes >= PREFETCHED_FROM and hasattr(base, "madvise")
    return base if is_large and vectors.flags.c_contiguous else None
