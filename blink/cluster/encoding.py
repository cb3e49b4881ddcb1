"""Shards of entity vectors: chunks of a knowledge base (``.npy``), or files as the original has them (``.t7``).

Each shard is encoded in small chunks of its own, which survive a kill, and becomes one file when all of them are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.data.arrays import save_array
from blink.errors import MismatchError, SettingsError
from blink.files import atomic_open
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import CHUNKS_FOLDER, WORK_FOLDER, build_knowledge_base
from blink.kb.vectors import (
    CHUNK_ROWS,
    Encoder,
    EncodingPlan,
    chunk_file,
    encode_chunks,
    load_vectors,
    merge_chunks,
    prepare_chunks,
)

LAYOUTS = ("kb", "t7")
WHOLE_FILE = "all.t7"


@dataclass(frozen=True)
class Encoding:
    """What is encoded, by which model, and what is made of it.

    Attributes:
        catalogue: path of the ``entity.jsonl``.
        out: folder of the result.
        layout: ``kb``, a knowledge base, or ``t7``, files ``START_END.t7`` and all of them as ``all.t7``.
        shard_rows: rows a shard.
        rows: of the catalogue.
        catalogue_sha256: its hash.
        model: fingerprint of the candidate encoder.
        dtype: ``fp32`` or ``fp16``.
        index: of the knowledge base.
        skip_bad: pass over broken lines of the catalogue.
    """

    catalogue: str
    out: str
    layout: str
    shard_rows: int
    rows: int
    catalogue_sha256: str
    model: str
    dtype: str = "fp32"
    index: str = "flat"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.layout == "t7" and (self.dtype != "fp32" or self.index != "flat"):
            raise SettingsError(
                "files of the original (--layout t7) hold fp32 vectors without an index; leave --dtype and --index out"
            )

    def plan(self) -> EncodingPlan:
        """Of the whole catalogue, a chunk a shard."""
        return EncodingPlan(self.rows, self.catalogue_sha256, self.model, self.dtype, self.shard_rows)

    def rows_plan(self, start: int, end: int) -> EncodingPlan:
        """Of the rows ``[start, end)``, in the small chunks that survive a kill."""
        return EncodingPlan(end, self.catalogue_sha256, self.model, self.dtype, CHUNK_ROWS, first=start)

    def file(self, start: int, end: int) -> Path:
        """The file of a shard. The original names the end that was asked for, however many rows there are."""
        if self.layout == "kb":
            return chunk_file(Path(self.out) / WORK_FOLDER / CHUNKS_FOLDER, start, end)
        return Path(self.out) / f"{start}_{end if end < self.rows else max(end, start + self.shard_rows)}.t7"

    def prepare(self) -> None:
        """Make the folders that all shards write to."""
        Path(self.out).mkdir(parents=True, exist_ok=True)
        if self.layout == "kb":
            prepare_chunks(self.plan(), Path(self.out) / WORK_FOLDER / CHUNKS_FOLDER)

    def encode(
        self, catalogue: Catalogue, encode: Encoder, start: int, end: int, work: Path, progress: Callable[[int], None]
    ) -> Path:
        """Encode the rows ``[start, end)`` into their file.

        Args:
            catalogue: the entities.
            encode: the candidate encoder.
            start: first row.
            end: row behind the last.
            work: folder for what is not finished; it is removed at the end.
            progress: called with the number of rows finished, each time.

        Raises:
            DataError: the encoder gives no finite vectors.
        """
        encode_chunks(catalogue, encode, self.rows_plan(start, end), work, progress)
        joined, out = work / "joined.npy", self.file(start, end)
        merge_chunks(work, joined)
        if self.layout == "kb":
            save_array(out, load_vectors(joined))
        else:
            # Copied on write, which never happens: torch warns of what it cannot write to.
            write_t7(out, np.lib.format.open_memmap(joined, mode="c"))
        shutil.rmtree(work)
        return out

    def merge(self, shards: Sequence[tuple[int, int]]) -> Path:
        """Make the knowledge base, or ``all.t7``, of the files of all shards; returns what the result is known by.

        Raises:
            MismatchError: a file is missing, has other rows than its shard, or the catalogue has changed; it is named.
        """
        if self.layout == "kb":
            build_knowledge_base(
                self.catalogue, self.out, self._refuse, self.model, index=self.index, dtype=self.dtype,
                chunk_rows=self.shard_rows, skip_bad=self.skip_bad,
            )  # fmt: skip
            return Path(self.out) / "manifest.json"
        whole = Path(self.out) / WHOLE_FILE
        merge_t7([(self.file(start, end), end - start) for start, end in shards], whole)
        return whole

    def _refuse(self, entities: object) -> np.ndarray:
        fault = f"{self.catalogue} has changed since its shards were encoded, or one of their files is missing"
        raise MismatchError(f"{fault}; remove {Path(self.out) / 'slurm'} and give the same command again")


def write_t7(path: Path, vectors: np.ndarray) -> None:
    """Write vectors as the original does: one tensor, as `torch.save` writes it. *Shape:* (n, d), float32."""
    import torch

    with atomic_open(path, "wb") as f:
        torch.save(torch.from_numpy(np.ascontiguousarray(vectors)), f)


def merge_t7(files: Sequence[tuple[Path, int]], out: Path) -> None:
    """Join files of vectors, in the order given.

    Args:
        files: each file, and how many rows it must have.
        out: the file to write.

    Raises:
        MismatchError: a file is missing or not to be read, or its rows or columns are not as expected; it is named.
    """
    dim = _read_part(*files[0]).shape[1]
    # On disk while it is put together: millions of rows need more memory than a machine may have.
    joined = out.with_name(f".{out.name}.joined")
    try:
        whole = np.lib.format.open_memmap(joined, mode="w+", dtype=np.float32, shape=(sum(n for _, n in files), dim))
        offset = 0
        for path, rows in files:
            vectors = _read_part(path, rows)
            if vectors.shape[1] != dim:
                raise MismatchError(f"{path} holds vectors of {vectors.shape[1]} numbers, {files[0][0]} of {dim}; {_AGAIN}")
            whole[offset : offset + rows] = vectors
            offset += rows
        write_t7(out, whole)
    finally:
        joined.unlink(missing_ok=True)


_AGAIN = "remove it, and its record in slurm/shards, and encode again"


def _read_part(path: Path, rows: int) -> np.ndarray:
    """The vectors of a shard. *Shape:* (rows, d), float32."""
    import torch

    from blink.errors import BlinkError
    from blink.model.original import read_tensors

    try:
        vectors = read_tensors(path, "its shard is not encoded")
    except BlinkError as error:
        raise MismatchError(f"{path} cannot be merged: {error}; {_AGAIN}") from error
    if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or vectors.dtype != torch.float32:
        raise MismatchError(f"{path} holds no matrix of float32; {_AGAIN}")
    if len(vectors) != rows:
        raise MismatchError(f"{path} has {len(vectors)} rows, expected {rows}; {_AGAIN}")
    return vectors.numpy()
