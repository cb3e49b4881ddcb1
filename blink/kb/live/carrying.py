"""Edits of a knowledge base that outlive its rebuild: found in the old files, and made again in the new ones."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from blink.data.ids import own_id
from blink.errors import BlinkError, DataError, SettingsError
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from blink.kb.live.changes import Edit, Line, Transaction
from blink.kb.live.editing import Draft, Pending, encoded
from blink.kb.live.journal import JOURNAL_FILE, Header, Journal
from blink.kb.live.state import HISTORY_FILE, JournalState
from blink.kb.manifest import CATALOGUE_FILE, Manifest, read_manifest
from blink.kb.vectors import Encoder
from blink.work_folders import is_plain_folder

REFUSE, KEEP, DISCARD = "refuse", "keep", "discard"
"""What a build does where there are edits."""
PREFIX = "compacted-"
_COMPACTED = re.compile(rf"{PREFIX}\d+")
"""Of the names of folders that compaction makes; the number of the last transaction in it follows."""
NOTE = "kept from before the knowledge base was built again"


def former_edits(root: Path) -> list[Edit]:
    """What all edits of a knowledge base change together: an edit of each row that is not what it was built as.

    Raises:
        DataError: a journal is damaged.
    """
    of_row: dict[int, Edit] = {}
    for transaction in _transactions(root):
        for edit in transaction.edits:
            earlier = of_row.get(edit.row)
            of_row[edit.row] = edit if earlier is None else Edit(edit.row, earlier.before, edit.after)
    return [edit for _, edit in sorted(of_row.items()) if edit.before != edit.after]


def refuse_edits(root: Path) -> None:
    """Check that a folder may be built into: that no edit would be lost.

    Raises:
        SettingsError: it is a knowledge base with edits.
        DataError: its journal is damaged.
    """
    edits = former_edits(root)
    if edits:
        lost = f"{root} was edited (entities that differ: {len(edits):,}), and a build would lose that"
        raise SettingsError(f"{lost}; give --keep-edits to make the edits again in the new one, or --discard-edits")


def remove_stale(root: Path, manifest: Manifest) -> None:
    """Remove what builds and compactions left behind that were killed. The caller holds the lock.

    The catalogue beside the manifest stays: it may be the source of somebody.
    """
    if manifest.folder:
        for name in (*manifest.samples, CATALOGUE_FILE + SIDECAR_SUFFIX, JOURNAL_FILE, HISTORY_FILE):
            with contextlib.suppress(OSError):
                (root / name).unlink(missing_ok=True)
    for folder in compacted_folders(root):
        if folder.name != manifest.folder:
            shutil.rmtree(folder, ignore_errors=True)


def compacted_folders(root: Path) -> list[Path]:
    """The folders of a knowledge base that compactions made; links and other folders are none."""
    return [folder for folder in root.glob(f"{PREFIX}*") if _COMPACTED.fullmatch(folder.name) and is_plain_folder(folder)]


def _transactions(root: Path) -> Iterator[Transaction]:
    folder = _folder(root)
    for name in (HISTORY_FILE, JOURNAL_FILE):
        read = Journal(folder / name, Header("", "", 0, 0), any_header=True).read()
        yield from (record.transaction for record in read.records)


def _folder(root: Path) -> Path:
    """The folder of the edits; where a build was killed between the old and the new manifest, that of the last edits."""
    try:
        return root / read_manifest(root).folder
    except BlinkError:  # there is none, or it is of an earlier version
        compacted = sorted(compacted_folders(root), key=lambda folder: folder.stat().st_mtime_ns)
        return root if (root / JOURNAL_FILE).is_file() or not compacted else compacted[-1]


def carry(edits: list[Edit], state: JournalState, encode: Encoder) -> int:
    """Make former edits again over new files, as far as these have the entities.

    An entity is found by its id, or without one by its row and title. Of a changed entity what was changed is, the rest is as
    the new files have it. An added entity that the new files have is as it was added.

    Args:
        edits: of the former files, see `former_edits`.
        state: the new files, without edits.
        encode: encodes texts.

    Returns:
        the number of edits that could not be made: of entities that are not in the new files.
    """
    pending, transactions, lost = Pending(state), list[Transaction](), 0
    for edit in edits:
        made = _edit(edit, pending)
        if made is None:
            lost += edit.before is not None and edit.after is not None
            continue
        try:
            transactions.append(pending.checked(Draft("update" if made.before else "add", (made,), NOTE)))
        except DataError:  # its id has another entity now
            lost += 1
    if transactions:
        state.append(encoded(transactions, state, encode))
    return lost


def _edit(edit: Edit, pending: Pending) -> Edit | None:
    """The edit of the new files; None where there is nothing to do."""
    old = edit.before if edit.before is not None else edit.after
    row = _row(edit, old, pending)
    if row is None:
        return Edit(pending.rows, None, edit.after) if edit.before is None else None
    line = pending.line(row)
    assert line is not None
    after = edit.after
    if edit.before is not None and after is not None:
        before = edit.before
        keys = {key: after.get(key) for key in {**before, **after} if before.get(key) != after.get(key)}
        after = {key: value for key, value in {**line, **keys}.items() if value is not None}
    return None if after == line else Edit(row, line, after)


def _row(edit: Edit, old: Line | None, pending: Pending) -> int | None:
    """The row of the entity in the new files; None if it is not there."""
    assert old is not None
    kb_id = own_id(old.get("kb_idx"))
    if kb_id is not None:
        return pending.row_of(kb_id)
    line = pending.line(edit.row) if edit.before is not None else None
    return edit.row if line is not None and line["title"] == old["title"] and "kb_idx" not in line else None
