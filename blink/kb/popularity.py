"""Popularity features of entities, estimated from the catalogue, as a table on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blink.data.arrays import map_array
from blink.data.ids import wikidata_id
from blink.data.records import Entity
from blink.errors import MismatchError
from blink.kb.alias_table import REBUILD

POPULARITY_FILE = "popularity.npy"
COLUMNS = ("popularity", "aliases", "words", "common_noun")
"""Names of the columns, which are features of the reranker."""
POPULARITY = COLUMNS.index("popularity")
NO_ID = 2.0
"""Popularity of an entity without a Wikidata id, which is that of Q100000."""


def describe(entities: Sequence[Entity]) -> np.ndarray:
    """The columns of entities.

    - popularity: that of the entity, such as 7 - log10 of its rank by Wikipedia pages; else 7 - log10 of the Wikidata number.
      Numbers were assigned in order of creation, so that popular entities have low numbers, such as Q64 for Berlin.
    - aliases: log(1 + number of aliases).
    - words: log(1 + words of the description).
    - common_noun: 1 if the title begins with a lowercase letter.

    Returns:
        *Shape:* (entities, 4), float32; zeros for those of broken lines, which have no title.
    """
    ids = [wikidata_id(entity.kb_id or "") for entity in entities]
    numbers = np.array([int(plain[1:]) if plain else -1 for plain in ids], dtype=np.float64)
    stated = np.array([np.nan if entity.popularity is None else entity.popularity for entity in entities], dtype=np.float64)
    by_number = np.where(numbers < 0, NO_ID, 7 - np.log10(np.maximum(numbers, 0) + 10))
    columns = [
        np.where(np.isnan(stated), by_number, stated),
        np.log1p([len(entity.aliases) for entity in entities]),
        np.log1p([len(entity.text.split()) for entity in entities]),
        np.array([entity.title[:1].islower() for entity in entities]),
    ]
    is_entity = np.array([bool(entity.title) for entity in entities])
    described: np.ndarray = np.where(is_entity[:, None], np.stack(columns, axis=1), 0).astype(np.float32)
    return described


def open_popularity(folder: str | Path, rows: int) -> np.ndarray:
    """Map the table. *Shape:* (entities, 4), float32.

    Raises:
        MissingFileError: the table is missing.
        MismatchError: it is damaged, or of another catalogue.
    """
    path = Path(folder) / POPULARITY_FILE
    table = map_array(path, REBUILD, kinds="f")
    if table.shape != (rows, len(COLUMNS)):
        raise MismatchError(f"{path} has shape {table.shape}, the catalogue has {rows} entities; {REBUILD}")
    return table
