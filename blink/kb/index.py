"""Nearest entity vectors by inner product: exact, over blocks of a matrix of any size, or through a FAISS index.

Every index answers ``search`` in inner products, best first, whatever it stores inside; a row is the 0-based line
of the catalogue.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from blink.errors import CheckpointError, DataError, MismatchError, SettingsError, ShapeError
from blink.files import atomic_open, require_file

if TYPE_CHECKING:
    import torch

Hits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Scores and rows, both of *shape* (queries, k), best first; -inf and -1 where there are fewer than k hits."""

Progress = Callable[[int, int], None]
"""Called with (vectors done, vectors in all) while an index is built."""

NO_ROW = -1
_PROBE_DEFAULT = 75
_UNSET_PROBES = 1  # what FAISS puts into a file whose maker set none


class Index(Protocol):
    """Vectors of all entities, searchable by inner product."""

    @property
    def dim(self) -> int:
        """Width of the vectors that are searched with."""

    @property
    def size(self) -> int:
        """Number of vectors."""

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Hits:
        """The ``k`` rows with the largest inner product for each query.

        Args:
            queries: *Shape:* (m, dim), float32.
            k: hits a query, at least 1; may exceed ``size``.

        Returns:
            scores, float32, and rows, int64, best first. *Shape:* (m, k) each; -inf and -1 where hits run out.

        Raises:
            ShapeError: ``queries`` is not a matrix.
            MismatchError: the width of the queries is not ``dim``.
            SettingsError: ``k`` is below 1.
            DataError: a query holds NaN.
        """


def _checked(queries: npt.NDArray[Any], k: int, dim: int) -> npt.NDArray[np.float32]:
    if queries.ndim != 2:
        raise ShapeError(f"queries have {queries.ndim} dimensions; give a matrix of shape (queries, {dim})")
    if queries.shape[1] != dim:
        remedy = "use the model that the index was built with, or build the index again"
        raise MismatchError(f"queries have {queries.shape[1]} columns and the index {dim}; {remedy}")
    if k < 1:
        raise SettingsError(f"{k} hits were asked for; ask for at least 1")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if np.isnan(queries).any():
        raise DataError("a query vector holds NaN; check the model's weights and its input")
    return queries


def _padded(scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], k: int) -> Hits:
    missing = ((0, 0), (0, k - scores.shape[1]))
    return np.pad(scores, missing, constant_values=-np.inf), np.pad(rows, missing, constant_values=NO_ROW)


# --- exact ----------------------------------------------------------------------------------------------------------


class ExactIndex:
    """Exact search: blocks of the matrix times blocks of the queries, with a running best k. Memory stays bounded.

    On a GPU the matrix is copied to the device once, when the index is made, if it fits there; otherwise, and on the
    CPU, its blocks are read from where it lies (a memory map costs no memory) at each search, the last partial block
    included. Equal scores are ordered by row.
    """

    def __init__(
        self,
        vectors: npt.NDArray[Any] | torch.Tensor,
        *,
        device: str | torch.device = "cpu",
        dtype: Literal["fp32", "bf16"] = "fp32",
        block_rows: int = 65_536,
        query_rows: int = 256,
        placed: bool | None = None,
    ) -> None:
        """Take a matrix; nothing is copied unless it is placed on a GPU.

        Args:
            vectors: array, memory map or tensor of float32, float16 or (tensor only) bfloat16. *Shape:* (n, d).
            device: where to multiply.
            dtype: precision of the factors; products are summed in float32 either way. ``"bf16"`` halves the memory
                on the device and moves a score by about 0.4% of the largest terms in its sum.
            block_rows: vectors multiplied at a time.
            query_rows: queries multiplied at a time; scores take ``4 * block_rows * query_rows`` bytes.
            placed: whether to keep the matrix on the device; by default on a GPU with enough free memory.

        Raises:
            ShapeError: ``vectors`` is not a matrix.
            SettingsError: ``dtype``, ``block_rows`` or ``query_rows`` is not allowed.
        """
        import torch

        if vectors.ndim != 2:
            raise ShapeError(f"vectors have {vectors.ndim} dimensions; give a matrix of shape (entities, width)")
        if dtype not in ("fp32", "bf16"):
            raise SettingsError(f"dtype {dtype!r} is not known; allowed are fp32 and bf16")
        if block_rows < 1 or query_rows < 1:
            raise SettingsError(f"block_rows {block_rows} and query_rows {query_rows} must be at least 1")
        self._device = torch.device(device)
        self._dtype = torch.float32 if dtype == "fp32" else torch.bfloat16
        self._block_rows, self._query_rows = block_rows, query_rows
        self._vectors = _as_tensor(vectors)
        self._mixed = self._dtype == torch.bfloat16 and _multiplies_mixed(self._device)
        if self._device.type != "cpu" and (self._fits() if placed is None else placed):
            self._place()

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self._vectors.shape[1])

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self._vectors.shape[0])

    @property
    def matrix(self) -> torch.Tensor:
        """The vectors, as they are stored. *Shape:* (size, dim)."""
        return self._vectors

    @property
    def placed(self) -> bool:
        """Whether the matrix lies on the device, rather than being read block by block."""
        return self._vectors.device.type == self._device.type

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Hits:
        """The ``k`` best rows for each query, exactly; see :meth:`Index.search`.

        Raises:
            DataError: the vectors hold NaN (or, as for every index, a query does).
        """
        import torch

        asked = torch.from_numpy(_checked(queries, k, self.dim)).to(self._device)
        if not len(asked):
            return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
        with torch.inference_mode():
            parts = list(torch.split(asked, self._query_rows))
            empty = torch.empty(0, device=self._device)
            best = [(empty.expand(len(part), 0), empty.long().expand(len(part), 0)) for part in parts]
            for start in range(0, self.size, self._block_rows):
                block = self._block(start)
                for number, part in enumerate(parts):
                    scores, rows = _best(self._multiply(part, block), k)
                    best[number] = _merged(best[number], (scores, rows + start), k)
            found = [torch.cat(column).cpu().numpy() for column in zip(*best, strict=True)]
        if np.isnan(found[0]).any():
            row = int(found[1][np.isnan(found[0])][0])
            raise DataError(f"the vector of row {row} holds NaN or infinity; encode the entities again")
        return _padded(found[0], found[1], k)

    def _block(self, start: int) -> torch.Tensor:
        import torch

        block = self._vectors[start : start + self._block_rows].to(self._device).to(self._dtype)
        return block if self._mixed else block.to(torch.float32)

    def _multiply(self, queries: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """Inner products, summed in float32. *Shape:* (m, d) and (n, d) give (m, n)."""
        import torch

        if self._mixed:
            return torch.mm(queries.to(self._dtype), block.T, out_dtype=torch.float32)
        return torch.mm(queries.to(self._dtype).to(torch.float32), block.T)

    def _stored_dtype(self) -> torch.dtype:
        import torch

        return self._dtype if self._dtype == torch.bfloat16 else self._vectors.dtype

    def _fits(self) -> bool:
        import torch

        if self._device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self._device)
        working = self._block_rows * (self._query_rows * 24 + self.dim * 4)
        return self._vectors.numel() * self._stored_dtype().itemsize + working < free

    def _place(self) -> None:
        import torch

        on_device = torch.empty(self._vectors.shape, dtype=self._stored_dtype(), device=self._device)
        for start in range(0, self.size, self._block_rows):
            part = self._vectors[start : start + self._block_rows]
            on_device[start : start + len(part)] = part.to(self._device)
        self._vectors = on_device


class CoarseIndex:
    """Exact search made faster: bfloat16 products choose, float32 products score.

    Products of bfloat16 factors put the best entities among the first few dozen, if not in order; these are scored again
    from the float32 vectors. It takes a copy of the matrix in bfloat16.

    Args:
        exact: the index whose vectors are searched; on the CPU.
        depth: candidates that are scored again, at least, and four for each hit asked for.
        block_rows: vectors multiplied at a time: as many as leave the scores in the processor's cache.
        query_rows: queries multiplied at a time.
    """

    def __init__(self, exact: ExactIndex, *, depth: int = 48, block_rows: int = 16_384, query_rows: int = 256) -> None:
        import torch

        self._exact, self._depth, self._block_rows, self._query_rows = exact, depth, block_rows, query_rows
        self._coarse = exact.matrix.to(torch.bfloat16)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._exact.dim

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self._exact.size

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Hits:
        """The ``k`` best rows for each query; see :meth:`Index.search`."""
        import torch

        asked = torch.from_numpy(_checked(queries, k, self.dim))
        depth = max(4 * k, self._depth)
        if not len(asked) or self.size <= depth:
            return self._exact.search(queries, k)
        # Written in place: small results kept between large temporaries would leave the memory full of holes.
        scores, rows = np.empty((len(asked), k), np.float32), np.empty((len(asked), k), np.int64)
        with torch.inference_mode():
            for at in range(0, len(asked), self._query_rows):
                part = asked[at : at + self._query_rows]
                found = self._rescored(part, self._chosen(part.to(torch.bfloat16), depth), k)
                scores[at : at + len(part)], rows[at : at + len(part)] = (column.numpy() for column in found)
        if not np.isfinite(scores).all():  # the exact search says which vector is at fault
            return self._exact.search(queries, k)
        return _padded(scores, rows, k)

    def _chosen(self, queries: torch.Tensor, depth: int) -> torch.Tensor:
        import torch

        scores, rows = [], []
        for start in range(0, self.size, self._block_rows):
            products = queries @ self._coarse[start : start + self._block_rows].T
            top, columns = products.topk(min(depth, products.shape[1]), dim=1, sorted=False)
            scores.append(top)
            rows.append(columns + start)
        best = torch.cat(scores, 1).topk(depth, dim=1, sorted=False).indices
        return torch.cat(rows, 1).gather(1, best).sort(dim=1).values

    def _rescored(self, queries: torch.Tensor, rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        vectors = self._exact.matrix[rows].to(torch.float32)
        scores, order = _sorted(torch.einsum("qd,qnd->qn", queries, vectors))
        return scores[:, :k], rows.gather(1, order)[:, :k]


def _as_tensor(vectors: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
    import torch

    if isinstance(vectors, torch.Tensor):
        return vectors
    with warnings.catch_warnings():  # torch warns that a read-only map must not be written to; it is not
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(vectors)


def _multiplies_mixed(device: torch.device) -> bool:
    """Whether this device and this release of torch multiply bfloat16 into float32."""
    import torch

    if device.type != "cuda":
        return False
    probe = torch.zeros(16, 16, dtype=torch.bfloat16, device=device)
    try:
        torch.mm(probe, probe, out_dtype=torch.float32)
    except (TypeError, RuntimeError, NotImplementedError):
        return False
    return True


def _best(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each line, by score and then by column.

    ``topk`` picks any of several equal scores at the end of the list; asking it for one more shows where that may have
    happened, and only those lines are sorted as a whole.
    """
    if scores.shape[1] <= k:
        return _sorted(scores)
    top, columns = scores.topk(k + 1, dim=1)
    doubtful = (top[:, k] == top[:, k - 1]).nonzero().squeeze(1)
    columns = columns[:, :k].sort(dim=1).values
    top, order = _sorted(scores.gather(1, columns))
    columns = columns.gather(1, order)
    if len(doubtful):
        whole, order = _sorted(scores[doubtful])
        top[doubtful], columns[doubtful] = whole[:, :k], order[:, :k]
    return top, columns


def _merged(
    one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best k of two lists, the first of which holds the lower rows."""
    import torch

    scores, order = _sorted(torch.cat([one[0], other[0]], dim=1))
    rows = torch.cat([one[1], other[1]], dim=1).gather(1, order)
    return scores[:, :k], rows[:, :k]


def _sorted(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, order


# --- FAISS ----------------------------------------------------------------------------------------------------------


class FaissIndex:
    """A FAISS index whose answers are inner products.

    Two forms are understood: an index with the inner-product metric, and the reduction of inner product to distance in
    which every stored vector x of width d is lengthened to [x ; sqrt(phi - |x|^2)], so that all have the squared norm
    phi, and is searched by L2 distance D from [q ; 0]. There q.x = (|q|^2 + phi - D) / 2.
    """

    def __init__(self, index: Any) -> None:
        """Wrap an index object of ``faiss``.

        Raises:
            CheckpointError: its metric is neither inner product nor the L2 reduction.
        """
        import faiss

        self.faiss_index = index
        metric = self.faiss_index.metric_type
        if metric not in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2):
            raise CheckpointError(f"the index uses FAISS metric {metric}; inner product or L2 is needed, build it again")
        self._phi = _common_squared_norm(self.faiss_index) if metric == faiss.METRIC_L2 else None

    @property
    def dim(self) -> int:
        """Width of the vectors that are searched with."""
        return int(self.faiss_index.d) - (self._phi is not None)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self.faiss_index.ntotal)

    @property
    def lengthened(self) -> bool:
        """Whether the vectors are stored with an extra dimension for L2 search."""
        return self._phi is not None

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Hits:
        """The (for ``hnsw`` and ``ivfflat`` approximately) ``k`` best rows; see :meth:`Index.search`."""
        asked = _checked(queries, k, self.dim)
        kept = min(k, self.size)
        if not len(asked) or not kept:
            return np.full((len(asked), k), -np.inf, np.float32), np.full((len(asked), k), NO_ROW, np.int64)
        given = asked if self._phi is None else np.pad(asked, ((0, 0), (0, 1)))
        scores, rows = self.faiss_index.search(given, kept)
        if self._phi is not None:
            squares = np.einsum("md,md->m", asked, asked, dtype=np.float64)[:, None]
            scores = ((squares + self._phi - scores) / 2).astype(np.float32)
        scores = np.where(rows == NO_ROW, np.float32(-np.inf), scores)
        order = np.lexsort((rows, -scores, rows == NO_ROW), axis=1)
        scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
        return _padded(scores, rows.astype(np.int64), k)


def _common_squared_norm(index: Any) -> float:
    """Recover phi, the squared norm that all vectors of an L2 index share.

    Raises:
        CheckpointError: a few vectors, spread over the index, differ in norm, so that distances say nothing of products.
    """
    if not index.ntotal:
        return 0.0
    try:
        picked = np.stack([index.reconstruct(int(row)) for row in np.linspace(0, index.ntotal - 1, 16, dtype=np.int64)])
    except RuntimeError as error:
        raise CheckpointError(f"the vectors of this L2 index cannot be read ({_one_line(error)}); build it again") from error
    squares = np.einsum("nd,nd->n", picked, picked, dtype=np.float64)
    if np.ptp(squares) > 1e-3 * squares.max():
        found = "the index measures plain L2 distance, which does not rank by inner product"
        raise CheckpointError(f"{found}; build it again as flat, hnsw or ivfflat")
    return float(squares[0])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[-200:]


def read_index(path: str | Path) -> FaissIndex:
    """Read an index that FAISS wrote, the original's ``faiss_*_index.pkl`` included: in spite of the name no pickles.

    An inverted-file index keeps the number of lists to visit that its file names; where that was never set, it is 75.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is cut short or no FAISS index, or its metric is of no use here.
    """
    import faiss

    path = require_file(path, "give the path of a FAISS index, or build one")
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        found = "is empty" if path.stat().st_size == 0 else f"is cut short or no FAISS index ({_one_line(error)})"
        raise CheckpointError(f"{path} {found}; get it again or build it anew") from error
    if isinstance(index, faiss.IndexIVF) and index.nprobe == _UNSET_PROBES:
        index.nprobe = min(_PROBE_DEFAULT, index.nlist)
    try:
        return FaissIndex(index)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def write_index(index: FaissIndex, path: str | Path) -> None:
    """Write an index atomically, in FAISS's own format.

    Raises:
        OSError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched.
    """
    import faiss

    with atomic_open(path, "wb") as f:  # through a callback: FAISS's own writer says nothing of a full disk at closing
        writer = faiss.PyCallbackIOWriter(f.write)  # type: ignore[attr-defined,unused-ignore]
        faiss.write_index(index.faiss_index, writer)


# --- building -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IndexOptions:
    """Parameters of the index kinds; the defaults are those of the published indexes.

    Attributes:
        lists: cells of an inverted file; fewer are made where there are not 39 vectors for each.
        probes: cells visited by a search.
        links: neighbours of a vector in the graph (M).
        ef_construction: breadth of the search while the graph is built.
        ef_search: breadth of a search in the graph.
        block_rows: vectors added at a time.
        seed: of the sample that the cells are learned from.
    """

    lists: int = 100
    probes: int = _PROBE_DEFAULT
    links: int = 128
    ef_construction: int = 200
    ef_search: int = 256
    block_rows: int = 50_000
    seed: int = 0


_POINTS_PER_LIST = (39, 256)  # fewest and most vectors a cell that k-means in FAISS trains from


def _new_flat(vectors: npt.NDArray[Any], _options: IndexOptions) -> Any:
    import faiss

    return faiss.IndexFlatIP(vectors.shape[1])


def _new_hnsw(vectors: npt.NDArray[Any], options: IndexOptions) -> Any:
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], options.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = options.ef_construction
    index.hnsw.efSearch = options.ef_search
    return index


def _new_ivfflat(vectors: npt.NDArray[Any], options: IndexOptions) -> Any:
    """Cells around L2 means; within a cell, inner product."""
    import faiss

    n, dim = vectors.shape
    lists = max(1, min(options.lists, n // _POINTS_PER_LIST[0]))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(options.probes, lists)
    size = min(n, lists * _POINTS_PER_LIST[1])
    sample = np.sort(np.random.default_rng(options.seed).choice(n, size, replace=False))
    index.cp.min_points_per_centroid = 1
    index.train(_finite(vectors, sample))
    return index


_FAISS_KINDS: dict[str, Callable[[npt.NDArray[Any], IndexOptions], Any]] = {
    "flat": _new_flat,
    "hnsw": _new_hnsw,
    "ivfflat": _new_ivfflat,
}

INDEX_KINDS: tuple[str, ...] = ("exact", *_FAISS_KINDS)
"""What ``build_index`` can build."""


def build_index(
    vectors: npt.NDArray[Any], kind: str = "flat", options: IndexOptions | None = None, *, progress: Progress | None = None
) -> Index:
    """Build an index over the vectors, which may be a memory map: they are read in blocks.

    Args:
        vectors: one line an entity, of any float type. *Shape:* (n, d).
        kind: one of ``INDEX_KINDS``: ``exact`` keeps using ``vectors`` itself, the others copy them. ``flat`` is
            exhaustive, ``hnsw`` a graph (fastest, largest, slow to build), ``ivfflat`` cells around means.
        options: parameters; the defaults where None.
        progress: called after each block.

    Raises:
        SettingsError: ``kind`` is not known, or an option is below 1.
        ShapeError: ``vectors`` is not a matrix.
        DataError: there are no vectors, or one holds NaN or infinity.
    """
    options = options or IndexOptions()
    if kind not in INDEX_KINDS:
        raise SettingsError(f"index kind {kind!r} is not known; choose one of {', '.join(INDEX_KINDS)}")
    for name in ("lists", "probes", "links", "ef_construction", "ef_search", "block_rows"):
        if getattr(options, name) < 1:
            raise SettingsError(f"index option {name} is {getattr(options, name)}; give at least 1")
    if vectors.ndim != 2:
        raise ShapeError(f"vectors have {vectors.ndim} dimensions; give a matrix of shape (entities, width)")
    if not len(vectors):
        raise DataError("there are no vectors to index; encode the catalogue first")
    if kind == "exact":
        return ExactIndex(vectors)
    index = _FAISS_KINDS[kind](vectors, options)
    for start in range(0, len(vectors), options.block_rows):
        index.add(_finite(vectors, range(start, min(start + options.block_rows, len(vectors)))))
        if progress:
            progress(index.ntotal, len(vectors))
    return FaissIndex(index)


def _finite(vectors: npt.NDArray[Any], rows: range | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Some rows as contiguous float32.

    Raises:
        DataError: one of them holds NaN or infinity.
    """
    picked = vectors[rows.start : rows.stop] if isinstance(rows, range) else vectors[rows]
    block = np.ascontiguousarray(picked, dtype=np.float32)
    good = np.isfinite(block).all(axis=1)
    if not good.all():
        row = int(rows[int(np.argmin(good))])
        raise DataError(f"the vector of row {row} holds NaN or infinity; encode the entities again")
    return block
