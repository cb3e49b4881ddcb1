"""Edits of a knowledge base: checked, encoded, and written to its journal.

Everything that edits goes through `commit`, which holds the lock, reads what other processes have written, and checks the edits
against that. What an edit is made of is thus never older than what it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from blink.data.ids import normal_id, own_id
from blink.data.records import Entity
from blink.errors import DataError, SettingsError
from blink.files import disk_full_named, locked
from blink.kb.catalogue_line import entity_from
from blink.kb.live.changes import Edit, Line, Transaction
from blink.kb.live.journal import Record
from blink.kb.live.lines import changed_line, checked, line_from
from blink.kb.live.state import JournalState
from blink.kb.manifest import MANIFEST_FILE
from blink.kb.vectors import Encoder

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase

WAIT_S = 10.0
"""Seconds for which a writer waits until another is done."""
REVERTING = ("undo", "rollback")
"""Kinds of transactions that may fill a row again."""
_ENCODED_AT_ONCE = 1024


@dataclass(frozen=True)
class Draft:
    """A transaction that is not numbered yet; see `Transaction`."""

    kind: str
    edits: tuple[Edit, ...] = ()
    note: str = ""
    undoes: tuple[int, ...] = ()


def commit(kb: KnowledgeBase, drafts: Callable[[JournalState], Sequence[Draft]]) -> list[Transaction]:
    """Write transactions to the journal; they are on the disk when this returns.

    Args:
        kb: opened from a folder.
        drafts: makes the transactions from the state that they follow. Each is checked after those before it; where one is
            wrong none is written.

    Raises:
        DataError: an edit is wrong.
        SettingsError: another process writes to the folder, the disk is full, or there is no encoder.
    """
    folder = kb.require_folder()
    if (folder / MANIFEST_FILE).is_symlink():  # the cache of the hub, whose files other programs share
        advice = "KnowledgeBase.from_pretrained(NAME, out=DIR)"
        raise SettingsError(f"{folder} is in the cache of the hub and cannot be edited; copy it first: {advice}")
    with locked(folder, wait=WAIT_S), disk_full_named(folder):
        kb.refresh()
        state = kb.state
        pending = Pending(state)
        records = encoded([pending.checked(draft) for draft in drafts(state)], state, kb.encode)
        with kb.lock:
            state.append(records)
            kb.publish()
    return [record.transaction for record in records]


def add(entities: Sequence[Entity | Mapping[str, Any]], note: str = "") -> Callable[[JournalState], list[Draft]]:
    """Drafts that add entities, each in a transaction of its own."""
    lines = [line_from(entity) for entity in entities]
    return lambda state: [Draft("add", (Edit(state.rows + i, None, line),), note) for i, line in enumerate(lines)]


def update(key: str | int, changes: Mapping[str, Any], note: str = "") -> Callable[[JournalState], list[Draft]]:
    """A draft that changes an entity; none where it is so already. An empty value removes what was there."""

    def draft(state: JournalState) -> list[Draft]:
        row = require_row(state, key)
        before = state.line(row)
        assert before is not None
        after = changed_line(before, changes)
        same = after == checked(before, before)
        return [] if same else [Draft("update", (Edit(row, before, after),), note)]

    return draft


def remove(keys: Iterable[str | int], note: str = "") -> Callable[[JournalState], list[Draft]]:
    """A draft that removes entities together."""

    def draft(state: JournalState) -> list[Draft]:
        rows = dict.fromkeys(require_row(state, key) for key in keys)
        return [Draft("remove", tuple(Edit(row, state.line(row), None) for row in rows), note)]

    return draft


def named(state: JournalState, key: str) -> str | int:
    """An entity as commands name it: by its id, or by its row where no entity has the id."""
    return int(key) if key.isascii() and key.isdigit() and state.row_of(key) is None else key


def require_row(state: JournalState, key: str | int) -> int:
    """The row of an entity that is there, by id or row.

    Raises:
        DataError: there is none.
    """
    if isinstance(key, str):
        row = state.row_of(key)
        if row is None:
            raise DataError(f"no entity has the id {key!r}; blink kb search finds entities by name")
        return row
    if not 0 <= key < state.rows:
        raise DataError(f"there is no row {key}: rows 0 to {state.rows - 1} exist")
    if state.line(key) is None:
        raise DataError(f"row {key} is empty: its entity was removed, or its line is broken")
    return key


class Pending:
    """The state after drafts that are checked but not written.

    Args:
        state: before them.
    """

    def __init__(self, state: JournalState) -> None:
        self.state, self.rows, self.number = state, state.rows, state.number
        self.lines: dict[int, Line | None] = {}
        self._row_of_id: dict[str, int | None] = {}

    def line(self, row: int) -> Line | None:
        """The line of a row; None where there is no entity."""
        return self.lines[row] if row in self.lines else self.state.line(row)

    def row_of(self, kb_id: str) -> int | None:
        """The row of the entity that has an id in normal form; None if there is none."""
        return self._row_of_id[kb_id] if kb_id in self._row_of_id else self.state.row_of(kb_id)

    def checked(self, draft: Draft) -> Transaction:
        """The transaction of a draft, which is taken over.

        Raises:
            DataError: an edit is wrong.
        """
        edits, rows = list[Edit](), self.rows
        for edit in one_a_row(draft.edits):
            edits.append(self._checked(edit, draft.kind, rows))
            rows = max(rows, edit.row + 1)
        if draft.edits and not edits:
            raise DataError("the edits leave everything as it is; leave them out")
        self._row_of_id |= {kb_id: None for edit in edits if (kb_id := _own_id(edit.before)) is not None}
        for edit in edits:
            self._take_id(edit)
            self.lines[edit.row] = edit.after
        self.rows = rows
        self.number += 1
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Transaction(self.number, now, draft.kind, tuple(edits), draft.note, draft.undoes)

    def _checked(self, edit: Edit, kind: str, rows: int) -> Edit:
        """``rows``: of the state with the edits before this one."""
        row, before = edit.row, self.line(edit.row)
        if edit.before != before:
            raise DataError(f"row {row} is not what the edit changes: another edit was faster; read it again")
        if not 0 <= row <= rows or (row < rows and before is None and kind not in REVERTING):
            raise DataError(f"row {row} cannot be filled; added entities take the next row, {rows}")
        return edit if edit.after is None else Edit(row, before, checked(edit.after, before))

    def _take_id(self, edit: Edit) -> None:
        kb_id = _own_id(edit.after)
        if kb_id is None:
            return
        owner = self.row_of(kb_id)
        line = None if owner is None else self.line(owner)
        # Among the ids of others it may be: that of an entity that was merged with them, and is there again after an undo.
        if owner not in (None, edit.row) and kb_id == _own_id(line) != _own_id(edit.before):
            title = "" if line is None else f" ({line['title']})"
            raise DataError(f"the id {kb_id!r} is that of row {owner}{title}; update that entity, or give another id")
        self._row_of_id[kb_id] = edit.row


def _own_id(line: Line | None) -> str | None:
    """The id under which an entity is looked up, in normal form."""
    kb_id = None if line is None else own_id(line.get("kb_idx"))
    return None if kb_id is None else normal_id(kb_id)


def one_a_row(edits: Sequence[Edit]) -> list[Edit]:
    """Edits without those that change nothing, several of one row as one.

    Raises:
        DataError: two edits of a row do not follow each other.
    """
    of_row: dict[int, Edit] = {}
    for edit in edits:
        earlier = of_row.get(edit.row)
        if earlier is not None and earlier.after != edit.before:
            raise DataError(f"two edits of row {edit.row} do not follow each other")
        of_row[edit.row] = edit if earlier is None else Edit(edit.row, earlier.before, edit.after)
    return [edit for edit in of_row.values() if edit.before != edit.after]


# -- vectors -------------------------------------------------------------------------------------------------------


def encoded(transactions: Sequence[Transaction], state: JournalState, encode: Encoder | None) -> list[Record]:
    """Transactions with their vectors. Only what has other texts than before is encoded. Raises as `commit` does."""
    filled = [(t, edit) for t in transactions for edit in t.edits if edit.after is not None]
    known = _KnownVectors(state)
    vectors = [known.of(edit, t) for t, edit in filled]
    missing = [i for i, vector in enumerate(vectors) if vector is None]
    entities = [entity_from(edit.row, dict(edit.after or {})) for _, edit in (filled[i] for i in missing)]
    for start in range(0, len(missing), _ENCODED_AT_ONCE):
        block = missing[start : start + _ENCODED_AT_ONCE]
        for i, vector in zip(block, _encode(entities[start : start + _ENCODED_AT_ONCE], state, encode), strict=True):
            vectors[i] = vector
    found = iter(vectors)
    dim = state.journal.header.dim
    return [
        Record(t, np.array([next(found) for edit in t.edits if edit.after is not None], np.float32).reshape(-1, dim))
        for t in transactions
    ]


def _encode(entities: Sequence[Entity], state: JournalState, encode: Encoder | None) -> np.ndarray:
    if encode is None:
        raise SettingsError(
            "there is no model to encode the new texts with; open the knowledge base with the one that made it: --model MODEL"
        )
    vectors = encode(entities)
    if vectors.shape != (len(entities), state.journal.header.dim):
        shape = f"{vectors.shape}, expected {(len(entities), state.journal.header.dim)}"
        raise DataError(f"the encoder gave vectors of shape {shape}; give the model of the knowledge base")
    with np.errstate(over="ignore"):  # a value too large for fp16 becomes infinite, which is rejected below
        stored = vectors.astype(state.dtype).astype(np.float32)  # so that compaction changes no vector
    if not np.isfinite(stored).all():
        raise DataError("the encoder gave a vector with NaN or infinity; check its weights")
    return stored


class _KnownVectors:
    """Vectors of texts that rows have, or had.

    Args:
        state: with the vectors of the entities that are there.
    """

    def __init__(self, state: JournalState) -> None:
        self._state = state
        self._seen: set[int] = set()
        self._entries: dict[int, list[int]] | None = None

    def of(self, edit: Edit, transaction: Transaction) -> np.ndarray | None:
        """The vector of an entity after an edit, if its text is one that its row had; else None. *Shape:* (d,)."""
        row, state, text = edit.row, self._state, _text(edit.after)
        again, before = row in self._seen, edit.before
        self._seen.add(row)
        if again:  # changed by a transaction that has no vectors yet
            return None
        if before is not None and _text(before) == text:
            return state.vector(row)
        base = state.base_line(row)
        if base is not None and _text(base) == text:
            return state.base_vector(row)
        return self._earlier(row, text) if transaction.kind in REVERTING else None

    def _earlier(self, row: int, text: tuple[str, str, tuple[str, ...]]) -> np.ndarray | None:
        if self._entries is None:
            self._entries = {}
            for i, entry in enumerate(self._state.entries):
                for changed in entry.rows:
                    self._entries.setdefault(changed, []).append(i)
        for i in reversed(self._entries.get(row, [])):
            record = self._state.journal.record_at(self._state.entries[i].span)
            filled = [edit for edit in record.transaction.edits if edit.after is not None]
            for edit, vector in zip(filled, () if record.vectors is None else record.vectors, strict=True):
                if edit.row == row and _text(edit.after) == text:
                    return vector
        return None


def _text(line: Line | None) -> tuple[str, str, tuple[str, ...]]:
    """What an entity's vector follows from, whatever the encoder reads."""
    entity = entity_from(0, dict(line or {"title": ""}))
    return entity.title, entity.text, entity.aliases
