"""Exports stored models of BERT's shape for ONNX Runtime out of their files: the same files as of `export`, without PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from blink.data.arrays import save_array
from blink.files import write_json
from blink.model.backends.bert_graph import WORDS, BertGraph
from blink.model.backends.graph_files import move_graph, optimize, write_arrays
from blink.model.backends.layout import (
    CANDIDATE_GRAPH,
    CANDIDATE_SETTINGS_FILE,
    CANDIDATE_WORDS_FILE,
    CASE,
    GRAPHS,
    HEADS_FILE,
    LAYER,
    LOG_SCALE,
    SETTINGS_FILE,
    WORDS_FILE,
)
from blink.model.backends.onnx_file import GraphFile
from blink.model.backends.quantize import quantize
from blink.model.stored_weights import StoredWeights, scorer_layers
from blink.model.tokenizer import Tokenizer


def export_context(stored: StoredWeights, folder: Path, *, int8: bool = False) -> None:
    """Write a context encoder and the heads on it, as `blink.model.backends.layout` describes.

    Args:
        stored: the context encoder of a model.
        folder: an existing folder.
        int8: write the graph in 8 bits too.

    Raises:
        CheckpointError: weights are missing or of another shape.
    """

    def write(graph: GraphFile) -> None:
        bert = BertGraph(graph, stored.weights, stored.shape)
        graph.output(bert.hidden("hidden"), "float32", ("batch", "seq", bert.width))
        if stored.config.mention_scorer != "none":
            graph.output(_token_scores(bert, stored), "float32", ("batch", "seq", 3))

    files = {name: folder / GRAPHS[name] for name in ("fp32", "int8") if int8 or name == "fp32"}
    _write_graphs(write, stored, files)
    save_array(folder / WORDS_FILE, stored.encoder[WORDS])
    write_arrays(folder / HEADS_FILE, _head_arrays(stored))
    settings = {
        "positions": stored.shape.positions,
        "entity_size": stored.entity_size,
        "aggregation": stored.config.aggregation,
        "has_mention_head": stored.config.mention_scorer != "none",
        "precisions": list(files),
    }
    write_json(folder / SETTINGS_FILE, settings)


def export_candidate(stored: StoredWeights, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a candidate encoder, pooling included, as `blink.model.backends.layout` describes.

    Args:
        stored: the candidate encoder of a model.
        tokenizer: of the model, of whose vocabulary the fingerprint is made.
        folder: an existing folder.

    Raises:
        CheckpointError: weights are missing or of another shape.
    """

    def write(graph: GraphFile) -> None:
        bert = BertGraph(graph, stored.weights, stored.shape)
        graph.output(_pooled(bert, stored), "float32", ("batch", stored.entity_size))

    _write_graphs(write, stored, {"fp32": folder / CANDIDATE_GRAPH})
    save_array(folder / CANDIDATE_WORDS_FILE, stored.encoder[WORDS])
    settings = {
        "fingerprint": stored.candidate_fingerprint(tokenizer),
        "entity_size": stored.entity_size,
        "positions": stored.shape.positions,
        "words": CANDIDATE_WORDS_FILE,
    }
    write_json(folder / CANDIDATE_SETTINGS_FILE, settings)


def _write_graphs(write: Callable[[GraphFile], None], stored: StoredWeights, files: dict[str, Path]) -> None:
    """Write a graph in each precision, fused; ``write`` adds its operators and outputs."""
    with tempfile.TemporaryDirectory(dir=next(iter(files.values())).parent, prefix=".export.") as folder:
        work = Path(folder)
        plain, quantized = work / "plain.onnx", work / "quantized.onnx"
        with GraphFile(plain) as graph:
            write(graph)
        for precision, file in files.items():
            if precision == "int8":
                quantize(plain, quantized, stored.encoder[WORDS], positions=stored.shape.positions)
            optimize(quantized if precision == "int8" else plain, work / file.name)
        for file in files.values():
            move_graph(work / file.name, file)


def _token_scores(bert: BertGraph, stored: StoredWeights) -> str:
    """Start, end and inside score of each token, see `blink.model.heads.MentionScorer`."""
    x = "hidden"
    *inner, last = scorer_layers(stored.config)
    for name in inner:
        x = bert.graph.node("Relu", f"{name}/relu", (bert.linear(x, name, prefix=""),))
    return bert.linear(x, last, prefix="", result="token_scores")


def _pooled(bert: BertGraph, stored: StoredWeights) -> str:
    """Vectors of entities, see `BiEncoder.encode_candidates`."""
    graph, config = bert.graph, stored.config
    result = "pooled" if config.cosine else "vectors"
    hidden = bert.hidden("hidden")
    if config.candidate_pooling == "mean":
        mask = graph.node("Cast", "weights", ("mask",), to=1)
        ones = graph.constant("last", np.array([2]))
        weights = graph.node("Unsqueeze", "weights_of_tokens", (mask, ones))
        axis = graph.constant("tokens", np.array([1]))
        weighted = graph.node("Mul", "weighted", (hidden, weights))
        sums = graph.node("ReduceSum", "sums", (weighted, axis), keepdims=0)
        counts = graph.node("ReduceSum", "counts", (weights, axis), keepdims=0)
        counts = graph.node("Max", "counts_at_least", (counts, graph.constant("one", np.float32(1))))
        graph.node("Div", result, (sums, counts))
    else:
        linear = config.candidate_pooling == "linear"
        first = graph.node(
            "Gather", "first_token" if linear else result, (hidden, graph.constant("first", np.int64(0))), axis=1
        )
        if linear:
            pooler = graph.node("Tanh", "pooler", (bert.linear(first, "pooler.dense", prefix=""),))
            bert.linear(pooler, "additional_linear", prefix="", result=result)
    return _unit_length(bert, result) if config.cosine else result


def _unit_length(bert: BertGraph, vectors: str) -> str:
    """Vectors of length 1; as `torch.nn.functional.normalize`."""
    graph = bert.graph
    lengths = graph.node("ReduceL2", "lengths", (vectors,), axes=(-1,), keepdims=1)
    lengths = graph.node("Max", "lengths_at_least", (lengths, graph.constant("least", np.float32(1e-12))))
    return graph.node("Div", "vectors", (vectors, lengths))


def _head_arrays(stored: StoredWeights) -> dict[str, np.ndarray]:
    """What is computed outside the graph."""
    heads = stored.heads
    arrays = {LOG_SCALE: heads["log_scale"]} if "log_scale" in heads else {}
    if "case_embedding.weight" in heads:
        arrays[CASE] = heads["case_embedding.weight"]
    layers = [name.removesuffix(".weight") for name in heads if name.startswith("aggregator.") and name.endswith(".weight")]
    return arrays | {LAYER.format(i, k): heads[f"{name}.{k}"] for i, name in enumerate(layers) for k in ("weight", "bias")}
