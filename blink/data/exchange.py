"""What files of other tools have in common: how they name entities, and what cannot be carried over from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from blink.data.ids import id_or_row
from blink.data.records import Mention

NOTHING = "NIL"
"""Entity of a mention that names nothing in the knowledge base, as is usual in the field."""


@dataclass
class Skipped:
    """What could not be carried over, by reason, with the first of each."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count one more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, where)

    def __str__(self) -> str:
        return "; ".join(f"{n} {reason} (the first: {self.first[reason]})" for reason, n in self.counts.items())


def entity_name(mention: Mention) -> str:
    """The id by which tools name the entity of a mention: that of the knowledge base, else its row."""
    return NOTHING if mention.kb_id is None and mention.row < 0 else id_or_row(mention.kb_id, mention.row)


def mention_named(start: int, end: int, name: str) -> Mention:
    """The mention of an entity that is named as by `entity_name`."""
    if name == NOTHING:
        return Mention(start, end)
    row = name.removeprefix("row:")
    return Mention(start, end, int(row)) if row != name and row.isdigit() else Mention(start, end, kb_id=name)
