"""What a knowledge base shows to those who read: its files with the edits that follow them, as one value that never changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from blink.data.records import Entity
from blink.kb.attribute_table import AttributeTable
from blink.kb.catalogue import Catalogue
from blink.kb.filters import FilteredFiles
from blink.kb.fuzzy_index import FuzzyIndex
from blink.kb.index.protocol import Index
from blink.kb.index.selector import RowSelector
from blink.kb.live.changes import Changes
from blink.kb.live.live_catalogue import LiveCatalogue
from blink.kb.live.live_index import LiveIndex
from blink.kb.live.live_names import LiveNames, NameSegment, segments_of
from blink.kb.live.patched import PatchedMatrix
from blink.kb.name_index import NameIndex
from blink.kb.title_table import Rows, TitleTable

_T = TypeVar("_T")


@dataclass(frozen=True)
class BaseFiles:
    """The opened files of a knowledge base; see `blink.kb.knowledge_base.KnowledgeBase`."""

    catalogue: Catalogue
    index: Index
    vectors: np.ndarray | None = None
    names: NameIndex | None = None
    title_table: TitleTable | None = None
    attributes: AttributeTable | None = None

    @cached_property
    def filtered(self) -> FilteredFiles:
        """What filters need of them."""
        return FilteredFiles(self.catalogue, self.attributes)


@dataclass(frozen=True, eq=False)
class View:
    """A state of a knowledge base. Without edits, and without empty rows, it shows the objects of the files themselves.

    Names of changed entities are indexed when they are first asked for.

    Attributes:
        base: the files.
        changes: what follows them.
        earlier: tables of names of an earlier state.
    """

    base: BaseFiles
    changes: Changes
    earlier: tuple[NameSegment, ...] = field(default=(), repr=False)

    def following(self, base: BaseFiles, changes: Changes) -> View:
        """The next state, which reuses the tables of names of this one."""
        return View(base, changes, self.__dict__.get("_segments", self.earlier) if base is self.base else ())

    @property
    def is_edited(self) -> bool:
        """Whether anything follows the files."""
        return bool(self.changes.entities)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The entities."""
        return LiveCatalogue(self.base.catalogue, self.changes) if self.is_edited else self.base.catalogue

    @cached_property
    def n_entities(self) -> int:
        """How many entities there are: rows that are neither empty nor removed."""
        entities = self.changes.entities
        empty = sum(row not in entities for row in self.base.catalogue.bad_rows)
        return self.changes.rows - empty - sum(entity is None for entity in entities.values())

    @cached_property
    def _current(self) -> RowSelector | None:
        """Rows of the files that are searched there; None for all."""
        base_rows = self.changes.base_rows
        out = [row for row in self.changes.entities if row < base_rows] + self.base.catalogue.bad_rows
        if not out:
            return None
        mask = np.ones(base_rows, np.bool_)
        mask[out] = False
        return RowSelector(mask)

    @cached_property
    def index(self) -> Index:
        """Of the entity vectors."""
        return self.searched(self.base.index)

    def searched(self, base: Index) -> Index:
        """The index of all entities, over an index of the files such as one on a GPU."""
        if not self.is_edited and self._current is None:
            return base
        return LiveIndex(base, self._current, self.changes.vector_rows, self.changes.vectors, self.changes.rows)

    @cached_property
    def vectors(self) -> np.ndarray | PatchedMatrix | None:
        """The entity vectors; zeros of removed rows. *Shape:* (entities, dim)."""
        base = self.base.vectors
        if base is None or not self.is_edited:
            return base
        changes = self.changes
        removed = [row for row, entity in changes.entities.items() if entity is None and row < len(base)]
        rows = np.sort(np.concatenate([changes.vector_rows, np.array(removed, np.int64)]))
        values = np.zeros((len(rows), base.shape[1]), base.dtype)
        values[np.searchsorted(rows, changes.vector_rows)] = changes.vectors
        return PatchedMatrix(base, rows, values, changes.rows)

    @cached_property
    def _segments(self) -> tuple[NameSegment, ...]:
        assert self.base.names is not None
        fuzzy_index = self.base.names.fuzzy_index
        assert isinstance(fuzzy_index, FuzzyIndex)
        return segments_of(self.changes.entities, self.earlier, lambda: fuzzy_index.bucket_rarities)

    @cached_property
    def names(self) -> NameIndex | None:
        """Entities by title and alias; None if names are not indexed."""
        base = self.base.names
        if base is None or not self.is_edited:
            return base
        return LiveNames(base, self._current, self._segments, self.changes.entities).index(self.changes.rows)

    def titles(self, rows: Rows) -> list[str]:
        """Titles of rows (from 0), without parsing lines where they are stored apart; ``""`` of empty rows."""
        table = self.base.title_table
        if table is None:
            return [self.catalogue.title(row) for row in rows]
        return self._patched(rows, table.titles, lambda entity: "" if entity is None else entity.title)

    def kb_ids(self, rows: Rows) -> list[str | None]:
        """Ids of rows, read as titles are; None where an entity has none."""
        table = self.base.title_table
        if table is None:
            return [self.catalogue[row].kb_id for row in rows]
        return self._patched(rows, table.kb_ids, lambda entity: None if entity is None else entity.kb_id)

    def titles_and_ids(self, rows: Rows) -> list[tuple[str, str | None]]:
        """Titles and ids of rows, as of `titles` and `kb_ids`; a line is parsed once."""
        if self.base.title_table is None:
            return [(entity.title, entity.kb_id) for entity in (self.catalogue[row] for row in rows)]
        return list(zip(self.titles(rows), self.kb_ids(rows), strict=True))

    def _patched(self, rows: Rows, stored: Callable[[Rows], list[_T]], value: Callable[[Entity | None], _T]) -> list[_T]:
        entities = self.changes.entities
        if not entities:
            return stored(rows)
        every = [int(row) for row in rows]
        of_base = iter(stored([row for row in every if row not in entities]))
        return [value(entities[row]) if row in entities else next(of_base) for row in every]
