"""Updates the reranker of a stored model: from its files to a new reranker in them, or to a reason why the old one stays."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blink.data.mention_files import labelled_samples
from blink.errors import SettingsError
from blink.files import locked
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.starter import names_starter, starter_model
from blink.model.config import ModelConfig
from blink.model.execution import Execution, execution_line
from blink.model.folder import read_settings
from blink.model.gold_checks import GoldChecker
from blink.model.linking_model import LinkingModel
from blink.model.stored_files import store_settings
from blink.progress import Bars
from blink.training.cards import write_update_card
from blink.training.fit.calibration import DevSet
from blink.training.fit.reranker_texts import model_folder
from blink.training.fit.update import HeldOut, Update, update_reranker


@dataclass(frozen=True)
class UpdateRequest:
    """What to update, and with what.

    Attributes:
        model: folder of the model, or ``starter``.
        kb: folder of the knowledge base.
        train_files: mention files with corrections.
        held_out: (knowledge base, mention file) pairs.
        out: folder for a copy of the model with the new reranker; None to store it with the model.
    """

    model: str
    kb: str
    train_files: Sequence[str]
    held_out: Sequence[tuple[str, str]]
    out: str | None = None


def update_stored(request: UpdateRequest, bars: Bars, warn: Callable[[str], None]) -> Iterator[str]:
    """Update a stored model.

    Args:
        request: what to update.
        bars: for progress over texts.
        warn: called with what cannot be right in the texts.

    Yields:
        lines of a report.

    Raises:
        BlinkError: files are missing, damaged or do not belong together, or the starter would be overwritten.
    """
    is_starter = names_starter(request.model)
    if is_starter and request.out is None:
        raise SettingsError("the starter is not changed in place; give --out DIR for a copy with the new reranker")
    if request.out is not None and Path(request.out).exists():
        raise SettingsError(f"{request.out} exists; name a new folder with --out")
    folder = starter_model() if is_starter else model_folder(request.model)
    with locked(folder) if request.out is None else contextlib.nullcontext():
        yield from _update(request, folder, bars, warn)


def _update(request: UpdateRequest, folder: Path, bars: Bars, warn: Callable[[str], None]) -> Iterator[str]:
    kb = KnowledgeBase.open(request.kb)
    kb.require_model(read_settings(folder).get("candidate_fingerprint"))
    model = LinkingModel.open(folder, bars=bars)
    check = GoldChecker.of(model, kb.catalogue, warn)
    corrections = [s for f in request.train_files for s in labelled_samples(f, kb.catalogue, check)]
    held_out = []
    for base, file in request.held_out:
        of_file = kb if base == request.kb else KnowledgeBase.open(base)
        held_out.append((file, DevSet(of_file, labelled_samples(file, of_file.catalogue))))
    with bars("updating", 0, "text") as progress:
        result = update_reranker(model, kb, corrections, held_out, progress.advance)
    yield from _report(result, Execution.of(model.backend))
    if result.network is None:
        reason = "no update makes corrected links better and held-out ones no worse"
        yield f"the old reranker stays with {folder}: {reason}; give more corrections"
        return
    target = folder if request.out is None else Path(request.out)
    if request.out is not None:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("onnx*"))
    store_settings(target, ModelConfig.from_dict(read_settings(folder)), result.network)
    scores = [result.corrections, *result.held_out]
    write_update_card(target, kb, (request.train_files, corrections), scores, Execution.of(model.backend))
    yield f"the new reranker is stored with {target}; next: blink link TEXT --model {target} --kb {request.kb}"


def _report(result: Update, execution: Execution) -> Iterator[str]:
    yield f"{result.spans:,} spans of corrected texts, strength {result.strength:g} of what was known before"
    yield _line(result.fitted, "fitted to them")
    yield _line(result.corrections, "each half, fitted to the other half")
    yield from (_line(held_out, "held out") for held_out in result.held_out)
    yield execution_line(execution)


def _line(texts: HeldOut, how: str) -> str:
    before, after = texts.f1
    changes = f"{texts.repaired} mentions repaired, {texts.broken} broken"
    links = f"right links {texts.right[0]} -> {texts.right[1]}, wrong links {texts.wrong[0]} -> {texts.wrong[1]}"
    return f"{texts.name} ({how}): strong F1 {before:.4f} -> {after:.4f} of {texts.gold} mentions; {links}; {changes}"
