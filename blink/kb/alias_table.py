"""The alias table of a catalogue on disk: titles and aliases to entities."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from blink.data.arrays import map_array, save_array
from blink.data.records import Entity
from blink.errors import MismatchError

KEYS_FILE = "forms.keys.npy"
VALUES_FILE = "forms.rows.npy"
REBUILD = "build the knowledge base again (blink kb build)"
"""Remedy in messages about missing or damaged files that are derived from a catalogue."""
VARIANT, ALIAS, BARE_TITLE, TITLE = 0, 1, 2, 3
"""Kinds of matches, from weak to strong.

A variant differs from a title or alias only in spaces, hyphens, accents and a final s. A bare title is a title without the
brackets at its end. Among entities of the same name, the most popular one usually has a title without brackets."""

NO_LIMIT = 1 << 30
"""Limit that exceeds the matches of any string."""

_BRACKETS = re.compile(r"\s*\([^()]*\)$")
_NOT_WORD = re.compile(r"[\W_]+")
_SOFT_HYPHEN = "\u00ad"
_MAX_LENGTH_WITH_FINAL_S = 3
"""Strings up to this length keep a final s: ``us`` is not ``u``."""
_BLOCK = 200_000
"""Rows of the table that are built at a time, to limit the memory of Python tuples."""


@dataclass(frozen=True)
class AliasMatch:
    """An entity that a string matches; ``kind`` is `VARIANT`, `ALIAS`, `BARE_TITLE` or `TITLE`."""

    row: int
    kind: int


class AliasTable:
    """Looks strings up among titles and aliases. The table is sorted by hash and memory-mapped.

    The strings are not stored. Of n strings about n**2 / 2**65 pairs share a 64-bit hash, which is 0.0003 pairs for 100
    million strings.

    Args:
        keys: hashes of normalized strings, ascending. *Shape:* (pairs,), uint64.
        values: row * 4 + kind of each pair. *Shape:* (pairs,), int64.
    """

    def __init__(self, keys: np.ndarray, values: np.ndarray) -> None:
        self._keys, self._values = keys, values

    @classmethod
    def open(cls, folder: str | Path) -> AliasTable:
        """Map the table of a knowledge base.

        Raises:
            MissingFileError: a file of the table is missing.
            MismatchError: the files are damaged or belong to different tables.
        """
        keys, values = (map_array(Path(folder) / name, REBUILD) for name in (KEYS_FILE, VALUES_FILE))
        if keys.dtype != np.uint64 or values.dtype != np.int64 or keys.ndim != 1 or keys.shape != values.shape:
            raise MismatchError(f"{folder} holds no alias table; {REBUILD}")
        return cls(keys, values)

    def __len__(self) -> int:
        return len(self._keys)

    def lookup(self, text: str, limit: int = NO_LIMIT) -> list[AliasMatch]:
        """At most ``limit`` entities that have ``text`` as title or alias; titles first, then by row."""
        return self._matches(_key(normalise(text) or _symbols(text)), limit)

    def lookup_variants(self, text: str, limit: int = NO_LIMIT) -> list[AliasMatch]:
        """At most ``limit`` entities whose title or alias is ``text`` up to spaces, hyphens, accents and a final s.

        ``sci-fi`` is a variant of ``SciFi``, ``vitamins`` of ``vitamin``, ``star war`` of ``Star Wars``.
        """
        return self._matches(_key(_variant(text)), limit)

    def subset(self, row_of: np.ndarray) -> AliasTable:
        """The table without some entities; ``row_of`` is the new row of each entity, ascending, or -1. *Shape:* (entities,)."""
        rows = row_of[self._values >> 2]
        kept = rows >= 0
        return AliasTable(self._keys[kept], rows[kept] << 2 | self._values[kept] & 3)

    def save(self, folder: str | Path) -> None:
        """Write the table into ``folder``."""
        for name, column in ((KEYS_FILE, self._keys), (VALUES_FILE, self._values)):
            save_array(Path(folder) / name, column)

    def _matches(self, key: int | None, limit: int) -> list[AliasMatch]:
        if key is None:
            return []
        begin = end = int(self._keys.searchsorted(np.uint64(key)))
        while end < len(self._keys) and int(self._keys[end]) == key:  # few names share a key: faster than a second search
            end += 1
        values: list[int] = self._values[begin:end].tolist()
        return sorted((AliasMatch(v >> 2, v & 3) for v in values), key=lambda m: (-m.kind, m.row))[:limit]


def build_alias_table(entities: Iterable[Entity], folder: str | Path) -> int:
    """Write the table of all titles and aliases into ``folder``.

    Returns:
        number of (string, entity) pairs.
    """
    blocks = [np.empty((0, 2), dtype=np.uint64)]
    pairs = (pair for entity in entities for pair in _pairs(entity))
    while block := list(islice(pairs, _BLOCK)):
        blocks.append(np.array(block, dtype=np.uint64))
    table = np.concatenate(blocks)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    AliasTable(table[:, 0], table[:, 1].astype(np.int64)).save(folder)
    return len(table)


def normalise(text: str) -> str:
    """The normalized form of a string: case-folded, without accents (NFKD), words separated by single spaces."""
    plain = text.casefold()
    if not plain.isascii():  # most names are, and have no accents
        decomposed = unicodedata.normalize("NFKD", plain.replace(_SOFT_HYPHEN, ""))
        plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    return _NOT_WORD.sub(" ", plain).strip()


def without_brackets(title: str) -> str:
    """``Georgia (country)`` -> ``Georgia``."""
    return _BRACKETS.sub("", title) or title


def _pairs(entity: Entity) -> Iterator[tuple[int, int]]:
    """Key and value of each name of an entity, with the strongest kind of each name."""
    kinds: dict[int, int] = {}
    aliases = [(alias, ALIAS) for alias in entity.aliases]
    for name, name_kind in (*aliases, (without_brackets(entity.title), BARE_TITLE), (entity.title, TITLE)):
        for form, kind in ((normalise(name) or _symbols(name), name_kind), (_variant(name), VARIANT)):
            key = _key(form)
            if key is not None:
                kinds[key] = max(kind, kinds.get(key, VARIANT))
    for key, kind in kinds.items():
        yield key, entity.row << 2 | kind


def _symbols(text: str) -> str:
    """The form of names without letters and digits, such as ``!!!``; "" for a single symbol, which is punctuation in texts."""
    symbols = "".join(text.split())
    return symbols if len(symbols) > 1 else ""


def _variant(text: str) -> str:
    joined = normalise(text).replace(" ", "")
    # The prefix separates variants from titles and aliases.
    return "~" + (joined.rstrip("s") if len(joined) > _MAX_LENGTH_WITH_FINAL_S else joined) if joined else ""


def _key(form: str) -> int | None:
    return int.from_bytes(hashlib.blake2b(form.encode(), digest_size=8).digest(), "little") if form else None
