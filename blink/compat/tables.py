"""The dictionaries of the originals (``id2title`` and so on), read from the catalogue on disk rather than held in memory."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Generic, TypeVar

from blink.data.records import Entity
from blink.kb.catalogue import Catalogue

K = TypeVar("K", int, str)
V = TypeVar("V")


class Column(Mapping[K, str], Generic[K]):
    """A column of a catalogue: row -> text.

    Attributes:
        catalogue: the catalogue.

    Args:
        catalogue: the catalogue.
        value: the text of an entity; None where the row has no key.
        key: type of the keys: row numbers (BLINK), or these as text (ELQ).
    """

    def __init__(self, catalogue: Catalogue, value: Callable[[Entity], str | None], key: Callable[[int], K]) -> None:
        self.catalogue = catalogue
        self._value = value
        self._key: Callable[[int], K] = key

    def __getitem__(self, key: K) -> str:
        try:
            row = operator.index(key) if not isinstance(key, str) else int(key) if key.isdecimal() else -1
        except TypeError:
            row = -1
        value = self._value(self.catalogue[row]) if 0 <= row < len(self.catalogue) else None
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[K]:
        return (self._key(entity.row) for entity in self.catalogue if self._value(entity) is not None)

    @cached_property
    def _length(self) -> int:
        return sum(1 for _ in self)

    def __len__(self) -> int:
        return self._length


class Rows(Mapping[V, int], Generic[V]):
    """Keys of entities -> rows, the last row of a repeated key; made by one pass over the catalogue, at the first use.

    Args:
        catalogue: the catalogue.
        key: the key of an entity; None for entities without one.
    """

    def __init__(self, catalogue: Catalogue, key: Callable[[Entity], V | None]) -> None:
        self._catalogue = catalogue
        self._key = key

    @cached_property
    def _rows(self) -> dict[V, int]:
        keys = ((self._key(entity), entity.row) for entity in self._catalogue)
        return {key: row for key, row in keys if key is not None}

    def __getitem__(self, key: V) -> int:
        return self._rows[key]

    def __iter__(self) -> Iterator[V]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def title(entity: Entity) -> str:
    """The title; empty where the line of the catalogue is broken."""
    return entity.title


def text(entity: Entity) -> str:
    """The description."""
    return entity.text


def wikidata_id(entity: Entity) -> str | None:
    """The Wikidata id, where the catalogue has one."""
    return entity.kb_id


def page_id(entity: Entity) -> int | str | None:
    """The Wikipedia page id: the number behind ``curid=`` of the address, else the address itself."""
    if entity.url is None:
        return None
    _, _, number = entity.url.rpartition("curid=")
    return int(number) if number.strip().isdecimal() and "curid=" in entity.url else entity.url.strip()
