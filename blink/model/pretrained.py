"""Pretrained encoders by name, folder, or from weights at hand; silent and offline-friendly."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig
from transformers.initialization import no_init_weights
from transformers.utils import logging as hf_logging

from blink.errors import BlinkError, CheckpointError, first_line
from blink.hub.names import PREFIX
from blink.model.folder import ADAPTERS_FILE, encoder_folder
from blink.model.reranker import RANKER_FILE
from blink.model.weight_checks import require_finite_tensors, require_floats

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How transformers reads a folder: it asks no hub, and runs no code of the folder."""


def load_encoder(name: str) -> nn.Module:
    """Load a pretrained encoder without its pooler, in float32. The hub is asked for names that begin with ``hf://`` alone.

    Raises:
        MissingFileError: there is no such folder or package.
        CheckpointError: transformers cannot read it, or it lacks weights, or some are not finite.
    """
    folder = encoder_folder(name)
    for file in sorted(Path(folder).glob("*.safetensors")):
        if not file.name.startswith((ADAPTERS_FILE, RANKER_FILE)):
            require_floats(file)
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, **LOCAL)
            how: dict[str, Any] = {**LOCAL, "dtype": "float32", "output_loading_info": True, **_pooler(config, False)}
            encoder, report = AutoModel.from_pretrained(folder, config=config, **how)
        except Exception as error:  # transformers raises whatever odd settings lead to
            raise CheckpointError(_unreadable(name, first_line(error) or type(error).__name__)) from error
    # It draws weights at random where there are none.
    if lacking := sorted(map(str, [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())])):
        raise CheckpointError(_unreadable(name, f"its files have no weights that fit {lacking[0]}"))
    require_finite_tensors(folder, dict(encoder.named_parameters()))
    return encoder.eval()


def _unreadable(name: str, reason: str) -> str:
    return f"cannot load the encoder {name!r} ({reason}); give a folder, or {PREFIX}OWNER/NAME"


def encoder_from_state(config: Mapping[str, Any], state: Mapping[str, Tensor], pooler: bool = False) -> nn.Module:
    """Build an encoder from its settings (``model_type`` among them) and its weights, in float32.

    Raises:
        CheckpointError: weights are missing, superfluous or of the wrong shape.
    """
    values = dict(config)
    try:
        with quiet_transformers(), no_init_weights():
            settings = AutoConfig.for_model(values.pop("model_type"), **values)
            encoder: nn.Module = AutoModel.from_config(settings, **_pooler(settings, pooler))
    except BlinkError:
        raise
    except Exception as error:  # transformers raises whatever odd settings lead to
        reason = first_line(error) or type(error).__name__
        raise CheckpointError(f"the encoder's settings make no model ({reason}); copy the model folder again") from error
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
