"""Types, tags and id systems of a catalogue's entities on disk, as an inverted table: which rows have a value.

Values are looked up by 64-bit hashes of their case-folded form, as names are in `blink.kb.alias_table`. Values of an attribute
stand together, since its number makes the first bits of their keys.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from blink.data.arrays import array_writer, map_array, offsets_writer
from blink.data.external_sort import ExternalSorter
from blink.data.ids import system_of
from blink.data.records import Entity
from blink.errors import MismatchError
from blink.kb.alias_table import REBUILD
from blink.kb.title_table import TextColumn, text_column_writer

ATTRIBUTES = ("type", "tag", "system")
"""What entities are filtered by: `Entity.types`, `Entity.tags`, and the systems that they have an id of."""
_KEYS, _BOUNDS, _ROWS = "attributes.keys.npy", "attributes.row_at.npy", "attributes.rows.npy"
_VALUES = ("attributes.value_at.npy", "attributes.values.npy")
FILES = (_KEYS, _BOUNDS, _ROWS, *_VALUES)
_RUN_RECORDS = 1 << 20
_ATTRIBUTE_BITS = 2
_LENGTH_BYTES = 4
_CACHED_VALUES = 1 << 16


def attributes_of(entity: Entity) -> Iterator[tuple[str, str]]:
    """Attribute and value of all that an entity is filtered by, as it was written."""
    yield from (("type", value) for value in entity.types)
    yield from (("tag", value) for value in entity.tags)
    yield from (("system", system) for system, _ in entity.ids)
    if entity.kb_id and (system := system_of(entity.kb_id)) is not None:
        yield "system", system


def folded(value: str) -> str:
    """The form in which values are compared: without differences of case and spaces."""
    return " ".join(value.casefold().split())


@dataclass(frozen=True)
class AttributeTable:
    """Rows by attribute and value.

    Attributes:
        keys: of the values, ascending. *Shape:* (values,), uint64.
        row_at: first row of each value, and the end. *Shape:* (values + 1,), int32 or int64.
        rows: of the values, ascending for each. *Shape:* (pairs,), int32 or int64.
        names: the values as the first entity that has them writes them.
    """

    keys: npt.NDArray[np.uint64]
    row_at: np.ndarray
    rows: np.ndarray
    names: TextColumn

    @classmethod
    def open(cls, folder: str | Path) -> AttributeTable:
        """Map the table of a knowledge base.

        Raises:
            MissingFileError: a file of the table is missing.
            MismatchError: the files are damaged or belong to different tables.
        """
        folder = Path(folder)
        keys, row_at, rows = (np.asarray(map_array(folder / name, REBUILD, kinds="iu")) for name in (_KEYS, _BOUNDS, _ROWS))
        names = TextColumn.open(folder, _VALUES)
        if keys.dtype != np.uint64 or len(row_at) != len(keys) + 1 or row_at[-1] != len(rows) or len(names) != len(keys):
            raise MismatchError(f"{folder} holds no table of types and tags, or parts of different ones; {REBUILD}")
        return cls(keys, row_at, rows, names)

    def rows_with(self, attribute: str, value: str) -> np.ndarray:
        """Rows of the entities with a value, whatever its case, ascending. *Shape:* (n,), int32 or int64."""
        key = np.uint64(_key(attribute, folded(value)))
        at = int(self.keys.searchsorted(key))
        if at == len(self.keys) or self.keys[at] != key:
            return self.rows[:0]
        return self.rows[self.row_at[at] : self.row_at[at + 1]]

    def values(self, attribute: str) -> list[tuple[str, int]]:
        """All values of an attribute and how many entities have them, the most frequent first."""
        first = ATTRIBUTES.index(attribute) << (64 - _ATTRIBUTE_BITS)
        last = first + (1 << (64 - _ATTRIBUTE_BITS)) - 1
        at = np.arange(self.keys.searchsorted(np.uint64(first)), self.keys.searchsorted(np.uint64(last), side="right"))
        counts = np.diff(self.row_at)[at]
        return sorted(zip(self.names.of(at), counts.tolist(), strict=True), key=lambda value: (-value[1], value[0]))


class AttributeTableWriter:
    """Writes an `AttributeTable` in limited memory.

    Args:
        folder: where the files go, and temporary ones.
        rows: number of rows of the catalogue.
    """

    def __init__(self, folder: str | Path, rows: int) -> None:
        self._folder = Path(folder)
        self._dtype = np.int32 if rows <= np.iinfo(np.int32).max else np.int64
        self._key_of: dict[tuple[str, str], int] = {}
        with ExitStack() as files:
            sorters = (ExternalSorter(folder, with_values=True, run_records=_RUN_RECORDS) for _ in range(2))
            self._pairs, self._spellings = (files.enter_context(sorter) for sorter in sorters)
            self._strings = files.enter_context(tempfile.TemporaryFile(dir=folder))
            self._files = files.pop_all()

    def __enter__(self) -> AttributeTableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.__exit__(kind, error, trace)

    def add(self, entities: Sequence[Entity]) -> None:
        """Add the next entities."""
        keys, rows = list[int](), list[int]()
        first_spelling: dict[int, str] = {}
        for entity in entities:
            for attribute, value in attributes_of(entity):
                key = self._cached_key(attribute, value)
                keys.append(key)
                rows.append(entity.row)
                first_spelling.setdefault(key, value)
        if not keys:
            return
        self._pairs.add(np.array(keys, np.uint64), np.array(rows, np.uint64))
        at = []
        for value in first_spelling.values():
            encoded = value.encode()
            at.append(self._strings.tell())
            self._strings.write(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)
        self._spellings.add(np.fromiter(first_spelling, np.uint64, len(at)), np.array(at, np.uint64))

    def _cached_key(self, attribute: str, value: str) -> int:
        if len(self._key_of) > _CACHED_VALUES:
            self._key_of.clear()
        if (key := self._key_of.get((attribute, value))) is None:
            key = self._key_of[attribute, value] = _key(attribute, folded(value))
        return key

    def finish(self) -> None:
        """Write the table."""
        with (
            array_writer(self._folder / _KEYS, np.uint64) as add_keys,
            offsets_writer(self._folder / _BOUNDS) as add_sizes,
            array_writer(self._folder / _ROWS, self._dtype) as add_rows,
        ):
            for keys, rows in self._pairs.blocks():
                is_new = np.append(True, (np.diff(keys) != 0) | (np.diff(rows) != 0))  # an entity may repeat a value
                values, sizes = np.unique(keys[is_new], return_counts=True)
                add_keys(values)
                add_sizes(sizes)
                add_rows(rows[is_new])
        with text_column_writer(self._folder, _VALUES) as add_values:
            for keys, at in self._spellings.blocks():
                add_values([self._string(position) for position in at[np.append(True, np.diff(keys) != 0)].tolist()])

    def _string(self, position: int) -> str:
        self._strings.seek(position)
        return self._strings.read(int.from_bytes(self._strings.read(_LENGTH_BYTES), "little")).decode()


def _key(attribute: str, value: str) -> int:
    digest = blake2b(value.encode(), digest_size=8).digest()
    return ATTRIBUTES.index(attribute) << (64 - _ATTRIBUTE_BITS) | int.from_bytes(digest, "little") >> _ATTRIBUTE_BITS
