"""The formats of linked texts: for people, as JSON lines, as tables of CSV or TSV, and as a page of HTML.

Tables have a row for each link. Their cells of text are those of `blink.cells.safe_cell`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from blink.cells import csv_line, safe_cell
from blink.cells import plain_cell as plain_cell
from blink.data.display import one_line, printable
from blink.data.html import html_page
from blink.data.records import Candidate, Link, LinkedSection, LinkedText
from blink.errors import SettingsError

COLUMNS = ("text_id", "start", "end", "mention", "row", "kb_id", "title", "score", "types", "description", "url")
"""Columns of a table; ``text_id`` counts texts from 1, which are the lines of a file."""
SCORE_DIGITS = 4
"""Digits of scores in tables."""


@dataclass(frozen=True)
class LinkFormat:
    """How links are written.

    Attributes:
        name: one of `FORMATS`.
        candidates: most that are shown of a link, its entity included, 0 for none; None for what the format has by default.
        digits: of scores behind the point; None for what the format has by default.
        is_ascii: whether JSON is without characters outside ASCII.
    """

    name: str = "text"
    candidates: int | None = None
    digits: int | None = None
    is_ascii: bool = False

    def __post_init__(self) -> None:
        if self.name not in FORMATS:
            raise SettingsError(f"the format is {self.name!r}; allowed are {', '.join(FORMATS)}")
        for name in ("candidates", "digits"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise SettingsError(f"{name} is {value}; it must be at least 0")

    def pieces(self, sections: Iterable[LinkedSection]) -> Iterator[str]:
        """The pieces of what is written of texts: at least one for each section, as soon as it is there."""
        return FORMATS[self.name](sections, self)

    @property
    def is_utf8(self) -> bool:
        """Whether it is written in UTF-8, whatever the encoding of the terminal."""
        return self.name in ("csv", "tsv", "html")

    def for_encoding(self, encoding: str | None) -> LinkFormat:
        """The same for an output of some encoding: where it is not UTF-8, JSON has escapes, which are the same JSON."""
        return replace(self, is_ascii=(encoding or "").lower().replace("-", "") != "utf8")

    def shown(self, link: Link, default: int) -> tuple[Candidate, ...]:
        """The candidates of a link that are shown."""
        return link.candidates[: default if self.candidates is None else self.candidates]

    def score(self, score: float, default: int) -> str:
        """A score as text."""
        return f"{score:.{default if self.digits is None else self.digits}f}"


def _text(sections: Iterable[LinkedSection], form: LinkFormat) -> Iterator[str]:
    """The text, and a line for each link, without characters that would change a terminal."""
    n_before = 0
    for section in sections:
        lines = [f"{printable(section.text)}\n"] if section.is_first else []
        n_before = len(section.links) + (0 if section.is_first else n_before)
        for link in section.links:
            target = f"{one_line(link.mention)} -> {one_line(link.title)} ({one_line(link.kb_id or f'row {link.row}')})"
            lines.append(f"  {link.start}-{link.end}  {target}  {form.score(link.score, 3)}\n")
            others = [
                (f"{one_line(c.title)} ({one_line(c.kb_id or f'row {c.row}')})", c.score) for c in form.shown(link, 0)[1:]
            ]
            lines += [f"      or {named}  {form.score(score, 3)}\n" for named, score in others]
        if section.is_last and not n_before:
            lines.append("  no links\n")
        yield "".join(lines)


def _json(sections: Iterable[LinkedSection], form: LinkFormat) -> Iterator[str]:
    """An object for each text, on a line of its own."""
    n_before = 0
    for section in sections:
        n_before = 0 if section.is_first else n_before
        head = f'{{"text": {json.dumps(section.text, ensure_ascii=form.is_ascii)}, "links": [' if section.is_first else ""
        links = (json.dumps(link_object(link, form), ensure_ascii=form.is_ascii) for link in section.links)
        yield head + "".join(f"{', ' if number else ''}{link}" for number, link in enumerate(links, n_before))
        n_before += len(section.links)
        if section.is_last:
            yield "]}\n"


def link_object(link: Link, form: LinkFormat) -> dict[str, Any]:
    """The JSON object of a link, with the candidates and digits of a format."""
    value = link.to_json()
    value["candidates"] = value["candidates"][: form.candidates]
    if form.digits is not None:
        for scored in (value, *value["candidates"]):
            scored["score"] = round(scored["score"], form.digits)
    return value


def table(delimiter: str) -> Callable[[Iterable[LinkedSection], LinkFormat], Iterator[str]]:
    """A format of tables."""

    def pieces(sections: Iterable[LinkedSection], form: LinkFormat) -> Iterator[str]:
        columns = [*COLUMNS, *(["candidates"] if form.candidates else [])]
        yield csv_line(columns, delimiter)
        number = 0
        for section in sections:
            number += section.is_first
            yield "".join(csv_line(_cells(number, link, form), delimiter) for link in section.links)

    return pieces


def _cells(number: int, link: Link, form: LinkFormat) -> list[Any]:
    text = [link.kb_id or "", link.title, "|".join(link.types), link.description, link.url or ""]
    kb_id, title, types, description, url = map(safe_cell, text)
    score = form.score(link.score, SCORE_DIGITS)
    cells = [number, link.start, link.end, safe_cell(link.mention), link.row, kb_id, title, score, types, description, url]
    if form.candidates:
        shown = (f"{c.title} ({c.kb_id or f'row {c.row}'}) {form.score(c.score, SCORE_DIGITS)}" for c in form.shown(link, 0))
        cells.append(safe_cell(" | ".join(shown)))
    return cells


def _html(sections: Iterable[LinkedSection], form: LinkFormat) -> Iterator[str]:
    """A page."""
    more = {name: value for name in ("candidates", "digits") if (value := getattr(form, name)) is not None}
    return html_page(texts_of(sections), **more)


def texts_of(sections: Iterable[LinkedSection]) -> Iterator[LinkedText]:
    """The whole texts of sections."""
    links: list[Link] = []
    for section in sections:
        links += section.links
        if section.is_last:
            yield LinkedText(section.text, tuple(links))
            links = []


FORMATS: dict[str, Callable[[Iterable[LinkedSection], LinkFormat], Iterator[str]]] = {
    "text": _text,
    "json": _json,
    "jsonl": _json,
    "csv": table(","),
    "tsv": table("\t"),
    "html": _html,
}
"""Formats by name."""
EXPLAINED = ("text", "json", "jsonl")
"""Formats that explanations have too."""
