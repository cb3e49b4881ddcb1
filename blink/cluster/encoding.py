"""Shards of entity vectors: chunks of a knowledge base (``.npy``), or files in the original's format (``.t7``).

Each shard is encoded in small chunks, which survive a kill. When all chunks are complete, they become one file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.errors import MismatchError, SettingsError
from blink.files import atomic_open
from blink.kb.building import build_folder, build_knowledge_base
from blink.kb.catalogue import Catalogue
from blink.kb.index.kinds import AUTO
from blink.kb.live.carrying import refuse_edits
from blink.kb.manifest import CHUNKS_FOLDER, WORK_FOLDER
from blink.kb.vectors import (
    CHUNK_ROWS,
    Encoder,
    EncodingPlan,
    chunk_file,
    encode_chunks,
    load_vectors,
    merge_chunks,
    prepare_chunks,
    save_chunk,
)
from blink.left_overs import temporary_file

LAYOUTS = ("kb", "t7")
WHOLE_FILE = "all.t7"


@dataclass(frozen=True)
class Encoding:
    """Settings of an encoding job.

    Attributes:
        catalogue: path of the ``entity.jsonl``.
        out: folder of the result.
        layout: ``kb``, a knowledge base, or ``t7``, files ``START_END.t7`` and their concatenation ``all.t7``.
        shard_rows: rows per shard.
        rows: number of rows of the catalogue.
        catalogue_sha256: hash of the catalogue.
        model: fingerprint of the candidate encoder.
        dtype: ``fp32`` or ``fp16``.
        index: kind of index of the knowledge base.
        skip_bad: skip malformed lines of the catalogue.
    """

    catalogue: str
    out: str
    layout: str
    shard_rows: int
    rows: int
    catalogue_sha256: str
    model: str
    dtype: str = "fp32"
    index: str = AUTO
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.layout == "t7" and (self.dtype != "fp32" or self.index not in (AUTO, "flat")):
            raise SettingsError(
                "files of the original (--layout t7) hold fp32 vectors without an index; leave --dtype and --index out"
            )

    def plan(self) -> EncodingPlan:
        """Plan of the whole catalogue, with a shard per chunk."""
        return EncodingPlan(self.rows, self.catalogue_sha256, self.model, self.dtype, self.shard_rows)

    def rows_plan(self, start: int, end: int) -> EncodingPlan:
        """Plan of the rows ``[start, end)``, in small chunks that survive a kill."""
        return EncodingPlan(end, self.catalogue_sha256, self.model, self.dtype, CHUNK_ROWS, first=start)

    def file(self, start: int, end: int) -> Path:
        """The file of a shard. As in the original, its name has the requested end, even beyond the number of rows."""
        if self.layout == "kb":
            return chunk_file(Path(self.out) / WORK_FOLDER / CHUNKS_FOLDER, start, end)
        return Path(self.out) / f"{start}_{end if end < self.rows else max(end, start + self.shard_rows)}.t7"

    def prepare(self) -> None:
        """Create the folders that all shards write to.

        Raises:
            SettingsError: there is a knowledge base with edits, which would be lost.
        """
        if self.layout == "kb":
            refuse_edits(Path(self.out))
        Path(self.out).mkdir(parents=True, exist_ok=True)
        if self.layout == "kb":
            prepare_chunks(self.plan(), build_folder(Path(self.out)) / CHUNKS_FOLDER)

    def encode(
        self,
        catalogue: Catalogue,
        encode: Encoder,
        start: int,
        end: int,
        work: Path,
        progress: Callable[[int], None],
        note: Callable[[str], None] = lambda line: None,
    ) -> Path:
        """Encode the rows ``[start, end)`` into their file.

        Args:
            catalogue: the entities.
            encode: the candidate encoder.
            start: first row.
            end: row after the last.
            work: folder of unfinished chunks; removed at the end.
            progress: called with the number of rows of each chunk.
            note: called with a line about each damaged chunk, which is encoded again.

        Raises:
            DataError: the encoder returns values that are not finite.
        """
        encode_chunks(catalogue, encode, self.rows_plan(start, end), work, progress, note=note)
        joined, out = work / "joined.npy", self.file(start, end)
        merge_chunks(work, joined)
        if self.layout == "kb":
            save_chunk(self.plan(), out.parent, start, end, load_vectors(joined))
        else:
            # Mode "c" (copy on write), because torch warns about read-only arrays.
            write_t7(out, np.lib.format.open_memmap(joined, mode="c"))
        shutil.rmtree(work)
        return out

    def merge(self, shards: Sequence[tuple[int, int]]) -> Path:
        """Merge the files of all shards into the knowledge base or ``all.t7``; returns its manifest or file.

        Raises:
            MismatchError: a file is missing, has other rows than its shard, or the catalogue has changed.
        """
        if self.layout == "kb":
            build_knowledge_base(
                self.catalogue, self.out, self._refuse, self.model, index=self.index, dtype=self.dtype,
                chunk_rows=self.shard_rows, skip_bad=self.skip_bad,
            )  # fmt: skip
            return Path(self.out) / "manifest.json"
        merged = Path(self.out) / WHOLE_FILE
        merge_t7([(self.file(start, end), end - start) for start, end in shards], merged)
        return merged

    def _refuse(self, entities: object) -> np.ndarray:
        fault = f"{self.catalogue} has changed since its shards were encoded, or one of their files is missing or damaged"
        raise MismatchError(f"{fault}; remove {Path(self.out) / 'slurm'} and give the same command again")


def write_t7(path: Path, vectors: np.ndarray) -> None:
    """Write vectors in the original's format, a tensor saved by `torch.save`. *Shape:* (n, d), float32."""
    import torch

    with atomic_open(path, "wb") as f:
        torch.save(torch.from_numpy(np.ascontiguousarray(vectors)), f)


def merge_t7(files: Sequence[tuple[Path, int]], out: Path) -> None:
    """Concatenate files of vectors.

    Args:
        files: each file, and how many rows it must have.
        out: the file to write.

    Raises:
        MismatchError: a file is missing or unreadable, or has unexpected rows or columns.
    """
    dim = _read_part(*files[0]).shape[1]
    # Merged on disk, because millions of rows may not fit into memory.
    with temporary_file(out) as joined:
        merged = np.lib.format.open_memmap(joined, mode="w+", dtype=np.float32, shape=(sum(n for _, n in files), dim))
        offset = 0
        for path, rows in files:
            vectors = _read_part(path, rows)
            if vectors.shape[1] != dim:
                raise MismatchError(f"{path} holds {vectors.shape[1]}-dimensional vectors, {files[0][0]} of {dim}; {_AGAIN}")
            merged[offset : offset + rows] = vectors
            offset += rows
        write_t7(out, merged)


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
