"""Names of a knowledge base's files together with those of the entities that follow them.

Names of changed entities are in small tables of their own, which are built when names are first looked up after an edit. Two of
them take turns: the recent one is built anew with every edit, the other takes it over when it has grown. A look-up asks all
tables, each for the rows that it has as they are now.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from blink.data.caches import cached_calls
from blink.data.records import Entity
from blink.files import for_this_process
from blink.kb.alias_table import AliasTable, AliasTableWriter, normalise
from blink.kb.fuzzy_index import FuzzyIndex, SimilarNames
from blink.kb.fuzzy_writer import FuzzyIndexWriter
from blink.kb.index.selector import RowSelector
from blink.kb.live.live_index import SELECTORS, fitted
from blink.kb.live.patched import PatchedMatrix
from blink.kb.name_count_table import NameCountTable
from blink.kb.name_index import NameIndex
from blink.kb.name_similarity import MEASURES
from blink.kb.name_tables import add_names
from blink.kb.popularity import describe

RECENT = 64
"""Entities of the recent table at which the other takes it over, or a sixteenth of that where it is larger."""
_SHARE = 16
_NOWHERE = -1


@dataclass(frozen=True)
class NameSegment:
    """Tables of the names of some entities.

    Attributes:
        entities: by row.
        rows: their rows, ascending, which are numbered from 0 in the tables. *Shape:* (n,), int64.
        names: the tables.
    """

    entities: Mapping[int, Entity]
    rows: np.ndarray
    names: NameIndex

    @classmethod
    def build(cls, entities: Mapping[int, Entity], rarities: np.ndarray) -> NameSegment:
        """Build the tables. ``rarities``: of words, by which names are compared, see `FuzzyIndex.rarity`."""
        rows = sorted(entities)
        numbered = [replace(entities[row], row=i) for i, row in enumerate(rows)]
        with tempfile.TemporaryDirectory() as folder, for_this_process():  # open files outlive their folder
            with AliasTableWriter(folder, len(rows)) as aliases, FuzzyIndexWriter(folder, len(rows)) as fuzzy:
                add_names(numbered, aliases, fuzzy)
                aliases.finish()
                fuzzy.finish()
            compared = replace(FuzzyIndex.open(folder), rarities=rarities)
            return cls(entities, np.array(rows, np.int64), NameIndex(AliasTable.open(folder), compared, describe(numbered)))


def segments_of(
    entities: Mapping[int, Entity | None], earlier: Sequence[NameSegment], rarities: Callable[[], np.ndarray]
) -> tuple[NameSegment, ...]:
    """Tables of the names of all changed entities, of which those that were built before are reused.

    Args:
        entities: the changed ones, by row; None where they were removed.
        earlier: tables of an earlier state.
        rarities: of words, see `NameSegment.build`.
    """
    current = {row: entity for row, entity in entities.items() if entity is not None}
    old = next(iter(earlier), None)
    if old is not None and sum(current.get(row) is entity for row, entity in old.entities.items()) * 2 < len(old.entities):
        old, earlier = None, ()  # most of it is no longer so
    of_old = {} if old is None else old.entities
    fresh = {row: entity for row, entity in current.items() if of_old.get(row) is not entity}
    if len(fresh) > max(RECENT, len(of_old) // _SHARE):
        return (NameSegment.build(current, rarities()),)
    segments = [old] if old is not None else []
    if not fresh:
        return tuple(segments)
    recent = next((s for s in earlier[1:] or earlier if _holds(s, fresh)), None)
    return (*segments, NameSegment.build(fresh, rarities()) if recent is None else recent)


def _holds(segment: NameSegment, entities: Mapping[int, Entity]) -> bool:
    of = segment.entities
    return len(of) == len(entities) and all(of.get(row) is entity for row, entity in entities.items())


class _NameSet:
    """A table among others.

    Args:
        names: the table.
        rows: the row of each of its rows; None where they are the same. *Shape:* (n,), int64.
        current: its rows that are looked up there; None for all.
    """

    def __init__(self, names: NameIndex, rows: np.ndarray | None, current: RowSelector | None) -> None:
        self.names, self._rows, self._current = names, rows, current
        self._allowed = cached_calls(self._both, SELECTORS)

    def allowed(self, selector: RowSelector | None) -> RowSelector | None:
        """Its rows that may be found."""
        return self._current if selector is None else self._allowed(selector)

    def _both(self, selector: RowSelector) -> RowSelector:
        n_rows = len(self.names.popularity)
        mask = fitted(selector.mask, n_rows if self._rows is None else int(self._rows.max(initial=-1)) + 1)
        selected = RowSelector(mask if self._rows is None else mask[self._rows])
        return selected if self._current is None else selected & self._current

    def values(self, values: np.ndarray) -> np.ndarray:
        """Numbers row * 4 + kind with rows among all. *Shape:* (n,) to (n,), int64."""
        return values if self._rows is None else self._rows[values >> 2] << 2 | values & 3

    def rows_of(self, rows: list[int]) -> list[int]:
        """Rows among all."""
        of_base: list[int] = rows if self._rows is None else self._rows[rows].tolist()
        return of_base


class LiveNames:
    """The tables of a state, and in which of them each row is.

    Args:
        base: names of the files.
        current: rows of the files that are as they were; None for all.
        segments: tables of the changed entities.
        entities: the changed ones, by row; None where they were removed.
    """

    def __init__(
        self,
        base: NameIndex,
        current: RowSelector | None,
        segments: Sequence[NameSegment],
        entities: Mapping[int, Entity | None],
    ) -> None:
        self.name_sets, self._entities = [_NameSet(base, None, current)], entities
        self.rows = np.array(sorted(entities), np.int64)
        """The changed rows, ascending. *Shape:* (changed,)."""
        self._set_of, self._local = np.full(len(self.rows), _NOWHERE), np.zeros(len(self.rows), np.int64)
        for number, segment in enumerate(segments, 1):
            is_current = np.array([entities.get(row) is segment.entities[row] for row in segment.rows.tolist()], np.bool_)
            self.name_sets.append(_NameSet(segment.names, segment.rows, None if is_current.all() else RowSelector(is_current)))
            at = np.searchsorted(self.rows, segment.rows[is_current])
            self._set_of[at], self._local[at] = number, np.flatnonzero(is_current)

    def where(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The table of each row and its row there; table -1 where there is no entity. *Shape:* that of ``rows``, int64 each."""
        at = np.searchsorted(self.rows, rows).clip(max=max(len(self.rows) - 1, 0))
        is_changed = self.rows[at] == rows if len(self.rows) else np.zeros(rows.shape, np.bool_)
        set_of = np.where(rows < 0, _NOWHERE, np.where(is_changed, self._set_of[at], 0) if len(self.rows) else 0)
        return set_of, np.where(is_changed, self._local[at], rows) if len(self.rows) else rows

    def index(self, n_rows: int) -> NameIndex:
        """All tables as one. ``n_rows``: number of rows, the empty ones included."""
        base = self.name_sets[0].names.popularity
        described = np.zeros((len(self.rows), base.shape[1]), np.float32)
        for number, name_set in enumerate(self.name_sets[1:], 1):
            of_set = self._set_of == number
            described[of_set] = name_set.names.popularity[self._local[of_set]]
        popularity = PatchedMatrix(np.asarray(base), self.rows, described, n_rows)
        return NameIndex(LiveAliasTable(self), LiveFuzzyIndex(self), popularity, self._name_counts())

    def _name_counts(self) -> NameCountTable | None:
        """Numbers of links by name; None where neither the files nor changed entities have any."""
        of_files, counted = self.name_sets[0].names.name_counts, {}
        for row, entity in self._entities.items():
            if entity is not None and entity.name_counts:
                counted[row] = entity.name_counts
        return None if of_files is None and not counted else LiveNameCounts(of_files, self.rows, counted)


class LiveAliasTable(AliasTable):
    """Titles and aliases of all tables."""

    def __init__(self, live: LiveNames) -> None:
        self._live = live

    def __len__(self) -> int:
        return sum(len(name_set.names.alias_table) for name_set in self._live.name_sets)

    def values_of(self, forms: Sequence[str], selector: RowSelector | None) -> tuple[np.ndarray, np.ndarray]:
        """See `AliasTable.values_of`."""
        live, owners, values = self._live, [], []
        for name_set in live.name_sets:
            counts, of_set = name_set.names.alias_table.values_of(forms, name_set.allowed(selector))
            owners.append(np.repeat(np.arange(len(forms)), counts))
            values.append(name_set.values(of_set))
        owner, of_all = np.concatenate(owners), np.concatenate(values)
        order = np.lexsort((of_all >> 2, -(of_all & 3), owner))
        return np.bincount(owner, minlength=len(forms)), of_all[order]

    def values_of_key(self, key: int, selector: RowSelector | None) -> list[int]:
        """See `AliasTable.values_of_key`."""
        live, rows = self._live, list[int]()
        for name_set in live.name_sets:
            of_set = name_set.names.alias_table.values_of_key(key, name_set.allowed(selector))
            rows += name_set.values(np.array(of_set, np.int64)).tolist()
        return rows


class LiveNameCounts(NameCountTable):
    """Numbers of links by name, of changed entities from their lines.

    Args:
        of_files: the table of the files; None where they have none.
        changed: the changed rows, ascending. *Shape:* (changed,), int64.
        counted: names and numbers of links of those that have some, by row.
    """

    def __init__(
        self, of_files: NameCountTable | None, changed: np.ndarray, counted: Mapping[int, tuple[tuple[str, int], ...]]
    ) -> None:
        self._of_files, self._changed, self._counted = of_files, changed, counted

    def links(self, name: str, rows: np.ndarray) -> np.ndarray:
        """See `NameCountTable.links`."""
        links = np.zeros(len(rows), np.int64) if self._of_files is None else self._of_files.links(name, rows)
        form = normalise(name)
        for i in np.flatnonzero(np.isin(rows, self._changed)).tolist():
            links[i] = sum(n for known, n in self._counted.get(int(rows[i]), ()) if normalise(known) == form)
        return links


class LiveFuzzyIndex(SimilarNames):
    """Similar names of all tables; words are as rare as among the names of the files."""

    def __init__(self, live: LiveNames) -> None:
        self._live = live

    def by_initials_of(self, text: str, limit: int, selector: RowSelector | None = None) -> list[int]:
        """See `SimilarNames`."""
        live, rows = self._live, list[int]()
        for name_set in live.name_sets:
            allowed = name_set.allowed(selector)
            rows += name_set.rows_of(name_set.names.fuzzy_index.by_initials_of(text, limit, allowed))
        return sorted(rows)[:limit]

    def by_trigrams(self, text: str, selector: RowSelector | None = None) -> tuple[list[int], list[float]]:
        """See `SimilarNames`."""
        live, pairs = self._live, list[tuple[float, int]]()
        for name_set in live.name_sets:
            rows, similarities = name_set.names.fuzzy_index.by_trigrams(text, name_set.allowed(selector))
            pairs += zip([-similarity for similarity in similarities], name_set.rows_of(rows), strict=True)
        pairs.sort()
        return [row for _, row in pairs], [-similarity for similarity, _ in pairs]

    def compare_all(
        self,
        mentions: Sequence[str],
        rows: np.ndarray,
        mention_of: np.ndarray,
        contexts: Sequence[str],
        context_of: Sequence[int] | np.ndarray,
    ) -> np.ndarray:
        """See `SimilarNames`."""
        live, result = self._live, np.zeros((len(rows), len(MEASURES)), np.float32)
        part_of, local = live.where(rows)
        for number, name_set in enumerate(live.name_sets):
            compare = partial(name_set.names.fuzzy_index.compare_all, mentions)
            pairs = np.flatnonzero(part_of == number)
            if len(pairs):
                result[pairs] = compare(local[pairs], mention_of[pairs], contexts, context_of)
        return result
