"""How much memory an index needs, and which kind fits into a limit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blink.errors import SettingsError
from blink.kb.index.kinds import AUTO, KINDS, IndexKind, names_for
from blink.limits import format_size, parse_size

RESERVES = {"onnx": 384 << 20, "torch": 704 << 20}
"""Bytes for everything but the index, by backend: Python, the starter's model, texts, pages of the tables of names.

Maximum resident set of ``/usr/bin/time -v blink link --kb KB --model starter --backend B --file TEXTS`` with 300 short texts
less 149 MB of vectors of a ``flat`` knowledge base of 97,081 entities: 359 MB with ONNX Runtime, 647 MB with PyTorch, on a CPU.
"""
DEFAULT_BACKEND = "onnx"


@dataclass(frozen=True)
class StoredVectors:
    """Sizes of the vectors of a knowledge base.

    Attributes:
        n: their number.
        dim: their dimension.
        value_bytes: 4 for fp32, 2 for fp16.
    """

    n: int
    dim: int
    value_bytes: int = 4

    @property
    def bytes(self) -> int:
        """Of all vectors."""
        return self.n * self.dim * self.value_bytes


def index_bytes(kind: IndexKind, vectors: StoredVectors) -> int:
    """Bytes of memory that the index of some vectors needs. Exact search reads every vector, others a few from the disk."""
    if kind.new is None:
        return vectors.bytes
    return int(kind.code_bytes(vectors.n, vectors.dim) * vectors.n + kind.fixed_bytes(vectors.n, vectors.dim))


@dataclass(frozen=True)
class MemoryPlan:
    """What an index needs.

    Attributes:
        kind: of the index.
        index_bytes: of the index: codes, or the vectors where every search reads all of them.
        vector_bytes: of the stored vectors.
        limit: bytes that the process may take.
        backend: of the encoder.
    """

    kind: IndexKind
    index_bytes: int
    vector_bytes: int
    limit: int
    backend: str = DEFAULT_BACKEND

    @property
    def needed(self) -> int:
        """Bytes of the process: the index and `RESERVES`."""
        return RESERVES[self.backend] + self.index_bytes

    @property
    def vectors_cached(self) -> bool:
        """Whether the limit leaves room for all stored vectors, so that shortlists are not read from the disk."""
        mapped = self.vector_bytes if self.kind.rescored else 0
        return self.needed + mapped <= self.limit

    def __str__(self) -> str:
        codes, stored = format_size(self.index_bytes), format_size(self.vector_bytes)
        parts = f"{codes} of {'codes' if self.kind.rescored else 'vectors'}, {format_size(RESERVES[self.backend])} for the rest"
        fit = "fit into the limit too" if self.vectors_cached else "are read from the disk where they are not cached"
        mapped = f"; the {stored} of stored vectors, which are mapped, {fit}" if self.kind.rescored else ""
        total = f"index {self.kind.name} needs {format_size(self.needed)} of {format_size(self.limit)}"
        return f"{total} ({parts}, with backend {self.backend}){mapped}"


def most_vectors(kind: IndexKind, dim: int, max_ram: int, backend: str = DEFAULT_BACKEND) -> int:
    """How many vectors of a dimension linking can search within a limit of memory, in bytes; 0 for none."""
    room = max_ram - RESERVES[backend]
    low, high = 0, max(0, room) + 1  # a vector takes a byte at least
    while high - low > 1:
        n = (low + high) // 2
        low, high = (n, high) if index_bytes(kind, StoredVectors(n, dim)) <= room else (low, n)
    return low


def plan_memory(vectors: StoredVectors, max_ram: int, index: str = AUTO, backend: str = DEFAULT_BACKEND) -> MemoryPlan:
    """The index for a limit of memory: the best that fits, see `blink.kb.index.kinds.BEST_FIRST`.

    Args:
        vectors: sizes of the stored vectors.
        max_ram: bytes that the process may take.
        index: name of a kind, or ``auto``.
        backend: of the encoder, a key of `RESERVES`.

    Raises:
        SettingsError: none fits; the message has the least limit that is enough.
    """
    plans = [
        MemoryPlan(KINDS[name], index_bytes(KINDS[name], vectors), vectors.bytes, max_ram, backend)
        for name in names_for(index, vectors.n)
    ]
    for plan in plans:
        if plan.needed <= max_ram:
            return plan
    least = min(plans, key=lambda plan: plan.needed)
    smallest = min(index_bytes(KINDS[name], vectors) for name in names_for(AUTO, vectors.n))
    smaller = ", or another --index" if smallest < least.index_bytes else ""
    if backend != DEFAULT_BACKEND and RESERVES[DEFAULT_BACKEND] + smallest <= max_ram:
        smaller += f", or --backend {DEFAULT_BACKEND}, which needs less"
    needed = format_size(least.needed)
    raise SettingsError(
        f"{vectors.n:,} vectors of dimension {vectors.dim} with index {least.kind.name} need {needed} of memory with the model "
        f"and backend {backend}, and the limit is {format_size(max_ram)}; give --max-ram {needed}{smaller}"
    )


def require_memory(
    folder: Path, index: str, vectors: StoredVectors, max_ram: int | str, backend: str = DEFAULT_BACKEND
) -> MemoryPlan:
    """Check that an index that is stored fits into a limit, in bytes or as a size.

    Returns:
        what it needs.

    Raises:
        SettingsError: it does not fit; the message says what would.
    """
    limit = parse_size(max_ram) if isinstance(max_ram, str) else max_ram
    plan = MemoryPlan(KINDS[index], index_bytes(KINDS[index], vectors), vectors.bytes, limit, backend)
    if plan.needed <= limit:
        return plan
    needs = f"{format_size(plan.needed)} of memory with the model and backend {backend}"
    excess = f"index {index} of {folder} needs {needs}, the limit is {format_size(limit)}"
    lighter = next((name for name in RESERVES if RESERVES[name] + plan.index_bytes <= limit), None)
    if lighter is not None:
        raise SettingsError(f"{excess}; give --backend {lighter}, which needs less")
    plan_memory(vectors, limit, backend=backend)  # where nothing fits, it says so
    raise SettingsError(f"{excess}; make a smaller one: blink kb index {folder} --max-ram {format_size(limit)}")
