"""Pretrained encoders by name, folder, or from weights at hand; silent and offline-friendly."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig
from transformers.initialization import no_init_weights
from transformers.utils import logging as hf_logging

from blink.errors import CheckpointError, first_line
from blink.model.folder import encoder_folder


def load_encoder(name: str) -> nn.Module:
    """Load a pretrained encoder without its pooler, in float32.

    Raises:
        CheckpointError: transformers cannot find or read it.
    """
    folder = encoder_folder(name)
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder)
            encoder: nn.Module = AutoModel.from_pretrained(folder, config=config, dtype="float32", **_pooler(config, False))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = first_line(error)
            raise CheckpointError(f"cannot load the encoder {name!r} ({reason}); give a folder or a model name") from error
    return encoder.eval()


def encoder_from_state(config: Mapping[str, Any], state: Mapping[str, Tensor], pooler: bool = False) -> nn.Module:
    """Build an encoder from its settings (``model_type`` among them) and its weights, in float32.

    Raises:
        CheckpointError: weights are missing, superfluous or of the wrong shape.
    """
    values = dict(config)
    settings = AutoConfig.for_model(values.pop("model_type"), **values)
    with quiet_transformers(), no_init_weights():
        encoder: nn.Module = AutoModel.from_config(settings, **_pooler(settings, pooler))
    try:
        encoder.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        reason = first_line(error)
        raise CheckpointError(
            f"the weights do not fit the encoder's settings ({reason}); is it another model's file?"
        ) from error
    return encoder.float().eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no load reports from transformers inside the block."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)


def longest_input(encoder: nn.Module) -> int:
    """Longest input of an encoder in tokens, special tokens included; `sys.maxsize` where it has no limit.

    RoBERTa and its kin count positions from behind the id of padding, so that many of their positions are never used.
    """
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return sys.maxsize
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    unused = getattr(table, "padding_idx", None)
    return positions if unused is None else positions - unused - 1


def _pooler(config: PretrainedConfig, pooler: bool) -> dict[str, bool]:
    """Arguments that make an encoder with or without its pooler; several kinds (DistilBERT, ELECTRA) never have one.

    Raises:
        CheckpointError: a pooler is requested from such a type.
    """
    registered = MODEL_MAPPING.get(type(config), None)
    model = registered[0] if isinstance(registered, tuple) else registered
    if model is not None and "add_pooling_layer" in inspect.signature(model.__init__).parameters:
        return {"add_pooling_layer": pooler}
    if pooler:
        raise CheckpointError(f"encoders of type {config.model_type!r} have no pooler; set candidate_pooling to cls or mean")
    return {}
