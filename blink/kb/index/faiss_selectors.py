"""Selectors inside searches of FAISS: the parameters of each class, and another structure for classes without any."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from blink.kb.index.faiss_module import require_faiss
from blink.kb.index.selector import RowSelector


def is_selective(index: Any) -> bool:
    """Whether an index of FAISS takes selectors; scans of 4-bit codes that are not in cells do not."""
    faiss = require_faiss()

    return not isinstance(_inner(index), faiss.IndexFastScan) or isinstance(_inner(index), faiss.IndexIVF)


def parameters(index: Any, selector: RowSelector) -> Any:
    """The parameters of a search of `is_selective` indexes, with those that are set on the index itself."""
    faiss: Any = import_module("faiss")  # whose stub lacks these classes
    inner, selected = _inner(index), faiss.IDSelectorBitmap(selector.bits)
    of_class: Any
    if isinstance(inner, faiss.IndexIVF):
        of_class = faiss.SearchParametersIVF(sel=selected, nprobe=inner.nprobe)
    elif isinstance(inner, faiss.IndexHNSW):
        of_class = faiss.SearchParametersHNSW(sel=selected, efSearch=inner.hnsw.efSearch)
    else:
        of_class = faiss.SearchParameters(sel=selected)
    return of_class if inner is index else faiss.SearchParametersPreTransform(index_params=of_class)


def in_one_cell(index: Any) -> Any | None:
    """The codes of a scan of 4-bit codes as the only cell of an inverted file, whose scan takes selectors.

    Scores are the same. The codes are copied: as many bytes again, and 8 for the number of each row.

    Args:
        index: which is to live as long as the result, which uses its linear map.

    Returns:
        an index; None for another class.
    """
    faiss = require_faiss()

    codes: Any = _inner(index)
    make = {faiss.IndexPQFastScan: _of_products, faiss.IndexRaBitQFastScan: _of_bits}.get(type(codes))
    if make is None:
        return None
    cell: Any = make(codes)
    cell.is_trained = True
    rows = np.arange(codes.ntotal, dtype=np.int64)
    faiss.downcast_InvertedLists(cell.invlists).add_entries(0, len(rows), faiss.swig_ptr(rows), codes.codes.get())
    cell.ntotal = codes.ntotal
    if codes is index:
        return cell
    chain: Any = index.chain
    return faiss.IndexPreTransform(faiss.downcast_VectorTransform(chain.at(0)), cell)


def _of_products(codes: Any) -> Any:
    """An empty inverted file of one cell for the codes of product quantization."""
    faiss = require_faiss()

    center = np.zeros(codes.d, np.float32)
    cell: Any = faiss.IndexIVFPQFastScan(
        _quantizer(center), codes.d, 1, codes.M, codes.nbits, faiss.METRIC_INNER_PRODUCT, codes.bbs
    )
    cell.by_residual, cell.pq = False, codes.pq
    return cell


def _of_bits(codes: Any) -> Any:
    """An empty inverted file of one cell for the codes of RaBitQ, which are relative to its center."""
    faiss = require_faiss()

    center = faiss.vector_to_array(codes.center)
    cell: Any = faiss.IndexIVFRaBitQFastScan(
        _quantizer(center), codes.d, 1, faiss.METRIC_INNER_PRODUCT, codes.bbs, True, codes.rabitq.nb_bits
    )
    cell.qb, cell.centered = codes.qb, codes.centered
    return cell


def _quantizer(center: np.ndarray) -> Any:
    faiss = require_faiss()

    quantizer = faiss.IndexFlatIP(len(center))
    quantizer.add(center[None])
    return quantizer


def _inner(index: Any) -> Any:
    faiss = require_faiss()

    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
