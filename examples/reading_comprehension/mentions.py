"""Finds the entities that a question or passage mentions, by the texts that their page links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.luke.features import EntitySlot
from examples.luke.loading import Vocabulary
from examples.luke.pieces import Pieces
from examples.reading_comprehension.links import Link, mention_table, normalise_mention, read_links, read_redirects


@dataclass
class MentionDictionary:
    """What the pages of Wikipedia link, for the pages that questions are asked about.

    Attributes:
        links: of each page.
        page_redirects: title of an article to that of the page in ``links``.
        entity_redirects: title of a target to that in the model's vocabulary.
        least: probability below which a link does not count.
    """

    links: Mapping[str, Sequence[Link]] = field(default_factory=dict)
    page_redirects: Mapping[str, str] = field(default_factory=dict)
    entity_redirects: Mapping[str, str] = field(default_factory=dict)
    least: float = 0.01

    @classmethod
    def read(
        cls, links: Path | None, page_redirects: Path | None, entity_redirects: Path | None, titles: Iterable[str], least: float
    ) -> MentionDictionary:
        """Read the files, those that there are, for articles with these titles."""
        pages = read_redirects(page_redirects) if page_redirects is not None else {}
        entities = read_redirects(entity_redirects) if entity_redirects is not None else {}
        found = read_links(links, {pages.get(t, t) for t in titles}) if links is not None else {}
        return cls(found, pages, entities, least)

    def table(self, title: str) -> dict[str, str]:
        """Normalised text to title of the entity, for an article."""
        found = mention_table(self.links.get(self.page_redirects.get(title, title), ()), self.least)
        return {text: self.entity_redirects.get(target, target) for text, target in found.items()}


def find_mentions(ids: Sequence[int], table: Mapping[str, str], vocabulary: Vocabulary, longest: int) -> list[EntitySlot]:
    """Entities in a text, from left to right, the longest match first; matched words are not looked at again.

    A match begins and ends at the borders of words. One whose entity the model does not know takes its words all the same.

    Args:
        ids: the text.
        table: normalised text to title.
        vocabulary: of the model.
        longest: pieces of a mention.
    """
    if not table:
        return []
    words = _words(ids, vocabulary.pieces)
    texts = [vocabulary.pieces.text(ids[start:end]) for start, end in words]
    found: list[EntitySlot] = []
    at = 0
    while at < len(words):
        start = words[at][0]
        ends = [n for n in range(at, len(words)) if words[n][1] - start <= longest]
        match = next((n for n in reversed(ends) if normalise_mention("".join(texts[at : n + 1])) in table), None)
        if match is not None:
            entity = vocabulary.entity(table[normalise_mention("".join(texts[at : match + 1]))])
            if entity is not None:
                found.append(EntitySlot(entity, start, words[match][1]))
        at = at + 1 if match is None else match + 1
    return found


def _words(ids: Sequence[int], pieces: Pieces) -> list[tuple[int, int]]:
    """Words as pieces from one to another; a sign of punctuation is one too. What stands before the first is none."""
    starts = [i for i, piece in enumerate(ids) if pieces.opens_word(piece)]
    return list(zip(starts, [*starts[1:], len(ids)], strict=True)) if starts else []
