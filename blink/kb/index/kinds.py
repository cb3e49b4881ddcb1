"""The kinds of indexes that a knowledge base can have, as a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from blink.errors import SettingsError
from blink.kb.index.faiss_module import has_faiss, require_faiss
from blink.kb.index.reduction import MAX_DIM, new_reduced

AUTO = "auto"
COARSE_FROM = 20_000
"""Entities from which ``auto`` is ``coarse``: below, exact search is as fast, and needs no import of FAISS."""
_POINTS_PER_CELL = (39, 256)
"""Fewest and most vectors per cell for k-means in FAISS."""
_PADDING = 16
"""Codes that blocks of 32 add to a cell, on average."""
_LINKS, _EF_CONSTRUCTION, _EF_SEARCH = 32, 200, 256


@dataclass(frozen=True)
class IndexKind:
    """A kind of index.

    Attributes:
        name: as ``--index`` takes it.
        description: one clause for help.
        code_bytes: bytes of memory of a vector, given n and d.
        fixed_bytes: further bytes of memory, given n and d.
        new: an empty index of FAISS, given n and d; None for exact search of the stored vectors.
        training_rows: vectors of the sample that it learns from, given n; 0 for none.
        rescored: whether the stored vectors score the hits again, see `blink.kb.index.coarse.CoarseIndex`.
        adaptive: whether shortlists grow until they are long enough, so that hits are those of exact search.
        depth: least length of the shortlist.
    """

    name: str
    description: str
    code_bytes: Callable[[int, int], float]
    new: Callable[[int, int], Any] | None = None
    fixed_bytes: Callable[[int, int], float] = field(default=lambda n, d: 0.0)
    training_rows: Callable[[int], int] = field(default=lambda n: 0)
    rescored: bool = True
    adaptive: bool = True
    depth: int = 128


def cells(n: int) -> int:
    """Cells of an inverted file: four times the square root of the number of vectors, if there are enough to train them."""
    return max(1, min(round(4 * math.sqrt(n)), n // _POINTS_PER_CELL[0]))


def probes(n: int) -> int:
    """Cells that a search visits before it is tuned: an eighth, at least 8. Mentions lie away from entities, see the docs."""
    return max(1, min(cells(n), max(8, cells(n) // 8)))


def sub_quantizers(dim: int) -> int:
    """Subspaces of product quantization: of two dimensions, or of three or one where two do not divide ``dim``."""
    return dim // next((width for width in (2, 3) if dim % width == 0), 1)


def _faiss(factory: Callable[[int, int], str]) -> Callable[[int, int], Any]:
    def new(n: int, dim: int) -> Any:
        faiss = require_faiss()

        return faiss.index_factory(dim, factory(n, dim), faiss.METRIC_INNER_PRODUCT)

    return new


def _new_hnsw(n: int, dim: int) -> Any:
    index = _faiss(lambda n, dim: f"HNSW{_LINKS}")(n, dim)
    index.hnsw.efConstruction, index.hnsw.efSearch = _EF_CONSTRUCTION, _EF_SEARCH
    return index


def _new_inverted_file(codes: Callable[[int], str]) -> Callable[[int, int], Any]:
    """Cells around L2 means; within a cell, inner product."""

    def new(n: int, dim: int) -> Any:
        faiss = require_faiss()

        index: Any = faiss.index_factory(dim, f"IVF{cells(n)}(Flat),{codes(dim)}", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = probes(n)
        index.cp.min_points_per_centroid = 1
        return index

    return new


def _cell_sample(n: int) -> int:
    return min(n, max(64 * cells(n), 16_384))


def _code_sample(n: int) -> int:
    return min(n, 65_536)


KINDS: dict[str, IndexKind] = {
    kind.name: kind
    for kind in (
        IndexKind("flat", "exact, multiplies with every vector", lambda n, d: 0.0, rescored=False),
        IndexKind(
            "coarse",
            "at most 64 bytes a vector, then exact scores; finds what flat finds, in a fraction of the time",
            lambda n, d: sub_quantizers(min(d, MAX_DIM)) / 2,
            lambda n, d: new_reduced(d, sub_quantizers(min(d, MAX_DIM))),
            fixed_bytes=lambda n, d: 4.0 * d * MAX_DIM + 64.0 * MAX_DIM,
            training_rows=_code_sample,
        ),
        IndexKind(
            "sq8",
            "8 bits a dimension, then exact scores",
            lambda n, d: float(d),
            _faiss(lambda n, d: "SQ8"),
            training_rows=_code_sample,
            depth=48,
        ),
        IndexKind(
            "rabitq4",
            "4 bits a dimension (RaBitQ), then exact scores",
            lambda n, d: d / 2 + 20,
            _faiss(lambda n, d: "RaBitQfs4"),
            training_rows=_code_sample,
            depth=64,
        ),
        IndexKind(
            "rabitq2",
            "2 bits a dimension (RaBitQ), then exact scores",
            lambda n, d: d / 4 + 20,
            _faiss(lambda n, d: "RaBitQfs2"),
            training_rows=_code_sample,
        ),
        IndexKind(
            "ivfpq",
            "2 bits a dimension in cells, then exact scores; for millions of entities",
            lambda n, d: sub_quantizers(d) / 2 + 8,
            _new_inverted_file(lambda d: f"PQ{sub_quantizers(d)}x4fsr"),
            fixed_bytes=lambda n, d: cells(n) * (4.0 * d + _PADDING * sub_quantizers(d) / 2),
            training_rows=_cell_sample,
            adaptive=False,
            depth=256,
        ),
        IndexKind(
            "ivfflat",
            "whole vectors in cells, approximate",
            lambda n, d: 4.0 * d + 8,
            _new_inverted_file(lambda d: "Flat"),
            fixed_bytes=lambda n, d: 4.0 * cells(n) * d,
            training_rows=_cell_sample,
            rescored=False,
        ),
        IndexKind(
            "hnsw",
            "whole vectors in a graph, approximate, slow to build",
            lambda n, d: 4.0 * d + 4 * 2 * _LINKS * 1.1,
            _new_hnsw,
            rescored=False,
        ),
    )
}
"""Kinds of indexes of a knowledge base, by name."""
BEST_FIRST = ("coarse", "rabitq2", "sq8", "flat", "ivfpq")
"""What ``auto`` may take under a limit of memory, best first: those with recall at 10 above .999 by CPU time of a search, then
``ivfpq``, which loses a tenth; figures are in ``benchmarks/results/index_kinds.md``."""
CHOICES = (AUTO, *KINDS)
"""What ``--index`` takes."""


def resolved_kind(name: str, n: int) -> IndexKind:
    """The kind of a name; of ``auto``, the one for this number of entities, which is flat where FAISS is not installed.

    Raises:
        SettingsError: there is no such kind.
    """
    if name not in CHOICES:
        raise SettingsError(f"the index is {name!r}; allowed are {', '.join(CHOICES)}")
    return KINDS[("coarse" if n >= COARSE_FROM and has_faiss() else "flat") if name == AUTO else name]


def names_for(name: str, n: int) -> list[str]:
    """Kinds that a name stands for under a limit of memory, best first; ``flat`` is the best of ``auto`` for few entities.

    Raises:
        SettingsError: there is no such kind.
    """
    best = resolved_kind(name, n).name
    if name != AUTO:
        return [best]
    return list(dict.fromkeys((best, *BEST_FIRST))) if has_faiss() else [best]
