"""The starter: the model and knowledge base that come with BLINK, used by default."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blink.data.prior_file import NO_PRIOR
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.extras import is_installed
from blink.files import locked, read_json, sha256, user_cache
from blink.hub.names import local_folder
from blink.kb.building import BuildProgress, build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.carrying import KEEP
from blink.kb.manifest import FORMAT, MANIFEST_FILE, read_manifest
from blink.kb.vectors import CandidateEncoder
from blink.linking.bundle import bundle_of
from blink.machine import multiplies_bf16
from blink.model.entity_encoder import EntityEncoder
from blink.model.folder import CONFIG_FILE
from blink.progress import Bars, ProgressLines, ending, no_bars

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]
HOMES = (_PACKAGE.parent / "models", _PACKAGE / "starter")
"""Folders of ``starter`` and ``starter-kb``: in a checkout, and inside an installed package."""
CHUNK_ROWS = 2048
"""Entities that are encoded together: of many, batches of one length have little padding."""
PRIOR_FILE = "prior.safetensors"
STARTER = "starter"
"""Name of the starter where a folder of a model is expected, and of its folder."""
STARTER_KB = "starter-kb"
"""Name of the folder of its knowledge base."""


@dataclass(frozen=True)
class Sources:
    """What a linker is opened from.

    Attributes:
        model: folder of a model, or name of a packaged encoder.
        kb: folder of a knowledge base, or an opened one.
        prior: file, content or ``none``.
        options: of the linker, where its folder has some.
    """

    model: Path
    kb: Path | KnowledgeBase
    prior: Any
    options: Mapping[str, Any] = field(default_factory=dict)


def starter_sources(
    model: str | Path,
    kb: str | Path | KnowledgeBase | None,
    options: Mapping[str, Any],
    bars: Bars = no_bars,
    verify: bool = False,
) -> Sources:
    """Folders by name: ``starter`` is the starter's model, the default knowledge base is the starter's, with its prior. The
    folder of a linker holds all of them, and names of the hub are those of what is downloaded.

    Raises:
        SettingsError: a model is named without a knowledge base.
    """
    opened = kb if isinstance(kb, KnowledgeBase) else None if kb is None else Path(kb)
    prior = options.get("prior")
    if not names_starter(model):
        if (bundle := bundle_of(model, whole=verify)) is not None:
            prior = bundle.prior if prior is None and opened is None else prior
            return Sources(bundle.model, opened or bundle.kb, prior, bundle.options)
        require_kb(str(model), None if kb is None else str(kb))
        assert opened is not None
        return Sources(local_folder(model), opened, prior_of(model, kb, options) if prior is None else prior)
    if prior is None:
        prior = prior_of(None, kb, options)
    return Sources(starter_model(), starter_kb(bars) if opened is None else opened, prior)


def names_starter(model: str | Path) -> bool:
    """Whether ``model`` is the name of the starter; a model folder ``starter`` in the working directory has precedence."""
    return model == STARTER and not (Path(model) / CONFIG_FILE).is_file()


def require_kb(model: str | None, kb: str | None) -> None:
    """Check that a model comes with a knowledge base: that of the starter fits the starter alone.

    Raises:
        SettingsError: it is not.
    """
    if model is not None and kb is None and bundle_of(model) is None:
        raise SettingsError("--model is given without --kb; name the knowledge base built with that model (blink kb build)")


def prior_of(model: str | Path | None, kb: str | Path | KnowledgeBase | None, options: Mapping[str, Any]) -> Path | None:
    """The prior of a linker: the file in ``options``, or the starter's for the starter; None for none.

    The starter's holds for its model over its knowledge base, whether they are left out, or named by their folders: the scores
    of a text do not depend on how the same two are named.
    """
    file = options.get("prior")
    if file is not None:
        return None if file == NO_PRIOR else Path(file)
    # The starter's prior is tuned for the scores of the whole reranker.
    full_ranker = options.get("rank", True) and not options.get("without")
    return starter_prior() if full_ranker and _is_starter_model(model) and _is_starter_kb(kb) else None


def _is_starter_model(model: str | Path | None) -> bool:
    return model is None or names_starter(model) or _is_one_of(model, [home / STARTER for home in HOMES])


def _is_starter_kb(kb: str | Path | KnowledgeBase | None) -> bool:
    folder = kb.folder if isinstance(kb, KnowledgeBase) else kb
    if folder is None:
        return kb is None  # one in memory alone is another
    return _is_one_of(folder, [*(home / STARTER_KB for home in HOMES), user_cache() / STARTER_KB])


def _is_one_of(folder: str | Path, folders: Iterable[Path]) -> bool:
    return Path(folder).is_dir() and any(other.is_dir() and other.samefile(folder) for other in folders)


def starter_model() -> Path:
    """The starter model's folder.

    Raises:
        MissingFileError: this installation has none.
    """
    return _find(STARTER, CONFIG_FILE, "--model")


def starter_fingerprint() -> str | None:
    """The fingerprint of the starter's candidate encoder; None where this installation has no starter."""
    try:
        return str(read_json(starter_model() / CONFIG_FILE).get("candidate_fingerprint"))
    except MissingFileError:
        return None


def starter_prior() -> Path | None:
    """The starter's prior, tuned for the starter model over the starter knowledge base; None where there is none."""
    return next((file for home in HOMES if (file := home / STARTER_KB / PRIOR_FILE).is_file()), None)


def starter_kb(bars: Bars = no_bars) -> Path:
    """The starter knowledge base's folder; its vectors are encoded at the first call, which takes a minute or two.

    They are written next to the catalogue, or into the user's cache where that folder cannot be written. Without ``bars``
    progress is logged.

    Raises:
        MissingFileError: this installation has no starter.
    """
    home = _find(STARTER_KB, "entity.jsonl", "--kb")
    model = starter_model()
    folder = home if os.access(home, os.W_OK) else _cache_folder()
    catalogue = home / "entity.jsonl"
    fingerprint = str(read_json(model / CONFIG_FILE).get("candidate_fingerprint"))
    if not _is_current(folder, fingerprint, sha256(catalogue)):
        with locked(folder.parent, wait=True):  # several commands may be started at once: one of them builds
            if not _is_current(folder, fingerprint, sha256(catalogue)):
                _build(catalogue, folder, model, fingerprint, _logged if bars is no_bars else bars)
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
    return (manifest.model, manifest.source_sha256, manifest.format) == (model, catalogue, FORMAT)


def _build(catalogue: Path, folder: Path, model: Path, fingerprint: str, bars: Bars) -> None:
    encoder = _candidate_encoder(model, bars)
    if encoder.fingerprint != fingerprint:
        raise MismatchError(f"the settings of {model} do not match their encoder; install BLINK again")
    with catalogue.open("rb") as f:
        count = sum(1 for _ in f)
    stages = [""]
    with bars("encoding the starter's entities, once", count, "entity") as progress:

        def advance(rows: int) -> None:
            if stages[-1] == "encoding":  # the stages after it take a tenth of its time
                progress.advance(rows)

        hooks = BuildProgress(stage=lambda name, total: stages.append(name), advance=advance)
        how: dict[str, Any] = {"chunk_rows": CHUNK_ROWS, "edits": KEEP, "progress": hooks}
        build_knowledge_base(catalogue, folder, encoder.encode, fingerprint, **how)


def _logged(name: str, total: int | None, unit: str) -> AbstractContextManager[ProgressLines]:
    """Progress for callers that draw none: so long a wait must not be silent."""
    logger.warning("%s: %s entities, which takes a minute or two", name, f"{total or 0:,}")
    return ending(ProgressLines(name, total, unit, logger.warning))


def _candidate_encoder(model: Path, bars: Bars) -> CandidateEncoder:
    """The starter's candidate encoder: in bfloat16 with PyTorch where that is fast, else with ONNX Runtime."""
    if not (multiplies_bf16() and is_installed("torch") and is_installed("transformers")):
        encoder = EntityEncoder(model, bars=bars)
        return CandidateEncoder(encoder, encoder.fingerprint, encoder.entity_texts)
    import torch

    from blink.model.loading import load_model
    from blink.model.precision import resolve_precision

    opened = load_model(model, context=False, candidate=True)
    digest = opened.candidate_fingerprint()
    assert opened.candidate_encoder is not None
    opened.candidate_encoder.to(resolve_precision("auto", torch.device("cpu")))
    return CandidateEncoder(opened.encode_entities, digest, opened.entity_texts)


def _cache_folder() -> Path:
    folder = user_cache() / STARTER_KB
    folder.mkdir(parents=True, exist_ok=True)
    return folder
