"""The span splitter: no mention runs over a separator of names, holds several names, or begins or ends with a bracket."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from blink.data.caches import cached_calls
from blink.kb.alias_table import ALIAS, BARE_TITLE
from blink.kb.catalogue import Catalogue
from blink.kb.index.selector import RowSelector
from blink.kb.name_index import NameIndex
from blink.linking.analysis import WindowInput
from blink.model.breaks import HARD, LIST, NONE, STRICT, blanks_as_spaces, is_closed

CACHED_STRINGS = 1 << 14
"""Strings whose look-ups are kept in memory."""
LEAST_ENUMERATION = 3
"""Items of an enumeration, at least."""
MAX_WORDS_OF_ITEM = 4
"""Words of an item whose name the catalogue does not know, at most."""
MAX_TOKENS_OF_ITEM = 8
"""Tokens of a name that is the end or the beginning of a longer item, at most."""
MAX_ROWS_READ = 8
"""Entities of a name whose titles and aliases are read, at most."""
MIN_ADJACENT_LOGIT = -5.0
"""Score as a mention that each of several adjacent names must exceed: common nouns are titles too (Oakland Bay Bridge)."""
LONG_ALIAS = 4
"""Characters of an alias that is a name inside a longer span, at least: shorter ones are words (``so``, ``oh``) as often."""
_COMMON_WORDS = frozenset(
    """a after again all also am an and any are as at be because been before being but by can could did do does down during
    few for from had has have he her here hers him his how however i if in into is it its just may me more most must my no nor
    not now of off on once one only or other our out over same she since so some such than that the their them then there
    these they this those though through to too two under until up us was we well were what when where which while who why
    will with yes yet you your mr mrs ms dr sir""".split()  # noqa: SIM905 - one word a line would be a page
)
_CONNECTORS = frozenset({"of", "the", "de", "del", "la", "von", "van", "di", "du", "and", "&"})
_SENTENCE_ENDS = (".", "!", "?", "…")
_UNKNOWN = -1


@dataclass(frozen=True)
class SpanProposals:
    """Spans that may be mentions, of one input.

    Attributes:
        start, end: inclusive positions in the input. *Shape:* (m,), int64.
        logits: scores as mentions. *Shape:* (m,), float32.
    """

    start: np.ndarray
    end: np.ndarray
    logits: np.ndarray

    def select(self, indices: np.ndarray) -> SpanProposals:
        """Those of some spans (a mask or indices)."""
        return SpanProposals(self.start[indices], self.end[indices], self.logits[indices])


class SpanSplitter:
    """Replaces proposals that hold several names by these names.

    A name takes over the score of a proposal that is replaced by it, if that is higher than its own: what the model proposed
    was a mention, only its bounds were not.

    Args:
        catalogue: of the entities, for names with separators or brackets.
        names: of the knowledge base; without them only what no name may hold is removed.
        selector: rows whose names count; None for all.
    """

    def __init__(self, catalogue: Catalogue, names: NameIndex | None, selector: RowSelector | None = None) -> None:
        self._catalogue, self._names, self._selector = catalogue, names, selector
        self._kind = cached_calls(self._lookup, CACHED_STRINGS)
        self._is_variant = cached_calls(self._lookup_variant, CACHED_STRINGS)

    def filtered(self, selector: RowSelector) -> SpanSplitter:
        """The same for the names of some rows alone."""
        return SpanSplitter(self._catalogue, self._names, selector)

    def split(self, window: WindowInput, proposals: SpanProposals, scores: np.ndarray) -> SpanProposals:
        """Replace the proposals of a window.

        Args:
            window: tokens and their text.
            proposals: of the mention detector.
            scores: of all spans, by first position and width; -inf where it is no span. *Shape:* (seq, widths), float32.

        Returns:
            other proposals, in any order.
        """
        return _Splitting(self, window, scores).split(proposals)

    def kind(self, string: str) -> int:
        """Kind of the strongest entity named ``string``; -1 if there is none."""
        return self._kind(string)

    def is_known(self, string: str) -> bool:
        """Whether an entity is named ``string`` or a variant of it."""
        return self._kind(string) > _UNKNOWN or self._is_variant(string)

    def is_written(self, string: str) -> bool:
        """Whether an entity has the name ``string`` with the same symbols."""
        if self._names is None:
            return False
        matches = self._names.alias_table.lookup(string, MAX_ROWS_READ, self._selector)
        entities = [self._catalogue[match.row] for match in matches]
        return _compact(string) in {_compact(name) for entity in entities for name in (entity.title, *entity.aliases)}

    def is_part_of_name(self, string: str) -> bool:
        """Whether the words of a string are words of one name."""
        if self._names is None:
            return False
        rows = self._names.fuzzy_index.similar(string, selector=self._selector)
        return bool(rows) and bool((self._names.fuzzy_index.compare(string, rows)[:, 1] == 1).any())

    def _lookup(self, string: str) -> int:
        if self._names is None:
            return _UNKNOWN
        matches = self._names.alias_table.lookup(string, 1, self._selector)
        return matches[0].kind if matches else _UNKNOWN

    def _lookup_variant(self, string: str) -> bool:
        return self._names is not None and bool(self._names.alias_table.lookup_variants(string, 1, self._selector))


_Span: TypeAlias = tuple[int, int]
"""First and last token of a window, inclusive."""


@dataclass(frozen=True)
class _Item:
    """An item of an enumeration: its name, or its tokens where the catalogue has no such name."""

    span: _Span
    is_known: bool
    is_whole: bool


class _Splitting:
    """The splitter on one window."""

    def __init__(self, splitter: SpanSplitter, window: WindowInput, scores: np.ndarray) -> None:
        source, bounds = window.source, slice(window.window.start, window.window.end)
        self._splitter, self._scores = splitter, scores
        self._text, self._is_cased = source.text, window.is_cased
        self._offsets: list[list[int]] = source.encoding.offsets[bounds].tolist()
        self._ids: list[int] = source.encoding.ids[bounds].tolist()
        breaks = source.breaks
        n = len(self._ids)
        self._has_breaks = breaks is not None
        self._marks: list[int] = [NONE] * n if breaks is None else breaks.marks[bounds].tolist()
        self._gaps: list[int] = [NONE] * n if breaks is None else breaks.gaps[bounds].tolist()
        self._listing: list[bool] = [False] * n if breaks is None else breaks.listing[bounds].tolist()
        self._starts: list[bool] = [False] * n if breaks is None else breaks.starts[bounds].tolist()
        self._ends: list[bool] = [False] * n if breaks is None else breaks.ends[bounds].tolist()

    def split(self, proposals: SpanProposals) -> SpanProposals:
        """See `SpanSplitter.split`."""
        enumerations = list(self._enumerations()) if self._has_breaks else []
        for items in enumerations:
            self._separate_lines(items)
        bounds = list(zip((proposals.start - 1).tolist(), (proposals.end - 1).tolist(), strict=True))
        resolved = [self._resolve(*span) for span in bounds]
        if not enumerations and all(spans == [span] for span, (spans, _) in zip(bounds, resolved, strict=True)):
            return proposals
        logits: dict[_Span, float] = {}
        for (spans, inherit), logit in zip(resolved, proposals.logits.tolist(), strict=True):
            for span in spans:
                score = logits.get(span, self._score(span))
                logits[span] = max(logit, score) if inherit else score
        for items in enumerations:
            known = [item.span for item in items if item.is_known]
            # Items of an enumeration are of a kind: all are mentions if two are. One alone may be an error.
            _, least = sorted((logits.get(span, self._score(span)) for span in known), reverse=True)[:2]
            for span in known:
                logits[span] = max(least, logits.get(span, self._score(span)))
        starts, ends = (np.array([span[i] + 1 for span in logits], dtype=np.int64) for i in range(2))
        return SpanProposals(starts, ends, np.array(list(logits.values()), dtype=np.float32))

    # -- proposals -----------------------------------------------------------------------------------------------

    def _resolve(self, start: int, end: int) -> tuple[list[_Span], bool]:
        """The spans that a proposal becomes, itself in most cases, and whether they have its score."""
        trimmed = self._trimmed(start, end)
        if trimmed is None:
            return [], False
        names = self._replacement(*trimmed)
        if names is None:
            return [trimmed], trimmed == (start, end) or self._looks_like_name(self._string(*trimmed))
        # Of "Vienna, capital of Austria" one part is a name: a mention that explains the other was proposed, not two.
        code = self._code(*trimmed)
        return names, code != LIST or all(
            self._names_of(*bounds) for bounds in self._parts(*trimmed, code) if bounds is not None
        )

    def _replacement(self, start: int, end: int) -> list[_Span] | None:
        """The names inside a span that replace it; None where nothing does."""
        code = self._code(start, end)
        if code == NONE:
            plain = self._repeated(start, end) or self._adjacent(start, end)
            return None if plain is None or self._is_joined(start, end, code) else plain
        if code < HARD and self._is_joined(start, end, code):
            return None
        pieces = [bounds for bounds in self._parts(start, end, code) if bounds is not None]
        names = [self._names_of(*bounds) for bounds in pieces]
        flat = [name for of_part in names for name in of_part]
        if code >= STRICT:
            return flat
        if code == LIST:
            return flat or None
        return flat if flat and all(names) and (len(pieces) == 1 or not self._is_part_of_name(start, end)) else None

    def _names_of(self, start: int, end: int) -> list[_Span]:
        names = self._replacement(start, end)
        if names is not None:
            return names
        return [(start, end)] if self._is_name(start, end) else []

    def _parts(self, start: int, end: int, code: int) -> Iterator[_Span | None]:
        """What separators of a strength leave of a span, without brackets and the like at the edges."""
        first = start
        for token in range(start, end + 1):
            if token > start and self._gaps[token] == code and first < token:
                yield self._piece(first, token - 1)
                first = token
            if self._marks[token] == code:
                if first < token:
                    yield self._piece(first, token - 1)
                first = token + 1
        if first <= end:
            yield self._piece(first, end)

    def _trimmed(self, start: int, end: int) -> _Span | None:
        """A span without the brackets, quotes and separators at its edges, unless they belong to a name."""
        if not self._has_breaks or not (self._starts[start] or self._ends[end]):
            return start, end
        if end > start and self._splitter.is_written(self._string(start, end)):
            return start, end
        while start <= end and self._starts[start]:
            start += 1
        while start <= end and self._ends[end] and not is_closed(self._string(start, end)):
            end -= 1
        return (start, end) if start <= end and np.isfinite(self._score((start, end))) else None

    def _piece(self, start: int, end: int) -> _Span | None:
        """A span that separators leave, without brackets and the like or the end of the sentence."""
        trimmed = self._trimmed(start, end)
        if trimmed is None or not self._string(*trimmed).endswith(_SENTENCE_ENDS) or trimmed[0] == trimmed[1]:
            return trimmed
        return trimmed if self._splitter.is_written(self._string(*trimmed)) else self._trimmed(trimmed[0], trimmed[1] - 1)

    def _repeated(self, start: int, end: int) -> list[_Span] | None:
        """The names of a span that is one name several times."""
        ids, n = self._ids[start : end + 1], end - start + 1
        for width in range(1, n // 2 + 1):
            if n % width == 0 and ids == ids[:width] * (n // width):
                spans = [(at, at + width - 1) for at in range(start, end + 1, width)]
                return spans if all(self._is_name(*span) for span in spans) else None
        return None

    def _adjacent(self, start: int, end: int) -> list[_Span] | None:
        """The names of a span that is nothing but `LEAST_ENUMERATION` titles or more."""
        if not self._may_be_adjacent(start, end):
            return None
        names: list[_Span] = []
        while start <= end:
            name = next(((start, last) for last in range(end, start - 1, -1) if self._is_item(start, last, BARE_TITLE)), None)
            if name is None or self._score(name) <= MIN_ADJACENT_LOGIT:
                return None
            names.append(name)
            start = name[1] + 1
        return names if len(names) >= LEAST_ENUMERATION and not self._is_part_of_name(names[0][0], end) else None

    def _may_be_adjacent(self, start: int, end: int) -> bool:
        """Whether the scores allow `LEAST_ENUMERATION` names, which most do not: look-ups take longer."""
        others = LEAST_ENUMERATION - 1
        firsts = ((start, last) for last in range(start, end - others + 1))
        lasts = ((first, end) for first in range(start + others, end + 1))
        return all(any(self._score(span) > MIN_ADJACENT_LOGIT for span in spans) for spans in (firsts, lasts))

    # -- enumerations --------------------------------------------------------------------------------------------

    def _enumerations(self) -> Iterator[list[_Item]]:
        """Items of each enumeration of at least `LEAST_ENUMERATION`, two of them names that the catalogue knows."""
        for items in self._runs():
            if len(items) >= LEAST_ENUMERATION and sum(item.is_known for item in items) > 1:
                yield items

    def _runs(self) -> Iterator[list[_Item]]:
        run: list[_Item] = []
        for start, end in self._segments():
            item = self._whole_item(start, end)
            if item is not None:
                run.append(item)
                continue
            reach = range(min(MAX_TOKENS_OF_ITEM, end - start + 1) - 1, -1, -1)
            first = next(((start, start + k) for k in reach if self._is_item(start, start + k)), None)
            last = next(((end - k, end) for k in reach if self._is_item(end - k, end)), None)
            first = None if first is None or self._continues(range(first[1] + 1, end + 1)) else first
            last = None if last is None or self._continues(range(last[0] - 1, start - 1, -1)) else last
            if first is not None:
                run.append(_Item(first, is_known=True, is_whole=False))
            yield run
            run = [] if last is None or last == first else [_Item(last, is_known=True, is_whole=False)]
        yield run

    def _continues(self, tokens: range) -> bool:
        """Whether the words next to a name are of a longer name: they have a capital letter, connectors left out."""
        if not self._is_cased:
            return False
        words = (self._string(token, token) for token in tokens)
        return next((word[:1].isupper() for word in words if word not in _CONNECTORS), False)

    def _whole_item(self, start: int, end: int) -> _Item | None:
        string = self._string(start, end)
        if self._is_item(start, end):
            return _Item((start, end), is_known=True, is_whole=True)
        words = string.split()
        is_like_name = self._is_cased and len(words) <= MAX_WORDS_OF_ITEM and all(not w[:1].islower() for w in words)
        is_like_name = is_like_name and string[:1].isalnum() and string[-1:].isalnum()
        return _Item((start, end), is_known=False, is_whole=True) if is_like_name else None

    def _segments(self) -> Iterator[_Span]:
        """What the separators of enumerations leave."""
        if sum(self._listing) + sum(gap >= LIST for gap in self._gaps) < LEAST_ENUMERATION - 1:
            return
        first = 0
        for token in range(len(self._ids)):
            if (self._gaps[token] >= LIST or self._listing[token]) and first < token:
                trimmed = self._piece(first, token - 1)
                if trimmed is not None:
                    yield trimmed
            if self._gaps[token] >= LIST:
                first = token
            if self._listing[token]:
                first = token + 1
        if first < len(self._ids):
            trimmed = self._piece(first, len(self._ids) - 1)
            if trimmed is not None:
                yield trimmed

    def _separate_lines(self, items: list[_Item]) -> None:
        """Let no name run over the line ends between whole lines that are names."""
        for item in items[1:]:
            if item.is_whole and self._gaps[item.span[0]] >= LIST:
                self._gaps[item.span[0]] = HARD

    # -- names ---------------------------------------------------------------------------------------------------

    def _is_joined(self, start: int, end: int, code: int) -> bool:
        """Whether a span is one name with the separators in it."""
        string = self._string(start, end)
        if not self._splitter.is_known(string):
            return False
        # The name "Vienna, Austria" is none of two lines: look-ups ignore its comma.
        exact = code >= STRICT or max(self._gaps[start + 1 : end + 1], default=NONE) >= LIST
        return not exact or self._splitter.is_written(string)

    def _is_name(self, start: int, end: int, kind: int = 0) -> bool:
        """Whether a span is a whole name, of that kind at least, rather than a word or a number that happens to be a name."""
        string = self._string(start, end)
        if len(string) < 2 or self._score((start, end)) == -np.inf or not self._looks_like_name(string):
            return False
        return self._splitter.kind(string) >= max(kind, ALIAS if len(string) >= LONG_ALIAS else BARE_TITLE)

    def _looks_like_name(self, string: str) -> bool:
        is_word = string.casefold() in _COMMON_WORDS or (self._is_cased and string.islower())
        return not is_word and any(map(str.isalpha, string))

    def _is_item(self, start: int, end: int, kind: int = 0) -> bool:
        """Whether a span is a name and written as one."""
        return self._code(start, end) < LIST and self._is_name(start, end, kind)

    def _is_part_of_name(self, start: int, end: int) -> bool:
        return self._splitter.is_part_of_name(self._string(start, end))

    def _code(self, start: int, end: int) -> int:
        """The strongest separator inside a span."""
        return max(*self._marks[start : end + 1], *self._gaps[start + 1 : end + 1], NONE) if self._has_breaks else NONE

    def _score(self, span: _Span) -> float:
        width = span[1] - span[0]
        return float(self._scores[span[0] + 1, width]) if width < self._scores.shape[1] else -np.inf

    def _string(self, start: int, end: int) -> str:
        return self._text[self._offsets[start][0] : self._offsets[end][1]]


def _compact(name: str) -> str:
    """A name with its symbols, but without blanks and accents."""
    plain = unicodedata.normalize("NFKD", blanks_as_spaces(name).casefold().translate(_APOSTROPHES))
    return "".join(c for c in plain if not (c.isspace() or unicodedata.combining(c)))


_APOSTROPHES = str.maketrans("‘’`", "'''")
