"""Edits of a knowledge base as people and programs read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from blink.data.display import one_line
from blink.data.records import Entity
from blink.kb.catalogue_line import line_of
from blink.kb.live.changes import Edit, Line, Transaction
from blink.kb.live.state import JournalState
from blink.kb.live.undoing import SNAPSHOT, undone_by

_LONGEST = 60
_SHOWN_EDITS = 5
_KINDS = {(False, True): "+", (True, True): "~", (True, False): "-"}
"""Sign of an edit by whether there is an entity before and after it."""


def entity_json(entity: Entity) -> dict[str, Any]:
    """The JSON object of an entity with its row."""
    return {"row": entity.row, **line_of(entity)}


def entity_shown(done: str, entity: Entity, as_json: bool) -> str:
    """An entity with what was done to it, or as a JSON object."""
    value = entity_json(entity)
    return json.dumps(value, ensure_ascii=False) if as_json else f"{done} {entity_text(entity.row, value)}"


def entity_text(row: int, line: Line) -> str:
    """An entity on one line: its row, title and id."""
    kb_id = line.get("kb_idx")
    return f"row {row}: {one_line(line['title'], _LONGEST)}" + (f" ({one_line(str(kb_id), _LONGEST)})" if kb_id else "")


def edit_text(edit: Edit) -> str:
    """An edit on one line, with what it changes."""
    line = edit.after or edit.before or {"title": ""}
    changed = ""
    if edit.before is not None and edit.after is not None:
        keys = [key for key in {**edit.before, **edit.after} if edit.before.get(key) != edit.after.get(key)]
        changed = f": {', '.join(keys)}"
    return f"{_KINDS[edit.before is not None, edit.after is not None]} {entity_text(edit.row, line)}{changed}"


def transaction_text(transaction: Transaction, undone: int | None = None) -> Iterator[str]:
    """The lines of a transaction. ``undone``: the number of the one that undid it."""
    numbers = f" of {', '.join(map(str, transaction.undoes))}" if transaction.undoes else ""
    note = f"  {one_line(transaction.note, _LONGEST)}" if transaction.note else ""
    state = "" if undone is None else f"  (undone by {undone})"
    yield f"{transaction.number}  {transaction.time}  {transaction.kind}{numbers}{note}{state}"
    for edit in transaction.edits[:_SHOWN_EDITS]:
        yield f"    {edit_text(edit)}"
    if len(transaction.edits) > _SHOWN_EDITS:
        yield f"    and {len(transaction.edits) - _SHOWN_EDITS:,} more"


def transaction_json(transaction: Transaction, undone: int | None = None) -> dict[str, Any]:
    """The JSON object of a transaction. ``undone``: the number of the one that undid it."""
    value: dict[str, Any] = {"number": transaction.number, "time": transaction.time, "kind": transaction.kind}
    value |= {"note": transaction.note} if transaction.note else {}
    value |= {"undoes": list(transaction.undoes)} if transaction.undoes else {}
    value |= {"undone_by": undone} if undone is not None else {}
    edits = [{"row": edit.row, "before": edit.before, "after": edit.after} for edit in transaction.edits]
    return value if transaction.kind == SNAPSHOT else value | {"edits": edits}


def transaction_shown(transaction: Transaction, as_json: bool, undone: int | None = None) -> str:
    """A transaction as text of some lines, or as a JSON object. ``undone``: the number of the one that undid it."""
    if as_json:
        return json.dumps(transaction_json(transaction, undone), ensure_ascii=False)
    return "\n".join(transaction_text(transaction, undone))


def history(state: JournalState, last: int | None = None) -> Iterator[tuple[Transaction, int | None]]:
    """Transactions from the first, or the last few, with the number of the one that undid each."""
    entries = state.all_entries
    undone = undone_by(entries)
    for entry in entries if last is None else entries[max(0, len(entries) - last) :]:
        yield state.record(entry).transaction, undone.get(entry.number)


def listed(state: JournalState, *, changed: bool = False, as_json: bool = False) -> Iterator[str]:
    """Entities by row, each on a line. ``changed``: only the rows that the journal changes, with what they are in the files."""
    rows = sorted(row for row, _ in state.changed) if changed else range(state.rows)
    for row in rows:
        after = state.line(row)
        edit = Edit(row, state.base_line(row) if changed else after, after)
        if changed and edit.before != after:
            value = {"row": row, "before": edit.before, "after": after}
            yield json.dumps(value, ensure_ascii=False) if as_json else edit_text(edit)
        elif not changed and after is not None:
            yield json.dumps({"row": row, **after}, ensure_ascii=False) if as_json else entity_text(row, after)
