"""Wikitext to plain paragraphs with links as character spans."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from blink.errors import SettingsError
from examples.pretraining.dump import Site

NOT_SHOWN = frozenset({
    "ref", "references", "gallery", "table", "math", "chem", "timeline", "imagemap", "syntaxhighlight", "source", "score",
    "style", "script", "templatestyles",
})  # fmt: skip
"""Tags whose content is not running text."""
_TRAIL = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class PageLink:
    """A link in a paragraph.

    Attributes:
        title: target title, redirects not followed.
        start, end: bounds in characters of the paragraph, end exclusive.
    """

    title: str
    start: int
    end: int


@dataclass(frozen=True)
class Paragraph:
    """A line of running text.

    Attributes:
        abstract: whether it precedes the page's first heading.
    """

    text: str
    links: tuple[PageLink, ...] = ()
    abstract: bool = True


def require_parser() -> None:
    """Check that the wikitext parser is installed.

    Raises:
        SettingsError: it is not installed.
    """
    if importlib.util.find_spec("mwparserfromhell") is None:
        raise SettingsError(
            "reading wikitext needs mwparserfromhell, which is not installed; run: pip install mwparserfromhell"
        )


def paragraphs(wikitext: str, site: Site) -> list[Paragraph]:
    """The running text of a page, without templates, tables, notes, pictures and categories."""
    import mwparserfromhell

    reader = _Reader(site)
    reader.read(mwparserfromhell.parse(wikitext).nodes)
    reader.end_paragraph()
    return reader.done


@dataclass
class _Reader:
    site: Site
    done: list[Paragraph] = field(default_factory=list)
    abstract: bool = True
    text: str = ""
    links: list[PageLink] = field(default_factory=list)
    after_link: bool = False

    def read(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            if (handler := _HANDLERS.get(type(node).__name__)) is not None:
                handler(self, node)

    def read_text(self, node: Any) -> None:
        """Letters that follow a link belong to it, as in ``[[apple]]s``."""
        text = str(node.value)
        if self.after_link and (trail := _TRAIL.match(text)):
            last = self.links.pop()
            self.links.append(PageLink(last.title, last.start, last.end + trail.end()))
        self.add(text)

    def add(self, text: str) -> None:
        """Append text; a line break ends the paragraph."""
        self.after_link = False
        first, *rest = text.split("\n")
        self.text += first
        for line in rest:
            self.end_paragraph()
            self.text = line

    def end_paragraph(self) -> None:
        if self.text.strip():
            self.done.append(Paragraph(self.text, tuple(self.links), self.abstract))
        self.text, self.links, self.after_link = "", [], False

    def read_link(self, node: Any) -> None:
        target = " ".join(str(node.title).split())
        if not target.startswith(":") and (self.site.is_media_or_category(target) or self.site.is_interlanguage(target)):
            return
        label = target.lstrip(":") if node.text is None else " ".join(node.text.strip_code().split())
        start, title = len(self.text), self.site.title(target)
        self.add(label)
        if label and title:
            self.links.append(PageLink(title, start, len(self.text)))
            self.after_link = True

    def read_tag(self, node: Any) -> None:
        name = str(node.tag).strip().lower()
        if name == "br":
            self.add(" ")
        elif name not in NOT_SHOWN and node.contents is not None:
            self.read(node.contents.nodes)

    def read_heading(self, node: Any) -> None:
        self.end_paragraph()
        self.abstract = False


_HANDLERS: dict[str, Callable[[_Reader, Any], None]] = {
    "Text": _Reader.read_text,
    "HTMLEntity": lambda reader, node: reader.add(node.normalize()),
    "ExternalLink": lambda reader, node: reader.add("" if node.title is None else node.title.strip_code()),
    "Wikilink": _Reader.read_link,
    "Tag": _Reader.read_tag,
    "Heading": _Reader.read_heading,
}
"""Handler of each type of node; templates, comments and arguments are ignored."""
