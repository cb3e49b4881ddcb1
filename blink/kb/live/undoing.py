"""Takes edits of a knowledge base back: one, all since a snapshot; and which of them still count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from blink.errors import DataError
from blink.kb.live.changes import Edit
from blink.kb.live.editing import Draft, one_a_row
from blink.kb.live.state import Entry, JournalState

SNAPSHOT, UNDO, ROLLBACK = "snapshot", "undo", "rollback"
_LONGEST_NAME = 100
_NAMED = 5


def undo(number: int | None = None, *, with_later: bool = False, note: str = "") -> Callable[[JournalState], list[Draft]]:
    """A draft that undoes a transaction; that of an ``undo`` makes its edits again.

    Args:
        number: of the transaction; None for the last that was not undone.
        with_later: undo later transactions that changed the same entities with it, rather than refuse.
        note: why.
    """

    def draft(state: JournalState) -> list[Draft]:
        entries = state.all_entries
        active = _active(entries)
        entry = _last(active) if number is None else _numbered(entries, active, number)
        undone = {entry.number: entry}
        while later := _in_the_way(undone, _active(entries, undone)):
            undone |= later
        if len(undone) > 1 and not with_later:
            numbers = sorted(undone.keys() - {entry.number})
            raise DataError(
                f"edit {entry.number} cannot be undone alone: its entities were changed again by {_listed(numbers)}; "
                "undo these first, or all of them together: --with-later"
            )
        descending = [undone[n] for n in sorted(undone, reverse=True)]
        return [Draft(UNDO, tuple(_inverse(state, descending)), note, tuple(sorted(undone)))]

    return draft


def rollback(to: str | int, note: str = "") -> Callable[[JournalState], list[Draft]]:
    """A draft that makes all entities as they were after a transaction, by its number or by the name of a snapshot.

    0 is before the first.
    """

    def draft(state: JournalState) -> list[Draft]:
        entries = state.all_entries
        target = _target(entries, to, state.number)
        edits = one_a_row(list(_inverse(state, [entry for entry in reversed(entries) if entry.number > target])))
        if not edits:
            raise DataError(f"all entities are as they were at {to!r} already")
        return [Draft(ROLLBACK, tuple(edits), note or f"to {to}")]

    return draft


def snapshot(name: str) -> Callable[[JournalState], list[Draft]]:
    """A draft that gives the current state a name.

    Raises:
        DataError: the name is taken, or is none that a command could be given.
    """
    if not name.strip() or not name.isprintable() or name.isdigit() or len(name) > _LONGEST_NAME or name.startswith("-"):
        allowed = f"1 to {_LONGEST_NAME} printable characters, not digits alone, no '-' at the beginning"
        raise DataError(f"a snapshot cannot have the name {name!r:.120}; allowed are {allowed}")

    def draft(state: JournalState) -> list[Draft]:
        earlier = _snapshots(state.all_entries).get(name)
        if earlier is not None:
            raise DataError(f"the snapshot {name!r} exists (edit {earlier}); give another name")
        return [Draft(SNAPSHOT, note=name)]

    return draft


def _active(entries: Sequence[Entry], without: Collection[int] = ()) -> list[Entry]:
    """Transactions that count: that no other undoes that counts itself. ``without``: numbers of some that do not."""
    undone, active = set(without), list[Entry]()
    for entry in reversed(entries):
        if entry.number not in undone:
            active.append(entry)
            undone.update(entry.undoes)
    return active[::-1]


def undone_by(entries: Sequence[Entry]) -> dict[int, int]:
    """Numbers of the transactions that were undone, each with that of the one that did it."""
    return {number: entry.number for entry in _active(entries) for number in entry.undoes}


def _last(active: Sequence[Entry]) -> Entry:
    for entry in reversed(active):
        if entry.kind not in (SNAPSHOT, UNDO):
            return entry
    raise DataError("there is no edit to undo")


def _numbered(entries: Sequence[Entry], active: Sequence[Entry], number: int) -> Entry:
    entry = next((entry for entry in entries if entry.number == number), None)
    if entry is None:
        exist = f"edits 1 to {entries[-1].number} exist" if entries else "nothing was edited"
        raise DataError(f"there is no edit {number}: {exist}; see blink kb history")
    if entry.kind == SNAPSHOT:
        raise DataError(f"edit {number} is the snapshot {entry.note!r}, which changed nothing; return to it with rollback")
    if entry not in active:
        undoing = undone_by(entries).get(number, number)
        raise DataError(f"edit {number} was undone by {undoing} already; undo {undoing} to make it again")
    return entry


def _in_the_way(undone: Mapping[int, Entry], active: Sequence[Entry]) -> dict[int, Entry]:
    """Transactions that count and change rows of earlier ones that are to be undone.

    One that undoes only what is later changes nothing for an earlier one.
    """
    return {
        other.number: other
        for other in active
        for entry in undone.values()
        if entry.number < other.number
        and not set(entry.rows).isdisjoint(other.rows)
        and not (other.undoes and min(other.undoes) > entry.number)
    }


def _inverse(state: JournalState, descending: Iterable[Entry]) -> Iterable[Edit]:
    """The edits that take transactions back, the last first."""
    for entry in descending:
        yield from (edit.inverse() for edit in reversed(state.record(entry).transaction.edits))


def _snapshots(entries: Iterable[Entry]) -> dict[str, int]:
    return {entry.note: entry.number for entry in entries if entry.kind == SNAPSHOT}


def _target(entries: Sequence[Entry], to: str | int, last: int) -> int:
    if isinstance(to, str):
        snapshots = _snapshots(entries)
        if to not in snapshots:
            named = f"there are {', '.join(snapshots)}" if snapshots else "there are none"
            raise DataError(f"there is no snapshot {to!r}: {named}; see blink kb history")
        return snapshots[to]
    if not 0 <= to <= last:
        raise DataError(f"there is no edit {to}: 0 to {last} exist; see blink kb history")
    return to


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return ", ".join(map(str, numbers[:_NAMED])) + more
