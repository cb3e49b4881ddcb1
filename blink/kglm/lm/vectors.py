"""Initial word vectors: from a file, or from co-occurrences in the training text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blink.decompression import lines_of, open_stream
from blink.errors import DataError, MismatchError, SettingsError
from blink.files import require_file
from blink.kglm.lm.corpus import Corpus
from blink.kglm.lm.vocabulary import RESERVED, UNK, Vocabulary
from blink.runs.seeds import generator_for

LAYOUT = "a word and its values on each line, separated by blanks, as in GloVe's files"
OVERSAMPLED, ROUNDS = 32, 3
"""Parameters of the randomised decomposition: oversampled columns, and power iterations."""


def read_vectors(path: str | Path, vocabulary: Vocabulary, width: int) -> tuple[np.ndarray, int]:
    """Read the vectors of a vocabulary's words; a word without a vector gets that of ``unk``, or else the mean of all vectors.

    Args:
        path: text file with `LAYOUT`; a header line of two integers (word2vec) is skipped.
        vocabulary: the words.
        width: dimension of the vectors.

    Returns:
        *Shape:* (vocabulary, width), float32, and the number of words that have a vector in the file.

    Raises:
        MissingFileError: the file does not exist.
        MismatchError: the vectors have another dimension.
        DataError: a line is malformed, or the file has no word of the vocabulary.
    """
    source = require_file(path, f"name a file of word vectors, {LAYOUT}")
    table = np.zeros((len(vocabulary), width), dtype=np.float32)
    has_vector = np.zeros(len(vocabulary), dtype=bool)
    total, count = np.zeros(width), 0
    for word, vector in _vectors(source, width):
        total, count = total + vector, count + 1
        number = vocabulary.id(word)
        if (number != UNK or word == RESERVED[UNK]) and not has_vector[number]:
            table[number], has_vector[number] = vector, True
    matched = int(has_vector[len(RESERVED) :].sum())
    if not matched:
        raise DataError(f"{source} has a vector for none of the {len(vocabulary.words):,} words; give one of the same language")
    table[~has_vector] = table[UNK] if has_vector[UNK] else total / count
    return table, matched


def _vectors(path: Path, width: int) -> Iterator[tuple[str, np.ndarray]]:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); give {LAYOUT}")
    with open_stream(path) as f:
        for number, raw in enumerate(lines_of(f, path), 1):
            try:
                fields = raw.decode("utf-8").rstrip().split(" ")
                if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                    continue
                if len(fields) != width + 1:
                    message = f"{len(fields) - 1} numbers, where words.width is {width}"
                    raise MismatchError(f"{path}, line {number}: {message}; set words.width, or give vectors of that width")
                yield fields[0], np.array(fields[1:], dtype=np.float32)
            except ValueError as error:  # UnicodeDecodeError included
                raise DataError(f"{path}, line {number}: {error}; a line is {LAYOUT}") from error


def neighbour_vectors(corpus: Corpus, width: int, *, window: int, seed: int) -> np.ndarray:
    """Vectors from the training text: decomposed positive pointwise mutual information (Levy & Goldberg 2014).

    Two words within ``window`` words of a line co-occur, with weight ``1 / distance``. Context frequencies are smoothed by the
    power 3/4 (Levy et al. 2015). Unknown words are counted as ``unk``.

    Args:
        corpus: the text.
        width: dimension of the vectors.
        window: words to each side.
        seed: seed of the randomised decomposition (Halko et al. 2011).

    Returns:
        *Shape:* (vocabulary, width), float32.

    Raises:
        SettingsError: the vocabulary is smaller than ``width``.
    """
    if corpus.vocabulary_size < width:
        raise SettingsError(f"words.width is {width}, more than the {corpus.vocabulary_size} words; take a smaller one")
    ids = torch.from_numpy(np.where(corpus.raw < corpus.vocabulary_size, corpus.raw, UNK).astype(np.int64))
    line = torch.from_numpy(np.repeat(np.arange(len(corpus)), corpus.lengths))
    shape = (corpus.vocabulary_size, corpus.vocabulary_size)
    counts = _sparse(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), shape)
    for distance in range(1, window + 1):
        same = line[:-distance] == line[distance:]
        earlier, later = ids[:-distance][same], ids[distance:][same]
        pairs = torch.cat([torch.stack([earlier, later]), torch.stack([later, earlier])], dim=1)
        counts = (counts + _sparse(pairs, torch.full((pairs.shape[1],), 1 / distance), shape)).coalesce()
    return _decomposed(_information(counts), width, seed)


def _information(counts: Tensor) -> Tensor:
    """Positive pointwise mutual information of a symmetric sparse count matrix. *Shape:* that of the matrix."""
    (row, column), values = counts.indices(), counts.values().double()
    words = torch.zeros(counts.shape[0], dtype=torch.float64).index_add_(0, row, values)
    contexts = words**0.75
    value = torch.log(values * contexts.sum() / (words[row] * contexts[column]))
    positive = value > 0
    return _sparse(counts.indices()[:, positive], value[positive].float(), tuple(counts.shape)).coalesce()


def _sparse(indices: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.sparse_coo_tensor(indices, values, shape, check_invariants=False)


def _decomposed(table: Tensor, width: int, seed: int) -> np.ndarray:
    """Left singular vectors times the square roots of their singular values. *Shape:* (rows, width), float32."""
    back = table.t().coalesce()
    size = min(width + OVERSAMPLED, table.shape[0])
    start = torch.randn(table.shape[1], size, generator=generator_for(seed, "neighbours"))
    basis = torch.linalg.qr(torch.sparse.mm(table, start))[0]
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(torch.sparse.mm(table, torch.sparse.mm(back, basis)))[0]
    singular, values, _ = torch.linalg.svd(torch.sparse.mm(back, basis).T, full_matrices=False)
    vectors = (basis @ singular)[:, :width] * values[:width].sqrt()
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))  # signs are arbitrary
    return (vectors * torch.where(largest < 0, -1.0, 1.0)).numpy()


def rescaled(vectors: np.ndarray, scale: float) -> np.ndarray:
    """Centre vectors, and scale their values to this standard deviation. *Shape:* (n, width) both."""
    centred = vectors - vectors.mean(0)
    return (centred * (scale / max(float(centred.std()), 1e-12))).astype(np.float32)
