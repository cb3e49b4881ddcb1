"""Nearest entity vectors by inner product: exact, coarse then exact, or through FAISS."""

from blink.kb.index.coarse import CoarseIndex
from blink.kb.index.exact import ExactIndex
from blink.kb.index.faiss_index import FaissIndex, read_index, write_index
from blink.kb.index.kinds import AUTO, CHOICES, KINDS, IndexKind, resolved_kind
from blink.kb.index.protocol import NO_ROW, Hits, Index
from blink.kb.index.storage import build_index, open_index, save_index
from blink.kb.index.torch_exact import TorchIndex

__all__ = [
    "AUTO",
    "CHOICES",
    "KINDS",
    "NO_ROW",
    "CoarseIndex",
    "ExactIndex",
    "FaissIndex",
    "Hits",
    "Index",
    "IndexKind",
    "TorchIndex",
    "build_index",
    "open_index",
    "read_index",
    "resolved_kind",
    "save_index",
    "write_index",
]
