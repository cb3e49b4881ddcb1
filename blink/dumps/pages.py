"""Pages of Wikipedia's XML dump, each parsed on its own by expat.

What is parsed begins with ``<page>``, so that a dump cannot have a document type, nor entities of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from xml.parsers import expat

from blink.dumps.mapping import BROKEN, RECORDS

PAGE_END = b"</page>"
OTHER_NAMESPACES = "pages of other namespaces"
_BEGIN = b"<page>"
_NAMESPACE = re.compile(rb"<ns>(-?\d+)</ns>")
_FIELDS = frozenset(("title", "id", "text"))
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Page:
    """A page of articles' namespace.

    Attributes:
        number: its id.
        title: its title.
        text: wikitext; empty for a redirect.
        redirect: the title it leads to, perhaps with a section; None for an article.
    """

    number: int
    title: str
    text: str
    redirect: str | None


def articles(text: bytes, counts: Counter[str], problems: list[tuple[int, str]]) -> Iterator[Page]:
    """The pages of articles' namespace in a text of whole pages, redirects among them.

    Args:
        text: of a dump, up to the end of a page.
        counts: of records, broken ones and those of other namespaces; it grows.
        problems: see `blink.dumps.mapping.Mapped`; it grows.
    """
    for record in text.split(PAGE_END)[:-1]:
        counts[RECORDS] += 1
        content = page_content(record + PAGE_END)
        if content is not None and namespace(content):
            counts[OTHER_NAMESPACES] += 1
            continue
        try:
            if content is None:
                raise ValueError("its beginning is missing")
            page = parse_page(content)
        except ValueError as error:
            counts[BROKEN] += 1
            excerpt = b" ".join(record[:60].split()).decode("utf-8", "replace")
            problems.append((counts[RECORDS] - 1, f"{error}, in {excerpt!r}"))
            continue
        yield page


def page_content(record: bytes) -> bytes | None:
    """The element of a page in what ends with ``</page>``; None if it begins nowhere."""
    begin = record.find(_BEGIN)
    return record[begin:] if begin != -1 else None


def namespace(content: bytes) -> int:
    """The number of a page's namespace; 0, that of articles, if it says none."""
    match = _NAMESPACE.search(content, 0, _HEAD_BYTES)
    return int(match[1]) if match else 0


def parse_page(content: bytes) -> Page:
    """Parse the element of a page.

    Raises:
        ValueError: it is not XML, or lacks a title or an id.
    """
    values: dict[str, list[str]] = {}
    redirects: list[str] = []
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.buffer_size = 1 << 16

    def start(name: str, attributes: dict[str, str]) -> None:
        if name in _FIELDS and name not in values:  # the first id is that of the page
            values[name] = []
            parser.CharacterDataHandler = values[name].append
        elif name == "redirect":
            redirects.append(attributes.get("title", ""))

    def end(name: str) -> None:
        if name in _FIELDS:
            parser.CharacterDataHandler = None

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML ({error})") from error
    finally:  # the handlers refer to the parser, and would keep page and parser until the next collection of circles
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
    title, number = "".join(values.get("title", ())), "".join(values.get("id", ()))
    if not title.strip() or not number.isdecimal():
        raise ValueError("it has no title or no id")
    redirect = redirects[0] if redirects else None
    return Page(int(number), title, "" if redirect is not None else "".join(values.get("text", ())), redirect)
