"""URIs of entities, as other systems know them."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from blink.data.ids import wikidata_id, wikipedia_page
from blink.data.records import Entity
from blink.errors import SettingsError

OWN = "urn:blink:"
"""Before the ids of entities that no other system knows."""
NIL = "http://aksw.org/notInWiki/"
"""Before the name of what no entity of the knowledge base is, as GERBIL's data sets write it."""
_WIKIDATA, _DBPEDIA, _WIKIPEDIA = (
    "http://www.wikidata.org/entity/",
    "http://dbpedia.org/resource/",
    "https://en.wikipedia.org/wiki/",
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?=\S)", re.IGNORECASE | re.ASCII)
_PREFIX = re.compile(
    r"(?:https?://[^\s<>\"{}|\\^`/]+[^\s<>\"{}|\\^`]*|urn:[a-z0-9][a-z0-9-]+:[^\s<>\"{}|\\^`]*)", re.IGNORECASE | re.ASCII
)
_ILLEGAL = re.compile(
    "%(?![0-9A-Fa-f]{2})|[^!#$%&'()*+,./0-9:;=?@A-Z_a-z~\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U0001fffd\U00020000-\U0002fffd-]"
)
"""What no IRI has (RFC 3987): blanks, brackets, and a percent sign before anything but two digits."""


def _of_wikidata(entity: Entity) -> str | None:
    ids = (entity.kb_id or "", *(value for _, value in entity.ids), entity.url or "")
    plain = next((found for value in ids if (found := wikidata_id(value)) is not None), None)
    return None if plain is None else _WIKIDATA + plain


def _of_wikipedia(entity: Entity) -> str | None:
    addresses = (entity.url or "", entity.kb_id or "", *(value for _, value in entity.ids))
    page = next((page for value in addresses if (page := wikipedia_page(value)) is not None), None)
    return None if page is None else _escaped(page)


def _of_dbpedia(entity: Entity) -> str | None:
    page = _of_wikipedia(entity)
    is_english = page is not None and page.startswith(_WIKIPEDIA)
    return _escaped(_DBPEDIA + page.removeprefix(_WIKIPEDIA)) if page is not None and is_english else None


def _of_url(entity: Entity) -> str | None:
    return _escaped(entity.url) if entity.url and _SCHEME.match(entity.url) else _of_wikidata(entity)


STYLES: dict[str, Callable[[Entity], str | None]] = {
    "url": _of_url,
    "wikidata": _of_wikidata,
    "wikipedia": _of_wikipedia,
    "dbpedia": _of_dbpedia,
}
"""Ways to write the URI of an entity; each gives None where it has none."""


def uri_writer(style: str = "url") -> Callable[[Entity], str]:
    """What writes the URIs of entities.

    Args:
        style: ``url``: the address that the catalogue has, else that of Wikidata. ``wikidata``, ``wikipedia``, ``dbpedia``:
            those of these systems, by id, or by the title of the English page. Or a prefix such as
            ``https://example.org/entity/``: before the entity's own id. Entities without such a URI have ``urn:blink:`` and
            their id, or row.

    Raises:
        SettingsError: it is none of them.
    """
    of_style = STYLES.get(style)
    if of_style is None and not _PREFIX.fullmatch(style):
        allowed = ", ".join(STYLES)
        raise SettingsError(
            f"URIs are requested as {style[:80]!r}; allowed are {allowed}, or a prefix that begins with http://"
        )
    if of_style is None:
        return lambda entity: style + _own(entity)
    return lambda entity: of_style(entity) or OWN + _own(entity)


def nil_uri(name: str) -> str:
    """The URI of what has a name and is no entity of the knowledge base."""
    return NIL + quote("_".join(name.split()) or "_", safe="")


def _own(entity: Entity) -> str:
    return quote(entity.kb_id, safe="") if entity.kb_id else f"row:{entity.row}"


def _escaped(uri: str) -> str:
    """A URI without characters that none may have; letters of all scripts, and what is escaped already, stay so."""
    return _ILLEGAL.sub(lambda match: quote(match[0], safe="", errors="replace"), uri)
