"""Fewer dimensions before product quantization: principal axes, distributed over the subspaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blink.kb.index.faiss_module import require_faiss

MAX_DIM = 256
"""Dimensions that are kept; docs/scale.md has recall, memory and time of searches with them."""


def principal_axes(sample: npt.NDArray[np.float32], dim: int, subspaces: int) -> npt.NDArray[np.float32]:
    """The principal axes with the largest second moments, in an order for product quantization.

    The moments are taken about zero, not about the mean: inner products with queries must be kept. Axes are distributed over
    the subspaces so that the products of their moments are alike, and each subspace has as much to encode (eigenvalue
    allocation, Ge et al. 2013, "Optimized Product Quantization").

    Args:
        sample: vectors. *Shape:* (n, d).
        dim: axes that are kept, a multiple of ``subspaces``.
        subspaces: of the product quantization.

    Returns:
        axes, orthonormal. *Shape:* (dim, d), float32.
    """
    moments, axes = np.linalg.eigh(sample.T @ sample)
    moments, axes = moments[::-1][:dim], axes[:, ::-1][:, :dim]
    return np.ascontiguousarray(axes[:, balanced(moments, subspaces)].T, dtype=np.float32)


def balanced(moments: npt.NDArray[Any], subspaces: int) -> npt.NDArray[np.int64]:
    """An order of axes: each, from the largest moment on, goes to the subspace with the smallest product that has room.

    Args:
        moments: of the axes, descending. *Shape:* (dim,).
        subspaces: a divisor of ``dim``; the order has the axes of the first subspace first.
    """
    room = len(moments) // subspaces
    # Positive and with the largest at 0 or above: a subspace with more axes must not seem to hold less.
    logs = np.log(np.maximum(moments, max(moments[0] * 1e-9, 1e-30)))
    logs -= logs.min() - 1
    members: list[list[int]] = [[] for _ in range(subspaces)]
    sums = np.zeros(subspaces)
    for axis, log in enumerate(logs):
        subspace = int(np.argmin(sums))
        members[subspace].append(axis)
        sums[subspace] = sums[subspace] + log if len(members[subspace]) < room else np.inf
    return np.array(members, dtype=np.int64).ravel()


def new_reduced(dim: int, codes: int) -> Any:
    """An empty index of FAISS: a linear map to at most `MAX_DIM` dimensions, then product quantization scanned in registers.

    Args:
        dim: of the vectors.
        codes: of a vector, 4 bits each; a divisor of the dimensions after the map.
    """
    faiss = require_faiss()

    kept = min(dim, MAX_DIM)
    quantizer = faiss.IndexPQFastScan(kept, codes, 4, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexPreTransform(faiss.LinearTransform(dim, kept, False), quantizer)
    index.is_trained = False
    return index


def learn(index: Any, sample: npt.NDArray[np.float32]) -> None:
    """Let an index of FAISS learn from vectors; one of `new_reduced` learns its linear map as well.

    Args:
        index: an empty one.
        sample: *Shape:* (n, d), float32.
    """
    faiss = require_faiss()

    if not isinstance(index, faiss.IndexPreTransform):
        index.train(sample)
        return
    chain: Any = index.chain  # a vector of C++, which its stub calls a list
    transform: Any = faiss.downcast_VectorTransform(chain.at(0))
    codes: Any = faiss.downcast_index(index.index)
    axes = principal_axes(sample, transform.d_out, codes.pq.M)
    faiss.copy_array_to_vector(axes.ravel(), transform.A)
    transform.is_trained = True
    codes.train(np.ascontiguousarray(sample @ axes.T))
    index.is_trained = True
