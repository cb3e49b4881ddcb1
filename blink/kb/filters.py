"""Evaluates filters on a knowledge base: which rows a search may return."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from threading import Lock
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from blink.data.ids import ROW
from blink.errors import SettingsError
from blink.kb.attribute_table import ATTRIBUTES, AttributeTable, folded
from blink.kb.catalogue import Catalogue
from blink.kb.index.selector import RowSelector
from blink.kb.live.changes import Changes
from blink.kb.where import ID, Condition, Where

logger = logging.getLogger(__name__)

MAX_CACHED = 8
"""Filters whose rows stay in memory; one is a byte an entity."""
MAX_ACCEPTED = 4096
"""Filters whose values are known to have been there, by hash."""
_N_NEAR, _MOST_COMPARED = 3, 20_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """The ``size`` values that were used last."""

    def __init__(self, size: int) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()
        self._size, self._lock = size, Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> V:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value

    def retain(self, is_current: Callable[[V], bool]) -> None:
        """Forget all values but those for which ``is_current`` holds."""
        with self._lock:
            for key in [key for key, value in self._values.items() if not is_current(value)]:
                del self._values[key]


@dataclass(frozen=True)
class FilteredFiles:
    """What filters need of the files of a knowledge base.

    Attributes:
        catalogue: the entities.
        table: their types and tags; None in knowledge bases of earlier versions.
    """

    catalogue: Catalogue
    table: AttributeTable | None

    def rows_with(self, name: str, value: str) -> npt.NDArray[np.integer]:
        """Rows of the entities with a value of a condition. *Shape:* (n,), int.

        Raises:
            SettingsError: there is no table.
        """
        if name == ID:
            return np.fromiter(self.catalogue.rows_of(value), np.int64)
        if name == ROW:
            row = int(value)
            return np.array([row] if row < len(self.catalogue) and not self.catalogue.is_bad(row) else [], np.int64)
        if self.table is None:
            earlier = "the knowledge base was built by an earlier version, which has no table of types and tags"
            raise SettingsError(f"{earlier}; build it again: blink kb build ENTITY.jsonl --out DIR")
        return self.table.rows_with(name, value)


class Filters:
    """Evaluates filters, and keeps the rows of recent ones.

    A value that no entity has is refused when a filter is first used; edits may remove it later. Nothing of an earlier state is
    kept, since a filter of each state would keep the state itself.
    """

    def __init__(self) -> None:
        self._of_files: _Recent[Where, tuple[FilteredFiles, npt.NDArray[np.bool_]]] = _Recent(MAX_CACHED)
        self._selectors: _Recent[Where, tuple[FilteredFiles, Changes, RowSelector]] = _Recent(MAX_CACHED)
        self._accepted: _Recent[int, bool] = _Recent(MAX_ACCEPTED)

    def selector(self, where: Where, files: FilteredFiles, changes: Changes) -> RowSelector:
        """The rows of entities that fulfil all conditions; the same object for the same files and changes.

        Args:
            where: the conditions.
            files: of the knowledge base.
            changes: what follows the files.

        Raises:
            SettingsError: no entity has a value, or there is no table of them.
        """
        kept = self._selectors.get(where)
        if kept is not None and kept[0] is files and kept[1] is changes:
            return kept[2]
        self._selectors.retain(lambda kept: kept[0] is files and kept[1] is changes)
        is_accepted = self._accepted.get(hash(where)) is not None
        of_files = self._of_files.get(where)
        if of_files is None or of_files[0] is not files:
            rows_with = cache(files.rows_with)  # a list of ids is looked up once, and not once more to check it
            if not is_accepted:
                for condition in where.conditions:
                    _require_values(condition, files, rows_with, changes)
            of_files = self._of_files.put(where, (files, _mask(where, files.catalogue, rows_with)))
        mask = np.zeros(changes.rows, np.bool_)
        mask[: len(of_files[1])] = of_files[1]
        for row, entity in changes.entities.items():
            mask[row] = entity is not None and where.matches(entity)
        if not is_accepted and not mask.any():
            logger.warning("no entity fulfils %s: nothing can be linked", where)
        self._accepted.put(hash(where), True)
        return self._selectors.put(where, (files, changes, RowSelector(mask)))[2]


RowsWith: TypeAlias = Callable[[str, str], npt.NDArray[np.integer]]


def _mask(where: Where, catalogue: Catalogue, rows_with: RowsWith) -> npt.NDArray[np.bool_]:
    mask = np.ones(len(catalogue), np.bool_)
    mask[catalogue.bad_rows] = False
    for condition in where.conditions:
        has_value = np.zeros(len(catalogue), np.bool_)
        for value in condition.values:
            has_value[rows_with(condition.name, value)] = True
        mask &= has_value != condition.negated
    return mask


def _require_values(condition: Condition, files: FilteredFiles, rows_with: RowsWith, changes: Changes) -> None:
    """Check that some entity has each value, and of a list that some entity has one: others are counted.

    Raises:
        SettingsError: see `Filters.selector`.
    """
    changed = np.fromiter(changes.entities, np.int64)
    entities = [entity for entity in changes.entities.values() if entity is not None]
    lacking = [
        value
        for value in sorted(condition.values)
        if not len(rows := rows_with(condition.name, value)) or (len(changed) and np.isin(rows, changed).all())
        if not any(replace(condition, values=frozenset((value,))).has_value(entity) for entity in entities)
    ]
    if not lacking:
        return
    if not condition.file:
        raise SettingsError(f"no entity has {condition.name} {lacking[0]!r}{_near(condition.name, lacking[0], files.table)}")
    counts = f"{len(lacking):,} of {len(condition.values):,} ids are of no entity, the first: {lacking[0]!r}"
    if len(lacking) == len(condition.values):
        raise SettingsError(f"{condition.file}: {counts}; give ids of this knowledge base, one a line")
    logger.warning("%s: %s", condition.file, counts)


def _near(name: str, value: str, table: AttributeTable | None) -> str:
    """What to give instead of a value."""
    if name not in ATTRIBUTES or table is None:
        return "; blink kb search finds entities by name"
    counts = table.values(name)
    if not counts:
        return f": none has a {name}; add '{name}s' to the lines of the catalogue, and build again"
    names = {folded(of): f"{of} ({count:,})" for of, count in counts[:_MOST_COMPARED]}
    near = get_close_matches(value, names, _N_NEAR) or [of for of in names if value in of][:_N_NEAR]
    if near:
        return f"; nearest: {', '.join(names[of] for of in near)}"
    return f"; most frequent: {', '.join(f'{of} ({count:,})' for of, count in counts[:_N_NEAR])}"
