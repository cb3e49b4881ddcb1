"""Initial values of a graph's embeddings from a folder of vectors, joined by id and rescaled to random initialization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.errors import MismatchError
from blink.kglm.text_init.vectors import Kind, read_folder


@dataclass(frozen=True)
class StartRows:
    """Initial values of embeddings.

    Attributes:
        vectors: *Shape:* (n, width), float32.
        matched: number of rows with a text vector.
        missing: number of rows that keep their random values.
        factor: scale factor of the text vectors.
    """

    vectors: np.ndarray
    matched: int
    missing: int
    factor: float


def start_rows(folder: str | Path, ids: Sequence[str], drawn: np.ndarray, kind: Kind = "entity") -> StartRows:
    """Replace random rows by text vectors where an id has one.

    The text vectors are centred, because vectors of sentence encoders share a large common component. Then they are scaled to
    the mean norm of the random rows, because learning rates are tuned for that scale.

    Args:
        folder: output of ``blink kglm embed`` or ``blink kglm reduce``.
        ids: ids of the rows.
        drawn: random initial values. *Shape:* (n, width), float.
        kind: kind of the rows.

    Raises:
        MissingFileError, DataError: a file of the folder is missing or malformed.
        MismatchError: the vectors have another dimension, or none of the ids has a vector.
    """
    space = read_folder(folder, kind)
    width = drawn.shape[1]
    if space.width != width:
        step = f"blink kglm reduce -e {folder} -o NEW.tsv -m pca -d {width}"
        remedy = step if space.width > width else f"a model of dimension {space.width}"
        raise MismatchError(
            f"the vectors in {folder} are {space.width}-dimensional, the graph's {width}-dimensional; use: {remedy}"
        )
    row_of_id = {name: row for row, name in enumerate(space.ids)}
    rows = np.array([row_of_id.get(name, -1) for name in ids])
    has_vector = rows >= 0
    if not has_vector.any():
        example = f"{space.ids[0]!r} in the folder, {ids[0]!r} in the graph"
        raise MismatchError(
            f"none of the graph's {len(ids):,} ids has a vector in {folder} ({example}); embed with the same ids"
        )
    texts = np.asarray(space.vectors[rows[has_vector]], dtype=np.float64)
    texts -= texts.mean(0)
    norm = np.linalg.norm(texts, axis=1).mean()
    factor = float(np.linalg.norm(drawn.astype(np.float64), axis=1).mean() / norm) if norm > 0 else 1.0
    vectors = drawn.astype(np.float32, copy=True)
    vectors[has_vector] = texts * factor
    return StartRows(vectors, int(has_vector.sum()), int((~has_vector).sum()), factor)
