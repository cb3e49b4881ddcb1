"""Sentence ends of a text, by rules that need no model. They only bound windows, so a wrong one costs a little context."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

from blink.data.text_starts import text_starts

WEAK, SENTENCE, LINE, TEXT, PARAGRAPH = range(1, 6)
"""Ranks of boundaries: a semicolon or a line end inside of a sentence; the end of a sentence, or of a line of few words; the
end of a line that is a text of its own; the end of a sentence in a line that joins several texts, see
`blink.data.text_starts`; an empty line."""

LEAST_WIDTH, SHARE_OF_FULL = 40, 0.8
"""Wrapped lines have this width in characters, and this share of them no room for the first word of the next."""
WIDTH_OF_TWO = 60
"""Width of two wrapped lines."""
WORDS_OF_TEXT = 3
"""Words of a line that may be a text of its own, at least."""
TERMINALS = ".!?…‥。！？｡؟۔।॥։።"
"""Characters that end a sentence."""
CLOSERS = "\"'”’»›)]}」』）】"
"""Characters that may follow the end of a sentence and belong to it."""
OPENERS = "\"'“‘„‚«‹([{¿¡-–—*•#「『（【"
"""Characters that may begin a sentence, before its first letter."""
LINE_ENDS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")

ABBREVIATIONS = frozenset(
    """adj adm al approx apr art assn aug ave bd blvd brig bros bzw ca cap capt cf ch cmdr co col cpl cpt dec dept dr dra ed eds
    est etc ex exc feb fig figs fr ft gen geo gov hon hr inc jan jr jul jun lt ltd maj mar mgr mlle mme mon mr mrs ms msgr mt
    mts no nos nov nr oct op orig pp pres prof prop pvt rd rep rev revd sen sep sept sgt sq sr sra sta ste st str supt tel trans
    univ usw viz vol vols vs""".split()  # noqa: SIM905 - one word a line would be a page
)
"""Words whose full stop ends no sentence, or seldom one."""

_END = f"(?:\\r\\n|[{''.join(sorted(LINE_ENDS))}])"
_STOPS, _CLOSERS = f"[{re.escape(TERMINALS)}]", f"[{re.escape(CLOSERS)}]*"
_SITE = re.compile(
    rf"(?P<lines>{_END})(?P<more>\s*{_END})?\s*"
    rf"|(?P<wide>[。！？｡।॥]+{_CLOSERS})"
    # Not inside of a run of marks: each run is tried once.
    rf"|(?P<stop>(?<!{_STOPS}){_STOPS}+{_CLOSERS})(?:\[\w{{1,3}}\])*(?=\s)"
    r"|(?P<clause>;)(?=\s)"
)
_EMPTY_LINE = re.compile(rf"{_END}\s*{_END}")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘„«]*\Z")


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a text may be split.

    Attributes:
        at: the character before which it is split, behind the marks that end the sentence and before any blank.
        rank: `PARAGRAPH`, `TEXT`, `LINE`, `SENTENCE` or `WEAK`.
    """

    at: int
    rank: int


def boundaries(text: str) -> Iterator[Boundary]:
    """The boundaries inside of a text, in order.

    A full stop, or another mark that ends a sentence, is a boundary before a blank and a capital letter, a digit or a quotation
    mark; in texts without capital letters before any letter. It is none after an initial, an abbreviation or an ordinal number
    (``C. S. Lewis``, ``Dr. King``, ``U.S. Steel``, ``3. Oktober``). A line end is a weak boundary where lines are wrapped.
    Where a line of several sentences joins texts, they are boundaries with or without a mark.
    """
    is_cased = any(map(str.isupper, text))
    marked = _marked(text, is_cased)
    return _with_text_starts(text, marked) if is_cased else marked


def _with_text_starts(text: str, marked: Iterable[Boundary]) -> Iterator[Boundary]:
    start, inside = 0, list[Boundary]()
    for boundary in chain(marked, [Boundary(len(text), PARAGRAPH)]):
        if boundary.rank < LINE:
            inside.append(boundary)
            continue
        yield from _of_line(text, start, boundary.at, inside)
        if boundary.at < len(text):
            yield boundary
        start, inside = boundary.at, []


def _of_line(text: str, start: int, end: int, marked: list[Boundary]) -> list[Boundary]:
    ends = [b.at - start for b in marked if b.rank == SENTENCE]
    stops = [b.at - start for b in marked if b.rank == WEAK and _is_stop(text, b.at)]
    ranks = {b.at: b.rank for b in marked} | dict.fromkeys(
        (start + at for at in text_starts(text[start:end], ends, stops)), TEXT
    )
    return [Boundary(at, ranks[at]) for at in sorted(ranks)]


def _is_stop(text: str, at: int) -> bool:
    """Whether a single mark that ends sentences, without a quotation mark, is before a character."""
    return text[at - 1] in ".!?" and text[max(0, at - 2)] not in ".!?"


def _marked(text: str, is_cased: bool) -> Iterator[Boundary]:
    end = len(text.rstrip())
    lines = _Lines(text)
    for site in _SITE.finditer(text):
        if site.start() > 0 and site.end() < end:
            rank = lines.rank(site) if site["lines"] else _rank(text, site, is_cased)
            if rank:
                yield Boundary(site.start() if site["lines"] else site.end(), rank)


class _Lines:
    """Ranks the line ends of a text, in order."""

    def __init__(self, text: str) -> None:
        self._text, self._paragraph, self._is_wrapped = text, (0, 0), False

    def rank(self, site: re.Match[str]) -> int:
        """The rank of a line end, or of several."""
        if site["more"]:
            self._paragraph = site.end(), site.end()
            return PARAGRAPH
        start, end = self._paragraph
        if site.start() >= end:
            empty = _EMPTY_LINE.search(self._text, site.start())
            start, end = self._paragraph = end, len(self._text) if empty is None else empty.end()
            self._is_wrapped = _is_wrapped(self._text[start:end].strip().splitlines())
        if self._is_wrapped:
            return WEAK
        around = self._text[max(start, site.start() - 200) : site.start()].splitlines()[-1:]
        around += self._text[site.end() : site.end() + 200].splitlines()[:1]
        return LINE if all(len(line.split()) >= WORDS_OF_TEXT for line in around) else SENTENCE


def _is_wrapped(lines: list[str]) -> bool:
    """Whether lines are as full as their words allow, so that line ends say nothing."""
    width = max(map(len, lines))
    if len(lines) < 3:
        return width == len(lines[0]) >= WIDTH_OF_TWO and lines[0].rstrip()[-1:] not in TERMINALS + CLOSERS
    full = [len(a) + len(b.split(maxsplit=1)[0]) >= width for a, b in pairwise(lines)]
    return width >= LEAST_WIDTH and sum(full) >= SHARE_OF_FULL * len(full)


def _rank(text: str, site: re.Match[str], is_cased: bool) -> int:
    if site["wide"]:
        return SENTENCE
    if site["clause"]:
        return WEAK
    if site["stop"] == "." and abbreviates(text, site.start()):
        return 0
    return SENTENCE if _begins_sentence(text, site.end(), is_cased) else WEAK


def abbreviates(text: str, stop: int) -> bool:
    """Whether the full stop at ``stop`` belongs to the word before it: an initial, an abbreviation or an ordinal number."""
    match = _LAST_WORD.search(text, max(0, stop - 20), stop)
    word = match[0] if match else ""
    if word.isdigit():
        return len(word) <= 2
    return (len(word) == 1 and word.isalpha()) or "." in word or word.lower() in ABBREVIATIONS


def _begins_sentence(text: str, at: int, is_cased: bool) -> bool:
    while at < len(text) and (text[at].isspace() or text[at] in OPENERS):
        at += 1
    return at < len(text) and not (is_cased and text[at].islower())


def split_into_sections(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Split a text into sections of at most ``size`` characters that can be read one after the other.

    A section ends in its second half, at the last boundary of the highest rank, or else at the last blank, or else at ``size``.
    The sections cover the text; one of at most ``size`` characters is a single section.

    Yields:
        characters ``[start, end)`` of each section.
    """
    start = 0
    while len(text) - start > size:
        end = start + _section_end(text[start : start + size])
        yield start, end
        start = end
    yield start, len(text)


def _section_end(text: str) -> int:
    half = len(text) // 2
    ends = [b for b in boundaries(text) if b.at > half]
    if ends:
        return max(ends, key=lambda b: (b.rank, b.at)).at
    return next((i for i in range(len(text) - 1, half, -1) if text[i].isspace()), len(text))
