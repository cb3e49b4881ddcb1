"""Fewer numbers per vector: principal components for any width, t-SNE and UMAP for pictures."""

from __future__ import annotations

import importlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import CheckpointError, DataError, SettingsError, ShapeError
from blink.files import atomic_open, require_file

logger = logging.getLogger(__name__)

PCA_FILE = "pca.safetensors"
METHODS = ("pca", "tsne", "umap")
PICTURE_WIDTHS = (2, 3)
"""Widths that t-SNE and UMAP are for: they keep neighbours, not distances, and cannot place new rows."""
ROWS_AT_ONCE = 16384
LEAST_VARIANCE = 1e-12
"""Components below this part of the first one's variance are noise of rounding; whitening leaves them alone."""


@dataclass(frozen=True)
class Pca:
    """Principal components, fitted.

    Attributes:
        mean: of the rows fitted on. *Shape:* (width,), float32.
        components: a unit vector each, the most variance first. *Shape:* (kept, width), float32.
        variances: along the components. *Shape:* (kept,), float32.
        explained: part of the whole variance that they keep.
        whiten: whether each result is divided by the root of its variance.
        normalize: whether rows are brought to length 1 before anything else.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    explained: float
    whiten: bool = False
    normalize: bool = False

    @classmethod
    def fit(cls, vectors: np.ndarray, width: int, *, whiten: bool = False, normalize: bool = False) -> Pca:
        """Fit to rows, which may be mapped from a file: they are read a chunk at a time.

        By the eigenvectors of the scatter matrix (float64). scikit-learn's IncrementalPCA agrees to 1e-6, but takes five to
        nine times as long at 384 dimensions and refuses fewer rows than components.

        Where there are fewer rows than ``width``, the surplus components carry nothing: those rows have 0 there.

        Args:
            vectors: *Shape:* (n, width before), float.
            width: components to keep.
            whiten: divide by the root of the variance.
            normalize: bring rows to length 1 first: means over few words are longer than means over many.

        Raises:
            SettingsError: ``width`` is more than the vectors have.
        """
        before = vectors.shape[1]
        if not 1 <= width <= before:
            raise SettingsError(f"cannot reduce vectors of {before} numbers to {width}; give a width from 1 to {before}")
        parts = [slice(i, i + ROWS_AT_ONCE) for i in range(0, len(vectors), ROWS_AT_ONCE)]
        mean = sum(_read(vectors[p], normalize).sum(0, dtype=np.float64) for p in parts) / len(vectors)
        scatter = np.zeros((before, before))
        for p in parts:
            centred = _read(vectors[p], normalize) - mean
            scatter += centred.T @ centred
        values, columns = np.linalg.eigh(scatter / max(len(vectors) - 1, 1))
        values, columns = np.maximum(values[::-1], 0), columns[:, ::-1]
        # An eigenvector's sign is arbitrary: the largest entry is made positive, so that every machine gives the same.
        signs = np.sign(columns[np.abs(columns).argmax(0), np.arange(before)])
        kept = (columns * signs).T[:width]
        explained = float(values[:width].sum() / max(values.sum(), np.finfo(float).tiny))
        numbers = (mean.astype(np.float32), kept.astype(np.float32), values[:width].astype(np.float32))
        return cls(*numbers, explained, whiten, normalize)

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Reduce rows, those fitted on or new ones. *Shape:* (n, width before) to (n, kept), float32.

        Raises:
            ShapeError: the rows are of another width than those fitted on.
        """
        if vectors.shape[1] != len(self.mean):
            raise ShapeError(f"the reduction is for vectors of {len(self.mean)} numbers, these have {vectors.shape[1]}")
        scale = np.ones_like(self.variances)
        if self.whiten:
            real = self.variances > LEAST_VARIANCE * max(float(self.variances[:1].sum()), np.finfo(np.float32).tiny)
            scale[real] = 1 / np.sqrt(self.variances[real])
        out = np.empty((len(vectors), len(self.components)), dtype=np.float32)
        for i in range(0, len(vectors), ROWS_AT_ONCE):
            part = _read(vectors[i : i + ROWS_AT_ONCE], self.normalize)
            out[i : i + ROWS_AT_ONCE] = (part - self.mean) @ self.components.T * scale
        return out

    def save(self, folder: Path) -> None:
        """Write ``pca.safetensors`` into a folder."""
        from safetensors.numpy import save

        arrays = {"mean": self.mean, "components": self.components, "variances": self.variances}
        notes = {name: json.dumps(getattr(self, name)) for name in ("explained", "whiten", "normalize")}
        with atomic_open(folder / PCA_FILE, "wb") as f:
            f.write(save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata=notes))

    @classmethod
    def load(cls, folder: Path) -> Pca:
        """Read it back, to reduce further rows in the same way.

        Raises:
            MissingFileError: the folder has none.
            CheckpointError: it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = require_file(folder / PCA_FILE, "give a folder that `blink kglm reduce -m pca` made")
        try:
            with safe_open(path, framework="numpy") as f:
                arrays = {name: f.get_tensor(name) for name in ("mean", "components", "variances")}
                notes = f.metadata()
            return cls(**arrays, **{name: json.loads(value) for name, value in notes.items()})
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); reduce the vectors again") from error


def _read(rows: np.ndarray, normalize: bool) -> np.ndarray:
    """Rows as float32, of length 1 if asked for; rows of zeros stay as they are. *Shape:* (n, width)."""
    part = np.asarray(rows, dtype=np.float32)
    if not normalize:
        return part
    lengths = np.linalg.norm(part, axis=1, keepdims=True)
    return part / np.where(lengths > 0, lengths, 1)


@dataclass(frozen=True)
class PictureSettings:
    """Settings of t-SNE (van der Maaten & Hinton 2008); UMAP takes the seed alone.

    Attributes:
        perplexity: how many neighbours a row is kept close to, about.
        learning_rate: of its gradient descent.
        iterations: of it.
        seed: of the start.
    """

    perplexity: float = 30
    learning_rate: float = 200
    iterations: int = 1000
    seed: int = 0


def check_method(method: str, width: int) -> None:
    """Raise SettingsError where the method is unknown, or does not give that width."""
    if method not in METHODS:
        raise SettingsError(f"method is {method!r}; allowed are {', '.join(METHODS)}")
    if method != "pca" and width not in PICTURE_WIDTHS:
        found = f"{method} makes pictures of 2 (or 3) dimensions, not {width}: it is not linear and cannot place new rows"
        raise SettingsError(f"{found}; use -m pca, or -d 2")


def picture(vectors: np.ndarray, method: str, width: int = 2, settings: PictureSettings | None = None) -> np.ndarray:
    """Lay rows out for the eye. *Shape:* (n, width before) to (n, width), float32.

    Wide rows are reduced to 50 principal components first, which is usual and changes little but the time.

    Raises:
        SettingsError: the method is unknown, does not give that width, or needs a package that is not installed.
        DataError: there are fewer than four rows.
    """
    check_method(method, width)
    settings = settings or PictureSettings()
    if method == "pca":
        return Pca.fit(vectors, width).transform(vectors)
    if len(vectors) < 4:
        raise DataError(f"{method} needs at least 4 rows, there are {len(vectors)}; use -m pca")
    if vectors.shape[1] > 50:
        vectors = Pca.fit(vectors, 50).transform(vectors)
    return _tsne(vectors, width, settings) if method == "tsne" else _umap(vectors, width, settings)


def _tsne(vectors: np.ndarray, width: int, settings: PictureSettings) -> np.ndarray:
    kind = _optional("sklearn.manifold", "t-SNE needs scikit-learn; run: pip install 'blink-linker[kglm]', or use -m pca").TSNE
    perplexity = settings.perplexity
    if perplexity >= len(vectors):
        perplexity = max((len(vectors) - 1) / 3, 1.0)
        logger.warning("perplexity %g is too much for %d rows; using %g", settings.perplexity, len(vectors), perplexity)
    made = kind(
        n_components=width, perplexity=perplexity, learning_rate=settings.learning_rate, max_iter=settings.iterations,
        init="pca", random_state=settings.seed,
    )  # fmt: skip
    return _float32(made.fit_transform(np.asarray(vectors, dtype=np.float32)))


def _umap(vectors: np.ndarray, width: int, settings: PictureSettings) -> np.ndarray:
    kind = _optional("umap", "UMAP is not installed; run: pip install umap-learn, or use -m tsne").UMAP
    made = kind(n_components=width, n_neighbors=min(15, len(vectors) - 1), random_state=settings.seed, n_jobs=1)
    return _float32(made.fit_transform(np.asarray(vectors, dtype=np.float32)))


def _optional(module: str, remedy: str) -> Any:
    """A module that not every installation has.

    Raises:
        SettingsError: this one has it not.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(remedy) from error


def _float32(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)
