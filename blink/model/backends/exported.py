"""Where the exported encoder of a model is kept: made at first use, checked at each, made again when the model changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blink.errors import BlinkError, MissingFileError, SettingsError
from blink.files import locked, read_json, sample_hash, sha256, user_cache, write_json
from blink.model.backends.layout import GRAPHS, SETTINGS_FILE
from blink.model.config import ModelConfig
from blink.model.folder import (
    ADAPTERS_FILE,
    CONFIG_FILE,
    ORIGINAL_SETTINGS,
    ORIGINAL_WEIGHTS,
    WEIGHTS_FILE,
    encoder_folder,
    is_original,
    is_plain_encoder,
)
from blink.progress import Bars, no_bars

logger = logging.getLogger(__name__)

FOLDER = "onnx"
"""Subfolder of a model, and of the user's cache."""
FORMAT = 2
"""Of the exported files; those of another are made again."""
MODEL_TYPES = frozenset({"bert", "distilbert", "electra", "roberta"})
"""Encoders that can be exported, by the ``model_type`` of their settings."""
_DECODING = ("threshold", "cutoff", "document", "window_length", "max_context_length", "max_mention_length")
"""Settings that change nothing in an exported encoder."""
_SAMPLED = 1 << 25
"""Bytes from which a file is identified by samples: hashing a large model takes longer than opening the export."""


def unexportable(path: Path) -> str | None:
    """Why the encoder of a model cannot be exported; None if it can. ``path``: see `blink.model.loading.load_model`."""
    if is_original(path):
        return None
    settings = _encoder_settings(path)
    kind = settings.get("model_type")
    return (
        None if kind in MODEL_TYPES else f"its encoder is of type {kind!r}; backend onnx runs {', '.join(sorted(MODEL_TYPES))}"
    )


def exported(path: Path, bars: Bars = no_bars, *, again: bool = False, int8: bool = False) -> Path:
    """The folder of a model's exported encoder, made if there is none for its weights.

    It is in the model's folder, or in the user's cache where that cannot be written. Several processes may ask at once: one of
    them exports.

    Args:
        path: see `blink.model.loading.load_model`.
        bars: for the export.
        again: make it anew.
        int8: with a graph in 8 bits.

    Raises:
        BlinkError: the model cannot be loaded, or not exported.
    """
    key = export_key(path)
    current = next((folder for folder in _homes(path, key) if is_current(folder, key, int8)), None)
    if current is not None and not again:
        return current
    target = _homes(path, key)[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent, wait=True):
        if again or not is_current(target, key, int8):
            _make(path, target, key, bars, int8)
    return target


def export_to(path: Path, target: Path, bars: Bars = no_bars, *, int8: bool = False) -> Path:
    """Export a model into a folder of its own; an earlier export there is replaced.

    Args:
        path: see `blink.model.loading.load_model`.
        target: a new or empty folder, or one with an export.
        bars: for the export.
        int8: with a graph in 8 bits.

    Raises:
        SettingsError: the folder holds something else, or the model cannot be exported.
    """
    if target.exists() and not (target.is_dir() and ((target / SETTINGS_FILE).is_file() or not any(target.iterdir()))):
        raise SettingsError(f"{target} holds other files, which an export would replace; name a new or empty folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent, wait=True):
        _make(path, target, export_key(path), bars, int8)
    return target


def is_current(folder: Path, key: str, int8: bool = False) -> bool:
    """Whether a folder holds a whole export of the model with this key, with a graph in 8 bits where that is needed."""
    try:
        settings = read_json(folder / SETTINGS_FILE)
        files = settings["files"]
        whole = settings["key"] == key and (not int8 or GRAPHS["int8"] in files)
        return bool(whole) and all(sample_hash(folder / name) == digest for name, digest in files.items())
    except (BlinkError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def export_key(path: Path) -> str:
    """Hash of everything that an exported encoder follows from."""
    digest = hashlib.sha256(f"export {FORMAT};".encode())
    if not is_original(path) and not is_plain_encoder(path):
        values = {name: value for name, value in sorted(_settings_of(path).items()) if name not in _DECODING}
        digest.update(json.dumps(values, sort_keys=True).encode())
    for file in _sources(path):
        if file.is_file():
            digest.update(f"{file.name}={sha256(file) if file.stat().st_size <= _SAMPLED else _large_hash(file)};".encode())
    return digest.hexdigest()


def _sources(path: Path) -> Iterator[Path]:
    if is_original(path):
        yield from (path / name for name in (ORIGINAL_WEIGHTS, ORIGINAL_SETTINGS, CONFIG_FILE, "vocab.txt"))
        return
    base = path if is_plain_encoder(path) else _settings_of(path).get("base")
    if base is not None:
        folder = Path(encoder_folder(str(base)))
        yield from (folder / name for name in (WEIGHTS_FILE, ORIGINAL_WEIGHTS, CONFIG_FILE))
    if not is_plain_encoder(path):
        yield from (path / name for name in (WEIGHTS_FILE, ADAPTERS_FILE))


def _large_hash(file: Path) -> str:
    """Hash of samples of a file, of its end, where archives of torch keep a checksum of each tensor, and of a block of each
    tensor of a safetensors file.
    """
    digest = hashlib.sha256(sample_hash(file).encode())
    with file.open("rb") as f:
        for start, size in _blocks(file):
            f.seek(start)
            digest.update(f.read(size))
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[tuple[int, int]]:
    yield max(0, file.stat().st_size - (1 << 18)), 1 << 18
    if file.suffix != ".safetensors":
        return
    with file.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = f.read(length)
    yield 8, length
    for name, tensor in sorted(json.loads(header).items()):
        if name != "__metadata__":
            start, end = tensor["data_offsets"]
            yield 8 + length + (start + end) // 2, min(1024, end - (start + end) // 2)


def _homes(path: Path, key: str) -> list[Path]:
    """Where the export of a model may be, the first for a new one."""
    cache = user_cache() / FOLDER / key[:32]
    if not path.is_dir():
        return [cache]
    return [path / FOLDER, cache] if os.access(path, os.W_OK) else [cache, path / FOLDER]


def _make(path: Path, target: Path, key: str, bars: Bars, int8: bool) -> None:
    logger.warning("exporting the encoder of %s for ONNX Runtime, once, into %s", path, target)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        with bars("exporting the encoder, once", 2, "step") as progress:
            from blink.model.backends.export import export_model
            from blink.model.loading import load_model

            model = load_model(path)
            progress.advance()
            export_model(model, work, int8=int8)
            if is_original(path):  # its settings and vocabulary are spread over several files
                model.tokenizer.save(work)
            progress.advance()
        about = {"key": key, "files": _hashes(work), "config": model.config.to_dict(), "heads_digest": model.heads_digest()}
        write_json(work / SETTINGS_FILE, read_json(work / SETTINGS_FILE) | about)
        shutil.rmtree(target, ignore_errors=True)
        work.chmod(0o755)
        work.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _hashes(folder: Path) -> dict[str, str]:
    return {file.name: sample_hash(file) for file in sorted(folder.iterdir()) if file.name != SETTINGS_FILE}


def stored_config(path: Path, export: Path) -> ModelConfig:
    """The settings of a model: in its own file, which may have changed since, or as they were at the export."""
    own = not is_original(path) and not is_plain_encoder(path)
    return ModelConfig.from_dict(_settings_of(path) if own else read_json(export / SETTINGS_FILE)["config"])


def _settings_of(path: Path) -> dict[str, Any]:
    values = read_json(path / CONFIG_FILE, f"{path} must be a model folder, as `blink train` writes it")
    return values if isinstance(values, dict) else {}


def _encoder_settings(path: Path) -> dict[str, Any]:
    """Settings of the context encoder; none where they are not to be had without loading it."""
    base = str(path)
    if not is_plain_encoder(path):
        values = _settings_of(path)
        base = str(values.get("base") or "")
        if not base:
            settings = values.get("context_encoder")
            return settings if isinstance(settings, dict) else {}
    try:
        return _settings_of(Path(encoder_folder(base)))
    except MissingFileError:
        return {}
