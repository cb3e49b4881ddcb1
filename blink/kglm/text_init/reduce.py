"""Dimension reduction: PCA to any dimension, t-SNE and UMAP for plots."""

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
from blink.input_files import utf8_path

logger = logging.getLogger(__name__)

PCA_FILE = "pca.safetensors"
METHODS = ("pca", "tsne", "umap")
PLOT_WIDTHS = (2, 3)
"""Dimensions of t-SNE and UMAP. They preserve neighbourhoods, not distances, and cannot transform new rows."""
CHUNK_ROWS = 16384
LEAST_VARIANCE = 1e-12
"""Components with less than this fraction of the first component's variance are rounding noise, and are not whitened."""


@dataclass(frozen=True)
class Pca:
    """A fitted principal component analysis.

    Attributes:
        mean: mean of the training rows. *Shape:* (width,), float32.
        components: unit vectors, by decreasing variance. *Shape:* (components, width), float32.
        variances: variance of each component. *Shape:* (components,), float32.
        explained: fraction of the total variance that the components explain.
        whiten: divide each component by its standard deviation.
        normalize: normalize rows to length 1 first.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    explained: float
    whiten: bool = False
    normalize: bool = False

    @classmethod
    def fit(cls, vectors: np.ndarray, width: int, *, whiten: bool = False, normalize: bool = False) -> Pca:
        """Fit to rows, which are read in chunks and may be memory-mapped.

        Uses the eigenvectors of the scatter matrix in float64. scikit-learn's IncrementalPCA agrees to 1e-6, but takes five to
        nine times as long at 384 dimensions and refuses fewer rows than components.

        With fewer rows than ``width``, the surplus components have no variance, and the result is 0 there.

        Args:
            vectors: *Shape:* (n, width before), float.
            width: number of components.
            whiten: divide each component by its standard deviation.
            normalize: normalize rows to length 1 first, because means over few words are longer than means over many.

        Raises:
            SettingsError: ``width`` is larger than the dimension of the vectors.
        """
        before = vectors.shape[1]
        if not 1 <= width <= before:
            raise SettingsError(
                f"cannot reduce {before}-dimensional vectors to {width} dimensions; give a number from 1 to {before}"
            )
        chunks = [slice(i, i + CHUNK_ROWS) for i in range(0, len(vectors), CHUNK_ROWS)]
        mean = sum(_read(vectors[p], normalize).sum(0, dtype=np.float64) for p in chunks) / len(vectors)
        scatter = np.zeros((before, before))
        for p in chunks:
            centred = _read(vectors[p], normalize) - mean
            scatter += centred.T @ centred
        values, columns = np.linalg.eigh(scatter / max(len(vectors) - 1, 1))
        values, columns = np.maximum(values[::-1], 0), columns[:, ::-1]
        # The sign of an eigenvector is arbitrary. The largest entry is made positive, so that all machines agree.
        signs = np.sign(columns[np.abs(columns).argmax(0), np.arange(before)])
        components = (columns * signs).T[:width]
        explained = float(values[:width].sum() / max(values.sum(), np.finfo(float).tiny))
        arrays = (mean.astype(np.float32), components.astype(np.float32), values[:width].astype(np.float32))
        return cls(*arrays, explained, whiten, normalize)

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Reduce training rows or new rows. *Shape:* (n, width before) to (n, components), float32.

        Raises:
            ShapeError: the dimension differs from that of the training rows.
        """
        if vectors.shape[1] != len(self.mean):
            raise ShapeError(
                f"the reduction is for {len(self.mean)}-dimensional vectors, these have {vectors.shape[1]} dimensions"
            )
        scale = np.ones_like(self.variances)
        if self.whiten:
            mask = self.variances > LEAST_VARIANCE * max(float(self.variances[:1].sum()), np.finfo(np.float32).tiny)
            scale[mask] = 1 / np.sqrt(self.variances[mask])
        out = np.empty((len(vectors), len(self.components)), dtype=np.float32)
        for i in range(0, len(vectors), CHUNK_ROWS):
            chunk = _read(vectors[i : i + CHUNK_ROWS], self.normalize)
            out[i : i + CHUNK_ROWS] = (chunk - self.mean) @ self.components.T * scale
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
        """Load ``pca.safetensors`` from a folder, to reduce further rows in the same way.

        Raises:
            MissingFileError: the file does not exist.
            CheckpointError: the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = require_file(folder / PCA_FILE, "give a folder that `blink kglm reduce -m pca` made")
        try:
            with safe_open(utf8_path(path), framework="numpy") as f:
                arrays = {name: f.get_tensor(name) for name in ("mean", "components", "variances")}
                notes = f.metadata()
            return cls(**arrays, **{name: json.loads(value) for name, value in notes.items()})
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); reduce the vectors again") from error


def _read(rows: np.ndarray, normalize: bool) -> np.ndarray:
    """Rows as float32, normalized to length 1 on request; zero rows are unchanged. *Shape:* (n, width)."""
    values = np.asarray(rows, dtype=np.float32)
    if not normalize:
        return values
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1)


@dataclass(frozen=True)
class TsneSettings:
    """Settings of t-SNE (van der Maaten & Hinton 2008); UMAP uses only the seed.

    Attributes:
        perplexity: effective number of neighbours of a row.
        learning_rate: learning rate of gradient descent.
        iterations: number of steps of gradient descent.
        seed: random seed.
    """

    perplexity: float = 30
    learning_rate: float = 200
    iterations: int = 1000
    seed: int = 0


def check_method(method: str, width: int) -> None:
    """Raise SettingsError if the method is unknown, or does not support the dimension."""
    if method not in METHODS:
        raise SettingsError(f"method is {method!r}; allowed are {', '.join(METHODS)}")
    if method != "pca" and width not in PLOT_WIDTHS:
        message = f"{method} reduces to 2 or 3 dimensions, not {width}, because it cannot transform new rows"
        raise SettingsError(f"{message}; use -m pca, or -d 2")


def project(vectors: np.ndarray, method: str, width: int = 2, settings: TsneSettings | None = None) -> np.ndarray:
    """Project rows for a plot. *Shape:* (n, width before) to (n, width), float32.

    Rows of more than 50 dimensions are first reduced to 50 by PCA, as is common practice, to save time.

    Raises:
        SettingsError: the method is unknown, does not support the dimension, or needs a package that is not installed.
        DataError: there are fewer than four rows.
    """
    check_method(method, width)
    settings = settings or TsneSettings()
    if method == "pca":
        return Pca.fit(vectors, width).transform(vectors)
    if len(vectors) < 4:
        raise DataError(f"{method} needs at least 4 rows, there are {len(vectors)}; use -m pca")
    if vectors.shape[1] > 50:
        vectors = Pca.fit(vectors, 50).transform(vectors)
    return _tsne(vectors, width, settings) if method == "tsne" else _umap(vectors, width, settings)


def _tsne(vectors: np.ndarray, width: int, settings: TsneSettings) -> np.ndarray:
    kind = _optional("sklearn.manifold", "t-SNE needs scikit-learn; run: pip install 'blink-linker[kglm]', or use -m pca").TSNE
    perplexity = settings.perplexity
    if perplexity >= len(vectors):
        perplexity = max((len(vectors) - 1) / 3, 1.0)
        logger.warning("perplexity %g is too much for %d rows; using %g", settings.perplexity, len(vectors), perplexity)
    projection = kind(
        n_components=width, perplexity=perplexity, learning_rate=settings.learning_rate, max_iter=settings.iterations,
        init="pca", random_state=settings.seed,
    )  # fmt: skip
    return _float32(projection.fit_transform(np.asarray(vectors, dtype=np.float32)))


def _umap(vectors: np.ndarray, width: int, settings: TsneSettings) -> np.ndarray:
    kind = _optional("umap", "UMAP is not installed; run: pip install umap-learn, or use -m tsne").UMAP
    projection = kind(n_components=width, n_neighbors=min(15, len(vectors) - 1), random_state=settings.seed, n_jobs=1)
    return _float32(projection.fit_transform(np.asarray(vectors, dtype=np.float32)))


def _optional(module: str, remedy: str) -> Any:
    """Import an optional dependency.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(remedy) from error


def _float32(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)
