"""Adds many entities to a knowledge base; those that are there already are passed over, so that a stopped import continues."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from blink.data.ids import own_id
from blink.errors import DataError
from blink.files import parse_json_line
from blink.kb.live.changes import Edit, Line
from blink.kb.live.editing import Draft, commit
from blink.kb.live.lines import checked, line_from
from blink.kb.live.state import JournalState
from blink.kb.sources.reading import entity_lines

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase

BLOCK = 256
"""Entities that are encoded, and written to the disk, together."""


@dataclass
class Imported:
    """Counts of an import.

    Attributes:
        added: entities that were added.
        present: entities that were there already, with the same content.
    """

    added: int = 0
    present: int = 0

    def __str__(self) -> str:
        return f"added {self.added:,} entities; {self.present:,} were there already"


def entities_of(file: str, standard_input: IO[bytes]) -> Iterable[Mapping[str, Any]]:
    """The entities of a file of any kind that a build reads; ``-`` is JSON lines from standard input."""
    if file != "-":
        return entity_lines(file)
    lines = enumerate(standard_input, 1)
    return (parse_json_line(line, Path("standard input"), number) for number, line in lines if line.strip())


def import_entities(
    kb: KnowledgeBase,
    entities: Iterable[Mapping[str, Any]],
    *,
    atomic: bool = False,
    note: str = "",
    counts: Imported | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Imported:
    """Add entities.

    An entity is there already if its id is, with the same content; without an id, if one with the same content was added
    since the last compaction.

    Args:
        kb: opened from a folder, with an encoder.
        entities: see `line_from`.
        atomic: all in one transaction, so that all are added or none; else each in one of its own.
        note: of the transactions.
        counts: is kept up to date, for a caller that is stopped.
        advance: called with the number of entities that are there now.

    Raises:
        DataError: an entity is wrong, or its id is that of another; those before it are added, unless ``atomic``.
        SettingsError: see `commit`.
    """
    importer = _Importer(kb, note, Imported() if counts is None else counts, advance)
    numbered = enumerate(entities, 1)
    if atomic:
        importer.write([importer.line(number, entity) for number, entity in numbered], together=True)
    else:
        for block in _blocks(importer, numbered):
            importer.write(block)
    return importer.counts


def _blocks(importer: _Importer, numbered: Iterator[tuple[int, Mapping[str, Any]]]) -> Iterator[list[tuple[int, Line]]]:
    """Blocks of lines; what precedes a wrong one is a block before its error is raised."""
    while True:
        block, fault = list[tuple[int, Line]](), None
        try:
            block.extend(importer.line(number, entity) for number, entity in islice(numbered, BLOCK))
        except DataError as error:
            fault = error
        if block:
            yield block
        if fault is not None:
            raise fault
        if not block:
            return


class _Importer:
    def __init__(self, kb: KnowledgeBase, note: str, counts: Imported, advance: Callable[[int], None]) -> None:
        self._kb, self._note, self.counts, self._advance = kb, note, counts, advance
        kb.refresh()
        lines = (line for _, line in kb.state.changed if line is not None)
        self._without_id = {_content(line) for line in lines if own_id(line.get("kb_idx")) is None}

    @staticmethod
    def line(number: int, entity: Mapping[str, Any]) -> tuple[int, Line]:
        """The number of an entity and its line."""
        try:
            return number, line_from(entity)
        except DataError as error:
            raise DataError(f"entity {number}: {error}") from error

    def write(self, lines: list[tuple[int, Line]], *, together: bool = False) -> None:
        """Add the entities that are not there. ``together``: in one transaction."""
        try:
            added = self._commit([line for _, line in lines], together)
        except DataError as error:
            if together:
                raise DataError(f"nothing was added: {error}") from error
            if len(lines) == 1:
                raise DataError(f"entity {lines[0][0]}: {error}") from error
            for one in lines:  # up to the one that is wrong
                self.write([one])
            return
        self._without_id |= {_content(line) for _, line in lines if own_id(line.get("kb_idx")) is None}
        self.counts.added += added
        self.counts.present += len(lines) - added
        self._advance(len(lines))

    def _commit(self, lines: list[Line], together: bool) -> int:
        def drafts(state: JournalState) -> list[Draft]:
            missing = [line for line in lines if not self._is_present(line, state)]
            edits = [Edit(state.rows + i, None, line) for i, line in enumerate(missing)]
            if together:
                return [Draft("add", tuple(edits), self._note)] if edits else []
            return [Draft("add", (edit,), self._note) for edit in edits]

        return sum(len(transaction.edits) for transaction in commit(self._kb, drafts))

    def _is_present(self, line: Line, state: JournalState) -> bool:
        kb_id = own_id(line.get("kb_idx"))
        if kb_id is None:
            return _content(line) in self._without_id
        row = state.row_of(kb_id)
        present = None if row is None else state.line(row)
        return present is not None and checked(present, present) == line


def _content(line: Line) -> str:
    return json.dumps(line, sort_keys=True)
