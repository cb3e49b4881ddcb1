"""Where the exported encoders of a model are kept: made at first use, checked at each, made again when the model changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.checksums import FileChecksum, checksums_of, faults, sampled_hash
from blink.errors import BlinkError, MissingFileError, SettingsError
from blink.extras import extras_for
from blink.files import disk_errors, disk_named, locked, read_json, sha256, user_cache, write_json
from blink.left_overs import temporary_folder
from blink.model.backends.layout import CANDIDATE_SETTINGS_FILE, GRAPHS, SETTINGS_FILE
from blink.model.config import ModelConfig
from blink.model.folder import (
    ADAPTERS_FILE,
    BASE_FOLDER,
    CONFIG_FILE,
    HAS_RERANKER,
    ORIGINAL_SETTINGS,
    ORIGINAL_WEIGHTS,
    WEIGHTS_FILE,
    encoder_folder,
    is_original,
    is_plain_encoder,
    read_settings,
)
from blink.progress import Bars, Progress, no_bars
from blink.work_folders import replace_folder

if TYPE_CHECKING:
    from blink.model.stored_weights import StoredWeights


logger = logging.getLogger(__name__)

FOLDER, CANDIDATE_FOLDER = "onnx", "onnx-candidate"
"""Subfolders of a model, and of the user's cache: for its context encoder and its candidate encoder."""
FORMAT = 4
"""Of the exported files; those of another are made again."""
MODEL_TYPES = frozenset({"bert", "distilbert", "electra", "roberta"})
"""Encoders that can be exported, by the ``model_type`` of their settings."""
_DECODING = ("threshold", "cutoff", "document", "window_length", "max_context_length", "max_mention_length")
_WITHOUT_EFFECT = frozenset({*_DECODING, "base", BASE_FOLDER, HAS_RERANKER})
"""Settings that change nothing in an exported encoder; of the encoder that it adapts the files count, not the name."""
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


def exported(path: Path, bars: Bars = no_bars, *, again: bool = False, int8: bool = False, verify: bool = False) -> Path:
    """The folder of a model's exported encoder, made if there is none for its weights.

    It is in the model's folder, or in the user's cache where that cannot be written. Several processes may ask at once: one of
    them exports.

    Args:
        path: see `blink.model.loading.load_model`.
        bars: for the export.
        again: make it anew.
        int8: with a graph in 8 bits.
        verify: compare all bytes of its files with their checksums, not samples of large files; make it anew if they differ.

    Raises:
        BlinkError: the model cannot be loaded, or not exported.
    """
    return _exported(path, bars, again, int8=int8, verify=verify)


def exported_candidate(path: Path, bars: Bars = no_bars, *, again: bool = False) -> Path:
    """The folder of a model's exported candidate encoder, as of `exported`; ``path`` and ``again`` as there.

    Raises:
        BlinkError: the model cannot be loaded, or not exported.
    """
    return _exported(path, bars, again, candidate=True)


def _exported(
    path: Path, bars: Bars, again: bool, *, int8: bool = False, candidate: bool = False, verify: bool = False
) -> Path:
    key = export_key(path)
    homes = _homes(path, key, CANDIDATE_FOLDER if candidate else FOLDER)
    file = CANDIDATE_SETTINGS_FILE if candidate else SETTINGS_FILE
    current = next((folder for folder in homes if is_current(folder, key, int8, file, verify=verify)), None)
    if current is not None and not again:
        return current
    target = homes[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent, wait=True):
        if again or not is_current(target, key, int8, file, verify=verify):
            _make(path, target, key, bars, int8=int8, candidate=candidate)
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
        _make(path, target, export_key(path), bars, int8=int8)
    return target


def is_current(folder: Path, key: str, int8: bool = False, file: str = SETTINGS_FILE, *, verify: bool = False) -> bool:
    """Whether a folder holds a whole export of the model with this key, with a graph in 8 bits where that is needed.

    ``file``: its settings, those of the context encoder or of the candidate encoder. ``verify``: compare all bytes.
    """
    try:
        settings = read_json(folder / file)
        if settings["key"] != key or (int8 and GRAPHS["int8"] not in settings["files"]):
            return False
        files = {name: FileChecksum(**of) for name, of in settings["files"].items()}
        return bool(files) and not any(faults(folder, files, whole=verify))
    except (BlinkError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def export_key(path: Path) -> str:
    """Hash of everything that an exported encoder follows from."""
    digest = hashlib.sha256(f"export {FORMAT};".encode())
    if not is_original(path) and not is_plain_encoder(path):
        values = {name: value for name, value in sorted(read_settings(path).items()) if name not in _WITHOUT_EFFECT}
        digest.update(json.dumps(values, sort_keys=True).encode())
    for file in _sources(path):
        if file.is_file():
            digest.update(f"{file.name}={sha256(file) if file.stat().st_size <= _SAMPLED else sampled_hash(file)};".encode())
    return digest.hexdigest()


def _sources(path: Path) -> Iterator[Path]:
    if is_original(path):
        yield from (path / name for name in (ORIGINAL_WEIGHTS, ORIGINAL_SETTINGS, CONFIG_FILE, "vocab.txt"))
        return
    base = path if is_plain_encoder(path) else read_settings(path).get("base")
    if base is not None:
        folder = Path(encoder_folder(str(base)))
        yield from (folder / name for name in (WEIGHTS_FILE, ORIGINAL_WEIGHTS, CONFIG_FILE))
    if not is_plain_encoder(path):
        yield from (path / name for name in (WEIGHTS_FILE, ADAPTERS_FILE))


def _homes(path: Path, key: str, name: str) -> list[Path]:
    """Where the export of a model may be, the first for a new one. ``name``: of its folder."""
    cache = user_cache() / name / key[:32]
    if not path.is_dir():
        return [cache]
    return [path / name, cache] if os.access(path, os.W_OK) else [cache, path / name]


def _make(path: Path, target: Path, key: str, bars: Bars, *, int8: bool = False, candidate: bool = False) -> None:
    from blink.model.stored_weights import read_weights

    encoder = "candidate encoder" if candidate else "encoder"
    logger.warning("exporting the %s of %s for ONNX Runtime, once, into %s", encoder, path, target)
    with disk_named(target), disk_errors(target), temporary_folder(target) as work:
        with bars("exporting the encoder, once", 2, "step") as progress:
            stored = read_weights(path, "candidate" if candidate else "context")
            if stored is None:
                config, digest = _export_with_torch(path, work, progress, int8=int8, candidate=candidate)
            else:
                progress.advance()
                _export_stored(stored, path, work, int8=int8, candidate=candidate)
                config, digest = stored.config, stored.heads_digest()
            progress.advance()
        about = {"key": key, "files": _checksums(work), "config": config.to_dict(), "heads_digest": digest}
        settings = work / (CANDIDATE_SETTINGS_FILE if candidate else SETTINGS_FILE)
        write_json(settings, read_json(settings) | about)
        replace_folder(work, target, (SETTINGS_FILE, CANDIDATE_SETTINGS_FILE))


def _export_stored(stored: StoredWeights, path: Path, work: Path, *, int8: bool, candidate: bool) -> None:
    from blink.model.backends.bert_export import export_candidate, export_context
    from blink.model.tokenizer import Tokenizer

    if candidate:
        export_candidate(stored, Tokenizer.from_pretrained(stored.config.base or path), work)
    else:
        export_context(stored, work, int8=int8)


def _export_with_torch(path: Path, work: Path, progress: Progress, *, int8: bool, candidate: bool) -> tuple[ModelConfig, str]:
    """Export a model by tracing it; its settings and the digest of its heads."""
    with extras_for("exports of models that are no BERT, or that the originals trained,"):
        from blink.model.backends.export import export_candidate, export_model
        from blink.model.loading import load_model

    model = load_model(path, context=not candidate, candidate=candidate)
    progress.advance()
    if candidate:
        export_candidate(model, work)
    else:
        export_model(model, work, int8=int8)
    if is_original(path):  # its settings and vocabulary are spread over several files
        model.tokenizer.save(work)
    return model.config, model.heads_digest()


def _checksums(folder: Path) -> dict[str, Any]:
    settings = (SETTINGS_FILE, CANDIDATE_SETTINGS_FILE)
    names = (file.name for file in folder.iterdir() if file.name not in settings)
    return {name: asdict(of) for name, of in checksums_of(folder, names).items()}


def stored_config(path: Path, export: Path, file: str = SETTINGS_FILE) -> ModelConfig:
    """The settings of a model: in its own file, which may have changed since, or as they were at the export.

    ``file``: the settings of the export.
    """
    own = not is_original(path) and not is_plain_encoder(path)
    return ModelConfig.from_dict(read_settings(path) if own else read_json(export / file)["config"])


def _encoder_settings(path: Path) -> dict[str, Any]:
    """Settings of the context encoder; none where they are not to be had without loading it."""
    base = str(path)
    if not is_plain_encoder(path):
        values = read_settings(path)
        base = str(values.get("base") or "")
        if not base:
            settings = values.get("context_encoder")
            return settings if isinstance(settings, dict) else {}
    try:
        return read_settings(Path(encoder_folder(base)))
    except MissingFileError:
        return {}
