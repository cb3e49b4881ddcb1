"""Units of the offsets in mention files: characters, or by a common mistake bytes of UTF-8 or code units of UTF-16."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from blink.data.records import Mention, Sample
from blink.errors import DataError

Unit: TypeAlias = Literal["characters", "bytes of UTF-8", "code units of UTF-16"]
CHARACTERS: Unit = "characters"
ENCODINGS: dict[Unit, tuple[str, int]] = {"bytes of UTF-8": ("utf-8", 1), "code units of UTF-16": ("utf-16-le", 2)}
"""Encoding and bytes per offset of each unit other than characters."""
MAX_MISFIT_SHARE = 0.1
"""Spans that may not fit in another unit, per span that does not fit in characters, for the offsets to be in that unit."""

_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_SCRIPTS_WITHOUT_SPACES = frozenset(
    ("BOPOMOFO", "CJK", "HALFWIDTH", "HANGUL", "HIRAGANA", "IDEOGRAPHIC", "KATAKANA", "KATAKANA-HIRAGANA", "KHMER", "LAO",
     "MYANMAR", "THAI", "TIBETAN")
)  # fmt: skip
"""First words of the names of characters in scripts that separate no words by spaces, or that append particles to names."""


def inside_word(text: str, position: int) -> bool:
    """Whether a word continues over a position: letters, digits or combining marks of one word are on both of its sides."""
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    return _in_word(before) and _in_word(after) and not (_is_spaceless(before) or _is_spaceless(after))


def cuts_word(text: str, start: int, end: int) -> bool:
    """Whether a span begins or ends inside a word."""
    return inside_word(text, start) or inside_word(text, end)


def in_characters(sample: Sample, unit: Unit) -> Sample:
    """The sample with the offsets of its mentions and unlabelled spans, which are in ``unit``, in characters.

    Raises:
        DataError: a span lies outside the text, or begins or ends inside a character.
    """
    if unit == CHARACTERS or sample.text.isascii():
        return sample
    converter = _Converter(sample.text)

    def convert(start: int, end: int) -> tuple[int, int]:
        bounds = converter.bounds(start, end, unit)
        if bounds is None:
            fault = f"mention [{start}, {end}) in {unit} lies outside the text or inside a character"
            raise DataError(f"{fault}; offsets count characters")
        return bounds

    mentions = None if sample.mentions is None else tuple(_moved(m, *convert(m.start, m.end)) for m in sample.mentions)
    return replace(sample, mentions=mentions, unlabelled=tuple(convert(*span) for span in sample.unlabelled))


def _moved(mention: Mention, start: int, end: int) -> Mention:
    return replace(mention, start=start, end=end)


@dataclass
class UnitCounts:
    """How many gold spans of a file fit its texts in each unit.

    Only spans that differ between the units are counted: those after a character that is not ASCII. A span fits if it lies
    inside its text, cuts no word and begins and ends with no space, or if it equals the entity's title.

    Attributes:
        spans: spans that differ between the units.
        misfits: spans that do not fit, by unit.
    """

    spans: int = 0
    misfits: dict[Unit, int] = field(default_factory=lambda: dict.fromkeys((CHARACTERS, *ENCODINGS), 0))

    def add(self, samples: Iterable[Sample]) -> UnitCounts:
        """Count the spans of samples, whose offsets are as in the file."""
        for sample in samples:
            first = _NON_ASCII.search(sample.text) if sample.mentions else None
            if first is None:
                continue
            converter = _Converter(sample.text)
            for mention in sample.mentions or ():
                if mention.end > first.start():
                    self.spans += 1
                    for unit in self.misfits:
                        self.misfits[unit] += not _fits(
                            sample.text, converter.bounds(mention.start, mention.end, unit), mention.title
                        )
        return self

    def unit(self) -> Unit:
        """The unit of the offsets: another one than characters only if it alone fits far better."""
        (best, fewest), (_, next_fewest) = sorted(((u, self.misfits[u]) for u in ENCODINGS), key=lambda pair: pair[1])
        is_unambiguous = fewest < next_fewest and fewest <= MAX_MISFIT_SHARE * self.misfits[CHARACTERS]
        return best if self.misfits[CHARACTERS] and is_unambiguous else CHARACTERS


class _Converter:
    """Converts offsets of one text to characters."""

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._encoded = {unit: text.encode(codec, "surrogatepass") for unit, (codec, _) in ENCODINGS.items()}

    def bounds(self, first: int, past: int, unit: Unit) -> tuple[int, int] | None:
        """The span in characters; None if it is empty, lies outside the text, or begins or ends inside a character."""
        start, end = self._position(first, unit), self._position(past, unit)
        return (start, end) if start is not None and end is not None and start < end else None

    def _position(self, offset: int, unit: Unit) -> int | None:
        if unit == CHARACTERS:
            return offset if 0 <= offset <= self._length else None
        (codec, width), encoded = ENCODINGS[unit], self._encoded[unit]
        if not 0 <= offset * width <= len(encoded):
            return None
        try:
            return len(encoded[: offset * width].decode(codec, "surrogatepass"))
        except UnicodeDecodeError:
            return None


def _fits(text: str, bounds: tuple[int, int] | None, title: str | None) -> bool:
    if bounds is None:
        return False
    start, end = bounds
    if title is not None and text[start:end].casefold() == title.casefold():
        return True
    return not (cuts_word(text, start, end) or text[start].isspace() or text[end - 1].isspace())


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _is_spaceless(character: str) -> bool:
    return unicodedata.name(character, "").split(" ")[0] in _SCRIPTS_WITHOUT_SPACES
