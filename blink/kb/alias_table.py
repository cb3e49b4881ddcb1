"""The alias table of a catalogue on disk: titles and aliases to entities."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import numpy as np

from blink.data.arrays import array_writer, map_array
from blink.data.external_sort import ExternalSorter
from blink.data.ranges import numbers_of
from blink.errors import MismatchError
from blink.kb.index.selector import RowSelector

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
_SPACED_LOWERCASE = bytes(ord(c.lower()) if c.isalnum() or c == "\n" else 0x20 for c in map(chr, range(128))) + bytes(128)
"""Translates ASCII: letters to lowercase, what is no letter or digit, but for the line end, to a blank."""


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
        values: row * 4 + kind of each pair. *Shape:* (pairs,), int32 or int64.
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
        # As plain arrays, since every slice of a memmap costs an extra Python call.
        keys, values = (np.asarray(map_array(Path(folder) / name, REBUILD)) for name in (KEYS_FILE, VALUES_FILE))
        if keys.dtype != np.uint64 or values.dtype not in (np.int32, np.int64) or keys.ndim != 1 or keys.shape != values.shape:
            raise MismatchError(f"{folder} holds no alias table; {REBUILD}")
        return cls(keys, values)

    def __len__(self) -> int:
        return len(self._keys)

    def lookup(self, text: str, limit: int = NO_LIMIT, selector: RowSelector | None = None) -> list[AliasMatch]:
        """At most ``limit`` entities that have ``text`` as title or alias; titles first, then by row.

        Args:
            text: any string.
            limit: most entities.
            selector: rows that may be matches; None for all.
        """
        return self._matches(_key(normalise(text) or _symbols(text)), selector)[:limit]

    def lookup_variants(self, text: str, limit: int = NO_LIMIT, selector: RowSelector | None = None) -> list[AliasMatch]:
        """At most ``limit`` entities whose title or alias is ``text`` up to spaces, hyphens, accents and a final s.

        ``sci-fi`` is a variant of ``SciFi``, ``vitamins`` of ``vitamin``, ``star war`` of ``Star Wars``. Arguments as of
        `lookup`.
        """
        return self._matches(_key(_variant_of(normalise(text))), selector)[:limit]

    def lookup_all(self, texts: Sequence[str], selector: RowSelector | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`lookup` of several strings, or `lookup_variants` of those without a match.

        Returns:
            the number of matches of each string, and row * 4 + kind of all of them, in the same order. *Shape:* (texts,) and
            (matches,), int64.
        """
        forms = [normalise(text) for text in texts]
        counts, values = self.values_of([form or _symbols(text) for form, text in zip(forms, texts, strict=True)], selector)
        if counts.all():
            return counts, values
        lacking = np.flatnonzero(counts == 0)
        of_variants, variants = self.values_of([_variant_of(forms[i]) for i in lacking.tolist()], selector)
        owner = np.concatenate([np.repeat(np.arange(len(texts)), counts), np.repeat(lacking, of_variants)])
        counts[lacking] = of_variants
        return counts, np.concatenate([values, variants])[np.argsort(owner, kind="stable")]

    def values_of(self, forms: Sequence[str], selector: RowSelector | None) -> tuple[np.ndarray, np.ndarray]:
        """Number of matches of each normalized string, and row * 4 + kind of all, titles first, then by row."""
        keys = np.array([_key(form) or 0 for form in forms], dtype=np.uint64)
        begin = self._keys.searchsorted(keys)
        counts = self._keys.searchsorted(keys, side="right") - begin
        counts[[not form for form in forms]] = 0
        values = self._values[numbers_of(begin, counts)].astype(np.int64)
        owner = np.repeat(np.arange(len(forms)), counts)
        if selector is not None:
            is_allowed = selector.mask[values >> 2]
            values, owner = values[is_allowed], owner[is_allowed]
            counts = np.bincount(owner, minlength=len(forms))
        return counts, values[np.lexsort((values >> 2, -(values & 3), owner))]

    def _matches(self, key: int | None, selector: RowSelector | None) -> list[AliasMatch]:
        if key is None:
            return []
        matches = (AliasMatch(value >> 2, value & 3) for value in self.values_of_key(key, selector))
        return sorted(matches, key=lambda match: (-match.kind, match.row))

    def values_of_key(self, key: int, selector: RowSelector | None) -> list[int]:
        """Matches of a hash: row * 4 + kind of each."""
        begin = end = int(self._keys.searchsorted(np.uint64(key)))
        while end < len(self._keys) and int(self._keys[end]) == key:  # few names share a key: faster than a second search
            end += 1
        values: list[int] = self._values[begin:end].tolist()
        return values if selector is None else [value for value in values if selector.mask[value >> 2]]


class AliasTableWriter:
    """Writes an `AliasTable` in limited memory.

    Args:
        folder: where the files go, and temporary ones.
        rows: number of rows of the catalogue.
    """

    def __init__(self, folder: str | Path, rows: int) -> None:
        self._folder = Path(folder)
        self._dtype = np.int32 if rows << 2 <= np.iinfo(np.int32).max else np.int64
        self._sorter = ExternalSorter(folder, with_values=True)

    def __enter__(self) -> AliasTableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sorter.__exit__(kind, error, trace)

    def add(self, names: Sequence[str], forms: Sequence[str], rows: np.ndarray, kinds: np.ndarray) -> None:
        """Add names of entities.

        Args:
            names: titles, titles without brackets, and aliases.
            forms: the same, normalized.
            rows: entity of each. *Shape:* (names,), int64.
            kinds: `TITLE`, `BARE_TITLE` or `ALIAS`. *Shape:* (names,), int64.
        """
        exact = [form or _symbols(name) for name, form in zip(names, forms, strict=True)]
        for strings, of_kind in ((exact, kinds), ([_variant_of(form) for form in forms], VARIANT)):
            has_key = np.fromiter(map(bool, strings), np.bool_, len(strings))
            self._sorter.add(_keys(strings), (rows << 2 | of_kind)[has_key].astype(np.uint64))

    def finish(self) -> int:
        """Write the table and return its number of (string, entity) pairs."""
        pairs = 0
        with (
            array_writer(self._folder / KEYS_FILE, np.uint64) as add_keys,
            array_writer(self._folder / VALUES_FILE, self._dtype) as add_values,
        ):
            for keys, values in self._sorter.blocks():
                # Of the kinds in which an entity has a name the strongest, which is the last.
                is_last = np.append((np.diff(keys) != 0) | (np.diff(values >> np.uint64(2)) != 0), True)
                add_keys(keys[is_last])
                add_values(values[is_last])
                pairs += int(is_last.sum())
        return pairs


def normalise_all(texts: Sequence[str]) -> list[str]:
    """`normalise` of many strings; several times as fast, since most are ASCII."""
    lines = [text if text.isascii() and "\n" not in text else "" for text in texts]
    spaced = "\n".join(lines).encode("ascii").translate(_SPACED_LOWERCASE).decode("ascii")
    forms = [" ".join(line.split()) for line in spaced.split("\n")] if lines else []
    return [form if line or not text else normalise(text) for form, line, text in zip(forms, lines, texts, strict=True)]


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


def _symbols(text: str) -> str:
    """The form of names without letters and digits, such as ``!!!``; "" for a single symbol, which is punctuation in texts."""
    symbols = "".join(text.split())
    return symbols if len(symbols) > 1 else ""


def _variant_of(form: str) -> str:
    joined = form.replace(" ", "")
    # The prefix separates variants from titles and aliases.
    return "~" + (joined.rstrip("s") if len(joined) > _MAX_LENGTH_WITH_FINAL_S else joined) if joined else ""


def _key(form: str) -> int | None:
    return int(_keys([form])[0]) if form else None


def _keys(forms: Iterable[str]) -> np.ndarray:
    """Hashes of strings, without empty ones. *Shape:* (strings,), uint64."""
    digests = [blake2b(form.encode(), digest_size=8).digest() for form in forms if form]
    return np.frombuffer(b"".join(digests), dtype="<u8")
