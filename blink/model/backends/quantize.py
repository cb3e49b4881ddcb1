"""Products of an exported graph in 8 bits, with a scale for each token, so that no text depends on the batch it is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blink.extras import require_extra
from blink.model.backends.runtime import onnx_runtime

MAX_ACTIVATION = 127
"""Largest number of a quantized activation; stored with `ZERO` added, as processors multiply unsigned by signed bytes."""
MAX_WEIGHT = 96
"""Largest number of a quantized weight. Processors with AVX2 and without VNNI add two products in 16 bits: at 127 one pair in
10,000 overflows, at 96 one in a million, which changes results less than their rounding."""
ZERO = 128
GROUP = 384
"""Inputs of a product that share a scale, at most: a long row with one outlier loses the others' digits."""
SMOOTHING = 0.5
"""How much of the range of activations is moved into weights, alpha of Xiao et al. 2023, "SmoothQuant"."""
_CALIBRATION = (4, 64)
"""Shape of the texts of random words that give the range of activations, (batch, seq); shorter where the encoder reads less."""
_LEAST = 1e-5
_CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


def quantize(graph: Path, out: Path, words: np.ndarray, *, positions: int, prefix: str = "/tower/") -> None:
    """Write a graph whose products with constant matrices are computed in 8 bits.

    A product X W becomes (round(X / S / s) round(S W / t)) s t: s is a scale of each token, its largest number over
    `MAX_ACTIVATION`; t is one of each output, likewise; S moves range from inputs to weights, and is fixed. Long rows are split
    into groups of inputs, each with scales of its own.

    Args:
        graph: as traced, not optimized.
        out: file of the result, with its weights inside.
        words: word embeddings, whose rows make the texts that S follows from. *Shape:* (vocabulary, width), float32.
        positions: the longest text the graph reads, in tokens.
        prefix: only products of operators with such names; those of the heads are small, and decide links.
    """
    onnx = require_extra("onnx", "graphs in 8 bits", "int8")
    from onnx import numpy_helper

    model = onnx.load(str(graph))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    products = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name.startswith(prefix) and node.input[1] in stored
    ]
    weights = {node.name: numpy_helper.to_array(stored[node.input[1]]) for node in products}
    ranges = _ranges(graph, sorted({node.input[0] for node in products}), words, positions)
    smoothing = {
        name: _smoothing(size, [weights[node.name] for node in products if node.input[0] == name])
        for name, size in ranges.items()
    }
    writer = _Writer()
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.name in weights:
            nodes += writer.product(node, weights[node.name], smoothing[node.input[0]])
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, [*constants, *writer.constants()])):
        del field[:]
        field.extend(values)
    model.opset_import.append(onnx.helper.make_opsetid(_CONTRIB, 1))
    onnx.save(model, str(out))


def _ranges(graph: Path, names: list[str], words: np.ndarray, positions: int) -> dict[str, np.ndarray]:
    """Largest absolute number of each input of values inside a graph, over texts of random words. *Shape:* (inputs,) each."""
    import onnx

    onnxruntime = onnx_runtime()

    model = onnx.load(str(graph))
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(0).integers(0, len(words), (_CALIBRATION[0], min(_CALIBRATION[1], positions)))
    values = session.run(names, {"embeddings": words[ids], "mask": np.ones(ids.shape, dtype=bool)})
    return {name: np.abs(value).reshape(-1, value.shape[-1]).max(0) for name, value in zip(names, values, strict=True)}


def _smoothing(largest: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """What inputs are divided by: their range to the power of `SMOOTHING`, by that of their weights to the rest.

    Args:
        largest: of each input. *Shape:* (inputs,).
        weights: of all products with them. *Shape:* (inputs, outputs) each.
    """
    of_weights = np.max([np.abs(w).max(1) for w in weights], axis=0)
    scale = (largest + _LEAST) ** SMOOTHING / (of_weights + _LEAST) ** (1 - SMOOTHING)
    result: np.ndarray = (scale / np.exp(np.log(scale).mean())).astype(np.float32)
    return result


def _n_groups(inputs: int) -> int:
    """The least number of equal groups of at most `GROUP` inputs."""
    return next(n for n in range(1, inputs + 1) if inputs % n == 0 and inputs // n <= GROUP)


class _Writer:
    """Makes operators, and the constants they need."""

    def __init__(self) -> None:
        self._constants: dict[str, np.ndarray] = {}
        self._quantized: set[str] = set()

    def constants(self) -> Iterator[Any]:
        """The constants, as tensors."""
        from onnx import numpy_helper

        return (numpy_helper.from_array(value, name) for name, value in self._constants.items())

    def _constant(self, name: str, value: np.ndarray) -> str:
        self._constants[f"int8/{name}"] = value
        return f"int8/{name}"

    def product(self, node: Any, weight: np.ndarray, smoothing: np.ndarray) -> Iterator[Any]:
        """Operators that replace a product.

        Args:
            node: the product.
            weight: its constant matrix. *Shape:* (inputs, outputs), float32.
            smoothing: what its inputs are divided by. *Shape:* (inputs,), float32.
        """
        from onnx import helper

        groups = _n_groups(len(weight))
        source, result = node.input[0], node.output[0]
        if source not in self._quantized:  # queries, keys and values share their input
            self._quantized.add(source)
            yield from self._quantize_tokens(source, smoothing, groups)
        sums = []
        for i, rows in enumerate(np.split(weight * smoothing[:, None], groups)):
            scale = np.maximum(np.abs(rows).max(0), np.float32(1e-12)) / np.float32(MAX_WEIGHT)
            inputs = [
                f"{source}/bytes{i}",
                self._constant(f"{node.name}/weight{i}", np.rint(rows / scale).astype(np.int8)),
                self._constant("one", np.float32(1)[...]),
                self._constant(f"{node.name}/scale{i}", scale.astype(np.float32)),
                self._constant("zero", np.uint8(ZERO)[...]),
                self._constant(f"{node.name}/zeros", np.zeros(weight.shape[1], dtype=np.int8)),
            ]
            yield helper.make_node("MatMulIntegerToFloat", inputs, [f"{result}/sum{i}"], f"{node.name}/sum{i}", domain=_CONTRIB)
            sums.append(result if groups == 1 else f"{result}/scaled{i}")
            yield helper.make_node("Mul", [f"{result}/sum{i}", f"{source}/scale{i}"], [sums[-1]], f"{node.name}/scaled{i}")
        if groups > 1:
            yield helper.make_node("Sum", sums, [result], f"{node.name}/total")

    def _quantize_tokens(self, source: str, smoothing: np.ndarray, groups: int) -> Iterator[Any]:
        """Bytes and scales of each token and group of inputs."""
        from onnx import helper

        def operator(kind: str, inputs: list[str], name: str, **attributes: Any) -> Any:
            return helper.make_node(kind, inputs, [f"{source}/{name}"], f"{source}/{name}", **attributes)

        yield operator("Mul", [source, self._constant(f"{source}/smoothing", np.float32(1) / smoothing)], "smooth")
        groups_of = [f"{source}/smooth"]
        if groups > 1:
            groups_of = [f"{source}/part{i}" for i in range(groups)]
            yield helper.make_node("Split", [f"{source}/smooth"], groups_of, f"{source}/parts", axis=-1)
        for i, group in enumerate(groups_of):
            yield operator("Abs", [group], f"size{i}")
            yield operator("ReduceMax", [f"{source}/size{i}"], f"largest{i}", axes=[-1], keepdims=1)
            # A token of zeros has no range.
            yield operator("Max", [f"{source}/largest{i}", self._constant("least", np.float32(1e-8)[...])], f"range{i}")
            by = self._constant("by", np.float32(1 / MAX_ACTIVATION)[...])
            yield operator("Mul", [f"{source}/range{i}", by], f"scale{i}")
            yield operator("Div", [group, f"{source}/scale{i}"], f"scaled{i}")
            one, zero = self._constant("one", np.float32(1)[...]), self._constant("zero", np.uint8(ZERO)[...])
            yield operator("QuantizeLinear", [f"{source}/scaled{i}", one, zero], f"bytes{i}")
