"""Export the embeddings of a graph model as files for the linker, which joins them by id.

The files are ``entity_vectors.npy`` (float32) with ``entity_ids.txt``, ``relation_vectors.npy`` with ``relation_ids.txt``,
``degrees.npy`` (number of training triples of each entity) and ``meta.json``; they replace those of an earlier export together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.data.arrays import save_array
from blink.files import atomic_open
from blink.kglm.graph.interactions import RotatE
from blink.kglm.graph.model import GraphModel
from blink.kglm.graph.triples import Graph
from blink.kglm.settings import GraphSections
from blink.kglm.text_init.vectors import exporting, write_meta

FORMAT = 1
INVERSE = "^-1"
"""Suffix of the id of a reciprocal relation, which is for head queries."""


def write_export(out: Path, model: GraphModel, graph: Graph, settings: GraphSections) -> dict[str, Any]:
    """Write the embeddings of a model; returns their numbers and dimensions.

    Args:
        out: the folder; created if missing.
        model: the model.
        graph: its graph.
        settings: settings of its run.
    """
    with exporting(out) as work:
        meta = write_embeddings(work, model, graph, settings)
        write_meta(work, meta)
    return summary(meta)


def summary(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and dimensions of the embeddings that `write_embeddings` describes."""
    return {"entities": meta["rows"], **{key: meta[key] for key in ("dim", "relations", "relation_dim")}}


def write_embeddings(work: Path, model: GraphModel, graph: Graph, settings: GraphSections) -> dict[str, Any]:
    """Write the files of an export but ``meta.json``, whose content is returned; arguments as of `write_export`."""
    vectors, relations = model.entity_vectors().cpu().numpy(), _relation_vectors(model)
    names = [*graph.relations, *(f"{name}{INVERSE}" for name in graph.relations if model.reciprocal)]
    for kind, rows, ids in (("entity", vectors, graph.entities), ("relation", relations, names)):
        save_array(work / f"{kind}_vectors.npy", np.ascontiguousarray(rows, dtype=np.float32))
        with atomic_open(work / f"{kind}_ids.txt") as f:
            f.writelines(f"{name}\n" for name in ids)
    save_array(work / "degrees.npy", graph.degrees.astype(np.int64))
    norms = np.linalg.norm(vectors, axis=1)
    return {
        "format": FORMAT,
        "kind": "graph",
        "model": settings.model.name,
        "arguments": settings.model.arguments,
        "reciprocal": model.reciprocal,
        "normalize": settings.model.normalize,
        "layout": model.interaction.layout,
        "dim": int(vectors.shape[1]),
        "rows": len(vectors),
        "relations": len(relations),
        "relation_dim": int(relations.shape[1]),
        "relation_layout": "phases" if isinstance(model.interaction, RotatE) else model.interaction.layout,
        "mean_norm": float(norms.mean()),
        "std_norm": float(norms.std()),
        "graph": graph.digest,
        "triples": graph.content,
        "degrees": "degrees.npy",
        "settings": settings.digest(),
    }


@torch.no_grad()
def _relation_vectors(model: GraphModel) -> np.ndarray:
    """Relation embeddings, all tables concatenated; phases in radians for RotatE. *Shape:* (relations, width)."""
    if not len(model.relation_tables):
        return np.zeros((model.relations, 0), dtype=np.float32)
    tables = torch.cat([table.flatten(1) for table in model.relation_tables], 1)
    return (model.interaction.phases(tables) if isinstance(model.interaction, RotatE) else tables).cpu().numpy()
