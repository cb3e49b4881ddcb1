"""Initialize entity embeddings from a file, such as text vectors."""

from __future__ import annotations

import numpy as np
import torch

from blink.errors import MismatchError, SettingsError
from blink.kglm.config import data_path
from blink.kglm.graph.model import GraphModel
from blink.kglm.graph.triples import Graph
from blink.kglm.settings import GraphSections
from blink.kglm.text_init.initial import StartRows, start_rows
from blink.kglm.text_init.vectors import read_folder


def start_from_vectors(model: GraphModel, graph: Graph, settings: GraphSections) -> str:
    """Copy the vectors of ``model.vectors`` into the entity table; entities without a vector keep their random values.

    Returns:
        a message about the result; empty if ``model.vectors`` is not set.

    Raises:
        MissingFileError, DataError: a file is missing or malformed.
        MismatchError: the vectors have another dimension, or none of the graph's ids has a vector.
        SettingsError: the interaction has several tables of entities.
    """
    options = settings.model
    if not options.vectors:
        if options.vectors_frozen:
            raise SettingsError(
                "model.vectors_frozen needs model.vectors; set model.vectors, or set model.vectors_frozen to false"
            )
        return ""
    table = model.entity_tables[0]
    if len(model.entity_tables) > 1 or table.dim() != 2:
        raise SettingsError(f"{options.name} has several vectors per entity; model.vectors is for interactions with one")
    folder = data_path(options.vectors, settings.data.root)
    drawn = table.detach().numpy()
    if options.vectors_rescaled:
        rows = start_rows(folder, graph.entities, drawn)
    else:
        rows = _unscaled_rows(str(folder), graph.entities, drawn)
    with torch.no_grad():
        table.copy_(torch.from_numpy(rows.vectors))
    table.requires_grad_(not options.vectors_frozen)
    return f"{rows.matched:,} entities start from {folder} (times {rows.factor:.4g}), {rows.missing:,} from random vectors"


def _unscaled_rows(folder: str, ids: tuple[str, ...], drawn: np.ndarray) -> StartRows:
    """Vectors without centring and rescaling, such as those of an earlier run."""
    space = read_folder(folder)
    if space.width != drawn.shape[1]:
        raise MismatchError(
            f"the vectors in {folder} are {space.width}-dimensional; set model.dim to that, it is {drawn.shape[1]}"
        )
    row_of_id = {name: row for row, name in enumerate(space.ids)}
    rows = np.array([row_of_id.get(name, -1) for name in ids])
    if not (rows >= 0).any():
        raise MismatchError(
            f"none of the graph's {len(ids):,} ids has a vector in {folder}, such as {ids[0]!r}; use the same ids"
        )
    vectors = np.where((rows >= 0)[:, None], space.vectors[rows], drawn).astype(np.float32)
    return StartRows(vectors, int((rows >= 0).sum()), int((rows < 0).sum()), 1.0)
