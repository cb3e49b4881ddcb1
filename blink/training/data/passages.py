"""Prose of the catalogue's descriptions with the names that the catalogue knows labelled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from blink.data.records import NOT_IN_CATALOGUE, Entity, Sample
from blink.errors import SettingsError
from blink.kb.alias_table import normalise, without_brackets
from blink.training.data.names import LATIN_END, MAX_FORM_WORDS, WORD, Names
from blink.training.data.segments import NO_MENTION, Segment, assemble

MAX_WORDS = 90
MAX_SENTENCES = 4
MAX_NEIGHBOURS = 200
UNKNOWN_SHARE = 0.1
"""Share of the entities of a passage that count as absent from the catalogue."""
OWN_ALIAS_SHARE = 0.5
OTHER_ALIAS_SHARE = 0.15
BRACKETS_SHARE = 0.6
"""Share of the passages without their first brackets, which hold dates and pronunciations."""
EMPTY_SHARE = 0.2
"""Share of the passages without mentions that are used."""
TRIES = 200

SENTENCE = re.compile(
    r"(?<=[\w)\]\"”'’][.!?])(?<!\b\w\.)(?<!\b(?:St|Dr|Mr|Ms|Jr|Sr|Mt|Ft|Lt|No|vs|Co)\.)(?<!\b(?:Mrs|Inc|Ltd|Col|Gen|Rev|Hon)\.)"
    r"(?<!\b(?:Prof|Capt)\.)\s+(?=[A-Z\"“])"
)
ABBREVIATIONS = frozenset(
    [
        "St",
        "Dr",
        "Mr",
        "Ms",
        "Mrs",
        "Jr",
        "Sr",
        "Mt",
        "Ft",
        "Lt",
        "No",
        "Col",
        "Gen",
        "Prof",
        "Rev",
        "Hon",
        "Capt",
        "Inc",
        "Co",
        "Ltd",
        "vs",
    ]
)
LINK = re.compile(
    r"\.? |-|–|/|&| & |\.|['’]s? |['’]| (?:of|for|de|la|le|du|des|der|von|van|den|di|del|della|da|do|dos|y|al|el|bin|ibn|zu)"
    r"(?: (?:the|la|los|las|der|den))? | (?:the|d['’])"
)
"""Between two capitalised words of one name."""
SEPARATE = re.compile(r"['’]s ")
ORDINARY = frozenset(
    [
        "the",
        "a",
        "an",
        "in",
        "on",
        "at",
        "he",
        "she",
        "it",
        "his",
        "her",
        "they",
        "this",
        "these",
        "those",
        "that",
        "after",
        "as",
        "for",
        "from",
        "by",
        "with",
        "when",
        "while",
        "during",
        "although",
        "since",
        "their",
        "its",
        "and",
        "but",
        "or",
        "if",
        "then",
        "there",
        "here",
        "we",
        "you",
        "i",
        "who",
        "what",
        "where",
        "which",
        "how",
        "why",
        "some",
        "many",
        "most",
        "all",
        "both",
        "one",
        "two",
        "three",
        "its",
        "to",
        "not",
        "no",
        "also",
        "however",
        "later",
    ]
)
HONORIFICS = frozenset(
    [
        "Sir",
        "Dame",
        "Dr",
        "Mr",
        "Mrs",
        "Ms",
        "Captain",
        "General",
        "Colonel",
        "President",
        "Senator",
        "Pope",
        "King",
        "Queen",
        "Prince",
        "Princess",
        "Lord",
        "Lady",
        "Saint",
        "Emperor",
        "Professor",
        "Governor",
        "Judge",
        "Director",
        "Minister",
    ]
)
DATES = re.compile(
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)(?=,? \d)|"
    r"(?<=\d )(?:January|February|March|April|May|June|July|August|September|October|November|December)|"
    r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|I|BC|AD"
)


class Passages:
    """Passages of the descriptions of a catalogue.

    Args:
        names: of the catalogue.
    """

    def __init__(self, names: Names) -> None:
        self._names = names

    def draw(self, random: np.random.Generator, name: str, row: int | None) -> Sample:
        """One to four sentences of the description of the entity of ``row``, or of another if it has no prose.

        Raises:
            SettingsError: no description of the catalogue is prose.
        """
        prose = self._names.prose
        for _ in range(TRIES if prose else 0):
            entity = self._names.catalogue[prose[random.integers(len(prose))] if row is None else row]
            row = None
            passage = self.excerpt(entity.text, random)
            if passage:
                sample = self.labelled(name, passage, entity, random)
                if sample.mentions or random.random() < EMPTY_SHARE:
                    return sample
        raise SettingsError(
            "the source passage needs a catalogue with descriptions of a sentence or more; choose other sources"
        )

    @staticmethod
    def excerpt(text: str, random: np.random.Generator) -> str:
        """One to four consecutive sentences, at most `MAX_WORDS` words; "" if the text has none."""
        if random.random() < BRACKETS_SHARE:
            text = re.sub(r" \([^()]*(?:\([^()]*\)[^()]*)*\)", "", text, count=1)
        sentences = [s for s in SENTENCE.split(text) if s.endswith((".", "!", "?", '"', "”"))]
        if not sentences:
            return ""
        first = 0 if random.random() < 0.5 else int(random.integers(len(sentences)))
        passage = ""
        for sentence in sentences[first : first + int(random.integers(1, MAX_SENTENCES + 1))]:
            longer = f"{passage} {sentence}".strip()
            if longer.count(" ") >= MAX_WORDS:
                break
            passage = longer
        return passage

    def labelled(
        self,
        name: str,
        text: str,
        entity: Entity,
        random: np.random.Generator,
        *,
        form: str | None = None,
        known: Mapping[str, int] | None = None,
    ) -> Sample:
        """A text with its names as mentions, some replaced with other forms, and the names that cannot be told unlabelled.

        Args:
            name: id of the sample.
            text: about ``entity``.
            entity: whose names, and those of its neighbours in the graph, are recognised.
            random: draws the forms, and the entities that count as absent from the catalogue.
            form: of the entity in all its mentions; drawn if None.
            known: further forms of the text -> row.
        """
        mentions, unlabelled = self.spans(text, self._local_forms(entity, text) | dict(known or {}))
        rows = sorted({row for _, _, row in mentions if form is None or row != entity.row})
        unknown = {row for row in rows if random.random() < UNKNOWN_SHARE}
        segments: list[Segment] = []
        offset, seen_rows = 0, set[int]()
        hidden = [(start, end, NO_MENTION) for start, end in unlabelled]
        for start, end, row in sorted((*mentions, *hidden)):
            written = text[start:end]
            if row == entity.row and form is not None:
                written = form
            elif row != NO_MENTION:
                written = self._other_form(written, row, entity, row in seen_rows, random)
                seen_rows.add(row)
            segments += [text[offset:start], (written, NOT_IN_CATALOGUE if row in unknown else row)]
            offset = end
        return with_unlabelled(name, [*segments, text[offset:]])

    def _other_form(self, form: str, row: int, own: Entity, repeated: bool, random: np.random.Generator) -> str:
        if random.random() >= (OWN_ALIAS_SHARE if row == own.row else OTHER_ALIAS_SHARE):
            return form
        entity = own if row == own.row else self._names.catalogue[row]
        title = without_brackets(entity.title)
        forms = self._names.forms(entity)
        if row in self._names.people:
            surname = self._names.surname(title)
            if repeated and surname:
                return surname
            forms = [f for f in forms if f != surname or row == own.row]
        if row != own.row:
            forms = [f for f in forms if f == title or self._names.unambiguous.get(f) == row]
        forms = [f for f in forms if f not in self._names.adjectives]
        return str(forms[random.integers(len(forms))]) if forms else form

    def _local_forms(self, entity: Entity, text: str) -> dict[str, int]:
        names = self._names
        rows: dict[str, int] = {}
        ambiguous: set[str] = set()
        for neighbour in names.neighbours.get(entity.row, ())[:MAX_NEIGHBOURS]:
            if names.is_language(neighbour):
                continue
            other = names.catalogue[neighbour]
            for form in names.forms(other):
                if form == names.surname(form) or (" " not in form and neighbour in names.people):
                    continue
                if rows.setdefault(form, neighbour) != neighbour:
                    ambiguous.add(form)
        rows = {f: r for f, r in rows.items() if f not in ambiguous and len(f) > 2 and f[0].isupper()}
        own = [f for f in names.forms(entity) if len(f) > 1 and (f[0].isupper() or f[0].isdigit())]
        title = without_brackets(entity.title)
        certain = {title, names.surname(title) if entity.row in names.people else title}
        for form in own:  # an alias shared with others, such as Liverpool in the description of its club, may name those
            rows[form] = entity.row if form in certain or len(names.rows_of.get(normalise(form), ())) < 2 else NO_MENTION
        title_words = set(title.split(" "))
        lead = re.match(
            r"(?:(?:The|Sir|Dame|Dr\.) )?((?:[^\W\d_a-z][\w.'’-]* ?(?:de |von |van |of |the )?)+)(?= \(| is | was |,)", text
        )
        if lead and entity.row in names.people and len(title_words & set(lead[1].split(" "))) > 1:
            rows[lead[1].strip()] = entity.row
        return {form: row for form, row in rows.items() if form not in names.adjectives or row == entity.row}

    def spans(self, text: str, local: dict[str, int]) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
        """The names of a text.

        Args:
            text: whose capital letters are as people write them.
            local: forms that are known from the context -> row. Other forms must name one entity of the catalogue only.

        Returns:
            start, end and row of each mention, and start and end of each capitalised sequence that cannot be labelled. A
            match next to another capitalised word, such as Chicago in University of Chicago, is part of such a sequence.
        """
        words = [(m.start(), m.end()) for m in WORD.finditer(text)]
        matches = self._matches(text, words, local)
        units = self._units(text, words, matches)
        links = [bool(self._link(text, a, b)) for a, b in pairwise(units)]
        blocked = [row == NO_MENTION for _, _, row in units]
        for i, linked in enumerate(links):
            if not linked or (SEPARATE.fullmatch(text[units[i][1] : units[i + 1][0]]) and not (blocked[i] or blocked[i + 1])):
                continue
            (start, end, row), (_, _, following) = units[i], units[i + 1]
            honorific = (
                text[start:end] in HONORIFICS
                and following in self._names.people
                and " " in text[units[i + 1][0] : units[i + 1][1]]
            )
            if not honorific:
                units[i], units[i + 1] = (start, end, NO_MENTION), (*units[i + 1][:2], NO_MENTION)
        mentions = [u for u in units if u[2] != NO_MENTION]
        unlabelled: list[tuple[int, int]] = []
        for i, (start, end, row) in enumerate(units):
            if row != NO_MENTION:
                continue
            if i and links[i - 1] and unlabelled and units[i - 1][2] == NO_MENTION:
                unlabelled[-1] = (unlabelled[-1][0], end)
            else:
                unlabelled.append((start, end))
        return mentions, unlabelled

    def _matches(self, text: str, words: list[tuple[int, int]], local: dict[str, int]) -> dict[int, tuple[int, int]]:
        """First word -> end and row of the longest known form that starts with it, without overlaps."""
        known = self._names.unambiguous
        matches: dict[int, tuple[int, int]] = {}
        i = 0
        while i < len(words):
            start = words[i][0]
            following = i + 1
            if text[start].isupper() or text[start].isdigit():
                for j in range(min(i + MAX_FORM_WORDS + 2, len(words)) - 1, i - 1, -1):
                    ends = [words[j][1] + 1, words[j][1]] if text[words[j][1] : words[j][1] + 1] == "." else [words[j][1]]
                    row_end = next(
                        ((r, e) for e in ends if (r := local.get(text[start:e], known.get(text[start:e]))) is not None), None
                    )
                    if row_end is not None:
                        matches[i] = row_end[1], row_end[0]
                        following = j + 1
                        break
            i = following
        return matches

    def _units(
        self, text: str, words: list[tuple[int, int]], matches: dict[int, tuple[int, int]]
    ) -> list[tuple[int, int, int]]:
        """Start, end and row (or `NO_MENTION`) of the matches and of the other words that may be names."""
        units: list[tuple[int, int, int]] = []
        for i, (start, end) in enumerate(words):
            if i in matches:
                units.append((start, *matches[i]))
            elif not (units and start < units[-1][1]) and self._may_name(text, start, end):
                initial = end - start == 1 and text[end : end + 1] == "."
                units.append((start, end + initial, NO_MENTION))
        return units

    def _may_name(self, text: str, start: int, end: int) -> bool:
        word = text[start:end]
        if not any(c.isupper() or (ord(c) >= LATIN_END and c.isalpha()) for c in word):
            return False
        if len(word) == 1 and text[end : end + 1] == ".":
            return True  # an initial
        if word.lower() in ORDINARY:
            return False
        date = DATES.match(text, start)
        if date and date.end() == end:
            return False
        before = text[:start].rstrip()
        if not before or before[-1] in '.!?:;"“(':
            return not self._names.starts_sentence(word)
        return True

    @staticmethod
    def _link(text: str, a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
        gap = text[a[1] : b[0]]
        if gap.startswith(". "):
            word = text[a[0] : a[1]].rsplit(" ", 1)[-1]
            return gap == ". " and (len(word) == 1 or word in ABBREVIATIONS)
        return not gap or LINK.fullmatch(gap) is not None


def with_unlabelled(name: str, segments: list[Segment]) -> Sample:
    """A text whose names with the row `NO_MENTION` are its unlabelled spans."""
    spans, offset = [], 0
    for segment in segments:
        form = segment if isinstance(segment, str) else segment[0]
        if not isinstance(segment, str) and segment[1] == NO_MENTION:
            spans.append((offset, offset + len(form)))
        offset += len(form)
    return replace(assemble(name, segments), unlabelled=tuple(spans))
