"""An exported context encoder as a backend: ONNX Runtime and NumPy, on a CPU, without PyTorch."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.arrays import read_archive
from blink.errors import CheckpointError, DataError, MissingFileError, SettingsError
from blink.files import read_json
from blink.forking import OpenedByProcess
from blink.input_files import require_file, utf8_path
from blink.machine import cores
from blink.model.backends.layout import CASE, GRAPHS, HEADS_FILE, LAYER, LOG_SCALE, SETTINGS_FILE, WORDS_FILE
from blink.model.backends.protocol import NO_MENTION_HEAD, TOPIC_REACH
from blink.model.backends.runtime import onnx_runtime
from blink.model.letter_case import STRIDE


class OnnxBackend:
    """Runs an exported context encoder.

    The word embeddings are memory-mapped: a text needs a few rows of them.

    Args:
        folder: of the exported encoder, see `blink.model.backends.layout`.
        precision: ``fp32`` or ``int8``.

    Raises:
        SettingsError: it was not exported in that precision.
        CheckpointError: a file is damaged, or missing.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, folder: str | Path, precision: str = "fp32") -> None:
        folder = Path(folder)
        if precision not in GRAPHS:
            raise SettingsError(f"precision is {precision!r}; backend onnx has {' and '.join(GRAPHS)}")
        if not (folder / GRAPHS[precision]).is_file() and (folder / SETTINGS_FILE).is_file():
            raise SettingsError(f"{folder} has no graph in {precision}; export it: blink export MODEL --{precision}")
        self.precision = precision
        try:
            settings = read_json(folder / SETTINGS_FILE)
            self.positions, self.entity_size = int(settings["positions"]), int(settings["entity_size"])
            self.has_mention_head = bool(settings["has_mention_head"])
            self.heads_digest = str(settings.get("heads_digest", ""))
            self._heads = _Heads(str(settings["aggregation"]), read_archive(folder / HEADS_FILE, "export the model again"))
            # As a plain array: indexing a `numpy.memmap` takes longer.
            self._words = np.asarray(np.load(require_file(folder / WORDS_FILE, _AGAIN), mmap_mode="r", allow_pickle=False))
            self._session = open_session(folder / GRAPHS[precision])
            session = self._session.get()
        except DAMAGED as error:
            raise CheckpointError(f"{folder} is damaged ({type(error).__name__}: {error}); remove it") from error
        self._outputs = [output.name for output in session.get_outputs()]
        self._mask_type = NUMPY_TYPES[next(i.type for i in session.get_inputs() if i.name == "mask")]

    @property
    def embeds_topics(self) -> bool:
        """Whether the text around mentions can be embedded."""
        return not self._heads.layers

    def encode(self, codes: np.ndarray, mask: np.ndarray) -> OnnxBatch:
        """Run the encoder; see `blink.model.backends.protocol.Backend`."""
        embeddings = self._words[codes % STRIDE]
        if self._heads.case is not None:
            embeddings += self._heads.case[codes // STRIDE]
        values = self._session.get().run(self._outputs, {"embeddings": embeddings, "mask": mask.astype(self._mask_type)})
        outputs = dict(zip(self._outputs, values, strict=True))
        return OnnxBatch(self._heads, mask, outputs["hidden"], outputs.get("token_scores"))


class OnnxBatch:
    """A batch of texts after the context encoder, see `blink.model.backends.protocol.EncodedBatch`.

    Args:
        heads: of the model.
        mask: true at real tokens. *Shape:* (batch, seq), bool.
        hidden: token vectors. *Shape:* (batch, seq, hidden), float32.
        token_scores: *Shape:* (batch, seq, 3), float32; None where the model has no mention head.
    """

    def __init__(self, heads: _Heads, mask: np.ndarray, hidden: np.ndarray, token_scores: np.ndarray | None) -> None:
        self._heads, self._mask, self._hidden, self._token_scores = heads, mask, hidden, token_scores

    @property
    def token_scores(self) -> np.ndarray:
        """Start, end and inside scores. *Shape:* (batch, seq, 3), float32."""
        if self._token_scores is None:
            raise CheckpointError(NO_MENTION_HEAD)
        return self._token_scores

    def mention_vectors(self, text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Vectors of spans. *Shape:* (n, entity_size), float32."""
        hidden, heads = self._hidden, self._heads
        if heads.whole_span:
            vectors = _mean_of_tokens(hidden, text, start, end)
        else:
            first, last = hidden[text, start], hidden[text, end]
            vectors = (first + last) / np.float32(2) if heads.averaged else np.concatenate([first, last], axis=1)
        return heads.scaled(heads.through_layers(vectors))

    def topic_vectors(self, text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Vectors of the text around spans. *Shape:* (n, entity_size), float32."""
        # Without [CLS] and [SEP]; as `blink.model.heads.mean_around`.
        first = np.maximum(start - TOPIC_REACH, 1)
        past = np.minimum(end + TOPIC_REACH + 1, self._mask.sum(1)[text] - 1)
        batch, seq, size = self._hidden.shape
        sums = np.zeros((batch, seq + 1, size), dtype=np.float64)
        np.cumsum(self._hidden, axis=1, dtype=np.float64, out=sums[:, 1:])
        means = (sums[text, past] - sums[text, first]) / np.maximum(past - first, 1)[:, None]
        return self._heads.scaled(means.astype(np.float32))


class _Heads:
    """What follows the graph, see `blink.model.heads.MentionAggregator`."""

    def __init__(self, aggregation: str, arrays: Mapping[str, np.ndarray]) -> None:
        self.whole_span = aggregation.startswith("all")
        self.averaged = aggregation in ("all_avg", "fl_avg", "all_avg_linear", "all_mlp", "cls")
        self.case = arrays.get(CASE)
        self.scale = np.exp(arrays[LOG_SCALE]) if LOG_SCALE in arrays else None
        depth = sum(name.endswith(".weight") for name in arrays)
        self.layers = [(arrays[LAYER.format(i, "weight")], arrays[LAYER.format(i, "bias")]) for i in range(depth)]

    def through_layers(self, vectors: np.ndarray) -> np.ndarray:
        """Linear layers with ReLU between. *Shape:* (n, in) to (n, out), float32."""
        for i, (weight, bias) in enumerate(self.layers):
            vectors = (np.maximum(vectors, 0) if i else vectors) @ weight.T + bias
        return vectors

    def scaled(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors of length exp(log_scale), for cosine models. *Shape:* (n, d), float32."""
        if self.scale is None:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        result: np.ndarray = vectors / np.maximum(lengths, np.float32(1e-12)) * self.scale
        return result


def _mean_of_tokens(hidden: np.ndarray, text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    lengths = end - start + 1
    if not len(text):
        return np.empty((0, hidden.shape[-1]), dtype=np.float32)
    begins = np.cumsum(lengths) - lengths
    positions = np.arange(lengths.sum()) - np.repeat(begins - start, lengths)
    sums: np.ndarray = np.add.reduceat(hidden[np.repeat(text, lengths), positions], begins, axis=0)
    return sums / lengths[:, None].astype(np.float32)


def open_session(graph: Path, threads: int | None = None) -> OpenedByProcess[Any]:
    """A session of ONNX Runtime for a graph; ``threads`` of a product are by default as many as `n_threads`, and one where the
    process was forked.
    """
    graph = graph.resolve()
    return OpenedByProcess(lambda is_forked: _open_session(graph, 1 if is_forked else threads or n_threads()))


def _open_session(graph: Path, threads: int) -> Any:
    onnxruntime = onnx_runtime()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait for work busily would take the cores from search and ranking.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(utf8_path(graph), options, providers=["CPUExecutionProvider"])


def n_threads() -> int:
    """Threads of a product: ``OMP_NUM_THREADS``, as of other libraries, else one for each core that the process may use."""
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if value.isdigit() and int(value):
        return int(value)
    return cores()


NUMPY_TYPES = {"tensor(bool)": np.bool_, "tensor(int64)": np.int64, "tensor(float)": np.float32}
"""Types of the inputs of a graph."""
_AGAIN = "export the model again"
DAMAGED = (OSError, MissingFileError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, DataError)
"""Errors of NumPy, JSON and ONNX Runtime over files that are not whole; those of the last are `RuntimeError` at least."""
