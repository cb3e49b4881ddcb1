"""Places in a graph and in a text, and settings of runs on both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from blink.kglm.config import load_settings
from blink.kglm.settings import Settings

TITLES = ("oslo", "bergen", "nile", "garda", "elbrus", "java", "rhine", "etna")
KINDS = ("city", "river", "lake", "mountain")


def data(folder: Path) -> Path:
    """Places with a kind and a neighbour, and a text that says the same."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    triples, lines, ids = [], [], []
    for i, title in enumerate(TITLES):
        kind = KINDS[i % 4]
        triples += [(title, "kind", kind), (title, "near", TITLES[(i + 4) % 8]), (title, "like", TITLES[(i + 2) % 8])]
        for _ in range(5):
            lines.append(" ".join([f"{title} is a {kind} and", *random.choice(["old", "cold", "wet", "wide"], 4)]))
            ids.append(title)
    for name, rows in (("train", triples[:18] + triples[19:]), ("valid", triples[18:19] + triples[2:4])):
        (folder / f"{name}.txt").write_text("".join("\t".join(t) + "\n" for t in rows), encoding="utf-8")
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "subjects").write_text("\n".join(ids) + "\n", encoding="utf-8")
    names = [*TITLES, *KINDS]
    (folder / "names.tsv").write_text("".join(f"{n}\t{n.title()}\n" for n in names), encoding="utf-8")
    return folder


GRAPH = {
    "model.dim": 8, "train.epochs": 6, "train.batch_size": 16, "train.lr": 0.05, "stop.every": 3, "stop.patience": 0,
    "train.log_steps": 1, "model.entity_dropout": 0.2, "train.save_epochs": 1,
}  # fmt: skip
JOINT = {
    "joint.alpha": 0.5, "words.dim": 8, "words.batch_size": 32, "vocabulary.least_count": 1, "counts.window": 4,
    "counts.held_out": 0.05, "joint.mu": 0.1, "joint.batch_size": 4,
}  # fmt: skip


def settings(folder: Path, kind: str = "glove", **more: Any) -> Settings:
    values: dict[str, Any] = {"data.graph": str(folder), **GRAPH}
    if kind == "glove":
        values |= {"data.text": str(folder / "text.txt"), "data.entity_names": str(folder / "names.tsv"), **JOINT}
    return load_settings(kind).replace({**values, **more})
