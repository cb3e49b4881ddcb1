"""Whether a journal holds what it should: transactions that follow each other and the files, with vectors that are numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from blink.data.ids import normal_id, own_id
from blink.kb.live.changes import Line
from blink.kb.live.state import JournalState


def journal_faults(state: JournalState) -> Iterator[str]:
    """The faults of a journal that can be read, and of the history before it."""
    header, path = state.journal.header, state.journal.path
    numbers = [entry.number for entry in state.all_entries]
    if numbers != list(range(1, state.number + 1)):
        yield f"{path} and the history before it do not hold the edits 1 to {state.number}"
    lines: dict[int, Line | None] = {}
    rows = header.rows
    for record in map(state.record, state.entries):
        number, edits = record.transaction.number, record.transaction.edits
        for edit in edits:
            if edit.before != (lines[edit.row] if edit.row in lines else state.base_line(edit.row)):
                yield f"{path}: edit {number} changes what row {edit.row} was not"
            if edit.row > rows:
                yield f"{path}: edit {number} leaves out rows before row {edit.row}"
            rows = max(rows, edit.row + 1)
            lines[edit.row] = edit.after
        vectors, n_entities = record.vectors, sum(edit.after is not None for edit in edits)
        if vectors is None or vectors.shape != (n_entities, header.dim) or not np.isfinite(vectors).all():
            yield f"{path}: the vectors of edit {number} are missing, or are no numbers"
    yield from _shared_ids(state)


def _shared_ids(state: JournalState) -> Iterator[str]:
    """Ids that an edit gave to an entity although another has them."""
    for row, line in state.changed:
        kb_id = None if line is None else own_id(line.get("kb_idx"))
        base = state.base_line(row)
        if kb_id is None or (base is not None and own_id(base.get("kb_idx")) == kb_id):
            continue
        owner = state.row_of(normal_id(kb_id))
        if owner != row:
            yield f"{state.journal.path}: row {row} was given the id {kb_id!r}, which is that of row {owner}"
