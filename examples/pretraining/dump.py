"""Reads a MediaWiki XML dump (``pages-articles``), plain or compressed with gzip or bzip2, one page at a time."""

from __future__ import annotations

import bz2
import gzip
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from blink.errors import DataError
from blink.files import require_file

_REMEDY = "give a dump such as enwiki-20181220-pages-articles.xml.bz2"
_CATEGORY, _FILE = 14, 6
_BROKEN = (ElementTree.ParseError, EOFError, OSError, ValueError)
_LINK = re.compile(r"\[\[([^\]|]+)")
_INTERLANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")


@dataclass(frozen=True)
class RawPage:
    """A page of the dump's main namespace.

    Attributes:
        page_id: id of the page in its wiki.
        title: its title, with spaces.
        text: wikitext of its last revision.
        redirect: target title of a redirect, None for an article.
    """

    page_id: int
    title: str
    text: str
    redirect: str | None = None


@dataclass(frozen=True)
class Site:
    """Title conventions of a wiki.

    Attributes:
        first_letter: whether titles begin with a capital, whatever the case in a link.
        namespaces: prefix in lower case to the number of its namespace.
    """

    first_letter: bool = True
    namespaces: dict[str, int] = field(default_factory=lambda: {"category": _CATEGORY, "file": _FILE, "image": _FILE})

    def namespace(self, title: str) -> int:
        """Namespace number of a title or a link; 0 for articles."""
        prefix, colon, _ = title.partition(":")
        return self.namespaces.get(" ".join(prefix.replace("_", " ").split()).lower(), 0) if colon else 0

    def is_media_or_category(self, target: str) -> bool:
        """Whether a link is an image or a category rather than a hyperlink."""
        return self.namespace(target) in (_CATEGORY, _FILE)

    def is_interlanguage(self, target: str) -> bool:
        """Whether a link leads to the same page in another language: ``fr:Paris``."""
        return bool(_INTERLANGUAGE.match(target)) and self.namespace(target) == 0

    def title(self, target: str) -> str:
        """The title of a link's target: without ``#section``, with spaces, and capitalised if the wiki does so."""
        title = " ".join(target.partition("#")[0].replace("_", " ").split()).removeprefix(":").strip()
        return title[:1].upper() + title[1:] if self.first_letter else title


class Dump:
    """A dump, read from the start by each iteration, with one page in memory.

    Args:
        path: the file; the compression follows from its first bytes.

    Attributes:
        site: title conventions, read before the first page.

    Raises:
        MissingFileError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = require_file(path, _REMEDY)
        self.site = Site()
        self.bytes = self.path.stat().st_size

    def pages(self, progress: Callable[[int], None] = lambda done: None) -> Iterator[RawPage]:
        """Articles and redirects, in the dump's order; ``progress`` gets the bytes read of the file.

        Raises:
            DataError: the file is no dump, or is truncated.
        """
        has_root = False
        with self.path.open("rb") as raw, _unpacked(raw) as stream:
            try:
                for page in self._parse(stream):
                    progress(raw.tell())
                    has_root = True
                    yield page
            except _BROKEN as error:
                if isinstance(error, DataError):
                    raise
                where = "is truncated or damaged" if has_root else "is no MediaWiki XML dump"
                raise DataError(f"{self.path} {where} ({error}); {_REMEDY}, whole") from error
        if not has_root:
            raise DataError(f"{self.path} holds no pages; {_REMEDY}")

    def _parse(self, stream: IO[bytes]) -> Iterator[RawPage]:
        events = ElementTree.iterparse(stream, events=("start", "end"))
        _, root = next(events)
        if _name(root) != "mediawiki":
            raise ValueError(f"its outermost element is <{_name(root)}>, not <mediawiki>")
        for event, element in events:
            if event == "start":
                continue
            if _name(element) == "siteinfo":
                self.site = _site(element)
            elif _name(element) == "page":
                if (page := self._page(element)) is not None:
                    yield page
                root.clear()  # frees the memory of parsed pages

    def _page(self, element: ElementTree.Element) -> RawPage | None:
        title = _text(element, "title")
        number = _text(element, "ns")
        if (int(number) if number else self.site.namespace(title)) != 0 or not title:
            return None
        revisions = [child for child in element if _name(child) == "revision"]
        text = _text(revisions[-1], "text") if revisions else ""
        redirect = _child(element, "redirect")
        target = None if redirect is None else redirect.get("title") or _redirect_in(text)  # old dumps have no attribute
        return RawPage(int(_text(element, "id") or 0), title, text, self.site.title(target) if target else None)


def _unpacked(raw: IO[bytes]) -> Any:
    start = raw.read(3)
    raw.seek(0)
    if start == b"BZh":
        return bz2.open(raw, "rb")
    return gzip.open(raw, "rb") if start == b"\x1f\x8b\x08" else raw


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]  # the namespace contains the version of the export format


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next((child for child in element if _name(child) == name), None)


def _text(element: ElementTree.Element, name: str) -> str:
    child = _child(element, name)
    return "" if child is None else (child.text or "")


def _redirect_in(text: str) -> str | None:
    match = _LINK.search(text)
    return match.group(1) if match else None


def _site(element: ElementTree.Element) -> Site:
    namespaces = dict(Site().namespaces)  # the English names are valid in every wiki
    for child in element.iter():
        if _name(child) == "namespace" and child.text:
            namespaces[child.text.lower()] = int(child.get("key", "0"))
    return Site(first_letter=_text(element, "case") != "case-sensitive", namespaces=namespaces)
