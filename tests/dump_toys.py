"""Small dumps with the schemas of the real ones, and every way in which they are stored."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import zstandard


def in_streams(text: bytes, size: int = 900) -> bytes:
    """Text as a bzip2 file of several streams."""
    return b"".join(bz2.compress(text[i : i + size]) for i in range(0, len(text), size))


STORED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "bz2": bz2.compress,
    "multistream": in_streams,
    "gz": lambda text: gzip.compress(text, mtime=0),
    "zst": zstandard.ZstdCompressor().compress,
}


def snak(property_: str, value: Any, kind: str = "wikibase-entityid") -> dict[str, Any]:
    """A claim's value."""
    if isinstance(value, int):
        value = {"entity-type": "item", "numeric-id": value, "id": f"Q{value}"}
    return {"snaktype": "value", "property": property_, "datavalue": {"value": value, "type": kind}}


def claim(property_: str, value: Any, rank: str = "normal") -> dict[str, Any]:
    """A claim with a qualifier and a reference."""
    return {
        "mainsnak": snak(property_, value), "type": "statement", "qualifiers": {"P580": [snak("P580", 99)]},
        "id": "Q1$A", "rank": rank,
        "references": [{"hash": "00", "snaks": {"P248": [snak("P248", 98)]}, "snaks-order": ["P248"]}],
    }  # fmt: skip


def item(
    number: int, label: str, sitelinks: int = 9, claims: dict[str, list[Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    """An item; claims map properties to values or to claims."""
    of_properties = {
        name: [value if isinstance(value, dict) and "mainsnak" in value else claim(name, value) for value in values]
        for name, values in (claims or {}).items()
    }
    sites = {f"x{n}wiki": {"site": f"x{n}wiki", "title": label, "badges": []} for n in range(sitelinks - 1)}
    if sitelinks:
        sites["enwiki"] = {"site": "enwiki", "title": label, "badges": []}
    value = {
        "type": "item", "id": f"Q{number}", "labels": {"en": {"language": "en", "value": label}}, "descriptions": [],
        "aliases": [], "claims": of_properties or [], "sitelinks": sites or [], "lastrevid": 1,
    }  # fmt: skip
    return value | fields


def texts(**of_languages: str) -> dict[str, Any]:
    """Labels or descriptions."""
    return {code: {"language": code, "value": text} for code, text in of_languages.items()}


def wikidata(values: list[Any]) -> bytes:
    """A JSON dump; bytes are lines as they are."""
    lines = [v if isinstance(v, bytes) else json.dumps(v, ensure_ascii=False, separators=(",", ":")).encode() for v in values]
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>enwiki</dbname>
    <base>https://en.wikipedia.org/wiki/Main_Page</base>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">File</namespace>
      <namespace key="14" case="first-letter">Category</namespace>
    </namespaces>
  </siteinfo>
"""


def page(number: int, title: str, text: str = "", namespace: int = 0, redirect: str | None = None) -> str:
    """A page."""
    arrow = "" if redirect is None else f"    <redirect title={quoteattr(redirect)} />\n"
    text = text if redirect is None else f"#REDIRECT [[{redirect}]]"
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n{arrow}"
        f"    <revision>\n      <id>{number + 1000}</id>\n      <contributor>\n        <username>A</username>\n"
        f"        <id>3</id>\n      </contributor>\n      <comment>c</comment>\n      <model>wikitext</model>\n"
        f'      <text bytes="{len(text)}" xml:space="preserve">{escape(text)}</text>\n    </revision>\n  </page>\n'
    )


def wikipedia(pages: list[str]) -> bytes:
    """An XML dump."""
    return (HEAD + "".join(pages) + "</mediawiki>\n").encode()


def stored(folder: Path, text: bytes, how: str = "plain") -> Path:
    """A dump in a file."""
    path = folder / f"dump-{how}"
    path.write_bytes(STORED[how](text))
    return path
