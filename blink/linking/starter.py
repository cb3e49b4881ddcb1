"""The starter: the model and knowledge base that come with BLINK, used by default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.data.prior_file import NO_PRIOR
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import locked, read_json, sha256, user_cache
from blink.kb.knowledge_base import MANIFEST_FILE, BuildProgress, build_knowledge_base, read_manifest
from blink.model.folder import CONFIG_FILE
from blink.progress import Bars, no_bars

_PACKAGE = Path(__file__).resolve().parents[1]
HOMES = (_PACKAGE.parent / "models", _PACKAGE / "starter")
"""Folders of ``starter`` and ``starter-kb``: in a checkout, and inside an installed package."""
PRIOR_FILE = "prior.safetensors"
STARTER = "starter"
"""Name of the starter where a folder of a model is expected."""


@dataclass(frozen=True)
class Sources:
    """What a linker is opened from.

    Attributes:
        model: folder of a model, or name of a packaged encoder.
        kb: folder of a knowledge base.
        prior: file, content or ``none``.
    """

    model: Path
    kb: Path
    prior: Any


def starter_sources(model: str | Path, kb: str | Path | None, options: Mapping[str, Any], bars: Bars = no_bars) -> Sources:
    """Folders by name: ``starter`` is the starter's model, the default knowledge base is the starter's, with its prior.

    Raises:
        SettingsError: a model is named without a knowledge base.
    """
    if not names_starter(model):
        require_kb(str(model), None if kb is None else str(kb))
        assert kb is not None
        return Sources(Path(model), Path(kb), options.get("prior"))
    prior = options.get("prior")
    if prior is None:
        prior = prior_of(None, None if kb is None else str(kb), options)
    return Sources(starter_model(), starter_kb(bars) if kb is None else Path(kb), prior)


def names_starter(model: str | Path) -> bool:
    """Whether ``model`` is the name of the starter; a model folder ``starter`` in the working directory has precedence."""
    return model == STARTER and not (Path(model) / CONFIG_FILE).is_file()


def require_kb(model: str | None, kb: str | None) -> None:
    """Check that a model comes with a knowledge base: that of the starter fits the starter alone.

    Raises:
        SettingsError: it is not.
    """
    if model is not None and kb is None:
        raise SettingsError("--model is given without --kb; name the knowledge base built with that model (blink kb build)")


def prior_of(model: str | None, kb: str | None, options: Mapping[str, Any]) -> Path | None:
    """The prior of a linker: the file in ``options``, or the starter's for the starter; None for none."""
    file = options.get("prior")
    if file is not None:
        return None if file == NO_PRIOR else Path(file)
    # The starter's prior is tuned for the scores of the whole reranker.
    full_ranker = options.get("rank", True) and not options.get("without")
    return starter_prior() if model is None and kb is None and full_ranker else None


def starter_model() -> Path:
    """The starter model's folder.

    Raises:
        MissingFileError: this installation has none.
    """
    return _find("starter", CONFIG_FILE, "--model")


def starter_prior() -> Path | None:
    """The starter's prior, tuned for the starter model over the starter knowledge base; None where there is none."""
    return next((file for home in HOMES if (file := home / "starter-kb" / PRIOR_FILE).is_file()), None)


def starter_kb(bars: Bars = no_bars) -> Path:
    """The starter knowledge base's folder; its vectors are encoded at the first call, which takes seconds.

    They are written next to the catalogue, or into the user's cache where that folder cannot be written.

    Raises:
        MissingFileError: this installation has no starter.
    """
    home = _find("starter-kb", "entity.jsonl", "--kb")
    model = starter_model()
    folder = home if os.access(home, os.W_OK) else _cache_folder()
    catalogue = home / "entity.jsonl"
    fingerprint = str(read_json(model / CONFIG_FILE).get("candidate_fingerprint"))
    if not _is_current(folder, fingerprint, sha256(catalogue)):
        with locked(folder.parent, wait=True):  # several commands may be started at once: one of them builds
            if not _is_current(folder, fingerprint, sha256(catalogue)):
                _build(catalogue, folder, model, fingerprint, bars)
    return folder


def _find(name: str, file: str, option: str) -> Path:
    for home in HOMES:
        if (home / name / file).is_file():
            return home / name
    raise MissingFileError(f"{HOMES[0] / name / file} does not exist; clone the project again, or name another with {option}")


def _is_current(folder: Path, model: str, catalogue: str) -> bool:
    if not (folder / MANIFEST_FILE).is_file():
        return False
    try:
        manifest = read_manifest(folder)
    except DataError:  # of an earlier version: built again like one that is missing
        return False
    return (manifest.model, manifest.catalogue_sha256) == (model, catalogue)


def _build(catalogue: Path, folder: Path, model: Path, fingerprint: str, bars: Bars) -> None:
    from blink.model.loading import load_model

    encoder = load_model(model, context=False, candidate=True)
    if encoder.candidate_fingerprint() != fingerprint:
        raise MismatchError(f"the settings of {model} do not match their encoder; clone the project again")
    with catalogue.open("rb") as f:
        count = sum(1 for _ in f)
    with bars("encoding the starter's entities, once", count, "entity") as progress:
        hooks = BuildProgress(advance=progress.advance)
        build_knowledge_base(catalogue, folder, encoder.encode_entities, fingerprint, chunk_rows=256, progress=hooks)


def _cache_folder() -> Path:
    folder = user_cache() / "starter-kb"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
