"""The names of a catalogue: which forms a text may use for an entity, and which forms name one entity only."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property

from blink.data.records import Entity
from blink.kb.alias_table import normalise, without_brackets
from blink.kb.catalogue import Catalogue

WORD = re.compile(r"\w+(?:-\w+|['’](?!s\b)\w+)*")
LATIN_END = 0x250
"""First code point after the Latin letters with accents."""
MAX_FORM_WORDS = 6
MIN_FORM_LETTERS = 4
DOMINANT_DEGREE = 60
DOMINANCE = 10
"""An entity with ``DOMINANT_DEGREE`` facts, and ``DOMINANCE`` times as many as its namesakes, is the usual meaning."""
PEOPLE_SHARE = 0.02
"""People named with a word, as a share of its occurrences, up to which the word is the name of something else."""
CONNECTED = 20
"""Number of facts from which a name of common words, such as United States, counts as a name."""
LEAD = 300
"""Characters of a description that define the entity."""

LIFE = re.compile(r"\([^()]*?(?:\bborn\b|\bb\. |\bc\. |\d{3,4}\s?[-–−]|\bdied\b)|\bborn (?:on |in )?\d")
DEFINITION = re.compile(
    r"\b(?:is|was|are|were) (?:(?:one|some) of )?(an?|the) ((?:[^.,;:()]|\.(?=\w))+?)(?= (?:who|that|which|whose|best|known|"
    r"born|and|from|in|at|on|of|for|based|located|with|by|to|released|founded|established|written|directed|since|as)\b|[.,;:()])"
)
ADJECTIVE = re.compile(r"\b(?:is|was) an? ([A-Z]\w+(?:-[A-Z]\w+)*) [a-z]")
TEAM = re.compile(
    r"\b(american football|football|basketball|baseball|hockey|rugby|cricket|volleyball|handball|soccer|sports?)"
    r"(?: union| league)? (?:club|team|franchise|side)\b",
    re.IGNORECASE,
)
ATHLETE = re.compile(r"\b(?:footballer|(?:football|basketball|baseball|hockey|soccer) player)\b")
PLACE = re.compile(
    r"\b(?:city|town|village|municipality|commune|capital|borough|metropolis|port|settlement|country|sovereign state|"
    r"republic|kingdom|nation)\b",
    re.IGNORECASE,
)
LANGUAGE = re.compile(r"\b(?:languages?|dialect|people|peoples|ethnic group|ethnic groups)\b")
"""Languages and peoples share their names with adjectives."""
NATIONALITY = re.compile(r"[A-Z][a-z]+(?:an|ish|ese|nch|tch|lsh|eek|wiss|raqi|aeli)")
NOT_ALIAS = re.compile(r"known as|['’]s$|[(){}\[\]/\\\"“”,;:|]|\d{3}")
CALENDAR = frozenset(
    [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "Christmas",
        "Easter",
    ]
)
PARTICLES = frozenset(
    [
        "of",
        "the",
        "and",
        "de",
        "la",
        "le",
        "les",
        "du",
        "des",
        "der",
        "die",
        "das",
        "von",
        "van",
        "den",
        "di",
        "del",
        "della",
        "da",
        "do",
        "dos",
        "y",
        "e",
        "al",
        "el",
        "bin",
        "ibn",
        "for",
        "in",
        "on",
        "at",
        "to",
        "zu",
        "a",
        "an",
    ]
)
TITLES = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "sir",
        "lord",
        "lady",
        "dame",
        "king",
        "queen",
        "prince",
        "princess",
        "saint",
        "st",
        "pope",
        "the",
        "general",
        "captain",
        "colonel",
        "major",
    ]
)


class Names:
    """Forms and kinds of the entities of a catalogue, computed when first used.

    Args:
        catalogue: the entities.
        neighbours: row -> rows with which it shares a fact.
        rows_of: normalized form -> the rows that have it as title or alias.
        people: rows known to be people.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        neighbours: Mapping[int, list[int]],
        rows_of: Mapping[str, set[int]],
        people: Iterable[int],
    ) -> None:
        self.catalogue, self.neighbours, self.rows_of = catalogue, neighbours, rows_of
        self.people = set(people)
        self.prose: list[int] = []
        self.places: list[int] = []
        self.athletes: list[int] = []
        self.team_sports: dict[int, str] = {}
        self._languages: set[int] = set()
        self._lower: Counter[str] = Counter()
        self._capital: Counter[str] = Counter()
        self._adjectives: Counter[str] = Counter()
        self.first_names: Counter[str] = Counter()
        self.surnames: Counter[str] = Counter()
        self._scan()

    def _scan(self) -> None:
        for entity in self.catalogue:
            lead = entity.text[:LEAD]
            counts = Counter(WORD.findall(entity.text))
            for word, count in counts.items():
                (self._lower if word.islower() else self._capital)[word.lower()] += count
            self._adjectives.update(ADJECTIVE.findall(lead))
            title = without_brackets(entity.title)
            if not title[:1].isupper():
                continue
            if entity.text.count(" ") > 8 and entity.text.rstrip('"”)').endswith((".", "!", "?")):
                self.prose.append(entity.row)
            if LIFE.search(lead) and re.search(r"\b(?:is|was) (?:an?|the) ", lead) and " " in title:
                self.people.add(entity.row)
            if entity.row in self.people:
                words = title.split(" ")
                self.first_names[words[0]] += len(words) > 1
                self.surnames[words[-1]] += len(words) > 1
                if ATHLETE.search(lead):
                    self.athletes.append(entity.row)
                continue
            definition = self.definition(entity)
            team = TEAM.search(definition)
            if LANGUAGE.search(definition):
                self._languages.add(entity.row)
            if team:
                self.team_sports[entity.row] = team[1].lower()
            elif PLACE.search(definition):
                self.places.append(entity.row)

    def definition(self, entity: Entity) -> str:
        """The noun phrase by which the description defines an entity, such as ``Jamaican sprinter``; "" if none."""
        text = entity.text
        if text and len(text) <= 90 and not text.endswith("."):
            return text
        match = DEFINITION.search(text[:LEAD])
        return match[2].strip() if match and match[2].count(" ") < 8 else ""

    @cached_property
    def prose_rows(self) -> frozenset[int]:
        """Rows of the entities whose description is a sentence or more."""
        return frozenset(self.prose)

    @cached_property
    def adjectives(self) -> frozenset[str]:
        """Capitalised adjectives such as ``American``, which occur before common nouns."""
        counts = self._adjectives.items()
        usual = (w for w, n in counts if n > 2 and (NATIONALITY.fullmatch(w) or n > 0.03 * self._capital[w.lower()]))
        return frozenset(usual)

    def is_common(self, word: str) -> bool:
        """Whether a word also occurs in lower case, so that its capital letter may be that of a sentence or a heading."""
        word = word.lower()
        return self._lower[word] > 1 + 0.02 * self._capital[word]

    def starts_sentence(self, word: str) -> bool:
        """Whether a capitalised word is an ordinary word when it is the first of a sentence."""
        word = word.lower()
        return self._lower[word] >= 3 and self._lower[word] > 0.3 * self._capital[word]

    def is_language(self, row: int) -> bool:
        """Whether an entity is a language or a people, whose name is also an adjective."""
        return row in self._languages

    def degree(self, row: int) -> int:
        """Number of facts of an entity."""
        return len(self.neighbours.get(row, ()))

    def forms(self, entity: Entity) -> list[str]:
        """Title and usable aliases of an entity, and the surname of a person."""
        title = without_brackets(entity.title)
        forms = [title, *(a for a in entity.aliases if self._is_usable(a, title))]
        if entity.row in self.people and (surname := self.surname(title)):
            forms.append(surname)
        return list(dict.fromkeys(forms))

    def surname(self, title: str) -> str:
        """The last name in a person's title; "" if it cannot be told."""
        words = title.split(" ")
        last = words[-1]
        usable = len(words) > 1 and len(last) > 2 and last[0].isupper() and last.rstrip(".") not in ("Jr", "Sr", "III")
        return last if usable and not {"of", "the"} & set(words) else ""

    def usual_row(self, form: str) -> int | None:
        """The entity that a form names without context: the only one, or one with far more facts than its namesakes."""
        rows = self.rows_of.get(normalise(form), ())
        if len(rows) == 1:
            return next(iter(rows))
        ranked = sorted(((self.degree(r), r) for r in rows), reverse=True)
        if ranked and ranked[0][0] >= DOMINANT_DEGREE and ranked[0][0] >= DOMINANCE * (1 + ranked[1][0]):
            return ranked[0][1]
        return None

    @cached_property
    def unambiguous(self) -> dict[str, int]:
        """Form as written -> row, for the forms that name one entity in any text."""
        table: dict[str, int] = {}
        for entity in self.catalogue:
            title = without_brackets(entity.title)
            for form in (title, *entity.aliases):
                if self._names_one(form, title, entity.row):
                    table[form] = entity.row
        return table

    def _names_one(self, form: str, title: str, row: int) -> bool:
        words = form.split(" ")
        if len(form) < MIN_FORM_LETTERS or not form[0].isupper() or not self._is_usable(form, title):
            return False
        if self.usual_row(form) != row or form in self.adjectives or row in self._languages:
            return False
        if form in CALENDAR or (form != title and row in self.team_sports):
            return False
        if len(words) == 1:
            of_people = self.first_names[form] + self.surnames[form]
            one_word = form == title and row not in self.people and of_people <= PEOPLE_SHARE * self._capital[form.lower()]
            return one_word and not self.is_common(form)
        all_common = all(w.lower() in PARTICLES or self.is_common(w) for w in words)
        return not all_common or (form == title and self.degree(row) >= CONNECTED)

    @staticmethod
    def _is_usable(form: str, title: str) -> bool:
        """Whether a form looks like a name that texts use, unlike codes and transliterations."""
        if form == title:
            return True
        if len(form) < 3 or not (form[0].isupper() or form[0].isdigit()) or NOT_ALIAS.search(form):
            return False
        words = form.split(" ")
        if len(words) > MAX_FORM_WORDS or any(ord(c) >= LATIN_END and c.isalpha() for c in form):
            return False
        if any(w[:1].islower() and w not in PARTICLES for w in words) or words[0].lower() in TITLES:
            return False
        if form.isupper() and len(words) == 1:  # codes of countries and stocks
            initials = "".join(w[0] for w in re.split(r"[ -]", title) if w and w[0].isupper())
            return form.replace(".", "") == initials and len(initials) > 1
        return True


def sharing_forms(names: Names) -> dict[str, list[int]]:
    """Form -> rows, for the forms that are title or alias of more than one entity, or the surname of a person too."""
    rows_of: dict[str, set[int]] = defaultdict(set)
    for entity in names.catalogue:
        if entity.title[:1].isupper() and names.definition(entity):
            for form in names.forms(entity):
                rows_of[form].add(entity.row)
    return {form: sorted(rows) for form, rows in rows_of.items() if len(rows) > 1 and form not in names.adjectives}
