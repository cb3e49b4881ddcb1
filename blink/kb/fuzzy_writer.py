"""Writes the fuzzy index of a catalogue, block by block, in memory that hardly grows with the number of names."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from blink.data.arrays import SPOOLED_BYTES, array_writer, offsets_writer, save_array
from blink.data.external_sort import ExternalSorter
from blink.kb.fuzzy_index import BUCKETS, WORDS_WITHOUT_RARITIES, file_of, rarities
from blink.kb.grams import Characters, GramCounter, distinct, gram_keys, trigrams

_NAME_BITS = np.uint64(32)
_BLOCK_NAMES = 1 << 14


class FuzzyIndexWriter:
    """Writes a `FuzzyIndex`: names are added in the order of their rows, `finish` inverts them.

    Grams are chosen when all names are counted. Until then the normalized names lie in a temporary file.

    Args:
        folder: where the files go.
        rows: rows of the catalogue.
    """

    def __init__(self, folder: str | Path, rows: int) -> None:
        self._folder = Path(folder)
        self.names = 0
        """Number of names so far."""
        self._counter = GramCounter(rows)
        self._block_bytes: list[int] = []
        self._word_counts = np.zeros(BUCKETS, dtype=np.int64)
        self._stack = ExitStack()

    def __enter__(self) -> FuzzyIndexWriter:
        enter = self._stack.enter_context
        self._rows = enter(array_writer(self._path("rows"), np.int32))
        self._grams = enter(array_writer(self._path("grams"), np.uint16))
        self._words = enter(array_writer(self._path("words"), np.uint32))
        self._initials = enter(array_writer(self._path("initials"), np.uint32))
        self._first, self._gram_at, self._word_at = (
            enter(offsets_writer(self._path(name))) for name in ("first", "gram_at", "word_at")
        )
        self._by_initials = enter(ExternalSorter(self._folder))
        self._forms = enter(tempfile.SpooledTemporaryFile(SPOOLED_BYTES, dir=str(self._folder)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, n_names: np.ndarray, forms: Sequence[str]) -> None:
        """Add the names of the next rows.

        Args:
            n_names: number of names of each row. *Shape:* (rows,), int64.
            forms: the names, normalized, row by row; those without words ("") are not indexed.
        """
        is_kept = np.fromiter(map(bool, forms), np.bool_, len(forms))
        owner = np.repeat(np.arange(len(n_names)), n_names)[is_kept]
        self._first(np.bincount(owner, minlength=len(n_names)))
        self._rows(owner + self._n_rows)
        self._n_rows += len(n_names)
        kept = [form for form in forms if form]
        for begin in range(0, len(kept), _BLOCK_NAMES):
            self._add_names(kept[begin : begin + _BLOCK_NAMES])

    _n_rows = 0

    def _add_names(self, forms: list[str]) -> None:
        characters = Characters.of(forms)
        grams, n_grams = trigrams(characters)
        self._grams(grams)
        self._gram_at(n_grams)
        together = " ".join(forms)
        hashes = np.array([zlib.crc32(word) for word in together.encode().split(b" ")], dtype=np.uint64)
        sizes = [form.count(" ") + 1 for form in forms]
        owner = np.repeat(np.arange(len(forms), dtype=np.uint64), sizes)
        words, n_words = distinct(owner << np.uint64(32) | hashes, len(forms), 32, np.uint32)
        self._words(words)
        self._word_at(n_words)
        buckets, counts = np.unique(words & np.uint32(BUCKETS - 1), return_counts=True)
        self._word_counts[buckets] += counts
        letters, end = "".join([word[0] for word in together.split(" ")]), 0
        initials = np.zeros(len(forms), dtype=np.uint32)
        for name, size in enumerate(sizes):
            end += size
            if size > 1:
                initials[name] = zlib.crc32(letters[end - size : end].encode())
        self._initials(initials)
        names = np.arange(self.names, self.names + len(forms), dtype=np.uint64)
        self._by_initials.add(initials.astype(np.uint64) << _NAME_BITS | names)
        self._counter.add(gram_keys(characters))
        self._block_bytes.append(self._forms.write("\n".join(forms).encode()))
        self.names += len(forms)

    def finish(self) -> None:
        """Write what follows from all names."""
        with array_writer(self._path("by_initials"), np.int32) as append:
            for (records,) in self._by_initials.blocks():
                append(records & np.uint64(0xFFFFFFFF))
        if self._word_counts.sum() > WORDS_WITHOUT_RARITIES:
            save_array(self._path("rarities"), rarities(self._word_counts, self.names))
        with ExternalSorter(self._folder, group_bits=32) as sorter:
            first = 0
            for forms in self._stored_forms():
                characters = Characters.of(forms)
                positions, keys = self._counter.chosen(gram_keys(characters))
                names = (characters.names()[positions] + first).astype(np.uint64)
                sorter.add(keys.astype(np.uint64) << _NAME_BITS | names)
                first += len(forms)
            self._write_postings(sorter)

    def _stored_forms(self) -> Iterator[list[str]]:
        self._forms.seek(0)
        for size in self._block_bytes:
            yield self._forms.read(size).decode().split("\n")

    def _write_postings(self, sorter: ExternalSorter) -> None:
        with (
            array_writer(self._path("keys"), np.uint32) as add_keys,
            offsets_writer(self._path("posting_at")) as add_sizes,
            array_writer(self._path("postings"), np.int32) as add_names,
        ):
            for (records,) in sorter.blocks():
                records = records[np.diff(records, prepend=~records[:1]) != 0]  # a name may repeat a gram
                keys = (records >> _NAME_BITS).astype(np.uint32)
                starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]) != 0)
                add_keys(keys[starts])
                add_sizes(np.diff(starts, append=len(keys)))
                add_names(records & np.uint64(0xFFFFFFFF))

    def _path(self, array: str) -> Path:
        return self._folder / file_of(array)
