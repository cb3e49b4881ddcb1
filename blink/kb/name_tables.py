"""The tables of a catalogue, written in one pass: titles, alias table, fuzzy index, popularity, and types and tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from blink.data.arrays import array_writer
from blink.data.records import Entity
from blink.files import disk_named
from blink.kb import alias_table, attribute_table, fuzzy_index, name_count_table, popularity, title_table
from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, AliasTableWriter, normalise_all, without_brackets
from blink.kb.attribute_table import AttributeTableWriter
from blink.kb.fuzzy_index import MAX_NAMES_PER_ENTITY
from blink.kb.fuzzy_writer import FuzzyIndexWriter
from blink.kb.name_count_table import NameCountWriter
from blink.kb.title_table import title_table_writer

FILES = (
    alias_table.KEYS_FILE,
    alias_table.VALUES_FILE,
    *fuzzy_index.FILES,
    popularity.POPULARITY_FILE,
    *title_table.FILES,
    *attribute_table.FILES,
    *name_count_table.FILES,
)
"""All files that are derived from the catalogue's lines."""
_BLOCK_ROWS = 1 << 13


def build_name_tables(
    entities: Iterable[Entity], rows: int, folder: str | Path, advance: Callable[[int], None] = lambda rows: None
) -> None:
    """Write the tables of all titles and aliases into ``folder``; memory hardly grows with their number.

    Args:
        entities: by ascending row. Rows that are left out, and broken lines (title ``""``), have no names.
        rows: rows of the catalogue.
        folder: where the files go, and temporary ones.
        advance: called with the number of newly finished rows.
    """
    folder = Path(folder)
    of_rows = _every_row(entities, rows)
    with (
        disk_named(folder),  # temporary files have no name
        title_table_writer(folder) as add_titles,
        array_writer(folder / popularity.POPULARITY_FILE, np.float32, len(popularity.COLUMNS)) as add_popularity,
        AliasTableWriter(folder, rows) as aliases,
        FuzzyIndexWriter(folder, rows) as fuzzy,
        AttributeTableWriter(folder, rows) as attributes,
        NameCountWriter(folder) as name_counts,
    ):
        while block := list(islice(of_rows, _BLOCK_ROWS)):
            add_titles([entity.title for entity in block], [entity.kb_id for entity in block])
            add_popularity(popularity.describe(block))
            add_names(block, aliases, fuzzy)
            attributes.add(block)
            name_counts.add(block)
            advance(len(block))
        aliases.finish()
        fuzzy.finish()
        attributes.finish()
        name_counts.finish()


def add_names(block: Sequence[Entity], aliases: AliasTableWriter, fuzzy: FuzzyIndexWriter) -> None:
    """Add the names of entities of consecutive rows to alias table and fuzzy index."""
    names_of = [_names(entity) for entity in block]
    n_names = np.fromiter(map(len, names_of), np.int64, len(block))
    names = [name for names in names_of for name in names]
    forms = normalise_all(names)
    owner = np.repeat(np.arange(len(block)), n_names)
    number = np.arange(len(names)) - np.repeat(np.cumsum(n_names) - n_names, n_names)  # among those of the entity
    has_brackets = np.array([len(names) > 1 and names[1] == without_brackets(names[0]) for names in names_of], dtype=np.bool_)
    kinds = np.where(number == 0, TITLE, np.where((number == 1) & has_brackets[owner], BARE_TITLE, ALIAS))
    aliases.add(names, forms, block[0].row + owner, kinds)
    n_indexed = np.minimum(n_names, MAX_NAMES_PER_ENTITY)
    fuzzy.add(n_indexed, [forms[i] for i in np.flatnonzero(number < MAX_NAMES_PER_ENTITY).tolist()])


def _names(entity: Entity) -> list[str]:
    """Distinct names of an entity: its title, the title without brackets if it has some, and aliases."""
    title = entity.title
    return list(dict.fromkeys((title, without_brackets(title), *entity.aliases))) if title else []


def _every_row(entities: Iterable[Entity], rows: int) -> Iterator[Entity]:
    row = 0
    for entity in entities:
        yield from (Entity(missing, "") for missing in range(row, entity.row))
        yield entity
        row = entity.row + 1
    yield from (Entity(missing, "") for missing in range(row, rows))
