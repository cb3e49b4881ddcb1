"""Instances of `tests.artefacts`: files of runs, graphs, predictions and corrections, and those of the original."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.records import Entity, Mention, Sample
from tests import toys
from tests.artefact_work import DIM, ROWS, catalogue_rows, files_in

# -- runs ----------------------------------------------------------------------------------------------------------------


def make_checkpoints(folder: Path, seed: int) -> list[Path]:
    import torch

    from blink.runs.checkpoints import save_checkpoint

    for step in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        save_checkpoint(folder / "checkpoints", step, {"weight": torch.randn(7, 5, generator=generator), "seed": seed})
    return files_in(folder)


def use_checkpoints(folder: Path) -> Any:
    from blink.runs.checkpoints import load_checkpoint

    state = load_checkpoint(folder / "checkpoints")
    # A run goes on from the checkpoint before a damaged one, to the same end; what is compared is the state but its number.
    return state and {"weight": state["weight"].numpy().tobytes(), "seed": state["seed"], "is_known": state["step"] in (1, 2)}


def make_graph(folder: Path, seed: int) -> None:
    from tests.kglm import graph_toys

    rows = [tuple(f"{name}{seed or ''}" for name in row) for row in graph_toys.TRAIN]
    for split in ("train", "valid", "test"):
        graph_toys.write_triples(folder / "graph" / f"{split}.txt", rows)


def make_export(folder: Path, seed: int) -> list[Path]:
    import torch

    from blink.kglm.graph.export import write_export
    from blink.kglm.graph.learner import GraphLearner
    from blink.kglm.graph.readers import read_graph
    from blink.kglm.run import KglmRun
    from tests.kglm import graph_toys

    make_graph(folder, seed)
    settings = graph_toys.toy_settings(folder / "graph", model__name="distmult", seed=seed)
    graph = read_graph(settings.data)
    torch.manual_seed(seed)
    learner = GraphLearner(graph, KglmRun(folder / "run", settings))
    write_export(folder / "vectors", learner.model, graph, settings)
    return files_in(folder / "vectors")


def use_export(folder: Path) -> Any:
    from blink.data.prior_file import Prior, read_prior, write_prior
    from blink.kglm.prior_table import make_table, read_train_graph

    write_prior(folder / "prior", Prior(make_table(read_train_graph([str(folder / "graph")]), str(folder / "vectors"))))
    return _plain(read_prior(folder / "prior"))


def make_prior(folder: Path, seed: int) -> list[Path]:
    from blink.data.prior_file import Prior, write_prior
    from tests import prior_toys

    ids = [f"Q{seed}{i}" for i in range(12)]
    weights = prior_toys.weights("ranker-abc", text=5, seed=seed, vector=0.5)
    write_prior(folder / "graph.prior", Prior(prior_toys.table(ids, seed, layout="real"), (weights,)))
    return files_in(folder)


def use_prior(folder: Path) -> Any:
    from blink.data.prior_file import read_prior

    prior = read_prior(folder / "graph.prior")
    return _plain(prior), prior.table.directions().tobytes()


def _plain(value: Any) -> Any:
    """A value in which arrays are types, shapes and bytes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# -- what is learned and noted -------------------------------------------------------------------------------------------


def make_predictions(folder: Path, seed: int) -> list[Path]:
    from blink.evaluation.saved import Provenance, SavedPredictions, write_predictions
    from blink.linking.analysis import Analysis
    from tests.prior_toys import random_spans

    random = np.random.default_rng(seed)
    samples, analyses = [], []
    for number in range(4):
        words = [f"word{i}" for i in range(12)]
        text = " ".join(words)
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        offsets = np.stack([ends - [len(word) for word in words], ends], axis=1).astype(np.int32)
        spans = random_spans(random, 3, 4, 30)
        gold = (Mention(0, 5, 3, "Q3"), Mention(6, 11, -1, "Q9"))
        samples.append(Sample(f"text {number}", text, gold if number else None))
        analyses.append(Analysis(text, offsets, spans))
    about = Provenance("dev.jsonl", "d", "m", "mm", "k", "kk", {"mode": "joint", "entities": 4, "mentions": 50}, -2.5)
    slices: list[Any] = [() if sample.mentions is None else ("ambiguous", None) for sample in samples]
    write_predictions(folder / "predictions.npz", SavedPredictions(samples, analyses, about, slices))
    return files_in(folder)


def use_predictions(folder: Path) -> Any:
    from blink.evaluation.saved import read_predictions
    from blink.evaluation.sweep import THRESHOLDS, curve
    from blink.linking.decoder import Decoder, Thresholds

    saved = read_predictions(folder / "predictions.npz")
    provenance = saved.provenance
    decoder = Decoder(provenance.mode, Thresholds(provenance.threshold, provenance.mention_threshold))
    points = [p.to_json() for p in curve(decoder, saved.analyses, saved.samples, THRESHOLDS)]
    return points, _plain(saved.samples), _plain(list(saved.analyses)), _plain(list(saved.slices)), provenance.to_json()


def make_ledger(folder: Path, seed: int) -> list[Path]:
    from blink.resolve.ledger import Ledger

    ledger = Ledger(folder)
    ledger.add({f"{seed}{i:015d}": f"X{i}" for i in range(5)})
    ledger.add({f"{seed}{i:015d}": f"X{i}" for i in range(5, 9)})
    return files_in(folder)


def use_ledger(folder: Path) -> Any:
    from blink.resolve.ledger import Ledger

    ledger = Ledger(folder)
    known = {f"{seed}{i:015d}": ledger.entity_of(f"{seed}{i:015d}") for seed in (0, 1) for i in range(9)}
    ledger.add({"new": "X99"})
    return known, Ledger(folder).entity_of("new")


def make_corrections(folder: Path, seed: int) -> list[Path]:
    from blink.data.corrections import Corrections

    corrections = Corrections()
    corrections.add("Java is an island.", 0, 4, Entity(7 + seed, "Java (island)", kb_id="Q3757"))
    corrections.add("Georgia on my mind", 0, 7, None)
    corrections.save(folder / "corrections.jsonl")
    return files_in(folder)


def use_corrections(folder: Path) -> Any:
    from blink.data.corrections import Corrections

    corrections = Corrections.read(folder / "corrections.jsonl")
    corrections.add("More.", 0, 4, None)
    corrections.save(folder / "corrections.jsonl")
    return list(Corrections.read(folder / "corrections.jsonl"))


def make_store(folder: Path, seed: int) -> list[Path]:
    lines = [json.dumps({"id": i, "text": f"Java {i} {seed}", "mentions": [[0, 4]], "label_id": [i]}) for i in range(9)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    use_store(folder)
    return files_in(folder / "offsets")


def use_store(folder: Path) -> Any:
    from blink.data.mention_store import MentionStore

    with toy_catalogue(folder) as catalogue:
        store = MentionStore([folder / "rows.jsonl"], catalogue, folder / "offsets")
        rows = list(store), store.line_bytes.tolist()
        store.close()
    return rows


@contextlib.contextmanager
def toy_catalogue(folder: Path) -> Iterator[Any]:
    """A catalogue of 20 entities in a folder."""
    from blink.kb.catalogue import Catalogue

    path = folder / "entity.jsonl"
    if not path.exists():
        toys.write_catalogue(path, toys.rows(20))
    with Catalogue.open(path) as catalogue:
        yield catalogue


def make_sidecar(folder: Path, seed: int) -> list[Path]:
    toys.write_catalogue(folder / "entity.jsonl", catalogue_rows(seed))
    use_sidecar(folder)
    return [folder / "entity.jsonl.offsets"]


def use_sidecar(folder: Path) -> Any:
    with toy_catalogue(folder) as catalogue:
        return list(catalogue), catalogue.sha256, [catalogue.row_of(f"Q{100 + i}") for i in range(ROWS)]


# -- files of the original -----------------------------------------------------------------------------------------------


def make_original(folder: Path, seed: int, *, legacy: bool = False) -> list[Path]:
    from tests.compat.originals import Reference, Shape

    Reference(Shape("toy", candidate=(32, 2, 2), legacy=legacy), folder).write()
    (folder / "vocab.txt").write_text(toys.VOCABULARY.read_text(encoding="utf-8"), encoding="utf-8")
    return files_in(folder)


def use_original(folder: Path) -> Any:
    from blink.compat.elq.files import open_linker
    from blink.compat.elq.plan import Files, Plan

    names = ("pytorch_model.bin", "training_params.txt", "entity.jsonl", "all_entities.t7")
    linker = open_linker(Plan(Files(*(folder / name for name in names)), threshold=-50.0))
    return list(linker.link(["Georgia is large, and Turing was born.", "Oslo"]))


def make_faiss(folder: Path, seed: int, kind: str) -> list[Path]:
    from blink.kb.index import KINDS, save_index

    vectors = np.random.default_rng(seed).normal(size=(200, DIM)).astype(np.float32)
    save_index(vectors, KINDS[kind], folder / f"faiss_{kind}_index.pkl")
    return files_in(folder)


def use_faiss(folder: Path, kind: str) -> Any:
    from blink.kb.index.faiss_index import read_index

    index = read_index(folder / f"faiss_{kind}_index.pkl")
    scores, rows = index.search(np.random.default_rng(9).normal(size=(50, DIM)).astype(np.float32), 5)
    return index.size, rows.tolist(), np.nan_to_num(scores).tobytes()
