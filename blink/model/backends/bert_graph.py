"""BERT (Devlin et al. 2019) as a graph for ONNX Runtime, out of its weights: nothing here needs PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blink.errors import CheckpointError
from blink.model.backends.onnx_file import GraphFile

Tensors = Mapping[str, np.ndarray]
WORDS = "embeddings.word_embeddings.weight"
"""Name of the word embeddings among the weights of an encoder; they stay outside the graph."""
_MASKED = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class BertShape:
    """Settings of a BERT that its weights do not show.

    Attributes:
        layers: number of layers.
        heads: of attention.
        epsilon: of the layer norms.
        positions: the longest input, in tokens.
    """

    layers: int
    heads: int
    epsilon: float
    positions: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> BertShape | None:
        """Read the settings of an encoder; None where it is no plain BERT, or one of another form than this graph has."""
        fixed = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
        if settings.get("model_type") != "bert" or any(settings.get(k, v) not in (v, None) for k, v in fixed.items()):
            return None
        if settings.get("add_cross_attention") or settings.get("chunk_size_feed_forward"):
            return None
        try:
            numbers = (settings.get("num_hidden_layers", 12), settings.get("num_attention_heads", 12))
            layers, heads, positions = (int(n) for n in (*numbers, settings.get("max_position_embeddings", 512)))
            return cls(layers, heads, float(settings.get("layer_norm_eps", 1e-12)), positions)
        except (TypeError, ValueError):
            return None


class BertGraph:
    """Writes the layers of a BERT into a graph: rows of word embeddings in, token vectors out.

    Args:
        graph: to be written.
        weights: of the encoder, under the names of transformers, float32.
        shape: of the encoder.

    Raises:
        CheckpointError: weights are missing or of another shape.
    """

    def __init__(self, graph: GraphFile, weights: Tensors, shape: BertShape) -> None:
        self.graph, self.weights, self.shape = graph, weights, shape
        self.width = int(self.weight(WORDS).shape[1])
        if self.width % shape.heads:
            raise CheckpointError(
                f"{shape.heads} heads do not divide the width {self.width} of the encoder; copy the model again"
            )

    def weight(self, name: str, *dims: int) -> np.ndarray:
        """Weights of a name.

        Raises:
            CheckpointError: there are none, or of other dimensions than ``dims``.
        """
        value = self.weights.get(name)
        if value is None or (dims and value.shape != dims):
            problem = "are missing" if value is None else f"have the shape {value.shape} instead of {dims}"
            raise CheckpointError(
                f"the weights {name} {problem}, which the encoder's settings need; copy the model folder again"
            )
        return value

    def hidden(self, result: str) -> str:
        """Write all layers; ``result`` is the name of token vectors, (batch, seq, width) float32, of padding too."""
        g, word = self.graph, self.graph.constant
        inputs = g.input("embeddings", "float32", ("batch", "seq", self.width))
        mask = g.input("mask", "bool", ("batch", "seq"))
        # Added in the order of transformers: sums of floats depend on it.
        segment = word("/tower/segment", self.weight("embeddings.token_type_embeddings.weight")[0])
        x = g.node("Add", "/tower/embeddings/segments", (inputs, segment))
        x = g.node("Add", "/tower/embeddings/positions", (x, self._positions(inputs)))
        x = self.norm(x, "embeddings.LayerNorm")
        allowed = g.node("Unsqueeze", "/tower/allowed", (mask, word("/tower/axes", np.array([1, 2]))))
        values = (word("/tower/zero", np.float32(0)), word("/tower/masked", np.float32(_MASKED)))
        bias = g.node("Where", "/tower/attention_bias", (allowed, *values))
        for layer in range(self.shape.layers):
            x = self._layer(x, bias, f"encoder.layer.{layer}", result if layer == self.shape.layers - 1 else "")
        return x

    def _positions(self, inputs: str) -> str:
        g, word = self.graph, self.graph.constant
        table = self.weight("embeddings.position_embeddings.weight")[: self.shape.positions]
        sizes = g.node("Shape", "/tower/embeddings/shape", (inputs,))
        one, two = word("/tower/one", np.array([1])), word("/tower/two", np.array([2]))
        seq = g.node("Slice", "/tower/embeddings/seq", (sizes, one, two))
        start = word("/tower/start", np.array([0]))
        return g.node("Slice", "/tower/embeddings/rows", (word("/tower/position_rows", table), start, seq, start))

    def _layer(self, x: str, bias: str, name: str, result: str) -> str:
        g = self.graph
        attended = g.node("Add", f"/tower/{name}/attended", (self._attention(x, bias, f"{name}.attention"), x))
        x = self.norm(attended, f"{name}.attention.output.LayerNorm")
        wide = self._gelu(self.linear(x, f"{name}.intermediate.dense"), f"/tower/{name}/gelu")
        mapped = g.node("Add", f"/tower/{name}/mapped", (self.linear(wide, f"{name}.output.dense"), x))
        return self.norm(mapped, f"{name}.output.LayerNorm", result)

    def _attention(self, x: str, bias: str, name: str) -> str:
        """Scaled dot products of queries and keys, as transformers computes them with ``attn_implementation="eager"``."""
        g, depth = self.graph, self.width // self.shape.heads
        # A zero keeps a dimension, so that no shape has to be computed.
        apart = g.constant("/tower/heads_apart", np.array([0, 0, self.shape.heads, depth]))
        together = g.constant("/tower/heads_together", np.array([0, 0, self.width]))

        def heads(kind: str, order: tuple[int, ...]) -> str:
            values = g.node("Reshape", f"/tower/{name}/{kind}", (self.linear(x, f"{name}.self.{kind}"), apart))
            return g.node("Transpose", f"/tower/{name}/{kind}_heads", (values,), perm=order)

        query, key, value = heads("query", (0, 2, 1, 3)), heads("key", (0, 2, 3, 1)), heads("value", (0, 2, 1, 3))
        scores = g.node("MatMul", f"/tower/{name}/scores", (query, key))
        scale = g.constant("/tower/scale", np.float32(depth**-0.5))
        scores = g.node("Mul", f"/tower/{name}/scaled", (scores, scale))
        scores = g.node("Add", f"/tower/{name}/biased", (scores, bias))
        weights = g.node("Softmax", f"/tower/{name}/softmax", (scores,), axis=-1)
        mixed = g.node("MatMul", f"/tower/{name}/mixed", (weights, value))
        mixed = g.node("Transpose", f"/tower/{name}/mixed_heads", (mixed,), perm=(0, 2, 1, 3))
        return self.linear(g.node("Reshape", f"/tower/{name}/joined", (mixed, together)), f"{name}.output.dense")

    def linear(self, x: str, name: str, prefix: str = "/tower/", result: str = "") -> str:
        """A linear layer by the name of its weights, (out, in) and (out,).

        Args:
            x: name of its input.
            name: of its weights.
            prefix: of the names of its operators.
            result: name of its result; by default made of the others.
        """
        g, weight = self.graph, self.weight(f"{name}.weight")
        product = g.node("MatMul", f"{prefix}{name}/product", (x, g.constant(f"{name}.weight", weight.T)))
        bias = g.constant(f"{name}.bias", self.weight(f"{name}.bias", len(weight)))
        return g.node("Add", result or f"{prefix}{name}/sum", (product, bias))

    def norm(self, x: str, name: str, result: str = "") -> str:
        """A layer norm by the name of its weights; ``result`` is the name of its result."""
        scale, shift = (self.graph.constant(f"{name}.{k}", self.weight(f"{name}.{k}", self.width)) for k in ("weight", "bias"))
        inputs = (x, scale, shift)
        return self.graph.node("LayerNormalization", result or f"/tower/{name}", inputs, axis=-1, epsilon=self.shape.epsilon)

    def _gelu(self, x: str, name: str) -> str:
        """Gaussian error linear unit, exact, in the operators that ONNX Runtime fuses."""
        g = self.graph
        inner = g.node("Div", f"{name}/div", (x, g.constant("/tower/root_two", np.float32(math.sqrt(2)))))
        inner = g.node("Erf", f"{name}/erf", (inner,))
        inner = g.node("Add", f"{name}/shifted", (inner, g.constant("/tower/unit", np.float32(1))))
        inner = g.node("Mul", f"{name}/product", (x, inner))
        return g.node("Mul", f"{name}/half", (inner, g.constant("/tower/half", np.float32(0.5))))
