"""A catalogue with the edits that follow its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from blink.data.ids import OTHER, claims_of
from blink.data.records import Entity
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_line import line_of
from blink.kb.live.changes import Changes


class LiveCatalogue(Catalogue):
    """The entities of a catalogue's file with some changed, added or removed. It never changes.

    A removed row is empty as that of a broken line is: its title is ``""``, :meth:`is_bad` is true and no id maps to it.

    Args:
        base: the catalogue of the file.
        changes: what follows it.
    """

    def __init__(self, base: Catalogue, changes: Changes) -> None:
        self._base, self._changes = base, changes
        self._entities: Mapping[int, Entity | None] = changes.entities
        self._path, self._n = base.path, changes.rows
        removed = {row for row, entity in self._entities.items() if entity is None}
        self._bad = frozenset(row for row in base.bad_rows if row not in self._entities) | removed

    @cached_property
    def _claimants(self) -> dict[str, list[int]]:
        """Changed rows by the ids in normal form that they claim."""
        claimants: dict[str, list[int]] = {}
        for row, entity in self._entities.items():
            for normal, _ in () if entity is None else claims_of(entity):
                claimants.setdefault(normal, []).append(row)
        return claimants

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of that of the file and of the number of the last edit."""
        return hashlib.sha256(f"{self._base.sha256} {self._changes.number}".encode()).hexdigest()

    @property
    def repeated_ids(self) -> int:
        """Number of rows of the file whose id is looked up on a later row."""
        return self._base.repeated_ids

    @property
    def notices(self) -> tuple[str, ...]:
        """Those of the file."""
        return self._base.notices

    def __getitem__(self, row: int) -> Entity:
        """The entity of a row, see `Catalogue.__getitem__`."""
        return self._current(self._checked(row))

    def _current(self, row: int) -> Entity:
        if row not in self._entities:
            return self._base[row]
        entity = self._entities[row]
        return Entity(row, "") if entity is None else entity

    def iter(self, start: int = 0, stop: int | None = None) -> Iterator[Entity]:
        """Yield the entities of rows ``start`` to ``stop`` (excluded; the end by default) in order, empty rows included."""
        stop = self._n if stop is None else min(stop, self._n)
        return map(self._current, range(max(start, 0), stop))

    def title(self, row: int) -> str:
        """The title of a row; ``""`` of an empty one. Raises as indexing does."""
        row = self._checked(row)
        if row not in self._entities:
            return self._base.title(row)
        entity = self._entities[row]
        return "" if entity is None else entity.title

    def line(self, row: int) -> bytes:
        """The line of a row as a file would have it, without the line end. Raises as indexing does."""
        row = self._checked(row)
        if row not in self._entities:
            return self._base.line(row)
        entity = self._entities[row]
        return b"" if entity is None else json.dumps(line_of(entity), ensure_ascii=False).encode()

    def _rows_with(self, normal: str, has_id: Callable[[dict[str, Any]], bool], *, exact: bool = False) -> Iterator[int]:
        rows = [row for row in self._base._rows_with(normal, has_id, exact=exact) if row not in self._entities]
        rows += [row for row in self._claimants.get(normal, ()) if has_id(line_of(self._current(row)))]
        return iter(sorted(rows, key=lambda row: (dict(claims_of(self._current(row))).get(normal, OTHER), row), reverse=True))

    def close(self) -> None:
        """Close the file."""
        self._base.close()
