"""Texts whose tempting words name nothing in the catalogue: first names, adjectives, common nouns, and unknown longer names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.errors import SettingsError
from blink.kb.alias_table import normalise, without_brackets
from blink.training.data.names import NATIONALITY, PARTICLES, TITLES, Names
from blink.training.data.segments import NO_MENTION, Segment, assemble, filled

T = TypeVar("T")

KINDS = {"first_name": 0.3, "adjective": 0.12, "noun": 0.08, "person": 0.2, "place": 0.15, "organisation": 0.15}
"""Kind of text -> share."""
CONTRAST_SHARE = 0.3
"""Share of the texts about first names that are about the place of the name instead."""
MIN_PEOPLE = 3
"""People of the catalogue from which a word counts as a first name."""
TEMPTING_SHARE = 0.8
"""Share of first names that are also names of something else."""
TRIES = 100

COMPOSED: dict[str, tuple[str, ...]] = {
    "person": ("{f} {s}", "{f} {s}", "{f} {i}. {s}", "{f} {t} {s}", "Dr {f} {s}", "{f} {s}-{o}"),
    "place": (
        "{s} Street",
        "{p} Road",
        "{p} Street",
        "{s} Avenue",
        "Mount {s}",
        "Lake {s}",
        "{s} Bridge",
        "{s} Park",
        "Port {s}",
        "{f} Street",
        "{s} Square",
        "{p} Lane",
        "{s} Hill",
        "Fort {s}",
        "{s} Valley",
        "{p} Gardens",
    ),
    "organisation": (
        "{p} Airlines",
        "{s} & Sons",
        "{s} and {o}",
        "Inter {p}",
        "{p} Rovers",
        "Hotel {p}",
        "{p} Chamber Orchestra",
        "{s} Foundation",
        "{p} Evening Post",
        "{s} Bakery",
        "{p} General Hospital",
        "{s} Institute",
        "{p} Film Club",
        "Café {p}",
        "{f}'s Diner",
        "{p} Arms",
        "The {p} Review",
        "{s} Motors",
        "Bank of {p}",
        "University of {s}",
        "{p} Half Marathon",
        "St {f}'s Church",
    ),
}
"""Kind of name -> how names that the catalogue lacks are composed of a first name (f, t), a surname (s, o), an initial (i) and
a place (p) that it has."""


class Traps:
    """Generates texts in which the catalogue's names are not mentions, or only pieces of longer names.

    Args:
        names: of the catalogue.
        templates: kind of `KINDS` -> templates; ``{n}``, ``{m}`` are first names, ``{d}`` an adjective, ``{u}`` a composed
            name, ``{k}`` a place of the catalogue.
        about_places: templates whose ``{a}`` and ``{b}`` are places.
    """

    def __init__(self, names: Names, templates: Mapping[str, Sequence[str]], about_places: Sequence[str]) -> None:
        self._names, self._templates, self._about_places = names, templates, about_places
        excluded = PARTICLES | TITLES
        first = sorted(n for n, c in names.first_names.items() if c >= MIN_PEOPLE and n.isalpha() and n.lower() not in excluded)
        self._first = [n for n in first if n[0].isupper() and len(n) > 2 and n not in names.adjectives]
        self._tempting = [n for n in self._first if not names.people.issuperset(names.rows_of.get(normalise(n), ()))]
        self._surnames = sorted(
            n for n in names.surnames if n.isalpha() and n.istitle() and len(n) > 2 and n not in names.adjectives
        )
        self._adjectives = sorted(a for a in names.adjectives if NATIONALITY.fullmatch(a))
        titled = ((without_brackets(names.catalogue.title(row)), row) for row in names.places)
        self._places = [(t, row) for t, row in titled if t[:1].isupper() and t.count(" ") < 2 and names.usual_row(t) == row]
        self._people_places = [(t, row) for t, row in self._places if t in names.first_names]

    def draw(self, random: np.random.Generator, name: str) -> Sample:
        """A text with a trap.

        Raises:
            SettingsError: the catalogue has no people or no places.
        """
        if not (self._first and self._surnames and self._places):
            raise SettingsError("the source notname needs a catalogue with people and places; choose other sources")
        kind = str(random.choice(list(KINDS), p=list(KINDS.values())))
        if kind == "adjective" and not self._adjectives:
            kind = "first_name"
        if kind == "first_name" and self._people_places and random.random() < CONTRAST_SHARE:
            return self._about(random, name)
        template = _pick(self._templates[kind], random)
        slots: dict[str, Segment] = {"k": _pick(self._places, random)}
        slots |= {slot: (self._first_name(random), NO_MENTION) for slot in "nm"}
        if self._adjectives:
            slots["d"] = (_pick(self._adjectives, random), NO_MENTION)
            template = re.sub(r"\b([Aa])n? \{d\}", lambda m: f"{m[1]}{_n(str(slots['d'][0]))} {{d}}", template)
        if kind in COMPOSED:
            slots["u"] = (self.compose(kind, random), NOT_IN_CATALOGUE)
        return assemble(name, filled(template, slots))

    def compose(self, kind: str, random: np.random.Generator) -> str:
        """A name of pieces of the catalogue's names that is not a name of the catalogue.

        Raises:
            SettingsError: every name that was tried is in the catalogue.
        """
        pieces: dict[str, Callable[[], str]] = {
            "f": lambda: _pick(self._first, random),
            "t": lambda: _pick(self._first, random),
            "s": lambda: _pick(self._surnames, random),
            "o": lambda: _pick(self._surnames, random),
            "i": lambda: _pick("ABCDEFGHJKLMNPRSTW", random),
            "p": lambda: _pick(self._places, random)[0],
        }
        for _ in range(TRIES):
            composed = re.sub(r"\{(\w)\}", lambda m: pieces[m[1]](), _pick(COMPOSED[kind], random))
            if normalise(composed) not in self._names.rows_of:
                return composed
        raise SettingsError("names composed of those of the catalogue are all in it; choose other sources than notname")

    def _about(self, random: np.random.Generator, name: str) -> Sample:
        slots: dict[str, Segment] = {"a": _pick(self._people_places, random), "b": _pick(self._places, random)}
        return assemble(name, filled(_pick(self._about_places, random), slots))

    def _first_name(self, random: np.random.Generator) -> str:
        tempting = self._tempting and random.random() < TEMPTING_SHARE
        return _pick(self._tempting if tempting else self._first, random)


def _pick(values: Sequence[T], random: np.random.Generator) -> T:
    return values[int(random.integers(len(values)))]


def _n(word: str) -> str:
    return "n" if word[0] in "AEIOU" and not word.startswith(("Eu", "Uk", "Ur", "Ug")) else ""
