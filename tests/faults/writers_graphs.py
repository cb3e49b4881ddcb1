"""Writers of vectors, of what is exported of graphs and texts, and of models of graphs, texts and LUKE."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.errors import MissingFileError
from blink.kglm.glove.runner import GloveRunner
from blink.kglm.graph.export import write_export
from blink.kglm.graph.learner import GraphLearner
from blink.kglm.graph.readers import read_graph
from blink.kglm.lm.runner import LanguageRunner
from blink.kglm.lm.saved import load_model, save_model
from blink.kglm.lm.vocabulary import Vocabulary
from blink.kglm.run import KglmRun, read_best, write_best
from blink.kglm.text_init.pipeline import make_vectors, reduce_vectors
from blink.kglm.text_init.tables import TextRow
from blink.kglm.text_init.vectors import Space, read_folder, write_folder
from tests.faults.trial import Work, Writer
from tests.kglm import glove_toys, graph_toys, lm_toys

SIZE = 200


def space(version: int) -> Space:
    """Vectors of one number."""
    ids = [f"Q{i}" for i in range(SIZE)]
    return Space("entity", ids, np.full((SIZE, 6), version + 1, np.float32), ids, ["a"] * SIZE, list(range(1, SIZE + 1)))


# -- vectors of texts --------------------------------------------------------------------------------------------------


class Letters:
    """Encodes texts by their lengths."""

    name, pooling, max_length, dtype, width = "letters", "mean", 8, torch.float32, 4

    def fingerprint(self) -> str:
        return "letters"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text), 1, 2, 3] for text in texts], np.float32)


def embedded(work: Work, version: int) -> None:
    """As `blink kglm embed entities` writes."""
    source = work.inputs / "table"
    source.write_text(str(version))
    rows = [TextRow(i + 1, f"Q{i}", f"name {i + version}", "a") for i in range(SIZE)]
    make_vectors(rows, "entity", Letters(), work.root / "out.tsv", source=source, tsv=False)  # type: ignore[arg-type]


def reduced(work: Work, version: int) -> None:
    """As `blink kglm reduce` writes: vectors, and what reduced them."""
    values = np.random.default_rng(version).normal(size=(SIZE, 6)).astype(np.float32)
    of = space(version)
    reduce_vectors(Space(of.kind, of.ids, values, of.names, of.types, of.rows), work.root / "out.tsv", tsv=False)


# -- exports -----------------------------------------------------------------------------------------------------------


def graph_export(work: Work, version: int) -> None:
    """As `blink kglm export` writes of a graph."""
    settings = graph_toys.toy_settings(graph_toys.family(work.inputs / "family"), model__name="distmult", seed=version)
    graph = read_graph(settings.data)
    model = GraphLearner(graph, KglmRun(work.inputs / "run", settings)).model
    write_export(work.root / "out.vectors", model, graph, settings)


def glove_runs(work: Work) -> None:
    data = glove_toys.data(work.inputs / "places")
    for version in (0, 1):
        GloveRunner().train(glove_toys.settings(data, **{"train.epochs": 1, "seed": version}), work.inputs / f"run-{version}")


def glove_export(work: Work, version: int) -> None:
    GloveRunner().export(work.inputs / f"run-{version}", work.root / "out.vectors")


def joint_runs(work: Work) -> None:
    world = lm_toys.write_world(work.inputs / "world")
    for version in (0, 1):
        settings = lm_toys.settings_for(world, "joint", {"train.epochs": 1, "seed": version})
        LanguageRunner().train(settings, work.inputs / f"run-{version}")


def joint_export(work: Work, version: int) -> None:
    LanguageRunner().export(work.inputs / f"run-{version}", work.root / "out.vectors")


def of_files(folder: Path) -> str:
    """All files of a folder but temporaries, together."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def of_vectors(work: Work) -> Any:
    vectors = read_folder(work.root / "out.vectors").vectors
    return vectors.shape, of_files(work.root / "out.vectors")


# -- models ------------------------------------------------------------------------------------------------------------


def best(work: Work, version: int) -> None:
    write_best(work.root / "best", {"entities": torch.full((90, 8), float(version))}, {"epoch": version, "graph": "g"})


def of_best(work: Work) -> Any:
    return read_best(work.root / "best", "g")["entities"].unique().tolist()


def language_model(work: Work, version: int) -> None:
    words = Vocabulary([f"word{i}" for i in range(30)], [1] * 30)
    save_model(work.root / "best", lm_toys.toy_model(len(words), seed=version), words, figures={"version": version})


def of_language_model(work: Work) -> Any:
    saved = load_model(work.root)
    return saved.figures, hashlib.sha256(b"".join(of.numpy().tobytes() for of in saved.model.state_dict().values())).hexdigest()


def luke(work: Work, version: int) -> None:
    """As fine-tuning keeps its best model."""
    from examples.luke.tiny import make_tiny_model

    (work.root / "luke").mkdir(exist_ok=True)
    make_tiny_model(work.root / "luke", ["Java and the Sun"], ["Java", "Sun"], size=16, layers=1, seed=version)


def of_luke(work: Work) -> Any:
    from examples.luke.pretrained import load_pretrained

    folder = work.root / "luke"
    if not any((folder / name).is_file() for name in ("config.json", "checksums.json")):
        raise MissingFileError("no model")
    model = load_pretrained(str(folder), None, str).model
    return hashlib.sha256(b"".join(of.numpy().tobytes() for of in model.state_dict().values())).hexdigest()


def luke_models(work: Work) -> None:
    from examples.luke.tiny import make_tiny_model

    for version in (0, 1):
        make_tiny_model(work.inputs / f"{version}", ["Java and the Sun"], ["Java", "Sun"], size=16, layers=1, seed=version)


def luke_entities(work: Work, version: int) -> None:
    from examples.export_entities import select_rows, write_entities
    from examples.luke.pretrained import load_pretrained

    pretrained = load_pretrained(str(work.inputs / f"{version}"), None, str)
    write_entities(work.root / "out.vectors", pretrained, select_rows(pretrained.entities, None, {}), "luke")


WRITERS: Sequence[Writer] = (
    Writer("vectors of texts", lambda work, version: write_folder(space(version), work.root / "out.vectors"), of_vectors),
    Writer("kglm embed", embedded, of_vectors),
    Writer("kglm reduce", reduced, of_vectors),
    Writer("kglm export, graph", graph_export, of_vectors),
    Writer("kglm export, GloVe", glove_export, of_vectors, glove_runs),
    Writer("kglm export, joint", joint_export, of_vectors, joint_runs),
    Writer("best model of a run", best, of_best),
    Writer("language model", language_model, of_language_model),
    Writer("model of LUKE", luke, of_luke),
    Writer("entities of LUKE", luke_entities, of_vectors, luke_models),
)
