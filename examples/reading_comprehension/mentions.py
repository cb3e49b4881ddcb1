"""Finds the entities that a question or passage mentions, by the anchor texts of the article's page."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.luke.features import EntitySlot
from examples.luke.loading import Vocabulary
from examples.luke.tokenizer import PlainTokenizer
from examples.reading_comprehension.links import Link, mention_table, normalise_mention, read_links, read_redirects


@dataclass
class MentionDictionary:
    """Links of the Wikipedia pages that questions are about.

    Attributes:
        links: of each page.
        page_redirects: title of an article to that of the page in ``links``.
        entity_redirects: title of a target to that in the model's vocabulary.
        least: minimum probability of a link.
    """

    links: Mapping[str, Sequence[Link]] = field(default_factory=dict)
    page_redirects: Mapping[str, str] = field(default_factory=dict)
    entity_redirects: Mapping[str, str] = field(default_factory=dict)
    least: float = 0.01

    @classmethod
    def read(
        cls, links: Path | None, page_redirects: Path | None, entity_redirects: Path | None, titles: Iterable[str], least: float
    ) -> MentionDictionary:
        """Read the files that are not None, for articles with these titles."""
        pages = read_redirects(page_redirects) if page_redirects is not None else {}
        entities = read_redirects(entity_redirects) if entity_redirects is not None else {}
        links_by_page = read_links(links, {pages.get(t, t) for t in titles}) if links is not None else {}
        return cls(links_by_page, pages, entities, least)

    def table(self, title: str) -> MentionTable:
        """The links of an article's page, by the titles of the model's vocabulary."""
        titles = mention_table(self.links.get(self.page_redirects.get(title, title), ()), self.least)
        return MentionTable({text: self.entity_redirects.get(target, target) for text, target in titles.items()})


class MentionTable:
    """The links of an article's page.

    Args:
        titles: normalised text to title of the entity.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        self.titles = titles
        self._sorted = sorted(titles)

    def has_prefix(self, text: str) -> bool:
        """Whether an anchor text begins with ``text``."""
        start = bisect.bisect_left(self._sorted, text)
        return start < len(self._sorted) and self._sorted[start].startswith(text)


def find_mentions(ids: Sequence[int], table: MentionTable, vocabulary: Vocabulary, longest: int) -> list[EntitySlot]:
    """Entities in a text by greedy longest match, from left to right.

    Matches begin and end at word boundaries and do not overlap. A match with an unknown entity still consumes its words.

    Args:
        ids: the text.
        table: of the article.
        vocabulary: of the model.
        longest: maximum tokens of a mention.
    """
    if not table.titles:
        return []
    words = _words(ids, vocabulary.tokenizer)
    texts = [vocabulary.tokenizer.text(ids[start:end]) for start, end in words]
    entities: list[EntitySlot] = []
    position = 0
    while position < len(words):
        match = _longest_match(words, texts, position, table, longest)
        if match is None:
            position += 1
            continue
        last, title = match
        entity = vocabulary.entity(title)
        if entity is not None:
            entities.append(EntitySlot(entity, words[position][0], words[last][1]))
        position = last + 1
    return entities


def _longest_match(
    words: Sequence[tuple[int, int]], texts: Sequence[str], start: int, table: MentionTable, longest: int
) -> tuple[int, str] | None:
    """Last word and title of the longest mention that begins at a word."""
    match, text_so_far = None, ""
    for n in range(start, len(words)):
        text_so_far += texts[n]
        text = normalise_mention(text_so_far)
        if words[n][1] - words[start][0] > longest or not table.has_prefix(text):
            break
        if text in table.titles:
            match = n, table.titles[text]
    return match


def _words(ids: Sequence[int], tokenizer: PlainTokenizer) -> list[tuple[int, int]]:
    """Bounds of words in tokens, punctuation included; tokens before the first word are skipped."""
    starts = [i for i, token in enumerate(ids) if tokenizer.opens_word(token)]
    return list(zip(starts, [*starts[1:], len(ids)], strict=True)) if starts else []
