"""Popularity features of entities, estimated from the catalogue, as a table on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from blink.data.arrays import map_array, save_array
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


def describe(entity: Entity) -> tuple[float, float, float, float]:
    """The columns of one entity.

    - popularity: 7 - log10 of the Wikidata number. Numbers were assigned in order of creation, so that popular entities
      have low numbers, such as Q64 for Berlin.
    - aliases: log(1 + number of aliases).
    - words: log(1 + words of the description).
    - common_noun: 1 if the title begins with a lowercase letter.
    """
    plain = wikidata_id(entity.kb_id or "")
    popularity = NO_ID if plain is None else 7 - np.log10(int(plain[1:]) + 10)
    return (
        float(popularity),
        np.log1p(len(entity.aliases)),
        np.log1p(len(entity.text.split())),
        float(entity.title[:1].islower()),
    )


def build_popularity(entities: Iterable[Entity], rows: int, folder: str | Path) -> None:
    """Write the table into ``folder``; rows without an entity are zeros."""
    table = np.zeros((rows, len(COLUMNS)), dtype=np.float32)
    for entity in entities:
        table[entity.row] = describe(entity)
    save_array(Path(folder) / POPULARITY_FILE, table)


def open_popularity(folder: str | Path, rows: int) -> np.ndarray:
    """Map the table. *Shape:* (entities, 4), float32.

    Raises:
        MissingFileError: the table is missing.
        MismatchError: it is damaged, or of another catalogue.
    """
    path = Path(folder) / POPULARITY_FILE
    table = map_array(path, REBUILD)
    if table.shape != (rows, len(COLUMNS)):
        raise MismatchError(f"{path} has shape {table.shape}, the catalogue has {rows} entities; {REBUILD}")
    return table
