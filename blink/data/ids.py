"""Ids of Wikidata in the forms that files have them in."""

from __future__ import annotations

import re

_WIKIDATA_ID = re.compile(
    r"<?(?:(?:(?:https?:)?//)?(?:www\.|m\.)?wikidata\.org/(?:entity|wiki(?:/Special:EntityData)?)/|/?(?:entity|wiki)/|(?:wd|wikidata):)?"
    r"(?P<id>Q[1-9]\d{0,17})(?:\.(?:json|ttl|rdf|nt))?(?:[?#][^\s>]*)?>?",
    re.ASCII,
)


def wikidata_id(text: str) -> str | None:
    """``Q42`` for ``Q42``, ``wd:Q42``, ``/wiki/Q42``, ``http://www.wikidata.org/entity/Q42`` and the like; else None."""
    match = _WIKIDATA_ID.fullmatch(text.strip())
    return None if match is None else match["id"]
