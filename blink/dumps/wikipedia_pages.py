"""Pages of Wikipedia to what a knowledge base needs of them: introductions, redirects, and how links name other pages."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from blink.dumps.mapping import Mapped
from blink.dumps.pages import PAGE_END, Page, articles
from blink.dumps.titles import Wiki, normal_title
from blink.dumps.wikitext import LINK, label_text, lead, paragraphs, without_comments
from blink.kb.alias_table import without_brackets

PAGES, REDIRECTS, LINKS, NAMES = "pages.jsonl", "redirects.tsv", "links.tsv", "names.tsv"
"""Streams: introductions; redirect and target; target, label and number of links; target and a name that a redirect or a
disambiguation page gives it."""
ARTICLES, TO_PAGES, TO_SECTIONS, DISAMBIGUATIONS = "articles", "redirects", "redirects to sections", "disambiguation pages"
LISTS, NO_INTRODUCTION = "lists", "without introduction"
MIN_CHARACTERS, MAX_CHARACTERS = 200, 1000
"""Of an introduction: paragraphs are added up to the first, and sentences up to the second."""
MAX_LABEL = 80
"""Characters of a name."""
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:disambig(?:uation)?(?: page)?|dab|hndis|geodis|numberdis|mountain ?index|road ?index|ship ?index|surname|"
    r"given name|(?:human name|place name|airport|school|hospital|letter-number combination) disambiguation|begriffsklärung|"
    r"homonymie|desambiguación|desambiguação|disambigua|dp|ujednoznacznienie|неоднозначность)\s*(?:\||\}\})",
    re.IGNORECASE,
)
"""Templates of pages that list things of one name, or people of one surname."""
_LIST = re.compile(r"(?:lists? of|outline of|index of|timeline of|liste? (?:der|des|von|de)|anexo:)\b", re.IGNORECASE)
_ENTRY = re.compile(r"^\*+\s*(?:'{2,})?\[\[([^\[\]|{}<>\n#]+)(?:\|[^\[\]]*)?\]\]", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?](?:[\"'”)]*)\s")


@dataclass(frozen=True)
class PageMapper:
    """Maps pages.

    Attributes:
        wiki: the wiki of the dump.
    """

    wiki: Wiki
    separator: bytes = PAGE_END
    record: str = "page"
    streams: tuple[str, ...] = (PAGES, REDIRECTS, LINKS, NAMES)

    def __call__(self, text: bytes) -> Mapped:
        """Map whole pages."""
        mapped = _MappedPages(self.wiki)
        for page in articles(text, mapped.counts, mapped.problems):
            mapped.add(page)
        return mapped.mapped()


@dataclass
class _MappedPages:
    """What came of some pages so far."""

    wiki: Wiki
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    redirects: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    links: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, page: Page) -> None:
        """Map a page."""
        if page.redirect is not None:
            self._add_redirect(page)
        else:
            self._add_article(page)

    def mapped(self) -> Mapped:
        """All of it."""
        contents = {
            PAGES: "".join(self.pages),
            REDIRECTS: "".join(self.redirects),
            LINKS: "".join(self._link_lines()),
            NAMES: "".join(self.names),
        }
        return Mapped({name: text.encode("utf-8", "replace") for name, text in contents.items()}, self.counts, self.problems)

    def _add_redirect(self, page: Page) -> None:
        assert page.redirect is not None
        if "#" in page.redirect:
            self.counts[TO_SECTIONS] += 1
            return
        title, target = normal_title(page.title), self.wiki.target(page.redirect)
        if title and target:
            self.counts[TO_PAGES] += 1
            self.redirects.append(f"{title}\t{target}\n")
            self._add_name(target, title)

    def _add_article(self, page: Page) -> None:
        title, text = normal_title(page.title), without_comments(page.text)
        if is_disambiguation(title, text):
            self.counts[DISAMBIGUATIONS] += 1
            for entry in _ENTRY.findall(text):
                self._add_name(self.wiki.target(entry), title)
            return
        self.links.update(LINK.findall(text))
        if _LIST.match(title):
            self.counts[LISTS] += 1
            return
        introduction = introduction_of(text, self.wiki)
        if not introduction:
            self.counts[NO_INTRODUCTION] += 1
            return
        self.counts[ARTICLES] += 1
        self.pages.append(json.dumps({"title": title, "id": page.number, "text": introduction}, ensure_ascii=False) + "\n")

    def _add_name(self, target: str, title: str) -> None:
        name = without_brackets(title)
        if target and len(name) <= MAX_LABEL:
            self.names.append(f"{target}\t{name}\n")

    def _link_lines(self) -> Iterable[str]:
        """Links by target and label."""
        counts: dict[tuple[str, str], int] = {}
        target_of = self.wiki.target
        for (written, label, ending), n in self.links.items():
            if "#" not in written and (target := target_of(written)):
                if label or ending or written != target:
                    use = (target, label_text((label or written.replace("_", " ")) + ending))
                else:
                    use = (target, target)
                counts[use] = counts.get(use, 0) + n
        return (f"{target}\t{name}\t{n}\n" for (target, name), n in counts.items() if name and len(name) <= MAX_LABEL)


def is_disambiguation(title: str, text: str) -> bool:
    """Whether a page lists things of one name."""
    return title.endswith("(disambiguation)") or _DISAMBIGUATION.search(text) is not None


def is_list_of_pages(title: str, text: str) -> bool:
    """Whether a page is a list, of things of one name or of others."""
    return _LIST.match(title) is not None or is_disambiguation(title, text)


def introduction_of(text: str, wiki: Wiki) -> str:
    """The first paragraphs of prose before the first heading, up to a limit at the end of a sentence."""
    chosen, length = [], 0
    for paragraph in paragraphs(lead(text), wiki):
        if len(paragraph.text.split()) < 3:
            continue
        chosen.append(paragraph.text)
        length += len(paragraph.text)
        if length >= MIN_CHARACTERS:
            break
    introduction = " ".join(chosen)
    if len(introduction) <= MAX_CHARACTERS:
        return introduction
    ends = [match.end() for match in _SENTENCE_END.finditer(introduction, 0, MAX_CHARACTERS)]
    return introduction[: ends[-1] if ends else MAX_CHARACTERS].strip()
