"""The index of a knowledge base: built into a file, and opened from it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blink.errors import DataError, MismatchError, ShapeError
from blink.extras import install_command
from blink.kb.index.coarse import CoarseIndex
from blink.kb.index.exact import ExactIndex
from blink.kb.index.faiss_index import FaissIndex, read_index, tune, write_index
from blink.kb.index.faiss_module import has_faiss
from blink.kb.index.kinds import IndexKind, resolved_kind
from blink.kb.index.protocol import Index
from blink.kb.index.reduction import learn
from blink.kb.index.scoring import broken_row
from blink.kb.index.stored_rows import release

logger = logging.getLogger(__name__)

BLOCK_ROWS = 65_536
LARGE = 1 << 20
"""Vectors from which a second scan costs more than a long shortlist, so that few queries should need one."""
DEPTH_OF_LARGE = 256
DEVIATIONS_OF_LARGE = 3.0
"""With 5.9 million entities one mention in 250 needs a second scan, and recall@10 is .999 (`benchmarks/scale.py`)."""
_SEED = 0
_ROWS_AT_ONCE = 2048
_LEAST_SAMPLE = 16


def build_codes(
    vectors: npt.NDArray[Any], kind: IndexKind, advance: Callable[[int], None] = lambda rows: None
) -> FaissIndex | None:
    """Build an index of vectors, which are read in blocks.

    Args:
        vectors: array or memory map of float32 or float16. *Shape:* (n, d).
        kind: of the index.
        advance: called with the rows of each block.

    Returns:
        an index of FAISS; None for exact search, which needs none.

    Raises:
        ShapeError: ``vectors`` is not a matrix.
        DataError: there are no vectors, or one holds NaN or infinity.
    """
    if vectors.ndim != 2:
        raise ShapeError(f"vectors have {vectors.ndim} dimensions; give a matrix of shape (entities, width)")
    if kind.new is None:
        return None
    if not len(vectors):
        raise DataError("there are no vectors to index; encode the catalogue first")
    index = kind.new(*vectors.shape)
    sample = min(kind.training_rows(len(vectors)), len(vectors))
    if sample:
        rows = np.sort(np.random.default_rng(_SEED).choice(len(vectors), sample, replace=False))
        # FAISS wants no fewer vectors than centroids; with very few, a centroid each is exact.
        rows = np.resize(rows, max(sample, _LEAST_SAMPLE))
        learn(index, _finite(_gathered(vectors, rows), lambda bad: int(rows[bad])))
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = _finite(vectors[start : start + BLOCK_ROWS], partial(int.__add__, start))
        index.add(block)
        release(vectors)
        advance(len(block))
    tune(index)
    return FaissIndex(index)


def open_codes(codes: FaissIndex | None, kind: IndexKind, vectors: npt.NDArray[Any]) -> Index:
    """The index that searches: over codes and stored vectors, as its kind says.

    Raises:
        MismatchError: codes and vectors differ in size.
    """
    if codes is None:
        return ExactIndex(vectors)
    if (codes.size, codes.dim) != vectors.shape:
        sizes = f"{codes.size} vectors of dimension {codes.dim}, not {vectors.shape[0]} of {vectors.shape[1]}"
        raise MismatchError(f"the index holds {sizes}; build the knowledge base again")
    if not kind.rescored:
        return codes.over(vectors)
    if codes.size < LARGE:
        return CoarseIndex(codes, vectors, depth=kind.depth, adaptive=kind.adaptive)
    depth = max(kind.depth, DEPTH_OF_LARGE)
    return CoarseIndex(codes, vectors, depth=depth, adaptive=kind.adaptive, deviations=DEVIATIONS_OF_LARGE)


def build_index(vectors: npt.NDArray[Any], kind: str) -> Index:
    """An index of vectors in memory, of a kind by its name; see `build_codes`."""
    of_kind = resolved_kind(kind, len(vectors))
    return open_codes(build_codes(vectors, of_kind), of_kind, vectors)


def open_index(path: Path, kind: IndexKind, vectors: npt.NDArray[Any]) -> Index:
    """Open the index of a knowledge base.

    Args:
        path: its file; flat indexes have none.
        kind: of the index.
        vectors: of the knowledge base. *Shape:* (n, d).

    Raises:
        BlinkError: the file is missing or damaged, or is not of these vectors.

    Where FAISS is not installed, all stored vectors are searched.
    """
    if kind.new is not None and not has_faiss():
        logger.warning(
            "%s is an index of FAISS, which is not installed: all vectors are searched, which takes longer; %s",
            path,
            install_command("faiss"),
        )
        return ExactIndex(vectors)
    return open_codes(None if kind.new is None else read_index(path), kind, vectors)


def save_index(
    vectors: npt.NDArray[Any], kind: IndexKind, path: Path, advance: Callable[[int], None] = lambda rows: None
) -> None:
    """Build an index and write it to ``path``; see `build_codes`. A flat one has no file, and one that is there is removed."""
    codes = build_codes(vectors, kind, advance)
    path.unlink(missing_ok=True)
    if codes is not None:
        write_index(codes, path)


def _gathered(vectors: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Rows of a matrix, some at a time: pages that the system maps around them would add up to much of a large file."""
    sample = np.empty((len(rows), vectors.shape[1]), vectors.dtype)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        sample[start : start + _ROWS_AT_ONCE] = vectors[rows[start : start + _ROWS_AT_ONCE]]
        release(vectors)
    return sample


def _finite(block: npt.NDArray[Any], row_of: Callable[[int], int]) -> npt.NDArray[np.float32]:
    """Rows as contiguous float32.

    Raises:
        DataError: a row holds NaN or infinity.
    """
    block = np.ascontiguousarray(block, dtype=np.float32)
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        raise broken_row(row_of(int(np.argmin(finite))))
    return block
