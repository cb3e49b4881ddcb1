"""The values that travel through the linker. All are immutable; offsets are characters of the caller's string."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NOT_IN_CATALOGUE = -1
"""Catalogue row of a gold entity that is not in the catalogue. It counts as gold and is always missed."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One row of a catalogue.

    Attributes:
        row: 0-based line number in ``entity.jsonl``.
        title: its name.
        text: a description.
        kb_id: its id, of whatever system the catalogue uses.
        url: its address.
        aliases: other names.
        types: what it is, such as ``city``.
        tags: labels of the user.
        ids: its ids in other systems, such as ``("freebase", "/m/04jpl")``, by system.
        popularity: 7 - log10 of its rank among all entities; None where the catalogue does not say it.
        name_counts: how often texts call it by a name, by name.
    """

    row: int
    title: str
    text: str = ""
    kb_id: str | None = None
    url: str | None = None
    aliases: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    ids: tuple[tuple[str, str], ...] = ()
    popularity: float | None = None
    name_counts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Mention:
    """A gold mention: characters ``[start, end)`` and the entity they name."""

    start: int
    end: int
    row: int = NOT_IN_CATALOGUE
    kb_id: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class TokenMention:
    """A gold mention in token coordinates ``[start, end)`` of ``Sample.token_ids`` (no ``[CLS]`` shift)."""

    start: int
    end: int
    row: int = NOT_IN_CATALOGUE


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a mention file.

    ``mentions`` is None when the line carries no labels, and empty when it is labelled as having none.
    ``token_ids`` and ``token_mentions`` are the stored tokens of the original's format, if present.
    ``partial`` means that only some of the mentions are labelled; other spans are then ignored. ``unlabelled`` are characters
    ``[start, end)`` that may hold mentions without a label, such as names: only spans that touch them are ignored.
    """

    id: str
    text: str
    mentions: tuple[Mention, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    token_mentions: tuple[TokenMention, ...] | None = None
    partial: bool = False
    unlabelled: tuple[tuple[int, int], ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the line carries gold labels, even if none."""
        return self.mentions is not None or self.token_mentions is not None

    @property
    def covered(self) -> bool:
        """Whether every gold mention is in the catalogue."""
        gold = self.mentions if self.mentions is not None else self.token_mentions
        return gold is not None and all(m.row != NOT_IN_CATALOGUE for m in gold)

    def may_be_unlabelled(self, start: int, end: int) -> bool:
        """Whether characters ``[start, end)``, which are no gold mention, may still be one.

        They are in a text or a stretch that is not labelled whole, and overlap no gold mention, which would settle it.
        """
        gold = [(m.start, m.end) for m in self.mentions or ()]
        return _overlaps(start, end, self.unlabelled) or (self.partial and not _overlaps(start, end, gold))


def _overlaps(start: int, end: int, others: Iterable[tuple[int, int]]) -> bool:
    return any(first < end and start < past for first, past in others)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entity considered for a mention, with its score."""

    row: int
    kb_id: str | None
    title: str
    score: float


@dataclass(frozen=True, slots=True)
class Link:
    """A mention linked to an entity: ``text[start:end] == mention``.

    ``candidates`` are best first and include the entity; ``description``, ``url`` and ``types`` are its text, its address and
    what it is.
    """

    start: int
    end: int
    mention: str
    row: int
    kb_id: str | None
    title: str
    score: float
    candidates: tuple[Candidate, ...] = ()
    description: str = ""
    url: str | None = None
    types: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the link, with its candidates."""
        return {key: getattr(self, key) for key in _LINK_KEYS} | {
            "types": list(self.types),
            "candidates": [{key: getattr(c, key) for key in ("row", "kb_id", "title", "score")} for c in self.candidates],
        }

    def __repr__(self) -> str:
        return f"Link({self.start}, {self.end}, {self.mention!r} -> {self.title!r} ({self.kb_id}), {self.score:.3f})"


@dataclass(frozen=True, slots=True)
class LinkedText:
    """A text and its links, in order of position."""

    text: str
    links: tuple[Link, ...] = ()

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        return f"LinkedText({text!r}, links={list(self.links)!r})"

    @property
    def entities(self) -> tuple[Link, ...]:
        """The links, by position: another name for ``links``."""
        return self.links

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``blink link --json``."""
        return {"text": self.text, "links": [link.to_json() for link in self.links]}

    def to_dict(self) -> dict[str, Any]:
        """The same object, as plain values."""
        return self.to_json()

    def to_spans(self) -> list[dict[str, Any]]:
        """A flat row for each link, for data frames: start, end, mention, row, kb_id, title, score, description, url."""
        return [{key: getattr(link, key) for key in _LINK_KEYS} for link in self.links]

    def to_html(self, *, page: bool = False, candidates: int = 3) -> str:
        """The text as HTML, with its mentions coloured by type and a list of its links.

        Args:
            page: make a whole page, which needs no other file; by default an element with its style.
            candidates: most that are listed under a link, its entity included; 0 lists none.
        """
        from blink.data.html import html_fragment, html_page  # which imports this module

        return "".join(html_page([self], candidates=candidates)) if page else html_fragment(self, candidates=candidates)

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        return self.to_html()


@dataclass(frozen=True, slots=True)
class LinkedSection:
    """A section of a text and its links, whose offsets are those of the whole text.

    Attributes:
        text: the whole text.
        links: of the section, in order of position.
        is_first: whether the text begins with it.
        is_last: whether the text ends with it.
    """

    text: str
    links: tuple[Link, ...]
    is_first: bool
    is_last: bool


_LINK_KEYS = ("start", "end", "mention", "row", "kb_id", "title", "score", "description", "url")
