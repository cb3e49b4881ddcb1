"""Exports encoders for ONNX Runtime: a graph of the layers, word embeddings as a file to be mapped, and the heads as arrays."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blink.data.arrays import save_array
from blink.errors import SettingsError, first_line
from blink.files import write_json
from blink.model.adapters import has_adapters
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
from blink.model.backends.onnx_file import OPSET
from blink.model.backends.quantize import quantize
from blink.model.biencoder import BiEncoder
from blink.model.pretrained import longest_input

TOLERANCES = {"fp32": 1e-3, "int8": 0.5}
"""Largest difference between an exported graph and the model, by the largest number of its output: far above rounding, below a
graph that was traced wrongly."""
_CHECKED_SHAPES = ((1, 5), (3, 4), (2, 17))
"""Batches on which a graph is compared with the model, other than the one that is traced. *Shape:* (batch, seq) each."""


def export_model(model: BiEncoder, folder: str | Path, *, int8: bool = False) -> None:
    """Write the context encoder of a model and the heads on it, as `blink.model.backends.layout` describes.

    Args:
        model: with its context encoder, on the CPU and in float32, its adapters merged.
        folder: an existing folder; files of an earlier export are replaced.
        int8: write the graph in 8 bits too.

    Raises:
        SettingsError: the model has no context encoder, or one that cannot be exported.
    """
    tower = _ready(model.context_encoder, "context")
    aggregator = model.aggregator
    assert aggregator is not None  # a context encoder brings one
    folder = Path(folder)
    names = ("hidden",) if model.mention_scorer is None else ("hidden", "token_scores")
    graphs = {name: folder / GRAPHS[name] for name in ("fp32", "int8") if int8 or name == "fp32"}
    _write_graphs(_ContextLayers(tower, model.mention_scorer), tower, graphs, names)
    _write_words(tower, folder / WORDS_FILE)
    arrays = {} if model.log_scale is None else {LOG_SCALE: _array(model.log_scale)}
    if model.case_embedding is not None:
        arrays[CASE] = _array(model.case_embedding.weight)
    for i, layer in enumerate(m for m in aggregator.modules() if isinstance(m, nn.Linear)):
        arrays |= {LAYER.format(i, name): _array(value) for name, value in layer.named_parameters()}
    write_arrays(folder / HEADS_FILE, arrays)
    settings = {
        "positions": longest_input(tower),
        "entity_size": model.entity_size,
        "aggregation": model.config.aggregation,
        "has_mention_head": model.mention_scorer is not None,
        "precisions": list(graphs),
    }
    write_json(folder / SETTINGS_FILE, settings)


def export_candidate(model: BiEncoder, folder: str | Path) -> None:
    """Write the candidate encoder of a model, pooling included, as `blink.model.backends.layout` describes.

    Args:
        model: with its candidate encoder, on the CPU and in float32.
        folder: an existing folder, such as that of `export_model`; word embeddings that are there already are shared.

    Raises:
        SettingsError: the model has no candidate encoder, or one that cannot be exported.
    """
    tower, folder = _ready(model.candidate_encoder, "candidate"), Path(folder)
    _write_graphs(_CandidateLayers(model, tower), tower, {"fp32": folder / CANDIDATE_GRAPH}, ("vectors",))
    shared = (folder / WORDS_FILE).is_file() and np.array_equal(
        np.load(folder / WORDS_FILE, mmap_mode="r", allow_pickle=False), _array(_words(tower))
    )
    words = WORDS_FILE if shared else CANDIDATE_WORDS_FILE
    if not shared:
        _write_words(tower, folder / words)
    settings = {
        "fingerprint": model.candidate_fingerprint(),
        "entity_size": model.entity_size,
        "positions": longest_input(tower),
        "words": words,
    }
    write_json(folder / CANDIDATE_SETTINGS_FILE, settings)


class _CandidateLayers(nn.Module):
    """What a graph of the candidate encoder computes; as `BiEncoder.encode_candidates`, from word embeddings."""

    def __init__(self, model: BiEncoder, tower: nn.Module) -> None:
        super().__init__()
        self.tower, self.linear = tower, model.additional_linear
        self.pooling, self.cosine = model.config.candidate_pooling, model.config.cosine

    def forward(self, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        output = self.tower(inputs_embeds=embeddings, attention_mask=mask.long())
        if self.linear is not None:
            vectors = self.linear(output.pooler_output)
        elif self.pooling == "cls":
            vectors = output.last_hidden_state[:, 0]
        else:
            weights = mask[..., None].float()
            vectors = (output.last_hidden_state * weights).sum(1) / weights.sum(1).clamp(min=1)
        return (nn.functional.normalize(vectors, dim=-1) if self.cosine else vectors,)


class _ContextLayers(nn.Module):
    """What a graph of the context encoder computes."""

    def __init__(self, tower: nn.Module, scorer: nn.Module | None) -> None:
        super().__init__()
        self.tower, self.scorer = tower, scorer

    def forward(self, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        hidden = self.tower(inputs_embeds=embeddings, attention_mask=mask.long()).last_hidden_state
        return (hidden,) if self.scorer is None else (hidden, self.scorer(hidden))


# -- graphs


def _ready(tower: nn.Module | None, name: str) -> nn.Module:
    """An encoder that can be traced as it is."""
    if tower is None:
        raise SettingsError(f"the {name} encoder was not loaded; load the model with {name}=True to export it")
    if has_adapters(tower):
        raise SettingsError("the model's adapters are not merged into its weights; load it without trainable=True to export it")
    weight = next(tower.parameters())
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        found = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device}"
        raise SettingsError(f"the {name} encoder is {found}; move the model to the CPU in float32 to export it")
    return tower


def _write_graphs(layers: nn.Module, tower: nn.Module, files: Mapping[str, Path], outputs: tuple[str, ...]) -> None:
    """Trace layers, and write a graph of them in each precision, compared with them, with its weights next to it."""
    kind = getattr(tower.config, "model_type", type(tower).__name__)
    folder = next(iter(files.values())).parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as work, _traceable(layers, tower):
        traced, quantized = Path(work) / "traced.onnx", Path(work) / "quantized.onnx"
        differences = {}
        try:
            _trace(layers, tower, traced, outputs)
            for precision, file in files.items():
                if precision == "int8":
                    quantize(traced, quantized, _array(_words(tower)), positions=longest_input(tower))
                session = optimize(quantized if precision == "int8" else traced, Path(work) / file.name)
                differences[precision] = _relative_difference(layers, tower, session, outputs)
        except Exception as error:  # tracing runs code of torch and transformers, which raises anything
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise SettingsError(f"encoders of type {kind!r} cannot be exported here ({reason}); use --backend torch") from error
        for precision, difference in differences.items():
            if not difference <= TOLERANCES[precision]:
                problem = f"differs from the model by {difference:.2g} of its largest output"
                raise SettingsError(f"the encoder of type {kind!r}, exported in {precision}, {problem}; use --backend torch")
        for file in files.values():
            move_graph(Path(work) / file.name, file)


def _trace(layers: nn.Module, tower: nn.Module, file: Path, outputs: tuple[str, ...]) -> None:
    inputs = ("embeddings", "mask")
    # The exporter by tracing: the newer one needs onnxscript, and unrolls shapes that are 1.
    tracing: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with torch.inference_mode():
        torch.onnx.export(
            layers,
            _example(tower, 2, 6),
            str(file),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} if name == "vectors" else {0: "batch", 1: "seq"} for name in (*inputs, *outputs)},
            opset_version=OPSET,
            **tracing,
        )


@contextlib.contextmanager
def _traceable(layers: nn.Module, tower: nn.Module) -> Iterator[None]:
    """Attention as single operators, no dropout, and no warnings of the exporter inside the block."""
    attention, training = getattr(tower.config, "_attn_implementation", None), tower.training
    layers.eval()
    tower.set_attn_implementation("eager")  # type: ignore[operator]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        layers.train(training)
        if attention is not None:
            tower.set_attn_implementation(attention)  # type: ignore[operator]


@torch.inference_mode()
def _relative_difference(layers: nn.Module, tower: nn.Module, session: Any, outputs: tuple[str, ...]) -> float:
    """Largest difference at real tokens, by the largest number of that output."""
    worst = 0.0
    for batch, seq in _CHECKED_SHAPES:
        embeddings, mask = _example(tower, batch, min(seq, longest_input(tower)))
        expected = layers(embeddings, mask)
        actual = session.run(list(outputs), {"embeddings": embeddings.numpy(), "mask": mask.numpy()})
        for ours, theirs in zip(actual, expected, strict=True):
            real = mask.numpy() if ours.ndim == 3 else slice(None)
            difference, size = np.abs(ours - theirs.numpy())[real], np.abs(theirs.numpy())[real]
            worst = max(worst, float(difference.max() / max(size.max(), 1e-6)))
    return worst


def _example(tower: nn.Module, batch: int, seq: int) -> tuple[Tensor, Tensor]:
    """Rows of word embeddings, the last texts padded. *Shape:* (batch, seq, width) and (batch, seq)."""
    words = _words(tower)
    ids = torch.randint(len(words), (batch, seq), generator=torch.Generator().manual_seed(0))
    lengths = torch.clamp(seq - 2 * torch.arange(batch), min=2)
    return words[ids], torch.arange(seq) < lengths[:, None]


# -- arrays


def _words(tower: nn.Module) -> Tensor:
    weight: Tensor = tower.get_input_embeddings().weight  # type: ignore[operator]
    return weight.detach()


def _write_words(tower: nn.Module, file: Path) -> None:
    save_array(file, _array(_words(tower)))


def _array(value: Tensor) -> np.ndarray:
    return value.detach().float().cpu().numpy()
