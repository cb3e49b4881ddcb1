"""Where the characters of a text separate its names: blanks, line ends, separators of lists, brackets, quotes, affixes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NONE, SENTENCE, LIST, STRICT, HARD = range(5)
"""How strongly a mark separates names.

| code | marks | a name may run over it |
| --- | --- | --- |
| `SENTENCE` | ``and``, quote, no-break space, end of a sentence | unless the strings on both sides are names |
| `LIST` | comma, slash, dash, bracket, line end, blank without width, affix | unless a string on one side is a name |
| `STRICT` | semicolon, pipe, bullet, number of an item | if the catalogue has the name with this mark |
| `HARD` | tab, form feed, empty line and the like | never |
"""

# Tokenizers of BERT delete the control characters among them, and so join the words on both sides.
_BLANK = "\x0b\x0c\x1c-\x1f\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_BLANKS = re.compile(f"[{_BLANK}]")
_SPACE = f"[ \t\n\r{_BLANK}]"
_LINE_END = "(?:\r\n|[\n\r\x85\u2028])"
_LINE_ENDS = re.compile(_LINE_END)
_BLOCK = "[\t\x0b\x0c\x1c-\x1f\u2029]"
_BLOCKS = re.compile(_BLOCK)
_WITHOUT_WIDTH = re.compile("[\u200b\u2060\ufeff]")
_GAPS = re.compile(f"{_SPACE}*(?:{_LINE_END}|[\t{_BLANK}]){_SPACE}*")

_BULLETS = "•‣▪●◦■□∙⁃"
_COMMAS = ",،、，"
_DASHES = "-–—―−"
_BRACKETS = "()[]{}<>«»‹›（）【】「」『』《》"
_QUOTES = "\"“”„‟‘’‚`'"
_CLOSING = {")": "(", "]": "[", "}": "{", ">": "<", "）": "（", "】": "【", "」": "「", "』": "『", "》": "《"}
_MARKS = re.compile(
    rf"(?P<strict>[|;¦；{_BULLETS}])"
    rf"|(?P<item>(?:^|(?<=[\n\r\x85\u2028\u2029]))[ \t]*(?:[{_DASHES}*+·]|\d{{1,3}}[.)])(?={_SPACE}))"
    rf"|(?P<listed>[{_COMMAS}/–—―]|(?<={_SPACE})[{_DASHES}·](?={_SPACE}))"
    rf"|(?P<bracket>[{re.escape(_BRACKETS)}])"
    r"|(?P<quote>[\"“”„‟]|(?<!\w)['‘’`]|['‘’`](?!\w))"
    rf"|(?P<sentence>(?:[!?:]|(?<!\b\w)(?<!\b[A-Z]\w)\.)(?={_SPACE}+[^\sa-z]))"
    r"|(?P<conjunction>&|\b(?i:and|or)\b)"
)
_CODES = {
    "strict": STRICT,
    "item": STRICT,
    "listed": LIST,
    "bracket": LIST,
    "quote": SENTENCE,
    "sentence": SENTENCE,
    "conjunction": SENTENCE,
}
_LISTING = frozenset({"strict", "item", "listed", "conjunction"})

_HYPHENS = re.compile(r"(?<=\w)[-\u2010\u2011](?=\w)")
_WORD = re.compile(r"\w+")
_PREFIX = re.compile(
    "(?i:pro|anti|non|ex|pre|post|mid|trans|inter|intra|neo|sub|cross|semi|pan|un|all|half|near|quasi|ultra|mini)"
)
_SUFFIX = re.compile(
    "(?i:based|born|style|bred|wide|led|backed|bound|area|era|inspired|native|trained|educated|made|like|owned|listed|speaking|"
    "funded|run|controlled|occupied|friendly|related|themed|centric|loving|produced|hosted|only|sized)"
)
_LONGEST_AFFIX = 24

_PICTOGRAPHS = "\u2190-\u2bff\ufe0e\ufe0f\U0001f000-\U0001faff"
_EDGES = re.compile(f"[{re.escape(_BRACKETS + _QUOTES + _BULLETS + _COMMAS + _DASHES)}|;¦；:·*/\\\\_{_PICTOGRAPHS}]")
_START_EDGES = re.compile("[!?.…@#]")
_ANY = re.compile(rf"[^\w\s'’.?!]|[.?!](?=\s)|['’](?!\w)|(?<!\w)['’.?!]|\b(?i:and|or)\b|{_LINE_END}|[\t{_BLANK}]")


def blanks_as_spaces(text: str) -> str:
    """``text`` with a space for each character that is blank but not a plain space, tab or line end; of the same length.

    Blank is what `str.isspace` accepts, and what has no width and separates words: U+200B, U+2060 and U+FEFF. A soft hyphen
    (U+00AD) is inside a word.
    """
    return _BLANKS.sub(" ", text)


@dataclass(frozen=True)
class TextBreaks:
    """What separates the tokens of a text.

    Attributes:
        marks: strength of each token as a separator. *Shape:* (n,), int8.
        gaps: strength of the blanks before each token. *Shape:* (n,), int8.
        listing: tokens that separate the items of an enumeration. *Shape:* (n,), bool.
        starts: tokens that no mention begins with, unless the name does. *Shape:* (n,), bool.
        ends: tokens that no mention ends with, unless the name does. *Shape:* (n,), bool.
    """

    marks: np.ndarray
    gaps: np.ndarray
    listing: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def window(self, start: int, end: int) -> TextBreaks:
        """Those of tokens ``[start, end)``."""
        return TextBreaks(*(getattr(self, name)[start:end] for name in self.__dataclass_fields__))

    @classmethod
    def of(cls, text: str, offsets: np.ndarray) -> TextBreaks | None:
        """The breaks of a text, or None where it has none.

        Args:
            text: the caller's string.
            offsets: characters ``[start, end)`` of its tokens. *Shape:* (n, 2), int64.
        """
        if not len(offsets) or not _ANY.search(text):
            return None
        n = len(offsets)
        breaks = cls(*(np.zeros(n, dtype=np.int8) for _ in range(2)), *(np.zeros(n, dtype=bool) for _ in range(3)))
        first, last = offsets[:, 0], offsets[:, 1]
        for begin, end, code, lists in _marks(text):
            # Tokens of other vocabularies may hold more than the mark: those are no separators.
            inside = slice(int(first.searchsorted(begin)), int(last.searchsorted(end, side="right")))
            breaks.marks[inside] = np.maximum(breaks.marks[inside], code)
            breaks.listing[inside] |= lists
        for gap in _GAPS.finditer(text):
            token = int(first.searchsorted(gap.end()))
            if token < n:
                breaks.gaps[token] = max(int(breaks.gaps[token]), _gap_code(gap.group()))
        for pattern, edges in ((_EDGES, (breaks.starts, breaks.ends)), (_START_EDGES, (breaks.starts,))):
            for mark in pattern.finditer(text):
                token = int(last.searchsorted(mark.start(), side="right"))
                if token < n and first[token] <= mark.start():
                    for edge, at in zip(edges, (first[token] == mark.start(), last[token] == mark.end()), strict=False):
                        edge[token] |= at
        return breaks


def is_closed(text: str) -> bool:
    """Whether ``text`` ends with a bracket that it opens itself, as ``Georgia (country)`` does."""
    opening = _CLOSING.get(text[-1:])
    return opening is not None and opening in text


def _gap_code(blanks: str) -> int:
    line_ends = len(_LINE_ENDS.findall(blanks))
    if line_ends > 1 or _BLOCKS.search(blanks):
        return HARD
    return LIST if line_ends or _WITHOUT_WIDTH.search(blanks) else SENTENCE


def _marks(text: str) -> Iterator[tuple[int, int, int, bool]]:
    """Characters ``[start, end)`` of each mark, its strength, and whether it separates items of an enumeration."""
    for mark in _MARKS.finditer(text):
        kind = mark.lastgroup or ""
        yield mark.start(), mark.end(), _CODES[kind], kind in _LISTING
    for hyphen in _HYPHENS.finditer(text):
        before, after = (
            text[max(0, hyphen.start() - _LONGEST_AFFIX) : hyphen.start()],
            text[hyphen.end() : hyphen.end() + _LONGEST_AFFIX],
        )
        left, right = _WORD.findall(before)[-1], _WORD.findall(after)[0]
        if _PREFIX.fullmatch(left) or (left.islower() and right[0].isupper()):
            yield hyphen.start() - len(left), hyphen.end(), LIST, False
        if _SUFFIX.fullmatch(right) or (left[0].isupper() and right.islower()):
            yield hyphen.start(), hyphen.end() + len(right), LIST, False
