"""Export entity embeddings of a joint run as files for the linker, in the layout of `blink.kglm.graph.export`.

An entity's vector is its row in the entity table. A model without a table encodes the entity's name, so every entity of the
graph has a vector, whether it was in the training triples or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.data.arrays import save_array
from blink.files import atomic_open
from blink.kglm.graph.export import FORMAT
from blink.kglm.lm.inputs import Triples
from blink.kglm.lm.saved import SavedModel
from blink.kglm.settings import Settings
from blink.kglm.text_init.vectors import exporting, write_meta

NAMES_BATCH = 512


def write_export(out: Path, saved: SavedModel, triples: Triples, settings: Settings) -> dict[str, Any]:
    """Write ``entity_vectors.npy``, ``entity_ids.txt``, ``degrees.npy``, ``meta.json``, and relations if the model has tables.

    Args:
        out: the folder; created if missing.
        saved: the model.
        triples: its training data.
        settings: settings of its run.

    Returns:
        number of entities, dimension and origin of the vectors.
    """
    with exporting(out) as work:
        meta = _write_vectors(work, saved, triples, settings)
        write_meta(work, meta)
    return {"entities": meta["rows"], "dim": meta["dim"], "vectors": meta["vectors"]}


def _write_vectors(work: Path, saved: SavedModel, triples: Triples, settings: Settings) -> dict[str, Any]:
    """Write the files of an export but ``meta.json``, whose content is returned."""
    tables = saved.model.tables
    vectors = _of_names(saved, triples) if tables is None else tables.entities.weight.detach().numpy()
    ids = triples.lexicon.entities if tables is None else saved.entities
    _write(work, "entity", vectors, ids)
    if tables is not None:
        _write(work, "relation", tables.relations.weight.detach().numpy(), saved.relations)
    degrees = dict(zip(triples.graph.entities, triples.graph.degrees.tolist(), strict=True))
    save_array(work / "degrees.npy", np.array([degrees.get(id_, 0) for id_ in ids], dtype=np.int64))
    norms = np.linalg.norm(vectors, axis=1)
    return {
        "format": FORMAT,
        "kind": "joint",
        "model": "text",
        "vectors": "names" if tables is None else "table",
        "layout": "real",
        "dim": int(vectors.shape[1]),
        "rows": len(vectors),
        "relation_dim": 0 if tables is None else int(vectors.shape[1]),
        "mean_norm": float(norms.mean()),
        "std_norm": float(norms.std()),
        "graph": triples.graph.digest,
        "triples": triples.graph.content,
        "degrees": "degrees.npy",
        "vocabulary": saved.vocabulary.digest,
        "settings": settings.digest(),
    }


@torch.no_grad()
def _of_names(saved: SavedModel, triples: Triples) -> np.ndarray:
    """Encoded names of all entities. *Shape:* (entities, `Cells.summary_width`)."""
    texts = triples.lexicon.texts(saved.vocabulary)
    rows = np.arange(len(triples.lexicon.entities))
    chunks = (rows[i : i + NAMES_BATCH] for i in range(0, len(rows), NAMES_BATCH))
    return np.concatenate([saved.model.encoder.summary(*texts.names(chunk)).numpy() for chunk in chunks])


def _write(work: Path, kind: str, vectors: np.ndarray, ids: tuple[str, ...]) -> None:
    save_array(work / f"{kind}_vectors.npy", np.ascontiguousarray(vectors, dtype=np.float32))
    with atomic_open(work / f"{kind}_ids.txt") as f:
        f.writelines(f"{id_}\n" for id_ in ids)
