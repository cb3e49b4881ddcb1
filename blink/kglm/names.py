"""Entities and relations of a graph by what people type: their ids, or their names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from blink.errors import DataError

MANY_NAMES = 50_000
"""Above this number, only names that begin alike are compared for a suggestion."""
SHOWN = 5


class Names:
    """Ids and names of a graph's entities or relations.

    Args:
        kind: ``entity`` or ``relation``, for messages.
        ids: by index.
        labels: names by id; ids without a name have none.
    """

    def __init__(self, kind: str, ids: Sequence[str], labels: Mapping[str, str] | None = None) -> None:
        self._kind, self.ids = kind, ids
        self._labels = {} if labels is None else labels
        self._row_of_id = {name: row for row, name in enumerate(ids)}
        self._rows_of_label: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            if label := self._labels.get(name):
                self._rows_of_label.setdefault(label.casefold(), []).append(row)

    def label(self, row: int) -> str:
        """The name; the id if there is none."""
        return self._labels.get(self.ids[row]) or self.ids[row]

    def shown(self, row: int) -> str:
        """The name with the id, such as ``Batumi (Q25475)``."""
        label = self.label(row)
        return label if label == self.ids[row] else f"{label} ({self.ids[row]})"

    def row(self, text: str) -> int:
        """The index of an id or a name; upper and lower case count for ids alone.

        Raises:
            DataError: there is no such name (the message has similar ones), or several have it.
        """
        text = text.strip()
        if text in self._row_of_id:
            return self._row_of_id[text]
        rows = self._rows_of_label.get(text.casefold(), [])
        if len(rows) == 1:
            return rows[0]
        if rows:
            ids = ", ".join(self.ids[row] for row in rows[:SHOWN]) + (", ..." if len(rows) > SHOWN else "")
            kind = {"entity": "entities"}.get(self._kind, f"{self._kind}s")
            raise DataError(f"{len(rows):,} {kind} are named {text!r}; give one of their ids: {ids}")
        near = self._near(text)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; give its id, or a file of names by --names"
        raise DataError(f"the graph has no {self._kind} {text!r}{hint}")

    def _near(self, text: str) -> list[str]:
        plain = text.casefold()
        keys = [*(name.casefold() for name in self.ids), *self._rows_of_label]
        if len(keys) > MANY_NAMES:
            keys = [key for key in keys if key[:3] == plain[:3]][:MANY_NAMES]
        rows = {name.casefold(): row for row, name in enumerate(self.ids)}
        close = difflib.get_close_matches(plain, keys, 3, 0.6)
        found = [self._rows_of_label[key][0] if key in self._rows_of_label else rows[key] for key in close]
        return [self.shown(row) for row in dict.fromkeys(found)]
