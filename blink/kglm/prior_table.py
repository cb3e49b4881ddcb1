"""Create the table of a linker's graph prior: degrees, edges and vectors of a graph; see `blink.data.prior_file`.

Vectors come from an export (`blink kglm export`, `blink kglm embed`), or are signatures: the relations of an entity as head and
as tail, which need no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.arrays import map_array
from blink.data.prior_file import PriorTable, Relations, multiplied
from blink.errors import MismatchError
from blink.files import sample_hash
from blink.input_files import has_file, read_text
from blink.kglm.config import load_settings
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.triples import Graph
from blink.kglm.settings import GraphSettings
from blink.kglm.text_init.vectors import Space, read_folder, vectors_file
from blink.progress import Bars, no_bars

SIGNATURE = "signature"
"""Value of ``vectors`` for `signatures`."""
SIGNATURE_WIDTH = 64
INVERSE = "^-1"
MULTIPLICATIVE = {"complex": "re_im", "distmult": "real"}
"""Models whose score is a dot product -> layout of their vectors."""
PAIRS = 20_000
"""Number of random pairs of entities to estimate the biases of relations."""
FALSE_POSITIVE_RATE = 1e-3
"""Fraction of random pairs that score above a relation's bias."""
_EXPORT = "give a folder that `blink kglm export` or `blink kglm embed` wrote, or signature"


def read_train_graph(graphs: Sequence[str], root: str = "", bars: Bars = no_bars, **data: str) -> Graph:
    """Read the training triples of graphs, like `blink kglm train` for ``data.graph``; other splits are ignored.

    Args:
        graphs: folders or files.
        root: folder of graphs that are not in the working folder.
        bars: progress over the lines.
        data: further settings of the section ``data``.

    Raises:
        MissingFileError, DataError: a graph is missing, empty or malformed.
    """
    settings = GraphSettings.of(load_settings("graph"))
    changes = {"data.graph": list(graphs), "data.root": root, **{f"data.{name}": value for name, value in data.items()}}
    return read_graph(settings.replace(changes).data, bars)


def make_table(graph: Graph, vectors: str | None) -> PriorTable:
    """Create the table of a graph.

    Args:
        graph: the triples.
        vectors: a folder of vectors, ``signature``, or None for a table without vectors.

    Raises:
        MissingFileError, DataError: the folder has no vectors.
        MismatchError: the folder has no vector of an entity of the graph, or was created from another graph.
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
    return PriorTable(graph.entities, graph.degrees, edges, table, relations, about, graph.train.astype(np.int32))


def signatures(graph: Graph, width: int = SIGNATURE_WIDTH) -> np.ndarray:
    """Principal components of the normalized profiles ``log(1 + triples)`` of entities by relation and side.

    Returns:
        *Shape:* (entities, d), float32, where d is twice the number of relations, at most ``width``.
    """
    relations = len(graph.relations)
    profile = np.zeros((len(graph.entities), 2 * relations), dtype=np.float32)
    np.add.at(profile, (graph.train[:, 0], graph.train[:, 1]), 1)
    np.add.at(profile, (graph.train[:, 2], relations + graph.train[:, 1]), 1)
    profile = np.log1p(profile)
    profile /= np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-6)
    _, directions = np.linalg.eigh(profile.T @ profile)
    # The sign of an eigenvector is arbitrary. The largest entry is made positive, so that all machines agree.
    directions = directions[:, ::-1][:, :width]
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    result: np.ndarray = (profile @ directions).astype(np.float32)
    return result


def _joined(graph: Graph, space: Space, folder: str) -> np.ndarray:
    """Vectors in the order of the graph's entities; zeros for entities without a vector."""
    _require_same_triples(graph, space.meta, folder)
    row_of_id = {name: i for i, name in enumerate(space.ids)}
    row_of_entity = np.array([row_of_id.get(name, -1) for name in graph.entities])
    if (row_of_entity < 0).all():
        example = f"such as {space.ids[0]!r}, where the graph has {graph.entities[0]!r}"
        raise MismatchError(
            f"{folder} has no vector of an entity of the graph (its ids are {example}); give vectors of these ids"
        )
    rows = np.asarray(space.vectors, dtype=np.float32)[row_of_entity.clip(min=0)]
    return np.where((row_of_entity >= 0)[:, None], rows, np.float32(0))


def _require_same_triples(graph: Graph, meta: Mapping[str, Any], folder: str) -> None:
    """Check that vectors were trained on the triples of the graph; a run may have held out some of them."""
    source, known = (meta["triples"], graph.content) if "triples" in meta else (meta.get("graph"), graph.digest)
    if source not in (None, known):
        digests = f"{str(source)[:12]}, not {known[:12]}"
        raise MismatchError(f"{folder} was made from another graph ({digests}); give the same --graph to both")


def _relations(folder: Path, space: Space, vectors: np.ndarray) -> Relations | None:
    """Relation vectors of a multiplicative model with biases; None for other models.

    Inverse relations are dropped, because two entities are compared in both directions.
    """
    layout = MULTIPLICATIVE.get(str(space.meta.get("model")))
    path = vectors_file(folder, "relation")
    if layout is None or not has_file(path, _EXPORT):
        return None
    names = read_text(folder / "relation_ids.txt", _EXPORT).removesuffix("\n").split("\n")
    vectors_of_all = np.asarray(map_array(path, _EXPORT), dtype=np.float32)
    if len(names) != len(vectors_of_all) or vectors_of_all.shape[1] != vectors.shape[1]:
        raise MismatchError(
            f"{path} has shape {vectors_of_all.shape} for {len(names)} ids and entities of width {vectors.shape[1]}; {_EXPORT}"
        )
    selected = vectors_of_all[[i for i, name in enumerate(names) if not name.endswith(INVERSE)]]
    pairs = np.random.default_rng(0).integers(len(vectors), size=(2, PAIRS))
    limits, spreads = [], []
    for vector in selected:
        scores = (multiplied(vectors[pairs[0]], vector, layout) * vectors[pairs[1]]).sum(1)
        limits.append(np.quantile(scores, 1 - FALSE_POSITIVE_RATE))
        spreads.append(max(float(scores.std()), 1e-6))
    return Relations(selected, np.array(limits, np.float32), np.array(spreads, np.float32), layout)
