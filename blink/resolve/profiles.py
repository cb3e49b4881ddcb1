"""Profiles: what of a record or an entity is compared, prepared once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from blink.data.ids import wikidata_id
from blink.data.records import Entity
from blink.kb.alias_table import normalise
from blink.resolve.kinds import kind_of_description, kinds_of
from blink.resolve.name_match import NameMatch, match_names
from blink.resolve.names import Name, acronyms, parse_name, sound_key
from blink.resolve.records import Record
from blink.resolve.word_tables import KIND_WORDS, SHORT_FORMS, STOP_WORDS

RELATIONS = ("exact", "spacing", "full", "acronym", "contained", "conflict")
"""Relations of names, the closest first."""
MAX_NAMES = 48
"""Most names of an entity that are compared."""
_STEM = 5
_YEAR = re.compile(r"\b(1[0-9]\d\d|20\d\d)\b")


@dataclass(frozen=True, eq=False)
class Profile:
    """What of a record or an entity is compared.

    Attributes:
        names: title or name first, then aliases.
        text: description and context.
        description: the description alone.
        types: what it is.
        ids: its ids, by system or source.
        vector: of name and text by the candidate encoder. *Shape:* (d,), float32; None where there is none.
        text_vector: of the text alone. *Shape:* (d,), float32; None where there is no text.
    """

    names: tuple[str, ...]
    text: str = ""
    types: tuple[str, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    vector: npt.NDArray[np.float32] | None = None
    text_vector: npt.NDArray[np.float32] | None = None

    @classmethod
    def of_record(cls, record: Record) -> Profile:
        """The profile of a record, without vectors."""
        ids = {} if record.id is None else {record.id_system: record.id} | _wikidata(record.id)
        return cls((record.name, *record.aliases), record.text, record.types, ids, record.description)

    @classmethod
    def of_entity(cls, entity: Entity) -> Profile:
        """The profile of an entity, without vectors."""
        ids = dict(entity.ids) | _wikidata(entity.kb_id or "")
        return cls((entity.title, *entity.aliases[: MAX_NAMES - 1]), entity.text, entity.types, ids, entity.text)

    @cached_property
    def parsed(self) -> tuple[Name, ...]:
        """The names, taken apart."""
        return tuple(map(parse_name, self.names))

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Its kinds, by its types, or else by its description."""
        of_types = kinds_of(self.types)
        described = None if of_types else kind_of_description(self.description)
        return of_types if described is None else frozenset((described,))

    def is_a(self, kind: str) -> bool:
        """Whether it is of a kind such as ``person``, or of a sort of it."""
        return any(one.split("/")[0] == kind for one in self.kinds)

    @cached_property
    def qualifiers(self) -> frozenset[str]:
        """Stems of what names have in brackets, such as ``1984 film``."""
        return stems(" ".join(name.qualifier for name in self.parsed))

    @cached_property
    def stems(self) -> frozenset[str]:
        """Stems of the words of text, brackets and types, without those that every text has."""
        return stems(self.text) | self.qualifiers | stems(" ".join(self.types))

    @cached_property
    def years(self) -> frozenset[str]:
        """Years from 1000 to 2099 in text and brackets."""
        return frozenset(_YEAR.findall(" ".join((self.text, *(name.qualifier for name in self.parsed)))))

    @cached_property
    def proper_words(self) -> frozenset[str]:
        """Stems of capitalized words of the description, but for the first and those of kinds, such as ``War``; the sentence
        around a mention names other things.
        """
        words = re.findall(r"\w+", self.description)[1:]
        return stems(" ".join(word for word in words if word[:1].isupper() and word.casefold() not in KIND_WORDS))

    def first_names(self, initial: str) -> frozenset[str]:
        """First names in the text that an initial may stand for: in front of its first comma, or known ones."""
        begin = re.match(r"[^\W\d_]+(?=,)", self.text)
        words = re.findall(r"[^\W\d_]{2,}", self.text)
        names = {word for word in words if word.casefold() in SHORT_FORMS} | ({begin[0]} if begin else set())
        return frozenset(name for name in names if name[0] == initial.upper())

    @cached_property
    def name_stems(self) -> frozenset[str]:
        """Stems of the words of all names."""
        return frozenset(word[:_STEM] for name in self.parsed for word in name.form.split())

    @cached_property
    def name_keys(self) -> tuple[frozenset[str], ...]:
        """For each name what another must share to agree with it: sounds and first letters of words, and acronyms."""
        return tuple(map(_keys_of, self.parsed))

    @cached_property
    def all_name_keys(self) -> frozenset[str]:
        """Those of all names."""
        return frozenset().union(*self.name_keys)

    def may_match(self, other: Profile) -> bool:
        """Whether a word of a name may agree with one of the other's: where none does, there is nothing to compare."""
        return not self.all_name_keys.isdisjoint(other.all_name_keys)

    def match(self, other: Profile) -> NameMatch:
        """How the names that are closest to each other relate."""
        best, best_key = None, (len(RELATIONS), False, 0.0)
        for (a, keys_a), (b, keys_b) in product(
            zip(self.names, self.name_keys, strict=True), zip(other.names, other.name_keys, strict=True)
        ):
            if best is not None and not keys_a & keys_b:
                continue
            match = match_names(a, b)
            key = (RELATIONS.index(match.relation), match.is_number_missing, -match.similarity)
            if best is None or key < best_key:
                best, best_key = match, key
        assert best is not None  # every profile has a name
        return best


def _wikidata(text: str) -> dict[str, str]:
    """An id of Wikidata by its system. Own ids of two entities may differ where both are one thing, these may not."""
    plain = wikidata_id(text)
    return {} if plain is None else {"wikidata": plain}


def stems(text: str) -> frozenset[str]:
    """The first five letters of each word of a text, without words that every text has."""
    return frozenset(word[:_STEM] for word in normalise(text).split() if word not in STOP_WORDS and len(word) > 1)


def _keys_of(name: Name) -> frozenset[str]:
    keys = {word[0] + sound_key(word)[:2] for word in name.words} | {sound_key(word)[:3] for word in name.words}
    keys |= {name.joined[:4]} | {f"={letters}" for letters in acronyms(name.text)}
    return frozenset(keys | ({f"={name.joined}"} if name.is_acronym else set()))


def with_vectors(
    profiles: Sequence[Profile], vectors: npt.NDArray[np.float32], texts: Iterable[npt.NDArray[np.float32] | None]
) -> list[Profile]:
    """The profiles with vectors of name and text, and of the text alone. *Shape of vectors:* (profiles, d)."""
    return [
        replace(profile, vector=vector, text_vector=of_text)
        for profile, vector, of_text in zip(profiles, vectors, texts, strict=True)
    ]
