"""Where texts begin in a line that joins several: questions, chat and headlines often have no mark at their end.

Three signs are rare inside of a text: a word that begins sentences has a capital letter, a sentence begins with several words
in small letters although others do not, and an emoji ends a sentence. Where a line has one of them, weaker signs count as well.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

LEAST_WORDS = 4
"""Words without a capital letter, at least, that are a text in small letters."""
CONTINUING = frozenset(
    """a about across after against although am among an and any are as at be because been before behind being between both but
    by can could did do does during each either else even every for from had has have he her his how i if in into is its just
    least less like might more most must my near neither nor of off on only onto or other our per shall she should since
    some still such than that the their these they this those through till to toward towards under unlike until versus very via
    vs was we were what when where whereas which while who whom whose why will with within without would your""".split()  # noqa: SIM905
)
"""Words that seldom end a text."""
STARTING = """Although And Are At Before Both But Can Could Did Do Does Every From Had Has Have He Her His How If In Is It Its
Many Most My No Nobody Not On Our Should So Some Someone That The Their Then There These They This Those Was We Were What When
Where Which While Who Whose Why With Without Would You Your""".split()  # noqa: SIM905
"""Words that begin texts, and have a capital letter nowhere else but in names."""
_QUESTION = "Are|Can|Could|Did|Do|Does|Had|Has|Have|How|Is|Should|Was|Were|What|When|Where|Which|Who|Why|Would"

# A blank first, which is searched faster than what must be before it.
_STARTING = re.compile(
    rf" (?<=[\w%] ) *(?=[A-Z])(?=(?:(?:{'|'.join(STARTING)})(?:['’]\w+)? +[^\W\d_A-Z]|(?:{_QUESTION}) +[A-Z]\w+ +[a-z]))"
)
_STARTING_AMONG_TEXTS = re.compile(
    r" (?<=[\w%] ) *(?=The +[A-Z]|(?:how (?:far|long|many|much|old|tall)|(?:what|when|where|why)['’]?s?"
    r" (?:are|can|could|did|do|does|is|should|was|were|would)) )"
)
# Hearts aside, which are verbs as well.
_EMOJI = re.compile(
    " (?<=[\U0001f300-\U0001faff\u2600-\u2664\u2666-\u2763\u2765-\u27bf\ufe0f] )(?<![\u2665\u2764]\ufe0f ) *(?=[\"'“‘(]?\\w)"
)
_WORD = re.compile(r"\S+")
_BEFORE_LETTER = re.compile(r"[\W_]{0,9}")
_JOINING = ",;:-–—(/&"
"""Marks behind which a sentence continues."""
_LONGEST_WORD = 20


def text_starts(text: str, ends: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Where texts begin in a line.

    Args:
        text: the line.
        ends: characters at which its sentences end, ascending.
        stops: other characters behind a full stop, an exclamation mark or a question mark.

    Returns:
        ``ends`` and the other characters before which a text begins, behind the last word of another, ascending; empty if the
        line seems to be one text. A line of one sentence is one text, unless it begins with several words in small letters and
        a word that begins texts is the first with a capital letter.
    """
    signs = set(_beginnings(_STARTING, text))
    if not ends and (not signs or not _is_uncased(text, 0) or _has_capital(text[: min(signs)])):
        return []
    signs |= {match.start() for match in _EMOJI.finditer(text) if _ends_sentence(text, match, ends)}
    starts = sorted({0, *ends, *signs})
    # Behind an ellipsis a sentence may continue.
    if any(_first_letter(text, start).isupper() and text[max(0, start - 2) : start] not in ("..", "…") for start in starts):
        signs |= {stop for stop in stops if _is_uncased(text, stop)}
        starts = sorted({*starts, *signs})
        uncased = [bounds for bounds in pairwise([*starts, len(text)]) if _is_uncased(text, bounds[0])]
        signs |= {start for start, _ in uncased} | set(_ends_of_uncased(text, uncased))
    if not signs:
        return []
    emoji = {match.start() for match in _EMOJI.finditer(text)}
    return sorted({*ends, *stops, *signs, *emoji, *_beginnings(_STARTING_AMONG_TEXTS, text)} - {0})


def _beginnings(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    for match in pattern.finditer(text):
        if not _continues(text[max(0, match.start() - _LONGEST_WORD) : match.start()].split()[-1]):
            yield match.start()


def _ends_sentence(text: str, emoji: re.Match[str], ends: Sequence[int]) -> bool:
    """Whether an emoji ends a sentence of several words, and another begins behind it."""
    if not _first_letter(text, emoji.end()).isupper() and not _is_uncased(text, emoji.end()):
        return False
    before = bisect_right(ends, emoji.start() - 1)
    words = _WORD.finditer(text, ends[before - 1] if before else 0, emoji.start())
    return len(list(islice(words, LEAST_WORDS + 1))) > LEAST_WORDS


def _is_uncased(text: str, start: int) -> bool:
    """Whether a sentence begins with a small letter, and with several words without a capital letter."""
    if not _first_letter(text, start).islower():
        return False
    words = [match[0] for match in islice(_WORD.finditer(text, start), LEAST_WORDS)]
    return len(words) == LEAST_WORDS and not any(map(_has_capital, words))


def _ends_of_uncased(text: str, sentences: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Where several words in small letters end, if the capital letter behind them begins another text."""
    for start, end in sentences:
        words, last, past = 0, "", start
        for match in _WORD.finditer(text, start, end):
            word = match[0]
            if _has_capital(word):
                if words >= LEAST_WORDS and not _continues(last) and word != "I" and word[:2] not in ("I'", "I’"):
                    yield past
                words = -1
            words, last, past = words + 1, word, match.end()


def _continues(word: str) -> bool:
    return word[-1:] in _JOINING or word.lower() in CONTINUING


def _first_letter(text: str, start: int) -> str:
    match = _BEFORE_LETTER.match(text, start)
    return "" if match is None else text[match.end() : match.end() + 1]


def _has_capital(text: str) -> bool:
    return any(map(str.isupper, text))
