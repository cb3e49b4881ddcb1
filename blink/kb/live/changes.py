"""Edits of a knowledge base as values: one row, a transaction of several, and what all of them change of the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from blink.data.records import Entity

Line = Mapping[str, Any]
"""The JSON object of an entity, as on a line of ``entity.jsonl``."""


@dataclass(frozen=True)
class Edit:
    """A change of one row.

    Attributes:
        row: of the entity. Added entities take the next free row; a row is never given to another entity.
        before: the entity's line before; None if the row was empty.
        after: the line after; None if the entity is removed.
    """

    row: int
    before: Line | None
    after: Line | None

    def inverse(self) -> Edit:
        """The edit that undoes it."""
        return Edit(self.row, self.after, self.before)


@dataclass(frozen=True)
class Transaction:
    """Edits that are made together or not at all.

    Attributes:
        number: from 1, ascending, over all compactions.
        time: ISO 8601, UTC.
        kind: ``add``, ``update``, ``remove``, ``merge``, ``undo``, ``rollback``, or ``snapshot``, which has no edits.
        edits: one a row.
        note: why, in the user's words; the name of a snapshot.
        undoes: numbers of the transactions that an ``undo`` reverts.
    """

    number: int
    time: str
    kind: str
    edits: tuple[Edit, ...]
    note: str = ""
    undoes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Changes:
    """What the journal changes of the files of a knowledge base. Immutable: each state of the journal is another object.

    Attributes:
        base_rows: rows of the files.
        rows: rows with those added since.
        number: of the last transaction that is included; 0 for none.
        entities: the changed rows: their entity, or None where it was removed.
        vector_rows: rows of the changed entities that were not removed, ascending. *Shape:* (changed,), int64.
        vectors: of these rows. *Shape:* (changed, d), float32.
    """

    base_rows: int
    rows: int
    number: int
    entities: Mapping[int, Entity | None]
    vector_rows: npt.NDArray[np.int64] = field(repr=False)
    vectors: npt.NDArray[np.float32] = field(repr=False)

    @classmethod
    def none(cls, base_rows: int, dim: int) -> Changes:
        """No changes."""
        return cls(base_rows, base_rows, 0, {}, np.empty(0, np.int64), np.empty((0, dim), np.float32))
