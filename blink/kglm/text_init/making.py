"""From a table to a folder of vectors and a TSV: what ``blink kglm embed`` and ``gen_embeddings`` do."""

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
from blink.files import sha256
from blink.kglm.text_init.encode import Progress, TextEncoder, clear_part, encode_into
from blink.kglm.text_init.reduce import Pca, PictureSettings, check_method, picture
from blink.kglm.text_init.tables import TextRow, compose
from blink.kglm.text_init.vectors import (
    META_FILE,
    Kind,
    Space,
    folder_beside,
    read_folder,
    vectors_file,
    write_folder,
    write_labels,
    write_tsv,
)


@dataclass(frozen=True)
class Made:
    """What came of it.

    Attributes:
        folder: with the vectors.
        encoded: rows that have one.
        undescribed: rows whose missing description was made up for by the name.
        empty: rows without any text, which have no vector.
        seconds: of encoding; 0 where an earlier call had done that.
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
) -> Made:
    """Encode the texts of a table into the folder beside ``output``, then write the TSV ``output``.

    Rows without any text get no vector: they are left out, and whatever starts from the vectors draws theirs at random.
    A folder that was made of the same before is not made again.

    Args:
        rows: of the table, in its order.
        kind: what they are.
        encoder: makes the vectors.
        output: the TSV; the folder is named after it.
        source: the table's file, whose hash goes into ``meta.json``.
        text: one of `TEXTS`.
        batch_size: texts at once.
        tsv: whether the TSV is written.
        progress: what is told of the work.

    Raises:
        DataError: no row has any text.
    """
    texts = [compose(row, text) for row in rows]
    kept = [row for row, words in zip(rows, texts, strict=True) if words]
    if not kept:
        raise DataError(f"{source}: no row has a text; give names or descriptions")
    folder = folder_beside(output)
    meta: dict[str, Any] = {
        "model": encoder.name, "weights_sha256": encoder.fingerprint(), "pooling": encoder.pooling, "text": text,
        "max_length": encoder.max_length, "precision": str(encoder.dtype).removeprefix("torch."), "batch_size": batch_size,
        "source": str(source), "source_sha256": sha256(source), "without_text": len(rows) - len(kept),
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps([meta, kind, [row.id for row in kept]]).encode()).hexdigest()
    seconds = 0.0
    if not _is_made(folder, kind, digest):
        began = time.monotonic()
        made = encode_into(
            encoder.encode, [t for t in texts if t], encoder.width, folder, digest, batch_size=batch_size, progress=progress
        )
        _move_in(made, kept, kind, folder, {**meta, "made_of": digest})
        seconds = time.monotonic() - began
    if tsv:
        write_tsv(read_folder(folder, kind), output)
    return Made(folder, len(kept), sum(not r.description for r in kept), len(rows) - len(kept), seconds)


def _is_made(folder: Path, kind: Kind, digest: str) -> bool:
    try:
        return read_folder(folder, kind).meta.get("made_of") == digest
    except BlinkError:  # not there, or not whole
        return False


def _move_in(made: Path, rows: Sequence[TextRow], kind: Kind, folder: Path, meta: dict[str, Any]) -> None:
    """Put finished vectors into their place, with everything that goes with them."""
    (folder / META_FILE).unlink(missing_ok=True)  # written last, it says that the rest is whole
    made.replace(vectors_file(folder, kind))
    vectors = np.load(vectors_file(folder, kind), mmap_mode="r", allow_pickle=False)
    names = [r.id for r in rows], [r.name for r in rows], [r.kind for r in rows], [r.row for r in rows]
    write_labels(Space(kind, names[0], vectors, *names[1:], meta=meta), folder)
    clear_part(folder)


@dataclass(frozen=True)
class Reduced:
    """What came of a reduction.

    Attributes:
        folder: with the vectors, and of principal components ``pca.safetensors``, which reduces further rows alike.
        before: numbers per vector before.
        after: numbers per vector now.
        explained: part of the variance that was kept; None where that means nothing.
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
    settings: PictureSettings | None = None,
    tsv: bool = True,
) -> Reduced:
    """Reduce vectors to ``width`` numbers each, into the folder beside ``output`` and the TSV ``output``.

    Args:
        space: the vectors.
        output: the TSV; the folder is named after it.
        width: numbers per vector after.
        method: one of `METHODS`.
        whiten: of principal components, whether each is divided by the root of its variance.
        normalize: of principal components, whether vectors are brought to length 1 first.
        fitted: a folder with ``pca.safetensors`` to reduce by, instead of fitting one; its width and manner count.
        settings: of t-SNE.
        tsv: whether the TSV is written.

    Raises:
        SettingsError: the method is unknown or does not give that width.
        ShapeError: ``fitted`` is for vectors of another width.
    """
    check_method(method, width)
    folder = folder_beside(output)
    notes: dict[str, Any] = {"reduced_by": method, "reduced_from": space.width}
    explained = None
    if method == "pca":
        how = {"whiten": whiten, "normalize": normalize}
        pca = Pca.load(fitted) if fitted is not None else Pca.fit(space.vectors, width, **how)
        vectors, explained = pca.transform(space.vectors), pca.explained
        notes |= {"whiten": pca.whiten, "normalize": pca.normalize, "explained": explained}
        folder.mkdir(parents=True, exist_ok=True)
        pca.save(folder)
    else:
        vectors = picture(space.vectors, method, width, settings)
    kept = {key: value for key, value in space.meta.items() if key not in ("made_of", "mean_norm", "std_norm", "dim")}
    reduced = Space(space.kind, space.ids, vectors, space.names, space.types, space.rows, {**kept, **notes})
    write_folder(reduced, folder)
    if tsv:
        write_tsv(reduced, output)
    return Reduced(folder, space.width, reduced.width, explained)
