"""Sections of texts, and rounds of them: what the stages work on at once, so that long texts take constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blink.data.sentences import split_into_sections
from blink.errors import DataError, SettingsError
from blink.linking.spans import CharacterSpan, SpanLike, character_spans

SECTION_CHARACTERS = 1 << 15
"""Longest section, in characters: about 5,000 words."""
ROUND_CHARACTERS = 1 << 18
"""Characters of a round, at which no further section is added to it."""


@dataclass(frozen=True)
class Section:
    """Characters of a caller's text that are analyzed together.

    Attributes:
        whole: the caller's text.
        start: first character of the section.
        text: its characters.
        requested: the caller's spans; None where the model proposes mentions. Such a text is one section.
    """

    whole: str
    start: int
    text: str
    requested: tuple[CharacterSpan, ...] | None = None

    @property
    def is_first(self) -> bool:
        """Whether the text begins with it."""
        return self.start == 0

    @property
    def is_last(self) -> bool:
        """Whether the text ends with it."""
        return self.start + len(self.text) == len(self.whole)


def sections_of(texts: Iterable[str], spans: Iterable[Iterable[SpanLike]] | None, *, split: bool) -> Iterator[Section]:
    """The sections of texts, in order.

    Args:
        texts: any iterable.
        spans: the caller's spans of each text, or None.
        split: whether long texts are split, which needs windows that end with sentences.

    Raises:
        DataError: a text is no string, or spans are none.
        SettingsError: there are fewer lists of spans than texts.
    """
    requested = None if spans is None else iter(spans)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(f"text {number} is {type(text).__name__}, not a string")
        if requested is not None:
            of_text = next(requested, None)
            if of_text is None:
                raise SettingsError("there are fewer lists of spans than texts; give one list (perhaps empty) for each text")
            yield Section(text, 0, text, character_spans(of_text))
        elif split and len(text) > SECTION_CHARACTERS:
            yield from (Section(text, a, text[a:b]) for a, b in split_into_sections(text, SECTION_CHARACTERS))
        else:
            yield Section(text, 0, text)


def rounds_of(sections: Iterable[Section], size: int, characters: int | None = None) -> Iterator[list[Section]]:
    """Lists of ``size`` sections, or of fewer with ``characters`` (by default `ROUND_CHARACTERS`).

    If the iterable fails, those before the failure are yielded first.
    """
    source = iter(sections)
    enough = ROUND_CHARACTERS if characters is None else characters
    failure: Exception | None = None
    while failure is None:
        chunk: list[Section] = []
        length = 0
        try:
            while len(chunk) < size and length < enough:
                chunk.append(next(source))
                length += len(chunk[-1].text)
        except StopIteration:
            if not chunk:
                return
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
    raise failure
