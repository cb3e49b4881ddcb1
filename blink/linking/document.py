"""The document stage: short mentions follow the full name of the same text ("Angela Merkel ... Merkel").

A full name is a mention of several words. Mentions of its last words, of its first word, of its initials where the text defines
them ("World Health Organization (WHO)") and of the same words follow it. Such a mention s takes over the distribution of its
name n with a weight,

    p'(e | s) = w p(e | n) + (1 - w) p(e | s)

w is the rate at which mentions of that kind name what their full name names, measured on documents (`RATES`). The entity of a
full name that is linked need not be among the candidates of s, mentions that no stage proposed are added, and a mention that is
surer of the entity than its name stays as it is. Where the full name names nothing in the knowledge base, only the candidates
of s are lowered, which are namesakes. So scores stay probabilities.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from blink.data.sentences import abbreviates
from blink.kb.alias_table import without_brackets
from blink.kb.catalogue import Catalogue
from blink.linking.analysis import TokenizedText
from blink.linking.scoring import ScoredSpans, link_probabilities

LAST, FIRST, INITIALS, SAME = "last", "first", "initials", "same"
"""How a mention is related to its full name."""
NONE, PARTIAL, WHOLE = "none", "partial", "whole"
"""The best entity of a short mention other than that of its full name: not probable, known by a longer name, or by this one."""

RATES = {
    (LAST, NONE, True): 0.94,
    (LAST, PARTIAL, True): 0.75,
    (LAST, WHOLE, True): 0.1,
    (FIRST, NONE, True): 0.58,
    (FIRST, PARTIAL, True): 0.4,
    (FIRST, WHOLE, True): 0.27,
    (INITIALS, NONE, True): 0.95,
    (INITIALS, PARTIAL, True): 0.9,
    (INITIALS, WHOLE, True): 0.8,
    (SAME, NONE, True): 0.89,
    (SAME, PARTIAL, True): 0.75,
    (SAME, WHOLE, True): 0.9,
    (LAST, NONE, False): 0.95,
    (LAST, PARTIAL, False): 0.93,
    (LAST, WHOLE, False): 0.47,
    (INITIALS, NONE, False): 0.95,
    (INITIALS, PARTIAL, False): 0.9,
    (INITIALS, WHOLE, False): 0.8,
}
"""Rates at which a mention names what its full name names, by kind, rival, and whether the full name is linked: (right + 1) /
(all + 2) of the mentions of GUM's training documents (`scripts/document_figures.py rates`). There are no more than two
mentions of the kinds FIRST PARTIAL, INITIALS, and LAST NONE of a name that is not linked; these rates are assumptions."""
MIN_MENTION = 0.5
"""Of a full name, as a mention or as a link."""
MIN_LINKED, MAX_UNLINKED = 0.7, 0.3
"""Probability of the best entity of a name that is linked, and of one that is not; those between have no followers."""
MIN_SAME = 0.2
"""Probability that a mention has by itself, of the entity of another mention of the same words."""
MIN_RIVAL = 0.05
"""Probability of an entity that is a rival."""
MIN_OTHER_RIVAL = 0.3
"""The same, where its title is of other words."""
MIN_ADDED = 0.8
"""Probability of a full name whose short mentions are added where no stage proposed them."""
MAX_NAMESAKES = 4
"""Full names with the same short form that are remembered."""
NAMES_KEPT = 10_000
"""Names of a text that are remembered from section to section."""

LONGEST_SHORT = 4
"""Words of a short mention."""

_WORD = re.compile(r"[^\W_]+(?:[.'’&-](?!s\b)[^\W_]+)*")
_DEFINITION = re.compile(r"\s*\(([^\W\d_]{2,8})\)")
_LEFT, _RIGHT = re.compile(r"([^\W_][\w'’.-]*)[ \t]+\Z"), re.compile(r"[ \t]+([^\W_]+)")
"""The word before a mention and the word behind it."""
_JOINING = frozenset(("of", "in", "and", "for", "at", "on", "the", "to", "a", "an", "und", "et", "y"))
"""Words behind which another name begins: the University of Vienna is not called Vienna."""
_FREQUENT = frozenset("and are did does for from how that the this was were what when where which who with".split())  # noqa: SIM905
"""Words that texts without capital letters repeat, and that are no names by themselves."""
_PARTICLES = frozenset("al ben bin da dal de del den der di dos du el ibn la le ter van von zu".split())  # noqa: SIM905
"""Words in small letters inside of names of people."""
_SUFFIXES = frozenset(("jr", "sr", "ii", "iii", "iv"))
"""Words at the end of names of people that short mentions leave out."""
_NOT_PLAIN = frozenset(",;:()/")

_NO_ROWS, _NO_PROBABILITIES = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)

Words: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Antecedent:
    """What a short mention may follow.

    Attributes:
        kind: how the mention is related to it.
        rows: its candidates, best first. *Shape:* (k,), int64.
        probabilities: of them. *Shape:* (k,), float32.
    """

    kind: str
    rows: np.ndarray
    probabilities: np.ndarray

    @property
    def is_linked(self) -> bool:
        """Whether it names an entity."""
        # Initials that a text defines name what their name names, whatever that is.
        return float(self.probabilities[0]) >= (MAX_UNLINKED if self.kind == INITIALS else MIN_LINKED)

    @property
    def is_certain(self) -> bool:
        """Whether it is known whether it names an entity."""
        return self.is_linked or float(self.probabilities[0]) <= MAX_UNLINKED


class NameMemory:
    """Names of a text, by the words of the mentions that follow them; the least recent are dropped."""

    def __init__(self) -> None:
        self._names: OrderedDict[tuple[Words, bool, bool], list[Antecedent]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def add(self, words: Words, name: Antecedent) -> None:
        """Remember a name. Of mentions of the same words the most probable stays, of full names the last `MAX_NAMESAKES`."""
        if not name.is_certain:
            return
        key = (words, name.kind == SAME, name.is_linked)
        before = self._names.pop(key, [])
        if name.kind == SAME:
            self._names[key] = [max([*before, name], key=lambda n: float(n.probabilities[0]))]
        else:
            others = [n for n in before if n.rows[0] != name.rows[0]]
            self._names[key] = [name, *others][:MAX_NAMESAKES]
        if len(self._names) > NAMES_KEPT:
            self._names.popitem(last=False)

    def full_name(self, words: Words, rows: np.ndarray, probabilities: np.ndarray) -> Antecedent | None:
        """The full name that a mention of these words follows: one that is linked before one that is not, and of several the
        one whose entity is the most probable of the mention itself, or else the last.

        Args:
            words: of the mention.
            rows: its candidates. *Shape:* (k,), int64.
            probabilities: of them. *Shape:* (k,), float32.
        """
        names = self._names.get((words, False, True)) or self._names.get((words, False, False))
        return None if names is None else max(names, key=lambda n: float(probabilities[rows == n.rows[0]].sum()))

    def same(self, words: Words) -> Antecedent | None:
        """The most probable mention of the same words."""
        names = self._names.get((words, True, True))
        return None if names is None else names[0]


class Document:
    """Rescores the mentions of a text by its full names.

    Args:
        catalogue: of the knowledge base, for titles.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def rescore(self, spans: ScoredSpans, source: TokenizedText, memory: NameMemory | None = None) -> ScoredSpans:
        """The spans with the evidence of full names, and behind them those that are added.

        Args:
            spans: of a text, or of a section of it, with log-odds against "nothing".
            source: the text or section.
            memory: names of the sections before, to which those of this one are added; None for a text of one section.
        """
        if not len(spans) or (memory is None and not _repeats_a_name(source)):
            return spans
        memory = NameMemory() if memory is None else memory
        named = NamedSpans(spans, source)
        followed = followers(named, memory)
        added = _added(named, memory)
        if followed:
            spans = self._updated(named, followed)
        return ScoredSpans.concatenate([spans, added]) if len(added) else spans

    def _updated(self, named: NamedSpans, followed: Mapping[int, Antecedent]) -> ScoredSpans:
        spans, rows, logits = named.spans, named.spans.rows.copy(), named.spans.entity_logits.copy()
        for i, name in followed.items():
            present = named.probabilities[i][rows[i] == name.rows[0]].sum()
            if name.is_linked and not (MIN_SAME if name.kind == SAME else 0) <= present < name.probabilities[0]:
                continue
            rate = RATES[name.kind, self.rival_of(rows[i], named.probabilities[i], name, named.words[i]), name.is_linked]
            rows[i], mixed = _mixed(rows[i], named.probabilities[i], name, rate)
            with np.errstate(divide="ignore"):
                logits[i] = np.log(mixed) - np.log(max(1 - mixed.sum(), 1e-6))
        return replace(spans, rows=rows, entity_logits=logits)

    def rival_of(self, rows: np.ndarray, probabilities: np.ndarray, name: Antecedent, words: Words) -> str:
        """What the best entity of a mention is, other than that of its full name."""
        others = rows[(rows >= 0) & (rows != name.rows[0])] if name.is_linked else rows[rows >= 0]
        titles = [without_brackets(self.catalogue.title(row)) for row in others.tolist()]
        # A common noun is its whole name, however improbable in a text with capital letters.
        if any(title.islower() and words_of(title) == words for title in titles):
            return WHOLE
        probability = probabilities[rows == others[0]][0] if len(others) else 0
        if probability < MIN_RIVAL:
            return NONE
        title = words_of(titles[0])
        if title == words:
            return WHOLE
        if any(title[k : k + len(words)] == words for k in range(len(title))):
            return PARTIAL
        # By an alias, or because the text is about it.
        return WHOLE if probability >= MIN_OTHER_RIVAL else NONE


def words_of(string: str) -> Words:
    """The words of a name, in small letters."""
    return tuple(_WORD.findall(string.casefold()))


def _repeats_a_name(source: TokenizedText) -> bool:
    """Whether a word that may be one of a name is repeated, or initials are defined, without which no mention follows another.
    Nearly all questions repeat none.
    """
    if _DEFINITION.search(source.text):
        return True
    # Hyphens and the like end a word: "Merkel" follows "Angela Merkel" in "Merkel-led" too.
    words = re.findall(r"[^\W_]+", source.text)
    if source.is_cased:
        of_names = [word.casefold() for word in words if not word.islower()]
    else:
        of_names = [word for word in words if len(word) > 2 and word not in _FREQUENT]
    return len(set(of_names)) < len(of_names)


class NamedSpans:
    """Spans with their words.

    Attributes:
        spans: of a section.
        source: the section.
        probabilities: of the candidates. *Shape:* (m, k), float32.
        characters: ``[start, end)`` of each span. *Shape:* (m, 2), int64.
        words: of each span.
        is_mention: probability as a mention. *Shape:* (m,), float32.
        scores: the higher of that and the probability of a link. *Shape:* (m,), float32.
        mentions: indices of disjoint spans that are mentions, by position.
        names: those of them that have several words.
    """

    def __init__(self, spans: ScoredSpans, source: TokenizedText) -> None:
        self.spans, self.source = spans, source
        self.probabilities = link_probabilities(spans)
        offsets = source.encoding.offsets
        self.characters = np.stack([offsets[spans.start, 0], offsets[spans.end, 1]], axis=1)
        self.words = [words_of(source.text[start:end]) for start, end in self.characters.tolist()]
        self.is_mention = 1 / (1 + np.exp(-np.clip(spans.mention_logits, -30, 30)))
        self.scores = np.maximum(self.is_mention, self.probabilities.sum(1))
        self.mentions = self._disjoint(self.scores)
        self.names = {i for i in self.mentions if len(self.words[i]) > 1}

    def _disjoint(self, scores: np.ndarray) -> list[int]:
        covered = np.zeros(int(self.spans.end.max()) + 1, dtype=bool)
        mentions = []
        for i in np.argsort(-scores, kind="stable").tolist():
            if scores[i] < MIN_MENTION:
                break
            tokens = slice(int(self.spans.start[i]), int(self.spans.end[i]) + 1)
            if not covered[tokens].any():
                covered[tokens] = True
                mentions.append(i)
        return sorted(mentions, key=lambda i: int(self.spans.start[i]))

    def antecedent(self, i: int, kind: str) -> Antecedent:
        """A span as a name that others follow."""
        return Antecedent(kind, self.spans.rows[i], self.probabilities[i])

    def covered(self, indices: Iterable[int]) -> np.ndarray:
        """Tokens of some spans. *Shape:* (tokens + 1,), bool."""
        covered = np.zeros(len(self.source.encoding.ids) + 1, dtype=bool)
        for i in indices:
            covered[int(self.spans.start[i]) : int(self.spans.end[i]) + 1] = True
        return covered

    def may_follow(self, i: int) -> bool:
        """Whether a span may be a short mention: a mention, or where capital letters tell names, one that they set apart."""
        start, end = self.characters[i].tolist()
        text, is_mention = self.source.text, self.is_mention[i] >= MIN_MENTION
        if not text[end - 1].isalnum() and "." not in text[start : end - 1]:
            return False
        return (
            text[start].isupper() and (is_mention or is_alone(text, start, end)) if self.source.is_cased else bool(is_mention)
        )

    def is_inside(self, i: int) -> bool:
        """Whether a span overlaps one that is more probably linked."""
        spans = self.spans
        overlapping = (spans.start <= spans.end[i]) & (spans.end >= spans.start[i])
        return bool((self.probabilities[overlapping, 0] > self.probabilities[i, 0]).any())

    def short_forms(self, i: int) -> Iterator[tuple[Words, str]]:
        """Words of the mentions that may follow a name, and how they are related to it."""
        start, end = self.characters[i].tolist()
        words, is_linked = self.words[i], self.probabilities[i, 0] >= MIN_LINKED
        if (initials := _initials(words, self.source.text, end)) is not None:
            yield (initials,), INITIALS
        cased = _WORD.findall(self.source.text[start:end])
        if _NOT_PLAIN.isdisjoint(self.source.text[start:end]) and _is_plain(cased, self.source.is_cased):
            stem = words[:-1] if len(words) > 2 and words[-1] in _SUFFIXES else words
            for k in range(1, len(words)):
                if k < len(stem) and len(stem[k]) > 2 and not stem[k].isdigit():
                    yield stem[k:], LAST
                    if stem != words:
                        yield words[k:], LAST
            if is_linked and len(stem) <= 3 and len(words[0]) > 2:
                yield words[:1], FIRST


def _is_plain(words: list[str], is_cased: bool) -> bool:
    """Whether the last words of a name stand for it."""
    small = [w for w in words if not w[0].isupper()] if is_cased else []
    return all(w in _PARTICLES for w in small) and _JOINING.isdisjoint(w.casefold() for w in words)


def _initials(words: Words, text: str, end: int) -> str | None:
    """The initials that a text defines in brackets behind a name."""
    if (definition := _DEFINITION.match(text, end)) is None:
        return None
    defined = definition[1].casefold()
    initials = ("".join(w[0] for w in words if w not in without) for without in (_JOINING | _PARTICLES, ()))
    return defined if defined in initials else None


def followers(named: NamedSpans, memory: NameMemory) -> dict[int, Antecedent]:
    """What each short mention follows: a full name before it, or else one behind it, or else another mention of its words."""
    spans, covered, followed = named.spans, named.covered(named.names), {}
    inside = np.concatenate([[0], np.cumsum(covered)])
    for i in named.mentions:
        if named.antecedent(i, SAME).is_linked:
            memory.add(named.words[i], named.antecedent(i, SAME))
    waiting = []
    for i in np.lexsort((spans.end, spans.start)).tolist():
        if i in named.names:
            for words, kind in named.short_forms(i):
                memory.add(words, named.antecedent(i, kind))
        elif inside[spans.end[i] + 1] > inside[spans.start[i]]:
            continue
        if not named.may_follow(i):
            continue
        if (name := memory.full_name(named.words[i], spans.rows[i], named.probabilities[i])) is None:
            waiting.append(i)
        else:
            followed[i] = name
    for i in waiting:
        name = memory.full_name(named.words[i], spans.rows[i], named.probabilities[i])
        if name is None and not named.is_inside(i):
            name = memory.same(named.words[i])
        if name is not None:
            followed[i] = name
    return followed


def _mixed(rows: np.ndarray, probabilities: np.ndarray, name: Antecedent, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and probabilities of a mention with those of its name, best first; of a name that is not linked they add no row."""
    of_name = {row: rate * p for row, p in zip(name.rows.tolist(), name.probabilities.tolist(), strict=True) if row >= 0}
    of_span = {row: p for row, p in zip(rows.tolist(), probabilities.tolist(), strict=True) if row >= 0}
    if name.is_linked:
        mixed = {row: of_name.get(row, 0) + (1 - rate) * of_span.get(row, 0) for row in [*of_span, *of_name]}
    else:
        mixed = {row: min(p, of_name.get(row, 0) + (1 - rate) * p) for row, p in of_span.items()}
    best = sorted(mixed.items(), key=lambda item: (-item[1], item[0]))[: len(rows)]
    padded = best + [(-1, 0.0)] * (len(rows) - len(best))
    return np.array([row for row, _ in padded]), np.array([p for _, p in padded])


def _added(named: NamedSpans, memory: NameMemory) -> ScoredSpans:
    """Mentions of names in the text that no stage proposed; only where capital letters tell names from other words."""
    k = named.spans.rows.shape[1]
    if not named.source.is_cased:
        return ScoredSpans.none(k)
    offsets, text, spans = named.source.encoding.offsets, named.source.text, named.spans
    proposed = set(zip(spans.start.tolist(), spans.end.tolist(), strict=True))
    covered = named.covered(named.mentions)
    columns = []
    for start, end, name in _occurrences(text, memory):
        first, last = int(np.searchsorted(offsets[:, 0], start)), int(np.searchsorted(offsets[:, 1], end))
        whole = last < len(offsets) and (offsets[first, 0], offsets[last, 1]) == (start, end)
        if whole and (first, last) not in proposed and not covered[first : last + 1].any():
            columns.append((first, last, RATES[name.kind, NONE, True] * float(name.probabilities[0]), int(name.rows[0])))
    if not columns:
        return ScoredSpans.none(k)
    firsts, lasts, probabilities, rows = map(np.array, zip(*columns, strict=True))
    logits = np.log(probabilities) - np.log1p(-probabilities)
    padding = ((0, 0), (0, k - 1))
    return ScoredSpans(
        firsts,
        lasts,
        logits.astype(np.float32),
        np.pad(rows[:, None], padding, constant_values=-1),
        np.pad(logits[:, None], padding, constant_values=-np.inf).astype(np.float32),
    )


def _occurrences(text: str, memory: NameMemory) -> Iterator[tuple[int, int, Antecedent]]:
    """Characters ``[start, end)`` of mentions by a name, alone: no other word with a capital letter is next to them."""
    matches = list(_WORD.finditer(text))
    words = [match[0].casefold() for match in matches]
    i = 0
    while i < len(words):
        step = 1
        lengths = range(min(LONGEST_SHORT, len(words) - i), 0, -1) if text[matches[i].start()].isupper() else ()
        for n in lengths:
            key = tuple(words[i : i + n])
            name = memory.full_name(key, _NO_ROWS, _NO_PROBABILITIES) or memory.same(key)
            if name is None or name.kind == FIRST or not name.is_linked or name.probabilities[0] < MIN_ADDED:
                continue
            start, end = matches[i].start(), matches[i + n - 1].end()
            if is_alone(text, start, end):
                yield start, end, name
                step = n
                break
        i += step


def is_alone(text: str, start: int, end: int) -> bool:
    """Whether no word with a capital letter is next to characters ``[start, end)`` in their sentence, other than an article or
    a preposition.
    """
    left, right = _LEFT.search(text, max(0, start - 40), start), _RIGHT.match(text, end)
    if left is not None and left[1].endswith(".") and not abbreviates(text, left.end(1) - 1):
        left = None
    return (left is None or not left[1][0].isupper() or left[1].casefold() in _JOINING) and (
        right is None or not right[1][0].isupper()
    )
