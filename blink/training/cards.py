"""What model cards say of a training, a reranker and a calibration, see `blink.model.card`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import blink
from blink.data.mention_store import MentionStore
from blink.data.records import Sample
from blink.evaluation.report import Report, evaluate
from blink.evaluation.sweep import question_at
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.card import add_entry
from blink.model.execution import Execution
from blink.model.precision import resolve_device, resolve_precision
from blink.runs.provenance import file_hash
from blink.runs.settings import Settings
from blink.training.fit.calibration import Calibrated, DevSet
from blink.training.settings import RankSettings
from blink.training.validation import BEST_FOLDER, KB_SUFFIX

if TYPE_CHECKING:
    from blink.training.fit.update import HeldOut
    from blink.training.trainer import Trainer

Gold = Sequence[Sample]


def write_training_card(trainer: Trainer, texts: Gold, dev: Sequence[Gold], files: Mapping[str, Sequence[str]]) -> None:
    """Write the card of the best model of a run that has ended: its figures are those of the stored model on ``dev``.

    Args:
        trainer: of the run.
        texts: that it was trained on.
        dev: development texts, a set per file.
        files: names of files by role; those of ``dev`` in the order of the sets.
    """
    folder = trainer.folder / BEST_FOLDER
    model = BiEncoder.from_pretrained(folder)
    kb = KnowledgeBase.open(f"{folder}{KB_SUFFIX}") if trainer.learns_entities else trainer.kb
    linker = Linker(model, kb, rank=False, precision="fp32", device=str(trainer.accelerator.device))
    figures = [
        figures_row(Path(file).name, report_of(linker, samples)) for file, samples in zip(files["dev"], dev, strict=True)
    ]
    rows = trainer.loop.folder.trace.rows()
    run = next(iter(rows), {})
    hashes = run.get("files", {})
    data = data_rows({role: names for role, names in files.items() if role != "dev"}, {"train": texts}, hashes=hashes)
    data += data_rows({"dev": files["dev"]}, counts=dev, hashes=hashes)
    entry = {
        "figures": figures,
        "measured": {"Threshold, selected on these texts": linker.thresholds.score},
        "execution": Execution.of(linker.stages.detector.backend).to_json(),
        "data": data,
        "kb": kb_row(kb),
        "recipe": recipe_of(trainer.settings),
        "trained_on": f"{run.get('device')}; precision {trainer.settings.precision}, processes {run.get('processes', 1)}",
        "seconds": sum(float(row.get("seconds", 0)) for row in rows if row["kind"] == "epoch"),
        "versions": run.get("versions", {}),
    }
    add_entry(folder, "train", entry | done_now())


def write_reranker_card(
    folder: Path, settings: RankSettings, kb: KnowledgeBase, files: Mapping[str, Sequence[str]], texts: Gold, **facts: Any
) -> None:
    """Write what a reranker was fitted on into the card of its model.

    Args:
        folder: of the model.
        settings: of the fit.
        kb: knowledge base of the texts.
        files: names of files by role.
        texts: labelled texts of all of them.
        **facts: ``seconds``, ``precision``, ``spans`` (their number) and ``sources`` (of synthetic texts, by name).
    """
    entry = {
        "data": data_rows(files, {"train": texts}),
        "measured": {"Spans that it was fitted on": facts["spans"], "Encoder": str(in_memory(facts["precision"]))},
        "kb": kb_row(kb),
        "recipe": recipe_of(settings, **facts["sources"]),
    }
    add_entry(folder, "rank", entry | done_now(facts["seconds"]))


def write_calibration_card(folder: Path, result: Calibrated, sets: Sequence[tuple[str, DevSet]], seconds: float) -> None:
    """Write threshold, reliability and scores of a calibration into the card of its model.

    Args:
        folder: of the model.
        result: of the calibration.
        sets: names of mention files, and their texts.
        seconds: time taken.
    """
    names = [name for name, _ in sets]
    links = result.held_out_links
    entry = {
        "figures": [figures_row(Path(name).name, report) for name, report in zip(names, result.reports, strict=True)],
        "measured": {
            "Threshold, selected on these texts, which the figures are of": result.point.threshold,
            "Expected calibration error of links above it, fitted on one half and measured on the other": links.ece,
            "Links that it was measured on": links.count,
        },
        "execution": result.execution.to_json(),
        "data": data_rows({"dev": names}, counts=[dev.samples for _, dev in sets]),
        "kb": kb_row(sets[0][1].kb),
    }
    add_entry(folder, "calibrate", entry | done_now(seconds))


def write_update_card(
    folder: Path, kb: KnowledgeBase, corrections: tuple[Sequence[str], Gold], scores: Sequence[HeldOut], execution: Execution
) -> None:
    """Write the effect of corrections on a reranker into the card of its model.

    Args:
        folder: of the model.
        kb: knowledge base of the corrections.
        corrections: names of their files, and their texts.
        scores: of texts before and after.
        execution: how the encoder ran.
    """
    figures = [
        {"texts": s.name, "gold mentions": s.gold, "strong F1 before": s.f1[0], "strong F1 after": s.f1[1]} for s in scores
    ]
    data = data_rows({"corrections": corrections[0]}, {"corrections": corrections[1]})
    entry = {"figures": figures, "execution": execution.to_json(), "data": data, "kb": kb_row(kb)}
    add_entry(folder, "update", entry | done_now())


def in_memory(precision: str, device: str | None = None) -> Execution:
    """How a model in memory runs, which PyTorch does."""
    target = resolve_device(device)
    dtype = resolve_precision(precision, target)
    return Execution.here("bf16" if dtype == torch.bfloat16 else "fp32", "torch", target.type)


def report_of(linker: Linker, samples: Gold) -> Report:
    """Scores of a linker on labelled texts, at its threshold, with intervals."""
    analyses = linker.analyze([s.text for s in samples], min_mention_log_prob=linker.min_mention_log_prob)
    return evaluate(question_at(linker.decoder, *pair) for pair in zip(analyses, samples, strict=True))


def figures_row(name: str, report: Report) -> dict[str, Any]:
    """A row of a card's table: weak and strong F1 of covered texts, and of all, with 95 % intervals."""
    row: dict[str, Any] = {"development file": name, "texts": report.overall.questions}
    for title, section in (("covered", report.covered), ("all", report.overall)):
        for matching in ("weak", "strong"):
            scores = getattr(section, matching)
            row[f"{title} {matching} F1 (95 %)"] = f"{scores.f1:.4f} ({scores.f1_low:.4f}-{scores.f1_high:.4f})"
    return row


def data_rows(
    files: Mapping[str, Sequence[str]],
    texts: Mapping[str, Gold] | None = None,
    *,
    counts: Sequence[Gold] | None = None,
    hashes: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Rows of a card's table of files.

    Args:
        files: names by role.
        texts: of all files of a role together, which are counted where the role has one file, else in the first row.
        counts: the texts of each file of the only role.
        hashes: of files by name, where they are known.
    """
    rows = []
    for role, names in files.items():
        for number, name in enumerate(names):
            of_file = counts[number] if counts is not None else (texts or {}).get(role) if number == 0 else None
            together = counts is None and len(names) > 1 and of_file is not None
            row = {
                "role": role,
                "file": Path(name).name,
                "sha256": (hashes or {}).get(str(Path(name))) or file_hash(Path(name)),
            }
            rows.append(row | {"texts": _count(of_file, together), "gold mentions": _mentions(of_file, together)})
    return rows


def _count(texts: Gold | None, together: bool) -> str:
    return "" if texts is None else f"{len(texts):,}{' of all files' if together else ''}"


def _mentions(texts: Gold | None, together: bool) -> str:
    if texts is None or isinstance(texts, MentionStore):  # which are read from disk batch by batch
        return ""
    count = sum(len(s.mentions or s.token_mentions or ()) for s in texts)
    return f"{count:,}{' of all files' if together else ''}"


def kb_row(kb: KnowledgeBase) -> dict[str, Any]:
    """The knowledge base of an entry."""
    folder = kb.folder or kb.catalogue.path.parent
    return {"name": folder.name, "entities": len(kb.catalogue), "sha256": kb.catalogue.sha256}


def recipe_of(settings: Settings, **more: Any) -> dict[str, Any]:
    """Settings that differ from the defaults, and ``more`` where they are set."""
    defaults = type(settings)()
    values = {
        name: value for name in type(settings).model_fields if (value := getattr(settings, name)) != getattr(defaults, name)
    }
    return values | {name: value for name, value in more.items() if value not in (None, (), "")}


def done_now(seconds: float | None = None) -> dict[str, Any]:
    """Time, command and version of an entry that is written now."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    entry: dict[str, Any] = {"finished": now, "command": ["blink", *sys.argv[1:]]}
    return entry | ({} if seconds is None else {"seconds": seconds, "versions": {"blink": blink.__version__}})
