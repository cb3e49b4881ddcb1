"""How much memory an index needs, and which kind fits into a limit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from blink.errors import SettingsError
from blink.kb.index.kinds import AUTO, COARSE_FROM, KINDS, IndexKind, resolved_kind

RESERVE = 448 << 20
"""Bytes for everything but the index: Python, the starter's model, pages of the tables of names; measured with `blink link`."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes of a size such as ``512M``, ``4G``, ``4GB`` or ``4 GiB``; units are powers of 1024.

    Raises:
        SettingsError: it is no size, or zero.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if not size:
        raise SettingsError(f"{text!r} is no size of memory; give one such as 512M, 4G or 4GiB")
    return size


def format_size(size: int) -> str:
    """A size as `parse_size` reads it, rounded up, so that it is enough."""
    for unit in ("T", "G", "M", "K"):
        if size >= _UNITS[unit]:
            steps = 1 if size >= 100 * _UNITS[unit] else 10
            rounded = -(-size * steps // _UNITS[unit])
            return f"{rounded / steps:g}{unit}"
    return f"{size}B"


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
        needed: bytes of the process, `RESERVE` included.
        vectors_cached: whether the limit leaves room for all stored vectors, so that shortlists are not read from the disk.
    """

    kind: IndexKind
    needed: int
    vectors_cached: bool

    def __str__(self) -> str:
        where = "of the stored vectors, which fit into memory" if self.vectors_cached else "of vectors read from the disk"
        return f"index {self.kind.name} needs {format_size(self.needed)} with the model, and scores by products {where}"


def plan_memory(vectors: StoredVectors, max_ram: int, index: str = AUTO) -> MemoryPlan:
    """The index for a limit of memory: that of ``auto`` without a limit if it fits, else the fastest that fits.

    Args:
        vectors: sizes of the stored vectors.
        max_ram: bytes that the process may take.
        index: name of a kind, or ``auto``.

    Raises:
        SettingsError: none fits; the message has the least limit that is enough.
    """
    names = [index]
    if index == AUTO:
        names = ["flat", "coarse"] if vectors.n < COARSE_FROM else ["coarse"]
    needed = {name: RESERVE + index_bytes(resolved_kind(name, vectors.n), vectors) for name in names}
    for name, size in needed.items():
        if size <= max_ram:
            stored = 0 if KINDS[name].new is None or not KINDS[name].rescored else vectors.bytes
            return MemoryPlan(KINDS[name], size, size + stored <= max_ram)
    least = min(needed.values())
    smaller = "" if index == AUTO or RESERVE + index_bytes(KINDS["coarse"], vectors) >= least else ", or another --index"
    raise SettingsError(
        f"{vectors.n:,} vectors of dimension {vectors.dim} with index {' or '.join(names)} need {format_size(least)} of memory "
        f"with the model, and the limit is {format_size(max_ram)}; give --max-ram {format_size(least)}{smaller}"
    )


def require_memory(folder: Path, index: str, vectors: StoredVectors, max_ram: int | str) -> None:
    """Check that an index that is stored fits into a limit, in bytes or as a size.

    Raises:
        SettingsError: it does not; the message says what would.
    """
    limit = parse_size(max_ram) if isinstance(max_ram, str) else max_ram
    needed = RESERVE + index_bytes(KINDS[index], vectors)
    if needed <= limit:
        return
    plan_memory(vectors, limit)  # where nothing fits, it says so
    raise SettingsError(
        f"index {index} of {folder} needs {format_size(needed)} of memory with the model, the limit is {format_size(limit)}; "
        f"make a smaller one: blink kb index {folder} --max-ram {format_size(limit)}"
    )
