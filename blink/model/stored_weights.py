"""The weights of a stored model in NumPy, its adapters merged: what an export needs, without PyTorch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from blink.errors import CheckpointError, MismatchError
from blink.files import read_json, sha256
from blink.input_files import utf8_path
from blink.model.backends.bert_graph import WORDS, BertShape, Tensors
from blink.model.config import MENTION_SCORERS, ZERO_SHOT, ModelConfig
from blink.model.folder import (
    ADAPTERS_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    encoder_folder,
    is_original,
    is_plain_encoder,
    read_settings,
)
from blink.model.tokenizer import Tokenizer
from blink.model.weight_checks import require_finite, require_floats
from blink.model.weight_shapes import require_shapes, require_sizes

INITIAL_SCALE = 20.0
"""Scale of a new cosine model; 1 / temperature, as usual in contrastive training."""
FACTORS = (".parametrizations.weight.0.a", ".parametrizations.weight.0.b")
"""How the factors A (rank, in) and B (out, rank) of an adapter are called in a stored model."""
_READABLE = frozenset({"F16", "F32", "F64"})
_LINEAR, _MLP = ("",), ("0.", "3.")
"""Where the linear layers of a head are among its modules."""


@dataclass(frozen=True)
class StoredWeights:
    """One encoder of a model, and the heads that go with it.

    Attributes:
        config: settings of the model.
        shape: of the encoder.
        encoder: its weights under the names of transformers, float32.
        heads: weights of the model's heads under their names in its file, in the order of `head_names`, float32.
        entity_size: dimensions of an entity vector.
    """

    config: ModelConfig
    shape: BertShape
    encoder: Tensors
    heads: Tensors
    entity_size: int

    @property
    def weights(self) -> Tensors:
        """Weights of encoder and heads."""
        return {**self.encoder, **self.heads}

    def heads_digest(self) -> str:
        """See `BiEncoder.heads_digest`."""
        return digest_of_heads(self.config, self.heads.values())

    def candidate_fingerprint(self, tokenizer: Tokenizer) -> str:
        """See `BiEncoder.candidate_fingerprint`; only of the candidate encoder's weights."""
        linear = {name: value for name, value in self.heads.items() if name.startswith("additional_linear.")}
        return fingerprint(self.config, tokenizer, {**self.encoder, **linear})


def read_weights(path: Path, tower: str) -> StoredWeights | None:
    """Read an encoder of a model.

    Args:
        path: see `blink.model.loading.load_model`.
        tower: ``context`` or ``candidate``.

    Returns:
        None where it takes PyTorch to read it: it is no BERT, a file of the originals, or of a type that NumPy lacks.

    Raises:
        CheckpointError: a file is damaged, or its weights do not fit its settings.
    """
    if is_original(path):
        return None
    if is_plain_encoder(path):
        return _plain(path)
    values = read_settings(path)
    config = ModelConfig.from_dict(values)
    if config.base is not None:
        return _adapted(path, config, config.base, tower)
    settings = values.get(f"{tower}_encoder")
    if not isinstance(settings, dict) or (shape := BertShape.of(settings)) is None:
        return None
    tensors = _tensors(path / WEIGHTS_FILE)
    if tensors is None:
        return None
    encoder = _of_tower(tensors, tower)
    require_sizes(settings, encoder)
    size = int(values.get("entity_size") or encoder[WORDS].shape[-1])
    return _checked(StoredWeights(config, shape, encoder, _heads(config, tower, tensors), size))


def _checked(stored: StoredWeights) -> StoredWeights:
    require_shapes(stored.encoder, stored.shape.layers, stored.heads, stored.entity_size)
    return stored


def head_names(config: ModelConfig, tower: str) -> list[str]:
    """Names of the weights of a model's heads, in the order of its parameters; of those that ``tower`` goes with."""
    names = ["log_scale"] if config.cosine else []
    if tower == "candidate":
        return names + (["additional_linear.weight", "additional_linear.bias"] if config.candidate_pooling == "linear" else [])
    layers = {"linear": _LINEAR, "mlp": _MLP}.get(config.aggregation.rpartition("_")[2], ())
    names += [f"aggregator.mention_agg_linear.{layer}{kind}" for layer in layers for kind in ("weight", "bias")]
    if config.mention_scorer != "none":
        names += [f"{layer}.{kind}" for layer in scorer_layers(config) for kind in ("weight", "bias")]
    return names + (["case_embedding.weight"] if config.reads_case else [])


def scorer_layers(config: ModelConfig) -> list[str]:
    """Names of the linear layers of the mention head, with ReLU between; the model has one."""
    layers = _LINEAR if MENTION_SCORERS[config.mention_scorer] == "qa_linear" else _MLP
    return [f"mention_scorer.bound_classifier.{layer}".removesuffix(".") for layer in layers]


def digest_of_heads(config: ModelConfig, heads: Any) -> str:
    """Identifies the scores of a bi-encoder: hash of its heads and of its candidate encoder, in 16 digits.

    Args:
        config: settings of the model.
        heads: weights of the heads, in the order of the model's parameters, float32.
    """
    digest = hashlib.sha256(str(config.candidate_fingerprint).encode())
    for value in heads:
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def fingerprint(config: ModelConfig, tokenizer: Tokenizer, candidate_state: Tensors) -> str:
    """Hash of what decides an entity's vector.

    Args:
        config: of which only the settings of candidate inputs count.
        tokenizer: of which the vocabulary counts.
        candidate_state: weights of the candidate encoder, and of ``additional_linear.`` where it has one, float32.
    """
    digest = hashlib.sha256()
    for name in ("max_candidate_length", "candidate_pooling", "candidate_fields", "cosine", "lowercase", "isolate_symbols"):
        digest.update(f"{name}={getattr(config, name)};".encode())
    digest.update(f"pieces={tokenizer.fingerprint};".encode())
    with_pooler = config.candidate_pooling == "linear"
    for name in sorted(n for n in candidate_state if with_pooler or not n.startswith("pooler.")):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(candidate_state[name]).data)
    return digest.hexdigest()


def require_base(folder: Path, config: ModelConfig, weights: Path) -> None:
    """Check that adapters are for the weights of the encoder at hand.

    Raises:
        MismatchError: they were trained on others.
    """
    if config.base_sha256 is not None and weights.is_file() and sha256(weights) != config.base_sha256:
        raise MismatchError(f"{folder} was trained on another version of {config.base} than {weights}; bring that back")


def _plain(path: Path) -> StoredWeights | None:
    """An encoder as published, as `BiEncoder.from_encoder` makes a model of it."""
    config = ZERO_SHOT.replace(mention_scorer="none")
    base = _base(str(path))
    if base is None:
        return None
    shape, encoder = base
    state = fingerprint(config, Tokenizer.from_pretrained(path), encoder)
    heads = {"log_scale": np.float32(math.log(INITIAL_SCALE))[...]}
    return _checked(StoredWeights(config.replace(candidate_fingerprint=state), shape, encoder, heads, encoder[WORDS].shape[-1]))


def _adapted(path: Path, config: ModelConfig, name: str, tower: str) -> StoredWeights | None:
    require_base(path, config, Path(encoder_folder(name)) / WEIGHTS_FILE)
    base, tensors = _base(name), _tensors(path / ADAPTERS_FILE)
    if base is None or tensors is None:
        return None
    shape, encoder = base
    if tower == "context":
        prefix = "context_encoder."
        trained = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        encoder = _merged(config.adapter_rank, encoder, trained)
    heads = _heads(config, tower, tensors)
    return _checked(StoredWeights(config, shape, encoder, heads, encoder[WORDS].shape[-1]))


def _merged(rank: int, encoder: Tensors, trained: Tensors) -> dict[str, np.ndarray]:
    """An encoder with other biases and norms, and with B A added to its weights, see `blink.model.adapters`."""
    linear = [
        n.removesuffix(".weight") for n in encoder if n.endswith(".weight") and n.removesuffix("weight") + "bias" in encoder
    ]
    linear = [name for name in linear if encoder[f"{name}.weight"].ndim == 2]
    whole = {name for name in encoder if name.endswith("bias") or encoder[name].ndim == 1}
    expected = whole | {name + factor for name in linear for factor in FACTORS}
    if expected != trained.keys():
        raise CheckpointError("the adapters do not fit the encoder they name; copy the model folder again")
    merged = {**encoder, **{name: trained[name] for name in whole}}
    for name in linear:
        a, b = (trained[name + factor] for factor in FACTORS)
        out, size = encoder[f"{name}.weight"].shape
        if a.shape != (rank, size) or b.shape != (out, rank):
            raise CheckpointError("the adapters do not fit the encoder they name; copy the model folder again")
        merged[f"{name}.weight"] = encoder[f"{name}.weight"] + b @ a
    return merged


def _base(name: str) -> tuple[BertShape, dict[str, np.ndarray]] | None:
    """Shape and weights of a pretrained encoder, without its pooler."""
    folder = Path(encoder_folder(name))
    settings = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else None
    if not isinstance(settings, dict) or (shape := BertShape.of(settings)) is None:
        return None
    tensors = _tensors(folder / WEIGHTS_FILE) if (folder / WEIGHTS_FILE).is_file() else None
    if tensors is None or WORDS not in tensors:
        return None
    require_sizes(settings, tensors)
    return shape, {k: v for k, v in tensors.items() if k.startswith(("embeddings.", "encoder."))}


def _of_tower(tensors: Tensors, tower: str) -> dict[str, np.ndarray]:
    prefix = f"{tower}_encoder."
    encoder = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if WORDS not in encoder:
        raise CheckpointError(f"the weights {prefix}{WORDS} are missing; copy the model folder again")
    return encoder


def _heads(config: ModelConfig, tower: str, tensors: Tensors) -> dict[str, np.ndarray]:
    names = head_names(config, tower)
    missing = [name for name in names if name not in tensors]
    if missing:
        what = f"{', '.join(missing)}, which {config.aggregation} with {config.mention_scorer} needs"
        raise CheckpointError(f"the checkpoint lacks {what}; give the settings it was trained with")
    return {name: tensors[name] for name in names}


def _tensors(path: Path) -> dict[str, np.ndarray] | None:
    """Floats of a file in float32; None where NumPy lacks the type of one."""
    require_floats(path)
    try:
        with safe_open(utf8_path(path), framework="np") as f:
            kinds: Mapping[str, str] = {name: f.get_slice(name).get_dtype() for name in f.keys()}  # noqa: SIM118 - no mapping
            if any(kind.startswith(("BF", "F8")) for kind in kinds.values()):
                return None
            tensors = {n: f.get_tensor(n).astype(np.float32, copy=False) for n, kind in kinds.items() if kind in _READABLE}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy the model folder again") from error
    require_finite(path, tensors)
    return tensors
