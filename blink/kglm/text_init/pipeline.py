"""Encode a table into a folder of vectors and a TSV, and reduce the dimension of vectors."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import BlinkError, DataError
from blink.files import second_name, sha256
from blink.kglm.text_init.encode import Progress, TextEncoder, encode_into, remove_work_folder
from blink.kglm.text_init.reduce import Pca, TsneSettings, check_method, project
from blink.kglm.text_init.tables import TextRow, compose
from blink.kglm.text_init.vectors import (
    Kind,
    Space,
    read_folder,
    vectors_file,
    vectors_folder,
    write_labels,
    write_tsv,
    write_vectors,
)
from blink.replacing import replacing


@dataclass(frozen=True)
class EncodingResult:
    """Result of `make_vectors`.

    Attributes:
        folder: folder of the vectors.
        encoded: number of rows with a vector.
        undescribed: number of rows without a description; their name was encoded.
        empty: number of rows without text, which have no vector.
        seconds: encoding time; 0 if an earlier call had done it.
    """

    folder: Path
    encoded: int
    undescribed: int
    empty: int
    seconds: float


def make_vectors(
    rows: Sequence[TextRow],
    kind: Kind,
    encoder: TextEncoder,
    output: str | Path,
    *,
    source: Path,
    text: str = "name+description",
    batch_size: int = 64,
    tsv: bool = True,
    progress: Progress | None = None,
) -> EncodingResult:
    """Encode the texts of a table into the folder of `vectors_folder`, then write the TSV ``output``.

    Rows without text get no vector; models that start from the vectors initialize these rows at random. A complete folder of
    the same inputs is reused.

    Args:
        rows: rows of the table, in order.
        kind: kind of the rows.
        encoder: the text encoder.
        output: the TSV; the folder is named after it.
        source: file of the table, whose hash goes into ``meta.json``.
        text: one of `TEXTS`.
        batch_size: texts per batch.
        tsv: whether to write the TSV.
        progress: callbacks.

    Raises:
        DataError: no row has a text.
    """
    texts = [compose(row, text) for row in rows]
    encoded = [row for row, words in zip(rows, texts, strict=True) if words]
    if not encoded:
        raise DataError(f"{source}: no row has a text; give names or descriptions")
    folder = vectors_folder(output)
    meta: dict[str, Any] = {
        "model": encoder.name, "weights_sha256": encoder.fingerprint(), "pooling": encoder.pooling, "text": text,
        "max_length": encoder.max_length, "precision": str(encoder.dtype).removeprefix("torch."), "batch_size": batch_size,
        "source": str(source), "source_sha256": sha256(source), "without_text": len(rows) - len(encoded),
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps([meta, kind, [row.id for row in encoded]]).encode()).hexdigest()
    seconds = 0.0
    if not _is_complete(folder, kind, digest):
        began = time.monotonic()
        array_file = encode_into(
            encoder.encode, [t for t in texts if t], encoder.width, folder, digest, batch_size=batch_size, progress=progress
        )
        _install(array_file, encoded, kind, folder, {**meta, "made_of": digest})
        seconds = time.monotonic() - began
    remove_work_folder(folder)
    if tsv:
        write_tsv(read_folder(folder, kind), output)
    return EncodingResult(folder, len(encoded), sum(not r.description for r in encoded), len(rows) - len(encoded), seconds)


def _is_complete(folder: Path, kind: Kind, digest: str) -> bool:
    try:
        return read_folder(folder, kind).meta.get("made_of") == digest
    except BlinkError:  # missing or incomplete
        return False


def _install(array_file: Path, rows: Sequence[TextRow], kind: Kind, folder: Path, meta: dict[str, Any]) -> None:
    """Put finished vectors into the folder, with their ids, labels and metadata."""
    vectors = np.load(array_file, mmap_mode="r", allow_pickle=False)
    names = [r.id for r in rows], [r.name for r in rows], [r.kind for r in rows], [r.row for r in rows]
    with replacing(folder) as work:
        second_name(array_file, vectors_file(work, kind))  # it stays where it is until the folder is complete
        write_labels(Space(kind, names[0], vectors, *names[1:], meta=meta), work)


@dataclass(frozen=True)
class ReductionResult:
    """Result of `reduce_vectors`.

    Attributes:
        folder: folder of the vectors; for PCA also of ``pca.safetensors``, which reduces further vectors in the same way.
        before: dimension before.
        after: dimension after.
        explained: fraction of the variance that is explained; None for other methods than PCA.
    """

    folder: Path
    before: int
    after: int
    explained: float | None


def reduce_vectors(
    space: Space,
    output: str | Path,
    *,
    width: int = 2,
    method: str = "pca",
    whiten: bool = False,
    normalize: bool = False,
    fitted: Path | None = None,
    settings: TsneSettings | None = None,
    tsv: bool = True,
) -> ReductionResult:
    """Reduce vectors to dimension ``width``, and write the folder of `vectors_folder` and the TSV ``output``.

    Args:
        space: the vectors.
        output: the TSV; the folder is named after it.
        width: dimension after.
        method: one of `METHODS`.
        whiten: for PCA, divide each component by its standard deviation.
        normalize: for PCA, normalize vectors to length 1 first.
        fitted: a folder with ``pca.safetensors`` to apply instead of fitting; it determines width, whitening and normalization.
        settings: settings of t-SNE.
        tsv: whether to write the TSV.

    Raises:
        SettingsError: the method is unknown or does not support the dimension.
        ShapeError: ``fitted`` is for vectors of another dimension.
    """
    check_method(method, width)
    folder = vectors_folder(output)
    notes: dict[str, Any] = {"reduced_by": method, "reduced_from": space.width}
    explained = None
    if method == "pca":
        options = {"whiten": whiten, "normalize": normalize}
        pca = Pca.load(fitted) if fitted is not None else Pca.fit(space.vectors, width, **options)
        vectors, explained = pca.transform(space.vectors), pca.explained
        notes |= {"whiten": pca.whiten, "normalize": pca.normalize, "explained": explained}
    else:
        pca, vectors = None, project(space.vectors, method, width, settings)
    meta = {key: value for key, value in space.meta.items() if key not in ("made_of", "mean_norm", "std_norm", "dim")}
    reduced = Space(space.kind, space.ids, vectors, space.names, space.types, space.rows, {**meta, **notes})
    with replacing(folder) as work:
        if pca is not None:
            pca.save(work)
        write_vectors(reduced, work)
    if tsv:
        write_tsv(reduced, output)
    return ReductionResult(folder, space.width, reduced.width, explained)
