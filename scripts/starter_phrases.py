"""Sentences about entities, generated from their facts; the choice between phrases is seeded by the entity's id."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.starter_facts import Item
from scripts.starter_tables import (
    COUNTRY_NAMES,
    COUNTRY_OF,
    DEMONYM_OF,
    NO_LONGER,
    WITH_ARTICLE,
)

MOST_WORDS = 20
"""Words of the sentences of an entity, about."""
_BRACKETS = re.compile(r"\s*\([^()]*\)$")
_CODE = re.compile(r"\b[A-Z]{2}\b")


@dataclass(frozen=True)
class Names:
    """Names of the entities that facts refer to.

    Attributes:
        labels: by id.
        popularity: by id.
        nicknames: names of teams, such as ``Chicago Bulls``, that take an article.
    """

    labels: Mapping[str, str]
    popularity: Mapping[str, float]
    nicknames: frozenset[str] = frozenset()

    def with_the(self, name: str) -> str:
        """The name with its article, where it has one: of countries, prizes, parties and teams with nicknames."""
        if name.startswith(("The ", "A ", "Prix ", "Saint ", "St")):
            return name
        has_article = name in self.nicknames or _PRIZE.search(name) or _INSTITUTION.match(name)
        return f"the {name}" if has_article else place(name)

    def of(self, value: str) -> str:
        """The name of an id or the label itself; empty where there is none."""
        label = self.labels.get(value, "") if re.fullmatch(r"Q\d+", value) else value
        return _BRACKETS.sub("", label).strip().rstrip("'")

    def best(self, item: Item, attribute: str, limit: int, lower: bool = False) -> list[str]:
        """The names of the most popular values of an attribute."""
        values = sorted(item.values.get(attribute, ()), key=lambda v: -self.popularity.get(v, 0.0))
        names = dict.fromkeys(name for v in values if (name := self.of(v)) and name[:1].islower() == lower)
        return [name for name in names if name != _BRACKETS.sub("", item.title) and len(name) <= 45][:limit]


def article(phrase: str) -> str:
    """The phrase with its indefinite article."""
    word = re.split(r"[ \-]", phrase)[0]
    vowel = word[:1].lower() in "aeiou" and not re.match(r"(?i)uni|use|eu|one|ur[aou]|u\.?s\.?$|uk$|ut", word)
    letters = re.fullmatch(r"[A-Z][A-Z0-9&]*", word) and word[0] in "AEFHILMNORSX" and len(word) <= 3
    return f"{'an' if vowel or letters or word.lower() in {'hour', 'heir', 'honor', 'honorary'} else 'a'} {phrase}"


def listed(names: Sequence[str]) -> str:
    """Names as a list in prose."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def place(name: str) -> str:
    """A place with its article, where it has one."""
    name = COUNTRY_NAMES.get(name, name)
    return f"the {name}" if name in WITH_ARTICLE or name.endswith((" Islands", " Emirates")) else name


def capitalised(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]


def rounded(population: int) -> str:
    """A population with two or three digits that count."""
    if population >= 1_000_000:
        number = f"{population / 1e6:.1f}".removesuffix(".0")
        return f"{number} million"
    step = 10_000 if population >= 100_000 else 1_000
    return f"{max(step, round(population / step) * step):,}"


class Writer:
    """Writes the sentences of one entity.

    Args:
        item: the entity.
        names: of what its facts refer to.
    """

    def __init__(self, item: Item, names: Names) -> None:
        self.item, self.names = item, names
        self._random = random.Random(hashlib.blake2b(item.id.encode(), digest_size=8).digest())
        self.pieces = 0

    def choice(self, *phrases: str) -> str:
        """One of the phrases."""
        return self._random.choice(phrases)

    def best(self, attribute: str, limit: int = 1, lower: bool = False) -> list[str]:
        """The names of the most popular values, counted as facts that are told."""
        names = self.names.best(self.item, attribute, limit, lower)
        self.pieces += len(names)
        return names

    def first(self, attribute: str) -> str:
        """The most popular value, or an empty string."""
        return next(iter(self.best(attribute)), "")

    def demonym(self, *attributes: str) -> str:
        """The nationality: of the description, else of the facts."""
        demonyms = self.item.described.demonyms[:2]
        if not demonyms:
            for attribute in attributes:
                values = sorted(self.item.values.get(attribute, ()), key=lambda v: -self.names.popularity.get(v, 0.0))
                names = [COUNTRY_NAMES.get(n, n) for n in map(self.names.of, values)]
                demonyms = (
                    tuple(n for n in names if n in DEMONYM_OF.values())[:1]
                    or tuple(DEMONYM_OF[n] for n in names if n in DEMONYM_OF)[:1]
                )
                if demonyms:
                    break
        self.pieces += len(demonyms)
        return "-".join(demonyms)

    def where(self, noun: str = "") -> str:
        """Where it is, such as `` in Harris County, Texas``; begins with a blank, or is empty."""
        chain = [(prep, p) for prep, p in self.item.described.places if not _CODE.search(p) and len(p) < 60]
        title = _BRACKETS.sub("", self.item.title)
        if chain:
            phrases = []
            for prep, name in chain[:2]:
                units = [COUNTRY_NAMES.get(u, u) for u in name.replace("USA", "United States").split(", ")]
                units = [u for u in dict.fromkeys(units) if u != title and not u.startswith(("and ", "City of "))][:3]
                if units and units[0] not in COUNTRY_OF:
                    units[0] = self.names.with_the(units[0])
                    phrases.append(f" {prep} {', '.join(units)}")
                    self.pieces += len(units)
            if phrases:
                return "".join(phrases)
        for county in ("county", "located", "within", "state"):
            inner = [n for n in self.names.best(self.item, county, 3) if n != title]
            if inner:
                break
        else:
            inner = []
        countries = self.names.best(self.item, "country", 5)
        country = next((c for c in countries if c not in NO_LONGER and inner[:1] != ["Crimea"]), "")
        states = self.names.best(self.item, "state", 1)
        units = list(dict.fromkeys(COUNTRY_NAMES.get(u, u) for u in (*inner[:1], *states, country) if u and u != title))
        self.pieces += len(units)
        return f" in {', '.join([place(units[0]), *units[1:3]])}" if units else ""

    def clauses(self, table: Sequence[tuple[str, float, int, tuple[str, ...]]]) -> list[str]:
        """Predicates with their objects, those with most to say first.

        Args:
            table: attribute, weight of a value, most values, phrases.
        """
        rows = [(min(12, len(self.item.values.get(row[0], ()))) * row[1], row) for row in table]
        predicates: list[str] = []
        mentioned: set[str] = set()
        for total, (attribute, _, limit, phrases) in sorted(rows, key=lambda scored: -scored[0]):
            names = [name for name in self.names.best(self.item, attribute, limit + 2) if name not in mentioned][:limit]
            if total and names:
                mentioned.update(names)
                self.pieces += len(names) if len(predicates) < 2 else 0
                predicates.append(f"{self.choice(*phrases)} {listed(list(map(self.names.with_the, names)))}")
        return predicates

    def joined(self, lead: str, predicates: Sequence[str], pronoun: str) -> str:
        """A lead and predicates about it as one sentence or two, as far as the words go."""
        sentence_predicates: list[str] = []
        words = len(lead.split())
        for predicate in predicates[:3]:
            words += len(predicate.split()) + 1
            if sentence_predicates and words > MOST_WORDS:
                break
            sentence_predicates.append(predicate)
        lead = capitalised(lead)
        if not sentence_predicates:
            return f"{lead}."
        if pronoun and self._random.random() < 0.5:
            return f"{lead}. {pronoun} {listed(sentence_predicates)}."
        relative = "who" if self.item.kind in {"person"} else "which"
        return f"{lead}, {relative} {listed(sentence_predicates)}."


_INSTITUTION = re.compile(
    r"(?:University|Institute|College|Museum|Academy|Order|Republic|Church|Massachusetts Institute|California Institute|Royal|"
    r"United States|National|Government|Ministry|Department|Council|Juilliard|London School|Art Institute|Rhode Island School|"
    r"House|Bank|Federation|Ivy|Great Lakes)\b"
)
_PRIZE = re.compile(
    r"(?:Award|Prize|Medal|Cup|Bear|Lion|Globe|Party|Hall of Fame|Academy of \w+|Royal Society|Air Force|Navy|Army|League|"
    r"Association|Conference|Orchestra|Choir|River|Ocean|Sea|Democrats|Union|Brothers|Boys|Girls|Stones|Islands)"
    r"(?: of .*| for .*)?$"
)
