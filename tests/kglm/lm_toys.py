"""Toy texts, triples and runs of the language side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blink.kglm.config import load_settings
from blink.kglm.lm.model import KGLanguageModel, Network
from blink.kglm.settings import Cells, Classifier, JointSettings, Language, Settings

DEFAULTS = JointSettings.of(load_settings("joint"))
TOWNS = ("ulm", "bonn", "kiel", "jena", "hof")
TRADES = ("painter", "sailor", "baker", "smith")
NAMES = ("ada", "bert", "cleo", "dirk", "edna", "fred", "gina", "hans")
TINY: dict[str, Any] = {
    "words.width": 8,
    "cells.layers": [6],
    "train.epochs": 3,
    "train.steps_per_epoch_lm": 4,
    "train.lines": 4,
    "train.log_steps": 1,
    "train.save_steps": 2,
    "train.learning_rate_lm": 0.01,
    "data.held_out": 0.2,
}
SMALL_JOINT: dict[str, Any] = {
    **TINY,
    "train.steps_per_epoch_kge": 3,
    "train.triples": 8,
    "train.learning_rate_kge": 0.02,
    "classifier.hidden": [8, 6],
    "data.apart": True,
    "vocabulary.count": "both",
}


def write_world(folder: Path) -> Path:
    """Texts and triples of a few people, each with a town and a trade; ``lm`` and ``kg`` are folders in ``folder``."""
    random = np.random.default_rng(3)
    people = [f"{first} {last}" for first in NAMES for last in ("moor", "lund", "voss")]
    facts = [(i, int(random.integers(len(TOWNS))), int(random.integers(len(TRADES)))) for i in range(len(people))]
    lines = [f"{people[i].title()}, born in {TOWNS[a].title()}, was a {TRADES[b]}." for i, a, b in facts]
    rows = [(f"Q{i}", relation, other) for i, a, b in facts for relation, other in (("P19", f"T{a}"), ("P106", f"J{b}"))]
    for name in ("lm", "kg"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, span in (("train", slice(0, 20)), ("test", slice(20, None))):
        (folder / "lm" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines[span]), encoding="utf-8")
        (folder / "lm" / f"{name}.ids").write_text("".join(f"Q{i}\n" for i, _, _ in facts[span]), encoding="utf-8")
    (folder / "kg" / "train.txt").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    names = [(f"Q{i}", name) for i, name in enumerate(people)] + [(f"T{i}", t) for i, t in enumerate(TOWNS)]
    names += [(f"J{i}", t) for i, t in enumerate(TRADES)]
    (folder / "names.tsv").write_text("".join(f"{id_}\t{name}\n" for id_, name in names), encoding="utf-8")
    (folder / "relations.json").write_text('{"P19": {"label": "place of birth"}, "P106": "occupation"}', encoding="utf-8")
    return folder


def settings_for(world: Path, kind: str = "lm", changes: Mapping[str, Any] | None = None) -> Settings:
    """Settings of a small run over `write_world`."""
    data: dict[str, Any] = {"data.root": str(world), "data.text": "lm/train.txt", "data.text_test": "lm/test.txt"}
    if kind == "joint":
        names = {"data.entity_names": "names.tsv", "data.relation_names": "relations.json"}
        data |= {"data.graph": "kg", **names, **SMALL_JOINT}
    else:
        data |= TINY
    return load_settings(kind).replace({"device": "cpu", **data, **(changes or {})})


def language_options(**changes: Any) -> Language:
    """The default language options of a joint run, with changes."""
    return Language(**{**DEFAULTS.language.to_dict(), **changes})


def classifier_options(**changes: Any) -> Classifier:
    """The default classifier options of a joint run, with changes."""
    return Classifier(**{**DEFAULTS.classifier.to_dict(), **changes})


def toy_model(
    vocabulary: int = 30,
    *,
    cells: Cells | None = None,
    language: Language | None = DEFAULTS.language,
    classifier: Classifier | None = None,
    seed: int = 0,
    **more: Any,
) -> KGLanguageModel:
    """A small network with random weights, in evaluation mode."""
    cells = cells or Cells(kind="LSTM", layers=[6], keep=0.6)
    network = Network(vocabulary=vocabulary, width=5, cells=cells, language=language, classifier=classifier, **more)
    return KGLanguageModel(network, seed).eval()
