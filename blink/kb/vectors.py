"""Entity vectors: encoding of a catalogue in resumable chunks, and reading of vectors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from blink.data.arrays import is_stamped, map_array, save_stamped
from blink.data.records import Entity
from blink.errors import BlinkError, DataError, MismatchError, SettingsError
from blink.files import atomic_open, read_json, write_json
from blink.kb.catalogue import Catalogue
from blink.work_folders import own_files, plain_folder

Encoder: TypeAlias = Callable[[Sequence[Entity]], np.ndarray]
"""Entities -> vectors. *Shape:* (n, d), float32."""


def all_but_row(entity: Entity) -> tuple[object, ...]:
    """All that an encoder may read of an entity."""
    return (
        entity.title, entity.text, entity.aliases, entity.kb_id, entity.url, entity.types, entity.tags, entity.ids,
    )  # fmt: skip


@dataclass(frozen=True)
class CandidateEncoder:
    """The candidate encoder of a model.

    Attributes:
        encode: the encoder.
        fingerprint: of everything that decides a vector, see `blink.model.biencoder.BiEncoder.candidate_fingerprint`.
        reads: what it reads of an entity: entities of which it reads the same have the same vector, up to rounding.
        for_rows: gives the encoder that is fastest for so many entities; ``encode`` by default.
    """

    encode: Encoder
    fingerprint: str
    reads: Callable[[Entity], tuple[object, ...]] = all_but_row
    for_rows: Callable[[int], Encoder] | None = None


DTYPES = {"fp32": np.float32, "fp16": np.float16}
PLAN_FILE = "plan.json"
_CHUNK = re.compile(r"\d+_\d+\.npy")
CHUNK_ROWS = 1000
"""Rows between two saves, and between two reports of progress: seconds of work on a laptop."""


@dataclass(frozen=True)
class EncodingPlan:
    """Catalogue, model and chunks of an encoding. It is stored with the chunks, so that a later run can check them.

    Attributes:
        rows: end of the encoded rows: that of the catalogue, or of a shard of it.
        catalogue: SHA-256 of the catalogue.
        model: fingerprint of the candidate encoder.
        dtype: ``fp32`` or ``fp16``.
        chunk_rows: rows per chunk.
        first: first encoded row; above 0 for a shard of the catalogue.
    """

    rows: int
    catalogue: str
    model: str
    dtype: str = "fp32"
    chunk_rows: int = CHUNK_ROWS
    first: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SettingsError(f"vectors are to be stored as {self.dtype!r}; allowed are {', '.join(DTYPES)}")
        if self.chunk_rows < 1:
            raise SettingsError(f"a chunk of {self.chunk_rows} rows is not possible; give at least 1")

    def chunks(self) -> list[tuple[int, int]]:
        """Bounds ``[start, end)`` of all chunks; the last one may be shorter."""
        return [(s, min(s + self.chunk_rows, self.rows)) for s in range(self.first, self.rows, self.chunk_rows)]

    def made_of(self, start: int, end: int) -> str:
        """All that decides the vectors of rows ``[start, end)``, which their chunk is stamped with."""
        return f"{self.catalogue} {self.model} {self.dtype} {start} {end}"


def resumed_plan(plan: EncodingPlan, folder: Path) -> EncodingPlan:
    """The plan of the chunks in ``folder``, if it differs from ``plan`` in the rows per chunk alone; else ``plan``."""
    stored = _stored_plan(folder / PLAN_FILE)
    same = stored is not None and replace(stored, chunk_rows=plan.chunk_rows) == plan
    return stored if stored is not None and same else plan


_ONLY_THESE = "run the encoding again, it makes only these rows"


def _silent(line: str) -> None:
    pass


def prepare_chunks(plan: EncodingPlan, folder: Path, note: Callable[[str], None] = _silent) -> None:
    """Create the folder for the chunks of a plan, and remove chunks of another plan from it.

    ``note`` is called with a line about a plan that cannot be read.
    """
    plain_folder(folder)
    plan_file = folder / PLAN_FILE
    stored = _stored_plan(plan_file)
    if stored is None and (plan_file.exists() or own_files(folder, _CHUNK)):
        note(f"{plan_file} is missing or damaged: what it says of the finished vectors is unknown, and all are encoded again")
    if stored != plan:
        for stale in own_files(folder, _CHUNK):
            stale.unlink()
        write_json(plan_file, asdict(plan))


def encode_chunks(
    catalogue: Catalogue,
    encode: Encoder,
    plan: EncodingPlan,
    folder: Path,
    progress: Callable[[int], None] | None = None,
    reused: Callable[[int], None] | None = None,
    note: Callable[[str], None] = _silent,
) -> None:
    """Encode the catalogue into one file per chunk. Finished chunks of the same plan are reused if they are unchanged.

    Args:
        catalogue: the entities.
        encode: the candidate encoder.
        plan: of the encoding.
        folder: of the chunks; chunks of another plan in it are removed.
        progress: called with the number of rows of each finished chunk.
        reused: called instead of ``progress`` with the rows that an earlier run finished, if there are any.
        note: called with a line about each chunk that is encoded again since it is damaged, or was made of something else.
    """
    prepare_chunks(plan, folder, note)
    missing = [chunk for chunk in plan.chunks() if not _is_finished(plan, folder, *chunk, note)]
    report, report_reused = progress or (lambda rows: None), reused or progress or (lambda rows: None)
    if finished := plan.rows - plan.first - sum(end - start for start, end in missing):
        report_reused(finished)
    for start, end in missing:
        save_chunk(plan, folder, start, end, _encode_rows(catalogue, encode, plan, start, end))
        report(end - start)


def save_chunk(plan: EncodingPlan, folder: Path, start: int, end: int, vectors: np.ndarray) -> Path:
    """Write the chunk of rows ``[start, end)`` of a plan, and return its file. *Shape:* (end - start, d)."""
    path = chunk_file(folder, start, end)
    save_stamped(path, vectors, plan.made_of(start, end))
    return path


def _is_finished(plan: EncodingPlan, folder: Path, start: int, end: int, note: Callable[[str], None]) -> bool:
    path = chunk_file(folder, start, end)
    if not path.exists():
        return False
    if is_stamped(path, plan.made_of(start, end)):
        return True
    fault = "is damaged, or not of this catalogue, model and version"
    note(f"{path} {fault}: rows [{start:,}, {end:,}) are encoded again")
    return False


def _encode_rows(catalogue: Catalogue, encode: Encoder, plan: EncodingPlan, start: int, end: int) -> np.ndarray:
    with np.errstate(over="ignore"):  # a value too large for fp16 becomes infinite, which is rejected below
        vectors = encode(list(catalogue.iter(start, end))).astype(DTYPES[plan.dtype])
    if len(vectors) != end - start or not np.isfinite(vectors).all():
        raise DataError(f"the encoder gave no finite {plan.dtype} vector for every row of [{start}, {end}); check its weights")
    return vectors


def merge_chunks(folder: Path, out: Path, dim: int | None = None) -> None:
    """Merge the chunks of ``folder`` into one file of all vectors; ``dim`` is their dimension, where there may be no chunk.

    Raises:
        MismatchError: a chunk is missing, damaged or has a wrong shape; the message names it.
    """
    plan = _read_plan(folder / PLAN_FILE)
    for start, end in plan.chunks():
        path = chunk_file(folder, start, end)
        if not path.is_file():
            raise MismatchError(f"{path} is missing, rows [{start}, {end}) are not encoded; {_ONLY_THESE}")
        vectors = load_vectors(path)
        shape, dtype = vectors.shape, np.dtype(DTYPES[plan.dtype])
        dim = dim or shape[1]
        if shape != (end - start, dim) or vectors.dtype != dtype:
            actual = f"{shape[0]} x {shape[1]} values ({vectors.dtype})"
            raise MismatchError(f"{path} holds {actual}, expected {end - start} x {dim} ({dtype}); {_ONLY_THESE}")
        if not is_stamped(path, plan.made_of(start, end)):
            raise MismatchError(f"{path} is damaged, or not of this encoding; {_ONLY_THESE}")
    with atomic_open(out, "wb") as f:
        header = {"descr": np.dtype(DTYPES[plan.dtype]).str, "fortran_order": False, "shape": (plan.rows - plan.first, dim)}
        np.lib.format.write_array_header_1_0(f, header)
        for start, end in plan.chunks():
            f.write(np.ascontiguousarray(load_vectors(chunk_file(folder, start, end))).tobytes())


def chunk_file(folder: Path, start: int, end: int) -> Path:
    """File of the vectors of rows ``[start, end)``."""
    return folder / f"{start:08d}_{end:08d}.npy"


def load_vectors(path: str | Path) -> np.ndarray:
    """Map a file of vectors. *Shape:* (n, d), float32 or float16.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: it is not a two-dimensional array of floats, or is cut short.
    """
    vectors = map_array(path, "make it with `blink kb build`", damaged="delete it and encode again")
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise MismatchError(f"{path} holds {vectors.ndim}-d {vectors.dtype}; entity vectors are 2-d float32 or float16")
    return vectors


def _stored_plan(path: Path) -> EncodingPlan | None:
    """The plan of an earlier run; None if it is missing or unreadable, so that its chunks cannot be reused."""
    try:
        return _read_plan(path)
    except BlinkError:
        return None


def _read_plan(path: Path) -> EncodingPlan:
    try:
        return EncodingPlan(**read_json(path, "run the encoding again"))
    except TypeError as error:
        raise DataError(f"{path} is no encoding plan ({json.dumps(str(error))}); delete its folder and encode again") from error
