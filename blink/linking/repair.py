"""What a reader of links does about a wrong one: adds the entity that is missing, or says which it should have been."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blink.data.display import one_line
from blink.data.records import Entity, Link
from blink.errors import DataError, SettingsError
from blink.kb.alias_table import ALIAS, normalise
from blink.kb.catalogue_line import line_of
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.shown import entity_text

_LISTED = 5


@dataclass(frozen=True)
class Fix:
    """A link that was put right.

    Attributes:
        text: that the link is in.
        link: as it was.
        entity: that it should have named.
        alias: name that the entity was given for it; None if it had the name already.
        edit: number of the transaction that gave it; None if it had the name already.
    """

    text: str
    link: Link
    entity: Entity
    alias: str | None
    edit: int | None = None


def new_entity(described: str) -> Entity:
    """The entity that ``TITLE | DESCRIPTION`` describes.

    Raises:
        SettingsError: there is no title.
    """
    title, _, text = (part.strip() for part in described.partition("|"))
    if not title:
        raise SettingsError("the title is missing; give a title, a bar and a description, such as: Zorblax | A moon of Kepler")
    return Entity(0, title, text)


def fix_link(kb: KnowledgeBase, text: str, link: Link, name: str) -> Fix:
    """Let a link name another entity from now on: the mention becomes an alias of the entity, if it has no such name.

    Args:
        kb: the knowledge base of the link.
        text: that the link is in.
        link: the link.
        name: name or id of the entity that it should name.

    Raises:
        DataError: there is no such entity, or there are several; or the knowledge base cannot be edited.
    """
    kb.refresh()
    entity = entity_called(kb, name, [candidate.row for candidate in link.candidates])
    if any(normalise(link.mention) == normalise(known) for known in (entity.title, *entity.aliases)):
        return Fix(text, link, entity, None)
    entity = kb.update(entity.row, note=f"a mention of it: {one_line(text, 60)}", aliases=[*entity.aliases, link.mention])
    return Fix(text, link, entity, link.mention, kb.changes.number)


def entity_called(kb: KnowledgeBase, name: str, preferred: list[int]) -> Entity:
    """The entity with an id, or the only one with a name; of several the one among preferred rows.

    Raises:
        DataError: there is none, or there are several.
    """
    name = name.strip()
    row = kb.catalogue.row_of(name) if name else None
    if row is not None:
        return kb.catalogue[row]
    rows = list(_named(kb, name))
    chosen = [row for row in rows if row in preferred] or rows
    if len(chosen) == 1:
        return kb.catalogue[chosen[0]]
    if not chosen:
        raise DataError(f"no entity is called {name!r}; give another name or an id, or add it: :add {name} | DESCRIPTION")
    described = [entity_text(row, line_of(kb.catalogue[row])) for row in chosen[:_LISTED]]
    more = f" and {len(chosen) - _LISTED} more" if len(chosen) > _LISTED else ""
    raise DataError(f"{len(chosen)} entities are called {name!r}: {'; '.join(described)}{more}; give an id, or row:NUMBER")


def _named(kb: KnowledgeBase, name: str) -> Iterator[int]:
    """Rows with a name; those with it as their title alone, if there are any."""
    matches = [] if kb.names is None else [match for match in kb.names.candidates(name) if match.kind >= ALIAS]
    titled = [match.row for match in matches if kb.catalogue.title(match.row).casefold() == name.casefold()]
    yield from titled or [match.row for match in matches]
