"""Opens the models and entities of a plan: the original's files, checked against each other, or the starter."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.apps.common import bar, say
from blink.compat.elq.plan import Files, Plan
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from blink.kb.catalogue import Catalogue
    from blink.kb.index import Index
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.linking.linker import Linker
    from blink.model.biencoder import BiEncoder

_MANIFEST = Path(__file__).resolve().parents[3] / "models" / "MANIFEST.json"
_UNPUBLISHED = "experiments/wiki_all_ents/"
"""Where the README of the original expects its own checkpoint."""


def require_files(files: Files) -> None:
    """Check that all files are there.

    Raises:
        MissingFileError: some are not; the message names each and the command that downloads it.
    """
    by_remedy: dict[str, list[Path]] = {}
    for path in files.needed():
        if not path.is_file():
            by_remedy.setdefault(_remedy(path), []).append(path)
    if by_remedy:
        raise MissingFileError("; ".join(f"{_do_not_exist(paths)}: {remedy}" for remedy, paths in by_remedy.items()))


def _do_not_exist(paths: list[Path]) -> str:
    folder = "is a folder, not a file" if len(paths) == 1 and paths[0].is_dir() else "does not exist"
    return f"{' and '.join(map(str, paths))} {folder if len(paths) == 1 else 'do not exist'}"


def _remedy(path: Path) -> str:
    """How to get a missing file."""
    if _UNPUBLISHED in path.as_posix():
        return (
            "that checkpoint was never published; get the released one with "
            "`./download_models.sh --only elq_wiki_large.bin --only elq_large_params.txt` and give --biencoder_model "
            "models/elq_wiki_large.bin --biencoder_config models/elq_large_params.txt instead"
        )
    for published in _published():
        if path.as_posix().endswith(f"models/{published['target']}"):
            return f"get it with `./download_models.sh --only {published['name']}`"
    return "check the path; `./download_models.sh --list` shows the files that were published"


def _published() -> list[dict[str, Any]]:
    return read_json(_MANIFEST)["files"] if _MANIFEST.is_file() else []


def open_linker(plan: Plan) -> Linker:
    """The linker that a plan asks for, over the original's files or the starter.

    Raises:
        BlinkError: a file cannot be read, files do not belong together, or a setting does not fit the model.
    """
    from blink.model.precision import resolve_device

    resolve_device(plan.device)
    return link_with(plan, *(_open_starter() if plan.files is None else open_files(plan.files, plan.device)))


def link_with(plan: Plan, model: BiEncoder, kb: KnowledgeBase) -> Linker:
    """The linker of a plan, over files that are open.

    Raises:
        SettingsError: a setting does not fit the model.
    """
    from blink.linking.linker import Linker
    from blink.linking.starter import starter_prior

    return Linker(
        model,
        kb,
        threshold=plan.threshold,
        mode=plan.mode,
        rank=plan.mode is None,
        prior=starter_prior() if plan.files is None and plan.mode is None else None,
        mention_threshold=plan.mention_threshold,
        mentions=plan.mentions,
        entities=plan.entities,
        context_length=plan.context_length,
        min_mention_log_prob=plan.min_mention_log_prob,
        precision=plan.precision,
        device=plan.device,
    )


def _open_starter() -> tuple[BiEncoder, KnowledgeBase]:
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.linking.starter import starter_kb, starter_model
    from blink.model.loading import load_model

    folder = starter_model()
    say(f"no model is named: using the starter, {folder}")
    return load_model(folder), KnowledgeBase.open(starter_kb(bar))


def open_files(files: Files, device: str) -> tuple[BiEncoder, KnowledgeBase]:
    """The model and the entities of the original's files.

    Raises:
        BlinkError: a file cannot be read, or files do not belong together.
    """
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.model.loading import load_model
    from blink.model.original import OriginalFiles, read_original

    catalogue = _open_catalogue(files.catalogue)
    index = _open_index(files, len(catalogue), device)
    original = None if files.settings is None else OriginalFiles(files.weights, files.settings)
    model = load_model(files.weights) if original is None else read_original(original)
    if model.entity_size != index.dim:
        raise MismatchError(
            f"{files.weights} makes vectors of {model.entity_size} numbers, {files.index or files.vectors} holds vectors of "
            f"{index.dim}; give files that were made with one model"
        )
    return model, KnowledgeBase(catalogue, index)


def _open_catalogue(path: Path) -> Catalogue:
    """The catalogue; ids that stand on two lines lead to the last, as in the original.

    Raises:
        DataError: a line is broken, which is not tolerated: the vectors of the other lines would be in doubt.
    """
    from blink.kb.catalogue import Catalogue

    # Its warnings name an option that this script has not.
    with _silent("blink.kb.catalogue"):
        catalogue = Catalogue.open(path, skip_bad=True)
    if catalogue.skipped:
        try:
            Catalogue.open(path)
        except DataError as error:
            problem, _, _ = str(error).rpartition("; ")
            raise DataError(f"{problem}; fix the line, or get the file again: every vector belongs to a line") from error
    if catalogue.repeated_ids:
        say(f"{path}: ids that stand on several lines lead to the last; lines that lose theirs: {catalogue.repeated_ids:,}")
    return catalogue


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Nothing that a logger says inside the block is heard."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _open_index(files: Files, entities: int, device: str) -> Index:
    from blink.kb.index import TorchIndex, read_index

    index: Index
    if files.index is not None:
        index = read_index(files.index)
        if device == "cuda":
            say(f"{files.index} is searched on the CPU; the model runs on the GPU")
    else:
        index = TorchIndex(_read_vectors(files.vectors), device=device)
    if index.size != entities:
        raise MismatchError(
            f"{files.catalogue} has {entities} entities, {files.index or files.vectors} {index.size} vectors; "
            "give files that were made from one catalogue"
        )
    return index


def passed_index(vectors: Tensor | None, index: Index | None, name: str, device: str) -> Index:
    """The index that a caller passed to ``run`` as ``name``, or an exact one over the entity vectors passed.

    Raises:
        SettingsError: neither was passed.
    """
    from blink.kb.index import TorchIndex

    if index is not None:
        return index
    if vectors is None:
        raise SettingsError(f"neither candidate_encoding nor {name} is there; pass what load_models returned")
    return TorchIndex(vectors, device=device, on_device=False)


def _read_vectors(path: Path) -> Tensor:
    import torch

    from blink.model.original import read_tensors

    vectors = read_tensors(path, _remedy(path))
    if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
        is_tensor = isinstance(vectors, torch.Tensor)
        description = f"a tensor of shape {tuple(vectors.shape)}, {vectors.dtype}" if is_tensor else "none"
        raise MismatchError(f"{path} must hold one matrix of floats, a row for each entity; found {description}")
    return vectors
