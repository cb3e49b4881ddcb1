"""A graph of five entities, and runs on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.kglm.config import load_settings
from blink.kglm.graph.learner import GraphLearner
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.triples import Graph
from blink.kglm.run import KglmRun
from blink.kglm.settings import Settings
from blink.runs.loop import Loop
from blink.runs.progress import Progress

PEOPLE = ["ada", "ben", "cleo", "dan", "eve"]
TRAIN = [
    ("ada", "parent", "ben"),
    ("ada", "parent", "cleo"),
    ("ben", "parent", "dan"),
    ("cleo", "parent", "eve"),
    ("ada", "knows", "dan"),
    ("dan", "knows", "eve"),
    ("ben", "likes", "eve"),
    ("eve", "likes", "ada"),
]
"""Neither order nor symmetry help: a model must tell h from t."""


def write_triples(path: Path, rows: list[tuple[str, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def family(folder: Path) -> Path:
    """The toy graph as a folder; what it is validated and tested on is what it learns."""
    for split in ("train", "valid", "test"):
        write_triples(folder / f"{split}.txt", TRAIN)
    return folder


def toy_settings(folder: Path, **changes: Any) -> Settings:
    """Settings of a run that memorises the toy graph; names such as ``train__lr``."""
    values = {
        "data.graph": str(folder),
        "device": "cpu",
        "model.dim": 16,
        "train.lr": 0.05,
        "train.epochs": 60,
        "train.batch_size": 16,
        "train.log_steps": 1,
        "stop.every": 20,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_settings("graph").replace(values)


def begin(path: Path, settings: Settings, sources: Sequence[Path] = ()) -> KglmRun:
    """A run that has begun, in a folder that holds none."""
    run = KglmRun(path, settings)
    run.require_free()
    run.begin(run.about(sources))
    return run


def toy_loop(graph: Path, run: Path, *, progress: Progress | None = None, **changes: Any) -> Loop:
    settings = toy_settings(graph, **changes)
    source = read_graph(settings.data)
    folder = KglmRun(run, settings)
    return Loop(GraphLearner(source, folder), folder, folder.about(source.sources), progress=progress)


def random_graph(entities: int, relations: int, triples: int, seed: int = 0, *, valid: int = 0) -> Graph:
    """A graph without structure."""
    random = np.random.default_rng(seed)
    graph = random.integers([entities, relations, entities], size=(4 * (triples + valid), 3))
    graph = np.unique(graph, axis=0)
    graph = random.permutation(graph)[: triples + valid].astype(np.int64)
    splits = {"train": graph[valid:], **({"valid": graph[:valid]} if valid else {})}
    return Graph(tuple(f"Q{i}" for i in range(entities)), tuple(f"P{i}" for i in range(relations)), splits)


def learner_of(loop: Loop) -> GraphLearner:
    assert isinstance(loop.learner, GraphLearner)
    return loop.learner


def weights(loop: Loop) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner_of(loop).model.state_dict().items()}


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    return [row for row in lines if row["kind"] == kind]
