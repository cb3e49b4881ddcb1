"""Ids of Wikidata, Wikipedia and Freebase in the forms that files have them in, and their normal forms."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

from blink.data.records import Entity

_WIKIDATA_ID = re.compile(
    r"<?(?:(?:(?:https?:)?//)?(?:www\.|m\.)?wikidata\.org/(?:entity|wiki(?:/Special:EntityData)?)/|/?(?:entity|wiki)/|(?:wd|wikidata):)?"
    r"(?P<id>Q[1-9]\d{0,17})(?:\.(?:json|ttl|rdf|nt))?(?:[?#][^\s>]*)?>?",
    re.ASCII,
)
_FREEBASE_ID = re.compile(
    r"<?(?:(?:(?:https?:)?//)?(?:rdf\.|www\.)?freebase\.com/(?:ns/)?|(?:fb|ns|freebase):)?"
    r"/?(?P<kind>[mg])[./](?P<id>[0-9a-z_]{2,})>?",
    re.ASCII,
)
_WIKIPEDIA = ".wikipedia.org/"
_WIKIPEDIA_PAGE = re.compile(
    r"<?(?:(?:https?:)?//)?(?:www\.)?(?P<language>[a-z][a-z0-9-]*)\.(?:m\.)?wikipedia\.org/"
    r"(?:wiki/(?P<title>[^?#<>]+)(?:[?#][^\s>]*)?|(?:wiki/?|w/index\.php)?\?(?:[^\s#>]*&)?curid=(?P<number>\d+)(?:[&#][^\s>]*)?)>?",
    re.ASCII,
)


def wikidata_id(text: str) -> str | None:
    """``Q42`` for ``Q42``, ``wd:Q42``, ``/wiki/Q42``, ``http://www.wikidata.org/entity/Q42`` and the like; else None."""
    match = _WIKIDATA_ID.fullmatch(text.strip())
    return None if match is None else match["id"]


def freebase_id(text: str) -> str | None:
    """``/m/04jpl`` for ``m.04jpl``, ``/m/04jpl``, ``<http://rdf.freebase.com/ns/m.04jpl>`` and the like; else None."""
    match = _FREEBASE_ID.fullmatch(text.strip())
    return None if match is None else f"/{match['kind']}/{match['id']}"


def wikipedia_page(text: str) -> str | None:
    """The address of a page of Wikipedia, the same for all its forms: ``https://en.wikipedia.org/wiki/New_York``, or with the
    number of the page ``https://en.wikipedia.org/?curid=645042``; None if ``text`` is no such address.
    """
    match = _WIKIPEDIA_PAGE.fullmatch(text.strip()) if _WIKIPEDIA in text else None
    if match is None:
        return None
    language, title, number = match.groups()
    if number is not None:
        return f"https://{language}.wikipedia.org/?curid={number}"
    title = unquote(title).replace(" ", "_").strip("_")
    return f"https://{language}.wikipedia.org/wiki/{title[:1].upper()}{title[1:]}" if title else None


SYSTEMS = {"wikidata": wikidata_id, "wikipedia": wikipedia_page, "freebase": freebase_id}
"""Systems whose ids have several forms: their names, and what gives the normal form of an id, or None if it is none."""
_BARE = re.compile(r"/?[mg][./]\w+", re.ASCII)


def normal_id(text: str) -> str:
    """The form in which an id is looked up: of Wikidata, Freebase and Wikipedia the normal form, of others the id as it is."""
    if text.isalnum():  # as most ids are; those of other systems than Wikidata are not
        return text
    if _WIKIPEDIA in text:  # saves two searches of a long string
        return wikipedia_page(text) or text
    return wikidata_id(text) or freebase_id(text) or text


def id_or_row(kb_id: str | None, row: int) -> str:
    """What names an entity in its knowledge base: its id, or ``row:7`` where it has none."""
    return kb_id or f"row:{row}"


def own_id(value: Any) -> str | None:
    """The id that a catalogue has under ``kb_idx``: a whole number as its digits, an address in its normal form; None for none.

    ``m.04jpl`` stays as it is, since it need not be of Freebase.
    """
    text: str = str(value) if isinstance(value, int) else value or ""
    return (text if text.isalnum() or _BARE.fullmatch(text) else normal_id(text)) or None


def id_in_system(system: str, value: Any) -> str | None:
    """The id that a catalogue has under ``ids``, in the normal form of its system; None for an empty one."""
    text = str(value).strip()
    normal_form = SYSTEMS.get(system.casefold())
    return ((normal_form(text) if normal_form else None) or text) or None


def system_of(text: str) -> str | None:
    """The system of an id: one of `SYSTEMS`, or None if its form is that of none."""
    return next((system for system, normal_form in SYSTEMS.items() if normal_form(text) is not None), None)


_SYSTEM = re.compile(r"^[^\s:]+:")
ROW = "row"
"""Before a row number where an id is expected: ``row:7``."""
OTHER, PRIMARY = 0, 1
"""How an entity claims an id: among its ``ids``, or more strongly, as its ``kb_idx``."""


def claims(kb_id: str | None, others: Collection[str]) -> list[tuple[str, int]]:
    """The ids by which an entity is found, in normal form, each once with its strongest claim, `PRIMARY` or `OTHER`.

    Of several entities that claim an id the one with the strongest claim is found, and of equal claims the last row.

    Args:
        kb_id: its own id.
        others: ids in other systems.
    """
    claimed = {normal_id(value): OTHER for value in others} if others else {}
    if kb_id:
        claimed[normal_id(kb_id)] = PRIMARY
    return list(claimed.items())


def claims_of(entity: Entity) -> list[tuple[str, int]]:
    """`claims` of an entity."""
    return claims(entity.kb_id, [value for _, value in entity.ids])


def look_up_form(text: str) -> str:
    """The form in which ids are compared where an id may have its system before it: normal, with the system in lower case."""
    normal = normal_id(text.strip())
    return normal if "://" in normal else _SYSTEM.sub(lambda match: match[0].casefold(), normal)


def look_up_forms(entity: Entity) -> dict[str, int]:
    """Claims of an entity on all ids by which it is found, in the form of `look_up_form`.

    They are those of `claims_of`, and those of other systems with their system, such as ``geonames:2988507``.
    """
    qualified = {look_up_form(f"{system}:{value}"): OTHER for system, value in entity.ids}
    return qualified | {look_up_form(normal): claim for normal, claim in claims_of(entity)}
