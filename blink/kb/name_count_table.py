"""How many links call an entity by a name, on disk: which of many entities of one name are candidates of a mention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import numpy as np

from blink.data.arrays import array_writer, map_array
from blink.data.external_sort import ExternalSorter
from blink.data.records import Entity
from blink.errors import MismatchError
from blink.kb.alias_table import REBUILD, normalise, normalise_all

KEYS_FILE, LINKS_FILE = "links.keys.npy", "links.counts.npy"
FILES = (KEYS_FILE, LINKS_FILE)
_ROW_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that rows are spread over all keys (the golden ratio, as in Fibonacci hashing)."""


class NameCountTable:
    """Numbers of links by name and entity, sorted by a hash of both and memory-mapped.

    Args:
        keys: hashes, ascending. *Shape:* (pairs,), uint64.
        links: number of links of each. *Shape:* (pairs,), uint32.
    """

    def __init__(self, keys: np.ndarray, links: np.ndarray) -> None:
        self._keys, self._links = keys, links

    @classmethod
    def open(cls, folder: str | Path) -> NameCountTable | None:
        """Map the table of a knowledge base; None where it has none, as those of catalogues without counts.

        Raises:
            MismatchError: the files are damaged or belong to different tables.
        """
        if not (Path(folder) / KEYS_FILE).exists():
            return None
        keys, links = (np.asarray(map_array(Path(folder) / name, REBUILD)) for name in FILES)
        if keys.dtype != np.uint64 or links.dtype != np.uint32 or keys.shape != links.shape or keys.ndim != 1:
            raise MismatchError(f"{folder} holds no table of names and links; {REBUILD}")
        return cls(keys, links) if len(keys) else None

    def links(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Number of links that call each of some entities by a name. *Shape:* (rows,) to (rows,), int64."""
        wanted = _keys([normalise(name)] * len(rows), rows)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[at] == wanted, self._links[at], 0).astype(np.int64)


class NameCountWriter:
    """Writes a `NameCountTable` in limited memory.

    Args:
        folder: where the files go, and temporary ones.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._sorter = ExternalSorter(folder, with_values=True)

    def __enter__(self) -> NameCountWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sorter.__exit__(kind, error, trace)

    def add(self, entities: Iterable[Entity]) -> None:
        """Add the counts of entities."""
        counted = [(name, entity.row, n) for entity in entities for name, n in entity.name_counts]
        if counted:
            names, rows, counts = zip(*counted, strict=True)
            self._sorter.add(_keys(normalise_all(names), np.array(rows, dtype=np.int64)), np.array(counts, dtype=np.uint64))

    def finish(self) -> None:
        """Write the table; names that are equal up to case and accents count together."""
        most = np.iinfo(np.uint32).max
        with (
            array_writer(self._folder / KEYS_FILE, np.uint64) as add_keys,
            array_writer(self._folder / LINKS_FILE, np.uint32) as add_links,
        ):
            for keys, counts in self._sorter.blocks():
                first = np.flatnonzero(np.append(True, np.diff(keys) != 0))
                add_keys(keys[first])
                add_links(np.minimum(np.add.reduceat(counts, first), np.uint64(most)).astype(np.uint32))


def _keys(forms: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Hashes of normalized names and rows. *Shape:* (forms,), uint64."""
    digests = b"".join(blake2b(form.encode(), digest_size=8).digest() for form in forms)
    return np.frombuffer(digests, dtype="<u8") ^ (rows.astype(np.uint64) * _ROW_FACTOR)
