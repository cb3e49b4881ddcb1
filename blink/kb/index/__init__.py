"""Nearest entity vectors by inner product: exact, coarse then exact, or through FAISS."""

from blink.kb.index.build import INDEX_KINDS, IndexOptions, build_index
from blink.kb.index.coarse import CoarseIndex
from blink.kb.index.exact import ExactIndex
from blink.kb.index.faiss_index import FaissIndex, read_index, write_index
from blink.kb.index.protocol import NO_ROW, Hits, Index

__all__ = [
    "INDEX_KINDS",
    "NO_ROW",
    "CoarseIndex",
    "ExactIndex",
    "FaissIndex",
    "Hits",
    "Index",
    "IndexOptions",
    "build_index",
    "read_index",
    "write_index",
]
