"""Makes the table that a linker takes its prior from: degrees, edges and vectors of a graph; see `blink.data.prior_file`.

Vectors are those of an export (`blink kglm export`, `blink kglm embed`), or signatures, which need no training: which relations
an entity has, as head or as tail, is much of what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.arrays import map_array
from blink.data.prior_file import PriorTable, Relations, multiplied
from blink.errors import MismatchError
from blink.files import require_file, sample_hash
from blink.kglm.config import load_settings
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.triples import Graph
from blink.kglm.text_init.vectors import Space, read_folder, vectors_file

SIGNATURE = "signature"
"""In place of a folder of vectors."""
SIGNATURE_WIDTH = 64
INVERSE = "^-1"
MULTIPLIED = {"complex": "re_im", "distmult": "real"}
"""Models whose score is an inner product -> layout of their vectors."""
PAIRS = 20_000
"""Random pairs of entities that the bias of relations is measured on."""
FALSE_ALARMS = 1e-3
"""Share of random pairs that a relation's bias lets pass."""
_EXPORT = "give a folder that `blink kglm export` or `blink kglm embed` wrote, or signature"


def read_train_graph(graphs: Sequence[str], root: str = "") -> Graph:
    """Training triples of graphs, as `blink kglm train` reads them from ``data.graph``; triples set aside are left alone.

    Raises:
        MissingFileError, DataError: a graph is missing, empty or malformed.
    """
    return read_graph(load_settings("graph").replace({"data.graph": list(graphs), "data.root": root}).data)


def make_table(graph: Graph, vectors: str | None) -> PriorTable:
    """The table of a graph.

    Args:
        graph: the triples.
        vectors: a folder, ``signature``, or None for none.

    Raises:
        MissingFileError, DataError: the folder is none of vectors.
        MismatchError: it has no vector of an entity of the graph, or was made from another graph.
    """
    ends = np.sort(graph.train[:, [0, 2]], axis=1)
    edges = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0).astype(np.int32)
    about: dict[str, Any] = {
        "graph": graph.digest,
        "triples": len(graph.train),
        "sources": [f"{path.parent.name}/{path.name}" for path in graph.sources],
    }
    table, relations = None, None
    if vectors == SIGNATURE:
        table = signatures(graph)
        about["vectors"] = {"name": SIGNATURE}
    elif vectors is not None:
        space = read_folder(vectors)
        table = _joined(graph, space, vectors)
        relations = _relations(Path(vectors), space, table)
        about["vectors"] = {"name": Path(vectors).name, "sha256": sample_hash(vectors_file(Path(vectors), "entity"))}
        about["vectors"] |= {key: space.meta[key] for key in ("model", "kind", "settings") if key in space.meta}
    return PriorTable(graph.entities, graph.degrees, edges, table, relations, about)


def signatures(graph: Graph, width: int = SIGNATURE_WIDTH) -> np.ndarray:
    """What relations an entity has: principal directions of log(1 + triples) by relation and side, at length 1.

    Returns:
        as many numbers as there are relations and sides, at most ``width``. *Shape:* (entities, d), float32.
    """
    relations = len(graph.relations)
    profile = np.zeros((len(graph.entities), 2 * relations), dtype=np.float32)
    np.add.at(profile, (graph.train[:, 0], graph.train[:, 1]), 1)
    np.add.at(profile, (graph.train[:, 2], relations + graph.train[:, 1]), 1)
    profile = np.log1p(profile)
    profile /= np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-6)
    _, directions = np.linalg.eigh(profile.T @ profile)
    # Signs of eigenvectors are arbitrary; this choice makes them the same on every machine.
    directions = directions[:, ::-1][:, :width]
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    result: np.ndarray = (profile @ directions).astype(np.float32)
    return result


def _joined(graph: Graph, space: Space, folder: str) -> np.ndarray:
    """Vectors in the order of the graph's entities; zeros where there is none."""
    if (made := space.meta.get("graph")) not in (None, graph.digest):
        raise MismatchError(
            f"{folder} was made from another graph ({str(made)[:12]}, not {graph.digest[:12]}); give the same --graph to both"
        )
    places = {name: i for i, name in enumerate(space.ids)}
    at = np.array([places.get(name, -1) for name in graph.entities])
    if (at < 0).all():
        found = f"such as {space.ids[0]!r}, where the graph has {graph.entities[0]!r}"
        raise MismatchError(
            f"{folder} has no vector of an entity of the graph (its ids are {found}); give vectors of these ids"
        )
    rows = np.asarray(space.vectors, dtype=np.float32)[at.clip(min=0)]
    return np.where((at >= 0)[:, None], rows, np.float32(0))


def _relations(folder: Path, space: Space, vectors: np.ndarray) -> Relations | None:
    """Relation vectors of an export of a model that multiplies, with biases; None of others.

    Only the vectors that ask for the tail count: two entities are compared both ways round.
    """
    layout = MULTIPLIED.get(str(space.meta.get("model")))
    path = vectors_file(folder, "relation")
    if layout is None or not path.is_file():
        return None
    names = require_file(folder / "relation_ids.txt", _EXPORT).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    all_of = np.asarray(map_array(path, _EXPORT), dtype=np.float32)
    if len(names) != len(all_of) or all_of.shape[1] != vectors.shape[1]:
        raise MismatchError(
            f"{path} has shape {all_of.shape} for {len(names)} ids and entities of width {vectors.shape[1]}; {_EXPORT}"
        )
    chosen = all_of[[i for i, name in enumerate(names) if not name.endswith(INVERSE)]]
    pairs = np.random.default_rng(0).integers(len(vectors), size=(2, PAIRS))
    limits, spreads = [], []
    for vector in chosen:
        scores = (multiplied(vectors[pairs[0]], vector, layout) * vectors[pairs[1]]).sum(1)
        limits.append(np.quantile(scores, 1 - FALSE_ALARMS))
        spreads.append(max(float(scores.std()), 1e-6))
    return Relations(chosen, np.array(limits, np.float32), np.array(spreads, np.float32), layout)
