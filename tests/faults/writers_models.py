"""Writers of models, exports, bundles and publications."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import toys

from blink.data.records import Sample
from blink.errors import DataError, MissingFileError
from blink.evaluation.saved import Provenance, SavedPredictions, read_predictions, write_predictions
from blink.files import read_json
from blink.hub.publishing import Publication, write_publication
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.model.backends.exported import export_key, export_to, is_current
from blink.model.biencoder import BiEncoder
from blink.model.card import TITLES, add_entry, read_entries
from blink.model.loading import load_model
from blink.model.stored_files import require_whole_model, store_settings
from tests.faults.trial import Work, Writer


@cache
def model(version: int) -> BiEncoder:
    """A small model."""
    return toys.model(version)


def of_model(folder: Path) -> Any:
    """What is loaded of a model, whose files are all compared."""
    if not (folder / "config.json").is_file():
        raise MissingFileError("no model")
    require_whole_model(folder, whole=True)
    loaded = load_model(folder, candidate=True)
    digest = hashlib.sha256()
    for name, values in sorted(loaded.state_dict().items()):
        digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest(), loaded.reranker is not None


def whole(work: Work, version: int) -> None:
    model(version).save_pretrained(work.root / "model")


def adapters(work: Work, version: int) -> None:
    import torch
    from training_toys import fresh

    if not (work.inputs / "base").exists():
        toys.base_folder(work.inputs / "base")
    torch.manual_seed(version)
    adapted = fresh(work.inputs / "base", version)
    adapted.save_pretrained(work.root / "model")


def settings(work: Work, version: int) -> None:
    """As `blink calibrate` stores a threshold."""
    if not version:
        whole(work, 0)
    else:
        config = load_model(work.root / "model").config
        store_settings(work.root / "model", config.replace(cutoff=0.25))


def of_settings(work: Work) -> Any:
    return of_model(work.root / "model"), read_json(work.root / "model" / "config.json")["cutoff"]


def card(work: Work, version: int) -> None:
    if not version:
        whole(work, 0)
    add_entry(work.root / "model", next(iter(TITLES)), {"command": ["blink"], "finished": f"day {version}"})


def of_card(work: Work) -> Any:
    return read_entries(work.root / "model")


def stored(work: Work) -> None:
    for version in (0, 1):
        model(version).save_pretrained(work.inputs / f"model-{version}")


def exported(work: Work, version: int) -> None:
    export_to(work.inputs / f"model-{version}", work.root / "onnx")


def of_export(work: Work) -> Any:
    """Which of the models is exported, whole."""
    if not (work.root / "onnx").exists() or not any((work.root / "onnx").iterdir()):
        raise MissingFileError("no export")
    for version in (0, 1):
        if is_current(work.root / "onnx", export_key(work.inputs / f"model-{version}")):
            return version
    raise DataError("an export that is none")


def publication(work: Work, version: int) -> None:
    files = {path.name: path for path in (work.inputs / f"model-{version}").iterdir()}
    write_publication(Publication("model", files, {}), work.root / "published")


def of_publication(work: Work) -> Any:
    if not (work.root / "published" / "config.json").is_file():
        raise MissingFileError("no publication")
    return of_model(work.root / "published")


def linked(work: Work) -> None:
    stored(work)
    toys.knowledge_base(work.inputs / "kb", model(0), toys.rows(8))


def bundle(work: Work, version: int) -> None:
    linker = Linker.from_pretrained(str(work.inputs / "model-0"), str(work.inputs / "kb"), backend="torch", device="cpu")
    linker.save_pretrained(work.root / "linker")


def of_bundle(work: Work) -> Any:
    if not (work.root / "linker" / "linker.json").is_file():
        raise MissingFileError("no linker")
    of_model(work.root / "linker" / "model")
    KnowledgeBase.open(work.root / "linker" / "kb")
    return read_json(work.root / "linker" / "linker.json")


def predictions(work: Work, version: int) -> None:
    linker = Linker.from_pretrained(str(work.inputs / "model-0"), str(work.inputs / "kb"), backend="torch", device="cpu")
    texts = ["Who governed Georgia 0?", "Java 3 or Mercury 5?"]
    provenance = Provenance("dev.jsonl", str(version), "m", "mm", "k", "kk", {"mode": "joint"}, -2.5)
    samples = [Sample(str(i), text) for i, text in enumerate(texts)]
    write_predictions(work.root / "saved.npz", SavedPredictions(samples, list(linker.analyze(texts)), provenance))


def of_predictions(work: Work) -> Any:
    if not (work.root / "saved.npz").is_file():
        raise MissingFileError("none")
    return read_predictions(work.root / "saved.npz").provenance.to_json()


WRITERS: Sequence[Writer] = (
    Writer("model", whole, lambda work: of_model(work.root / "model")),
    Writer("model of adapters", adapters, lambda work: of_model(work.root / "model")),
    Writer("settings of a model", settings, of_settings),
    Writer("card of a model", card, of_card),
    Writer("export --onnx", exported, of_export, stored),
    Writer("files for the hub", publication, of_publication, stored, old=False, repeats=False),
    Writer("linker in a folder", bundle, of_bundle, linked, old=False, repeats=False),
    Writer("saved predictions", predictions, of_predictions, linked),
)
