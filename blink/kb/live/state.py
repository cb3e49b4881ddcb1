"""What a journal makes of the files it follows: the current line and vector of every row, and which entity has an id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blink.data.ids import OTHER, ROW, id_in_system, normal_id
from blink.data.records import Entity
from blink.errors import DataError
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_line import claims_from, entity_from, parse_line
from blink.kb.live.changes import Changes, Line, Transaction
from blink.kb.live.journal import JOURNAL_FILE, START, Header, Journal, Record
from blink.kb.live.vector_table import VectorTable
from blink.kb.manifest import Manifest

HISTORY_FILE = "history.jsonl"
"""The transactions that are part of the files, without their vectors."""
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction in short: what undoing others needs of it, and where its line is.

    Attributes:
        number: of the transaction.
        kind: of the transaction.
        note: of the transaction.
        undoes: numbers of the transactions that it reverts.
        rows: that it changes.
        span: start and end of its line in the journal.
        folded: its line is in the history of those that are part of the files.
    """

    number: int
    kind: str
    note: str
    undoes: tuple[int, ...]
    rows: tuple[int, ...]
    span: tuple[int, int]
    folded: bool = False

    @classmethod
    def of(cls, transaction: Transaction, span: tuple[int, int], folded: bool = False) -> Entry:
        """Of a transaction whose line is at ``span``."""
        rows = tuple(edit.row for edit in transaction.edits)
        return cls(transaction.number, transaction.kind, transaction.note, transaction.undoes, rows, span, folded)


class JournalState:
    """The files of a knowledge base together with its journal.

    Reading the journal again costs what was appended to it since; `changes` is made when it is requested.

    Args:
        folder: of the files.
        manifest: of the knowledge base.
        catalogue: of the files.
        vectors: of the files. *Shape:* (rows, d).

    Attributes:
        dtype: of the vectors of the files.
        entries: the transactions of the journal.
        rows: rows of the files and those added since.
        number: of the last transaction.

    Raises:
        DataError: the journal is damaged.
        MismatchError: it is of other files.
    """

    def __init__(self, folder: Path, manifest: Manifest, catalogue: Catalogue, vectors: np.ndarray) -> None:
        header = Header(manifest.catalogue_sha256, manifest.model, len(catalogue), manifest.dim, manifest.edits)
        self.journal, self._history = Journal(folder / JOURNAL_FILE, header), Journal(folder / HISTORY_FILE, header)
        self._catalogue, self._vectors, self.dtype = catalogue, vectors, vectors.dtype
        self._stamp: tuple[int, int, int] | None = None
        self._base_digest: int | None = None
        self._clear()
        self.refresh()

    def _clear(self) -> None:
        header = self.journal.header
        self.entries: list[Entry] = []
        self.rows, self.number = header.rows, header.after
        self._position = START
        self._lines: dict[int, Line | None] = {}
        self._entities: dict[int, Entity | None] = {}
        self._claims: dict[str, dict[int, int]] = {}
        """Changed rows that have an id, with the strength of their claim, see `blink.data.ids.claims`."""
        self._table = VectorTable(header.dim)
        self._changes: Changes | None = None

    # -- the journal ---------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read what the journal has got since; whether there was anything. Without a change it costs one look at the file.

        Raises:
            DataError: the journal is damaged.
            MismatchError: it is of other files.
        """
        stamp = self.journal.stamp()
        if stamp == self._stamp:
            return False
        read = self.journal.read(self._position)
        if read.rewound:
            self._clear()
        for record, span in zip(read.records, read.spans, strict=True):
            self._apply(record, span)
        self._position, self._stamp = read.position, stamp
        return read.rewound or bool(read.records)

    def append(self, records: Sequence[Record]) -> None:
        """Append transactions to the journal, and then take them over. The caller holds the lock, and has refreshed.

        Raises:
            OSError: the disk is full or broken; nothing has changed.
        """
        self._position, spans = self.journal.append(self._position, records)
        self._stamp = self.journal.stamp()
        for record, span in zip(records, spans, strict=True):
            self._apply(record, span)

    def _apply(self, record: Record, span: tuple[int, int]) -> None:
        transaction = record.transaction
        if record.vectors is None:
            fault = f"{self.journal.path}: edit {transaction.number} lacks the vectors of its entities, as {HISTORY_FILE} does"
            raise DataError(f"{fault}; restore it from a copy, or move it away, which keeps the files without edits")
        self.entries.append(Entry.of(transaction, span))
        self.number = transaction.number
        vectors = iter(record.vectors)
        for edit in transaction.edits:
            self.rows = max(self.rows, edit.row + 1)
            for claimed, _ in _claims(self._lines.get(edit.row)):
                self._claims[claimed].pop(edit.row)
            self._lines[edit.row] = edit.after
            self._entities[edit.row] = None if edit.after is None else entity_from(edit.row, dict(edit.after))
            if edit.after is None:
                self._table.remove(edit.row)
            else:
                self._table.put(edit.row, next(vectors))
            for claimed, strength in _claims(edit.after):
                self._claims.setdefault(claimed, {})[edit.row] = strength
        self._changes = None

    @cached_property
    def _folded(self) -> list[Entry]:
        read = self._history.read()
        return [Entry.of(record.transaction, span, True) for record, span in zip(read.records, read.spans, strict=True)]

    @property
    def all_entries(self) -> list[Entry]:
        """All transactions ever, with those that are part of the files."""
        return self._folded + self.entries if self.journal.header.after else self.entries

    def record(self, entry: Entry) -> Record:
        """A transaction with its vectors, which those that are part of the files have no longer."""
        return (self._history if entry.folded else self.journal).record_at(entry.span)

    def transactions(self) -> Iterator[Transaction]:
        """All transactions ever, from the first."""
        return (self.record(entry).transaction for entry in self.all_entries)

    # -- rows ----------------------------------------------------------------------------------------------------

    @property
    def base_rows(self) -> int:
        """Rows of the files."""
        return self.journal.header.rows

    @property
    def changes(self) -> Changes:
        """What the journal changes of the files; the same object until the next edit."""
        if self._changes is None:
            rows, vectors = self._table.state()
            self._changes = Changes(self.base_rows, self.rows, self.number, dict(self._entities), rows, vectors)
        return self._changes

    @property
    def changed(self) -> Iterator[tuple[int, Line | None]]:
        """The changed rows and their lines, None where the entity was removed."""
        return iter(self._lines.items())

    def is_changed(self, row: int) -> bool:
        """Whether the journal changes a row."""
        return row in self._lines

    def line(self, row: int) -> Line | None:
        """The line of a row; None where there is no entity."""
        if row in self._lines:
            return self._lines[row]
        return self.base_line(row)

    def base_line(self, row: int) -> Line | None:
        """The line of a row in the files; None where there is no entity."""
        if not 0 <= row < self.base_rows or self._catalogue.is_bad(row):
            return None
        return parse_line(self._catalogue.line(row))

    def base_bytes(self, row: int) -> bytes:
        """The line of a row as it is in the files, without its end."""
        return self._catalogue.line(row)

    def row_of(self, kb_id: str) -> int | None:
        """The row of the entity that has an id, as of `Catalogue.row_of`; None if there is none."""
        normal = normal_id(kb_id)
        strengths = dict(self._claims.get(normal, {}))
        system, colon, rest = kb_id.partition(":")
        if not strengths and colon and system == ROW and rest.isascii() and rest.isdigit():
            row = int(rest[:20])
            return row if row < self.rows and self.line(row) is not None else None
        if not strengths and colon and (of_system := id_in_system(system, rest)) is not None:
            pair = (system.casefold(), of_system)
            claimed = self._claims.get(normal_id(of_system), {}).items()
            strengths |= {row: strength for row, strength in claimed if pair in _pairs(self._entities[row])}
        row_of_files = next((row for row in self._catalogue.rows_of(kb_id) if row not in self._lines), None)
        if row_of_files is not None:
            strengths[row_of_files] = dict(_claims(self.base_line(row_of_files))).get(normal, OTHER)
        return max(strengths, key=lambda row: (strengths[row], row), default=None)

    def vector(self, row: int) -> npt.NDArray[np.float32]:
        """The vector of an entity. *Shape:* (d,)."""
        changed = self._table.get(row)
        return np.asarray(self._vectors[row], np.float32) if changed is None else changed

    def base_vector(self, row: int) -> npt.NDArray[np.float32]:
        """The vector of a row in the files. *Shape:* (d,)."""
        return np.asarray(self._vectors[row], np.float32)

    def base_vectors(self, start: int, end: int) -> np.ndarray:
        """The vectors of rows of the files, from ``start`` to ``end``, as far as there are any. *Shape:* (n, d)."""
        return np.asarray(self._vectors[start:end])

    # -- digest --------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """Hash of all entities with their rows: the same however they came to be.

        It is the sum of a hash of each entity, so that an edit changes it without reading the others again.
        """
        if self._base_digest is None:
            self._base_digest = sum(_hash(row, self.base_line(row)) for row in range(self.base_rows))
        changed = sum(_hash(row, line) - _hash(row, self.base_line(row)) for row, line in self.changed)
        return ((self._base_digest + changed) % (1 << 8 * _DIGEST_BYTES)).to_bytes(_DIGEST_BYTES, "big").hex()


def _hash(row: int, line: Line | None) -> int:
    if line is None:
        return 0
    content = json.dumps([row, line], sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest(), "big")


def _claims(line: Line | None) -> list[tuple[str, int]]:
    return [] if line is None else claims_from(dict(line))


def _pairs(entity: Entity | None) -> set[tuple[str, str]]:
    return set() if entity is None else {(system.casefold(), kb_id) for system, kb_id in entity.ids}
