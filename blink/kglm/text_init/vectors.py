"""Vectors with their ids, as a folder and as the original's TSV.

The folder has ``<kind>_vectors.npy`` (float32), ``<kind>_ids.txt`` (one id per line), ``<kind>_labels.tsv`` (id, name and type
for plots), ``meta.json`` and ``checksums.json``; ``kind`` is ``entity`` or ``relation``. Embeddings of a graph model are
exported in the same layout. The files of a folder are replaced together, see `blink.replacing`.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from blink.cells import plain_cell, safe_cell
from blink.checksums import CHECKSUMS_FILE, FileChecksum, missing, read_hashed_json, require_whole, write_hashed_json
from blink.data.arrays import map_array, save_array
from blink.errors import DataError, MismatchError, MissingFileError
from blink.files import atomic_open, require_file
from blink.input_files import has_file, read_text
from blink.kglm.text_init.tables import first_columns, read_table
from blink.replacing import current_checksums, replacing

Kind = Literal["entity", "relation"]
META_FILE = "meta.json"
FORMAT = 1
_CHECKED = "checked"
"""Key by which ``meta.json`` says that its folder has checksums."""
_EARLIER_CHECKSUMS = "files"
"""Key of them in ``meta.json`` of earlier versions."""
TSV_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "entity": ("embedding_id", "entity_id", "entity_name", "entity_type", "embedding"),
    "relation": ("embedding_id", "relation_type", "embedding"),
}
LABEL_COLUMNS = ("id", "name", "type", "row")
CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Space:
    """Vectors with ids, names and types.

    Attributes:
        kind: ``entity`` or ``relation``.
        ids: unique id of each vector.
        vectors: *Shape:* (n, width), float32; may be memory-mapped.
        names: name of each vector.
        types: type of each vector; empty if unknown.
        rows: row number in the source table, from 1.
        meta: content of ``meta.json``.
    """

    kind: Kind
    ids: list[str]
    vectors: np.ndarray
    names: list[str]
    types: list[str]
    rows: list[int]
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Dimension of the vectors."""
        return int(self.vectors.shape[1])


def vectors_folder(tsv: str | Path) -> Path:
    """Folder of the vectors of a TSV: ``out.vectors`` for ``out.tsv``."""
    path = Path(tsv)
    return path.with_name(f"{path.stem if path.suffix == '.tsv' else path.name}.vectors")


def vectors_file(folder: Path, kind: Kind) -> Path:
    """Path of the vectors in a folder."""
    return folder / f"{kind}_vectors.npy"


def write_folder(space: Space, folder: str | Path) -> None:
    """Replace the vectors of a folder; those of the other kind stay."""
    with replacing(Path(folder)) as work:
        write_vectors(space, work)


def write_vectors(space: Space, work: Path) -> None:
    """Write vectors, ids, labels and metadata into a folder whose files replace those of another."""
    save_array(vectors_file(work, space.kind), np.ascontiguousarray(space.vectors, dtype=np.float32))
    write_labels(space, work)


def write_labels(space: Space, folder: Path) -> None:
    """Write ids, labels and metadata of a folder that has its vectors."""
    with atomic_open(folder / f"{space.kind}_ids.txt") as f:
        f.writelines(f"{name}\n" for name in space.ids)
    with atomic_open(folder / f"{space.kind}_labels.tsv") as f:
        table = _writer(f)
        table.writerow(LABEL_COLUMNS)
        columns = (map(safe_cell, values) for values in (space.ids, space.names, space.types))
        table.writerows(zip(*columns, space.rows, strict=True))
    derived = {"kind": space.kind, "rows": len(space.ids), "dim": space.width, "layout": "real", **_norms(space.vectors)}
    write_meta(folder, {"format": FORMAT, **space.meta, **derived})


@contextlib.contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """Replace an export: yields the folder that the block writes all files of the new one into.

    Raises:
        OSError: a file cannot be written; the old export stays.
    """
    with replacing(folder, retained=()) as work:
        yield work


def write_meta(work: Path, meta: Mapping[str, Any]) -> None:
    """Write ``meta.json``, with a hash of itself, into a folder whose files replace those of another."""
    write_hashed_json(work / META_FILE, {**meta, _CHECKED: True})


def read_meta(folder: Path, remedy: str) -> dict[str, Any]:
    """Read ``meta.json``, and compare the files of the folder with their checksums; empty where there is none.

    Raises:
        DataError: a file was changed after it was written.
        MissingFileError: a file with a checksum is missing.
    """
    stored = current_checksums(folder, remedy)
    if not has_file(folder / META_FILE, remedy):
        return {}
    meta = read_hashed_json(folder / META_FILE, remedy)
    checked, earlier = meta.pop(_CHECKED, False), meta.pop(_EARLIER_CHECKSUMS, {})
    if checked and stored is None:
        raise MissingFileError(f"{missing(folder / CHECKSUMS_FILE)}; {remedy}")
    try:
        files = {name: FileChecksum(**values) for name, values in earlier.items()} if stored is None else stored.files
    except (TypeError, AttributeError) as error:
        raise DataError(f"{folder / META_FILE} is damaged ({error}); {remedy}") from error
    require_whole(folder, files, remedy=remedy)
    return meta


def read_folder(folder: str | Path, kind: Kind = "entity") -> Space:
    """Open a folder of vectors, which are memory-mapped.

    Raises:
        MissingFileError: a file is missing.
        DataError: a file is malformed.
        MismatchError: the numbers of ids and vectors differ, or an id is duplicated.
    """
    folder = Path(folder)
    remedy = f"give a folder with {kind}_vectors.npy and {kind}_ids.txt (blink kglm embed or blink kglm export makes one)"
    path = vectors_file(folder, kind)
    meta = read_meta(folder, "create the folder again (blink kglm embed or blink kglm export)")
    vectors = map_array(path, remedy)
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise DataError(f"{path} has shape {vectors.shape} and type {vectors.dtype}; it must be a table of float vectors")
    # Not splitlines, because ids may contain Unicode line separators.
    ids = read_text(folder / f"{kind}_ids.txt", remedy).removesuffix("\n").split("\n")
    if len(ids) != len(vectors) or len(set(ids)) != len(ids):
        message = f"{len(ids):,} ids ({len(set(ids)):,} different) for {len(vectors):,} vectors"
        raise MismatchError(f"{folder} has {message}; create the folder again")
    if not all(np.isfinite(vectors[i : i + CHUNK_ROWS]).all() for i in range(0, len(vectors), CHUNK_ROWS)):
        raise DataError(f"{path} holds NaN or infinity; create the folder again")
    return Space(kind, ids, vectors, *_labels(folder / f"{kind}_labels.tsv", ids), meta=meta)


def _labels(path: Path, ids: Sequence[str]) -> tuple[list[str], list[str], list[int]]:
    """Names, types and row numbers; without the file of labels, the ids are the names."""
    if not path.is_file():
        return list(ids), [""] * len(ids), list(range(1, len(ids) + 1))
    rows = [{name: plain_cell(cell) for name, cell in row.items()} for row in read_table(path, LABEL_COLUMNS)]
    if [row["id"] for row in rows] != list(ids):
        raise MismatchError(f"{path} does not match the ids of the folder; remove it, or create the folder again")
    return [row["name"] for row in rows], [row["type"] for row in rows], [_number(row["row"], path) for row in rows]


def _number(text: str, path: Path) -> int:
    if not text.isdecimal():
        raise DataError(f"{path}: the row {text[:40]!r} is no number; remove the file, or create the folder again")
    return int(text)


def write_tsv(space: Space, path: str | Path) -> None:
    """Write the original's TSV: values joined by ``|``, with nine digits, which are enough for exact float32."""
    with atomic_open(path) as f:
        table = _writer(f)
        table.writerow(TSV_COLUMNS[space.kind])
        for start in range(0, len(space.ids), CHUNK_ROWS):
            chunk = np.asarray(space.vectors[start : start + CHUNK_ROWS], dtype=np.float32)
            for i, vector in enumerate(chunk.tolist(), start):
                names = (space.ids[i], space.names[i], space.types[i]) if space.kind == "entity" else (space.ids[i],)
                numbers = "|".join(f"{number:.9g}" for number in vector)
                table.writerow((space.rows[i], *names, numbers))


def read_tsv(path: str | Path) -> Space:
    """Read a TSV of entities or relation types written by `write_tsv` or the original.

    Raises:
        MissingFileError: the file does not exist.
        DataError: columns are missing, or a vector is malformed or has another dimension than the first.
    """
    path = require_file(path, "give a TSV made by `blink kglm embed`")
    kind: Kind = "relation" if "relation_type" in first_columns(path) else "entity"
    rows = list(_parsed(path, kind))
    if not rows:
        raise DataError(f"{path} has no rows; give a TSV made by `blink kglm embed`")
    name, title, sort = ("entity_id", "entity_name", "entity_type") if kind == "entity" else ("relation_type",) * 3
    types = [row[sort] if kind == "entity" else "" for row, _ in rows]
    numbers = [int(row["embedding_id"]) for row, _ in rows]
    vectors = np.stack([vector for _, vector in rows])
    return Space(kind, [row[name] for row, _ in rows], vectors, [row[title] for row, _ in rows], types, numbers)


def _parsed(path: Path, kind: Kind) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    width = None
    for number, row in enumerate(read_table(path, TSV_COLUMNS[kind]), 1):
        try:
            vector = np.array(row.pop("embedding").split("|"), dtype=np.float32)
            int(row["embedding_id"])
        except ValueError as error:
            raise DataError(f"{path}, row {number}: {error}; an embedding is numbers joined by |") from error
        width = width or len(vector)
        if len(vector) != width:
            raise DataError(f"{path}, row {number}: {len(vector)} values, the rows before have {width}; create the file again")
        yield row, vector


def read_space(path: str | Path, kind: Kind = "entity") -> Space:
    """Read vectors from a folder or a TSV."""
    return read_folder(path, kind) if Path(path).is_dir() else read_tsv(path)


def _norms(vectors: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation of the rows' norms."""
    starts = range(0, len(vectors), CHUNK_ROWS)
    norms = np.concatenate([np.linalg.norm(vectors[i : i + CHUNK_ROWS], axis=1) for i in starts] or [np.zeros(1)])
    return {"mean_norm": float(norms.mean()), "std_norm": float(norms.std())}


def _writer(file: IO[str]) -> Any:
    """A writer of TSV rows, which quotes fields if necessary."""
    return csv.writer(file, delimiter="\t", lineterminator="\n")
