"""What is measured of a pair of profiles, and what forbids that they are one thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blink.resolve.kinds import CONTRARY, DIFFERENT, EQUAL, RELATED, UNKNOWN, compare_kinds, compare_types, kinds_of
from blink.resolve.name_match import EQUAL as EQUAL_WORD
from blink.resolve.name_match import INITIAL, NICKNAME, SOUND, TYPO, NameMatch
from blink.resolve.profiles import Profile
from blink.resolve.word_tables import COMMON_FAMILY_NAMES, OTHER_FIRST_NAMES, SHORT_FORMS

FEATURES = (
    "bias",
    "names_spacing",
    "names_full",
    "names_acronym",
    "names_contained",
    "names_conflict",
    "nickname",
    "sound",
    "typo",
    "initial",
    "reordered",
    "family_name_alone",
    "rest_unexplained",
    "rest_explained",
    "log_letters",
    "single_word",
    "number_missing",
    "generation_missing",
    "both_described",
    "one_described",
    "text_cosine",
    "name_text_cosine",
    "shared_words",
    "shared_proper_words",
    "year_shared",
    "year_conflict",
    "types_equal",
    "types_related",
    "types_different",
    "kinds_contrary",
    "weak_name_text_cosine",
    "no_equal_word",
    "both_initials",
    "proper_words_disjoint",
    "place_disjoint",
    "person",
    "place",
    "work",
    "organisation",
    "event",
    "inexact_person",
    "legal_form",
    "common_first_name",
    "common_family_name",
    "common_name",
    "single_word_work",
    "person_cosine",
    "place_cosine",
    "work_cosine",
)
"""Names of the features, and of their weights."""
AGAINST = frozenset((
    "names_spacing", "names_full", "names_acronym", "names_contained", "names_conflict", "nickname", "sound", "typo",
    "initial", "reordered", "family_name_alone", "rest_unexplained", "single_word", "number_missing",
    "generation_missing", "year_conflict", "types_related", "types_different", "kinds_contrary", "no_equal_word",
    "both_initials", "proper_words_disjoint", "place_disjoint", "inexact_person", "common_name", "single_word_work",
))  # fmt: skip
"""Features that never count for a pair: a name that is not exact says less than one that is, however many pairs of a labelled
set have the one or the other."""
FOR = frozenset((
    "text_cosine", "name_text_cosine", "shared_words", "shared_proper_words", "year_shared", "types_equal", "log_letters",
))  # fmt: skip
"""Features that never count against a pair."""
MORE_WORDS, OTHER_THINGS = "words that one name lacks", "descriptions name other things"
"""Doubts that a context may settle."""
_KINDS = ("person", "place", "work", "organisation", "event")
_MEAN_COSINE, _MEAN_NAMED_COSINE = 0.3, 0.5
"""About the mean cosine of two descriptions of one kind of thing, from which on it counts for; the same of names with
descriptions."""


@dataclass(frozen=True)
class Comparison:
    """What was measured of a pair.

    Attributes:
        values: of `FEATURES`. *Shape:* (features,), float64.
        forbidden: why they cannot be one thing; "" if they can.
        match: how their names relate.
        types: how their types relate, see `blink.resolve.kinds`.
        doubt: why a person must agree before they are merged, however probable it is; "" if none must.
    """

    values: npt.NDArray[np.float64]
    forbidden: str
    match: NameMatch
    types: str
    doubt: str


def compare(a: Profile, b: Profile) -> Comparison:
    """Measure a pair; the order of the two does not matter."""
    match, types = a.match(b), compare_types(a.types, b.types)
    rest = (*match.rest_a, *match.rest_b)
    explained = sum(word[:5] in b.stems for word in match.rest_a) + sum(word[:5] in a.stems for word in match.rest_b)
    names = a.name_stems | b.name_stems
    stems_a, stems_b = a.stems - names, b.stems - names
    shared = len(stems_a & stems_b)
    shorter = min(len(stems_a), len(stems_b))
    both = bool(a.text and b.text)
    cosine = _cosine(a.text_vector, b.text_vector, _MEAN_COSINE) - _MEAN_COSINE if both else 0.0
    agreeing = max(sum(match.agreements), 1)
    is_weak = match.relation in ("contained", "conflict", "acronym") or match.count(INITIAL) > 0
    is_single = match.letters > 0 and sum(match.agreements) <= 1
    of_kind = {kind: float(a.is_a(kind) or b.is_a(kind)) for kind in _KINDS}
    is_person = bool(of_kind["person"]) or any(name.honorifics for name in (*a.parsed, *b.parsed))
    common_first, common_family = (any(test(p) for p in (a, b)) for test in (_has_common_first_name, _has_common_family_name))
    family_alone = match.relation == "contained" and match.last_word_agrees and is_single and is_person
    proper_a, proper_b = a.proper_words - names, b.proper_words - names
    disjoint = bool(proper_a and proper_b and not proper_a & b.stems and not proper_b & a.stems)
    values = {
        "bias": 1.0,
        **{f"names_{name}": float(match.relation == name) for name in ("spacing", "full", "acronym", "contained", "conflict")},
        "nickname": float(match.count(NICKNAME) > 0),
        "sound": match.count(SOUND) / agreeing,
        "typo": match.count(TYPO) / agreeing,
        "initial": min(match.count(INITIAL), 2.0),
        "reordered": float(match.reordered),
        "family_name_alone": float(family_alone),
        "rest_unexplained": float(min(len(rest) - explained, 3)) if match.relation != "acronym" else 0.0,
        "rest_explained": float(min(explained, 3)) if match.relation != "acronym" else 0.0,
        "log_letters": float(np.log1p(match.letters)),
        "single_word": float(is_single),
        "number_missing": float(match.is_number_missing),
        "generation_missing": float(match.is_generation_missing),
        "both_described": float(both),
        "one_described": float(bool(a.text) != bool(b.text)),
        "text_cosine": cosine,
        "name_text_cosine": _cosine(a.vector, b.vector, _MEAN_NAMED_COSINE),
        "shared_words": shared / shorter if shorter else 0.0,
        "shared_proper_words": float(min(len((a.proper_words & b.stems) | (b.proper_words & a.stems) - names), 3)),
        "year_shared": float(bool(a.years & b.years)),
        "year_conflict": float(bool(a.years and b.years and not a.years & b.years)),
        "types_equal": float(types == EQUAL),
        "types_related": float(types == RELATED),
        "types_different": float(types == DIFFERENT),
        "kinds_contrary": float(compare_kinds(a.kinds, b.kinds) in (CONTRARY, DIFFERENT)),
        "weak_name_text_cosine": cosine * is_weak,
        "no_equal_word": float(match.relation == "full" and match.count(EQUAL_WORD) == 0),
        "both_initials": float(bool(_shared_initials(a, b))),
        "proper_words_disjoint": float(disjoint),
        "place_disjoint": float(disjoint) * of_kind["place"],
        **of_kind,
        "inexact_person": float(is_person and match.count(SOUND) + match.count(TYPO) > 0),
        "legal_form": float(any(name.is_company for name in (*a.parsed, *b.parsed))),
        "common_first_name": float(is_person and common_first),
        "common_family_name": float(is_person and common_family),
        "common_name": float(is_person and common_first and common_family),
        "single_word_work": float(is_single) * of_kind["work"],
        **{f"{kind}_cosine": cosine * of_kind[kind] for kind in ("person", "place", "work")},
    }
    doubt = _doubt(match, explained, is_person)
    # Of one name are many places, events, firms and works; what their descriptions name tells them apart.
    elsewhere = any(of_kind[kind] for kind in ("place", "event", "organisation", "work"))
    if not doubt and disjoint and elsewhere and not a.years & b.years:
        doubt = OTHER_THINGS
    forbidden = _forbidden(a, b, match, types, is_person)
    return Comparison(np.array([values[name] for name in FEATURES]), forbidden, match, types, doubt)


def _has_common_first_name(profile: Profile) -> bool:
    return any(word in SHORT_FORMS or word in OTHER_FIRST_NAMES for word in (profile.parsed[0].words or ("",)))


def _has_common_family_name(profile: Profile) -> bool:
    return any(word in COMMON_FAMILY_NAMES for word in (profile.parsed[0].words or ("",)))


def _forbidden(a: Profile, b: Profile, match: NameMatch, types: str, is_person: bool) -> str:
    """The first of the reasons for which a pair is never one thing; "" if there is none."""
    for system, id_ in a.ids.items():
        if b.ids.get(system, id_) != id_:
            return f"other ids ({id_}, {b.ids[system]})"
    if types == CONTRARY:
        return f"contrary types ({a.types[0]}, {b.types[0]})"
    if match.is_number_conflict:
        return "other numbers in the names"
    if match.is_generation_conflict:
        return "other generations"
    if types != UNKNOWN and types == DIFFERENT and _sorts_of_works(a, b):
        return f"other kinds of works ({a.types[0]}, {b.types[0]})"
    for initial in _shared_initials(a, b):
        first, second = a.first_names(initial), b.first_names(initial)
        if first and second and not first & second:
            return f"other first names ({min(first)}, {min(second)})"
    if is_person and match.relation == "conflict" and match.last_word_agrees and match.rest_a and match.rest_b:
        return f"other first names ({' '.join(match.rest_a)}, {' '.join(match.rest_b)})"
    return ""


def _doubt(match: NameMatch, explained: int, is_person: bool) -> str:
    if match.relation == "conflict":
        return "names have other words"
    if match.is_generation_missing:
        return "a generation that one name lacks"
    if match.is_number_missing:
        return "a number that one name lacks"
    if match.relation == "full" and sum(match.agreements) > 1 and match.count(TYPO) and not match.count(EQUAL_WORD):
        return "every word is spelt in another way"
    if match.relation == "contained":
        unexplained = len(match.rest_a) + len(match.rest_b) - explained
        has_initials = (
            any(len(word) == 1 for word in (*match.rest_a, *match.rest_b)) and match.count(INITIAL) + match.initials > 0
        )
        if has_initials:
            return "an initial that one name lacks"
        is_middle_name = is_person and match.first_word_agrees and match.last_word_agrees
        if match.reordered or (unexplained and not is_middle_name):
            return MORE_WORDS
    return ""


def _shared_initials(a: Profile, b: Profile) -> frozenset[str]:
    """Initials in place of a first name that both names have."""
    first, second = ({word for word in p.parsed[0].words[:1] if len(word) == 1} for p in (a, b))
    return frozenset(first & second)


def _sorts_of_works(a: Profile, b: Profile) -> bool:
    sorts = [kinds_of(p.types) for p in (a, b)]
    return all(sorts) and all(kind.startswith("work/") for kind in sorts[0] | sorts[1])


def _cosine(a: npt.NDArray[np.float32] | None, b: npt.NDArray[np.float32] | None, default: float) -> float:
    if a is None or b is None:
        return default
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9))
