"""Articles to windows: sentences are tokenised around their links and packed up to the maximum length."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from examples.luke.tokenizer import PlainTokenizer
from examples.pretraining.dump_db import Article
from examples.pretraining.sentences import Splitter
from examples.pretraining.settings import WindowLimits
from examples.pretraining.wikitext import Paragraph

SPECIAL_WORDS = 2
"""``<s>`` and ``</s>``."""
_SPACES = re.compile(r"\s+")


@dataclass
class Window:
    """Consecutive sentences of a page.

    Attributes:
        words: token ids, without ``<s>`` and ``</s>``.
        entities: entity row of each link.
        spans: first token and end (exclusive) of each link, counted from the window's first token.
    """

    words: list[int] = field(default_factory=list)
    entities: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)

    def add(self, other: Window) -> None:
        """Append the tokens and links of another window."""
        shift = len(self.words)
        self.words += other.words
        self.entities += other.entities
        self.spans += [(start + shift, end + shift) for start, end in other.spans]


class WindowMaker:
    """Splits articles into windows.

    Args:
        tokens: the tokenizer.
        split: the sentence splitter.
        row_of: returns the entity row of a title or None, redirects followed.
        unk: row of ``[UNK]``.
        limits: sizes of windows, and which links are included.
    """

    def __init__(
        self, tokenizer: PlainTokenizer, split: Splitter, row_of: Callable[[str], int | None], unk: int, limits: WindowLimits
    ) -> None:
        self._tokenizer, self._split, self._row_of, self._limits = tokenizer, split, row_of, limits
        self._unknown = unk if limits.include_unk_entities else None

    def windows(self, article: Article) -> Iterator[Window]:
        """The windows of an article, sentences packed greedily."""
        limits = self._limits
        room, window = limits.max_seq_length - SPECIAL_WORDS, Window()
        for sentence in self._sentences(article):
            if not limits.min_sentence_length <= len(sentence.words) <= room:
                continue
            if len(window.words) + len(sentence.words) > room:
                yield from self._filter(window)
                window = Window()
            window.add(sentence)
        yield from self._filter(window)

    def _filter(self, window: Window) -> Iterator[Window]:
        if window.words and (window.entities or self._limits.include_sentences_without_entities):
            most = self._limits.max_entity_length
            yield Window(window.words, window.entities[:most], window.spans[:most])

    def _sentences(self, article: Article) -> Iterator[Window]:
        for paragraph in article.paragraphs:
            if paragraph.abstract or not self._limits.abstract_only:
                for start, end in self._split(paragraph.text):
                    yield self._sentence(paragraph, start, end)

    def _sentence(self, paragraph: Paragraph, start: int, end: int) -> Window:
        """Tokenise the text of each link, and the text between links, separately."""
        text, position, sentence = paragraph.text, start, Window()
        for link in paragraph.links:
            row = self._row_of(link.title)
            row = self._unknown if row is None else row
            if row is None or link.start < position or link.end > end:
                continue
            sentence.words += self._encode(text, position, link.start)
            first = len(sentence.words)
            sentence.words += self._encode(text, link.start, link.end)
            if (n_tokens := len(sentence.words) - first) > 0:
                sentence.entities.append(row)
                sentence.spans.append((first, first + min(n_tokens, self._limits.max_mention_length)))
            position = link.end
        sentence.words += self._encode(text, position, end)
        return sentence

    def _encode(self, text: str, start: int, end: int) -> list[int]:
        """Ids of a segment with normalised spaces, and a leading one if it begins a word."""
        segment = _SPACES.sub(" ", text[start:end])
        begins = start == 0 or text[start - 1].isspace() or segment.startswith(" ")
        return self._tokenizer.encode(segment.strip(), space=begins)
