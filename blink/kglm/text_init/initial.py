"""Start values of a graph's rows from a folder of vectors: joined by id, in the scale of random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blink.errors import MismatchError
from blink.kglm.text_init.vectors import Kind, read_folder


@dataclass(frozen=True)
class StartRows:
    """Start values.

    Attributes:
        vectors: *Shape:* (n, width), float32.
        found: rows that have a vector of text.
        missing: rows that stay as they were drawn.
        factor: what the vectors of text were multiplied by.
    """

    vectors: np.ndarray
    found: int
    missing: int
    factor: float


def start_rows(folder: str | Path, ids: Sequence[str], drawn: np.ndarray, kind: Kind = "entity") -> StartRows:
    """Replace randomly drawn rows by vectors of text, where there are any.

    The vectors are centred and then scaled together, so that the mean of their norms is that of the drawn rows: sentence
    encoders' vectors share a large common part, and learning rates are chosen for the scale of random rows.

    Args:
        folder: made by ``blink kglm embed`` or ``blink kglm reduce``.
        ids: of the rows.
        drawn: what the random initialiser drew for them. *Shape:* (n, width), float.
        kind: of the rows.

    Raises:
        MissingFileError, DataError: the folder lacks something, or it is malformed.
        MismatchError: the vectors are of another width, or none is of these ids.
    """
    space = read_folder(folder, kind)
    width = drawn.shape[1]
    if space.width != width:
        step = f"blink kglm reduce -e {folder} -o NEW.tsv -m pca -d {width}"
        remedy = step if space.width > width else f"a model whose rows have {space.width} numbers"
        raise MismatchError(f"the vectors in {folder} have {space.width} numbers, the graph's rows {width}; use: {remedy}")
    places = {name: row for row, name in enumerate(space.ids)}
    rows = np.array([places.get(name, -1) for name in ids])
    there = rows >= 0
    if not there.any():
        example = f"{space.ids[0]!r} there, {ids[0]!r} in the graph"
        raise MismatchError(
            f"none of the graph's {len(ids):,} ids has a vector in {folder} ({example}); embed with the same ids"
        )
    texts = np.asarray(space.vectors[rows[there]], dtype=np.float64)
    texts -= texts.mean(0)
    norm = np.linalg.norm(texts, axis=1).mean()
    factor = float(np.linalg.norm(drawn.astype(np.float64), axis=1).mean() / norm) if norm > 0 else 1.0
    vectors = drawn.astype(np.float32, copy=True)
    vectors[there] = texts * factor
    return StartRows(vectors, int(there.sum()), int((~there).sum()), factor)
