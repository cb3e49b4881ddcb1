"""The surface forms of a catalogue on disk: which entities a string is a title or an alias of."""

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
"""What to do about files gathered from a catalogue that are missing or damaged."""
NEAR, ALIAS, BARE_TITLE, TITLE = 0, 1, 2, 3
"""What a form is to an entity; larger is stronger.

A near form is one but for blanks, hyphens and a final s. A bare title is one without what stands in brackets behind it: of
namesakes, the best-known one usually has the title that needs no brackets."""

EVERY = 1 << 30
"""Most entities that a name may have."""

_BRACKETS = re.compile(r"\s*\([^()]*\)$")
_NOT_WORD = re.compile(r"[\W_]+")
_SHORT = 3
"""Forms up to this length keep a final s: ``us`` is not ``u``."""
_BLOCK = 200_000
"""Entities gathered at a time: Python tuples of millions of forms would take gigabytes."""


@dataclass(frozen=True)
class FormMatch:
    """An entity that a string is a form of; ``kind`` is `NEAR`, `ALIAS`, `BARE_TITLE` or `TITLE`."""

    row: int
    kind: int


class SurfaceForms:
    """Looks strings up among titles and aliases; the table is sorted by hash and mapped from disk.

    Args:
        keys: hashes of forms, ascending. *Shape:* (forms,), uint64.
        values: row * 4 + kind of each. *Shape:* (forms,), int64.
    """

    def __init__(self, keys: np.ndarray, values: np.ndarray) -> None:
        self._keys, self._values = keys, values

    @classmethod
    def open(cls, folder: str | Path) -> SurfaceForms:
        """Map the table of a knowledge base.

        Raises:
            MissingFileError: its files are not there.
            MismatchError: they are damaged or not of one table.
        """
        keys, values = (map_array(Path(folder) / name, REBUILD) for name in (KEYS_FILE, VALUES_FILE))
        if keys.dtype != np.uint64 or values.dtype != np.int64 or keys.ndim != 1 or keys.shape != values.shape:
            raise MismatchError(f"{folder} holds no table of surface forms; {REBUILD}")
        return cls(keys, values)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, text: str, most: int = EVERY) -> list[FormMatch]:
        """The entities that ``text`` names by title or alias; titles first, then by row, at most ``most``."""
        return self._under(_key(normalise(text)), most)

    def find_near(self, text: str, most: int = EVERY) -> list[FormMatch]:
        """The entities of which ``text`` is a name when blanks, hyphens, accents and a final s are left aside.

        ``sci-fi`` is near to ``SciFi``, ``vitamins`` to ``vitamin``, ``star war`` to ``Star Wars``.
        """
        return self._under(_key(_near(text)), most)

    def _under(self, key: int | None, most: int) -> list[FormMatch]:
        if key is None:
            return []
        first = int(self._keys.searchsorted(np.uint64(key)))
        values = []
        while first < len(self._keys) and int(self._keys[first]) == key:
            values.append(int(self._values[first]))
            first += 1
        return sorted((FormMatch(v >> 2, v & 3) for v in values), key=lambda m: (-m.kind, m.row))[:most]


def build_forms(entities: Iterable[Entity], folder: str | Path) -> int:
    """Write the table of all titles and aliases into ``folder``.

    Returns:
        number of (form, entity) pairs.
    """
    blocks = [np.empty((0, 2), dtype=np.uint64)]
    source = (pair for entity in entities for pair in _forms(entity))
    while block := list(islice(source, _BLOCK)):
        blocks.append(np.array(block, dtype=np.uint64))
    table = np.concatenate(blocks)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    for name, column in ((KEYS_FILE, table[:, 0]), (VALUES_FILE, table[:, 1].astype(np.int64))):
        save_array(Path(folder) / name, column)
    return len(table)


def normalise(text: str) -> str:
    """Bring a form to what is compared: no case, no accents, words parted by single spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _NOT_WORD.sub(" ", "".join(c for c in plain if not unicodedata.combining(c))).strip()


def without_brackets(title: str) -> str:
    """``Georgia (country)`` -> ``Georgia``."""
    return _BRACKETS.sub("", title) or title


def _forms(entity: Entity) -> Iterator[tuple[int, int]]:
    kinds: dict[int, int] = {}
    named = [(alias, ALIAS) for alias in entity.aliases]
    named += [(without_brackets(entity.title), BARE_TITLE), (entity.title, TITLE)]
    for name, kind in named:
        for form, of_kind in ((normalise(name), kind), (_near(name), NEAR)):
            key = _key(form)
            if key is not None:
                kinds[key] = max(of_kind, kinds.get(key, NEAR))
    for key, kind in kinds.items():
        yield key, entity.row << 2 | kind


def _near(text: str) -> str:
    squeezed = normalise(text).replace(" ", "")
    # Marked, so that it never meets a form as it is written.
    return "~" + (squeezed.rstrip("s") if len(squeezed) > _SHORT else squeezed) if squeezed else ""


def _key(form: str) -> int | None:
    return int.from_bytes(hashlib.blake2b(form.encode(), digest_size=8).digest(), "little") if form else None
