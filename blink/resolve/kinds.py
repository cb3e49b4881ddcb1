"""Whether types of two things agree: free words, such as ``American actor``, as kinds of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from blink.kb.alias_table import normalise
from blink.resolve.word_tables import COMPATIBLE, KINDS

UNKNOWN, EQUAL, RELATED, DIFFERENT, CONTRARY = "unknown", "equal", "related", "different", "contrary"
"""How types of two things relate: one has none, they agree, they are of one kind, they are of one kind but of different sorts
(film and book), one thing cannot have both (person and city)."""

_PREDICATE = re.compile(r".{0,80}?\b(?:is|was|are|were) (?:an?|the|one of the) ")
_CLAUSE_END = re.compile(r"[.,;:()]| who | which | that | and ")
_KIND_OF = {word.replace("-", " "): kind for kind, words in KINDS.items() for word in words.split()}


@lru_cache(maxsize=1 << 14)
def kind_of(type_: str) -> str | None:
    """The kind of a type, such as ``place/settlement``; None if no word of it is in the table.

    The last word that means a kind counts, before words such as ``of``: a ``capital of France`` is a capital, a ``film
    director`` a person.
    """
    form = normalise(type_)
    if form in _KIND_OF:
        return _KIND_OF[form]
    for word in reversed(re.split(r" (?:of|in|from|by|for|with) ", form)[0].split()):
        kind = _KIND_OF.get(word) or _KIND_OF.get(word.removesuffix("s"))
        if kind is not None:
            return kind
    return None


@lru_cache(maxsize=1 << 16)
def kind_of_description(text: str) -> str | None:
    """The kind that the beginning of a description names: ``American actor and singer`` is a person; None if it names none."""
    match = _PREDICATE.match(text)
    clause = text[match.end() :] if match else text
    return kind_of(_CLAUSE_END.split(clause, maxsplit=1)[0])


@lru_cache(maxsize=1 << 16)
def compare_types(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    """How the types of two things relate, the best of all pairs."""
    if not a or not b:
        return UNKNOWN
    if {normalise(t) for t in a} & {normalise(t) for t in b}:
        return EQUAL
    return compare_kinds(kinds_of(a), kinds_of(b))


def compare_kinds(kinds_a: frozenset[str], kinds_b: frozenset[str]) -> str:
    """How the kinds of two things relate."""
    if not kinds_a or not kinds_b:
        return UNKNOWN
    if kinds_a & kinds_b:
        return RELATED
    tops_a, tops_b = ({kind.split("/")[0] for kind in kinds} for kinds in (kinds_a, kinds_b))
    if tops_a & tops_b:
        bare = any(kind in tops_a & tops_b for kind in kinds_a | kinds_b)  # "place" says nothing of what sort of place
        return RELATED if bare else DIFFERENT
    if any(frozenset((x, y)) in COMPATIBLE for x in tops_a for y in tops_b):
        return DIFFERENT
    return CONTRARY


def kinds_of(types: Sequence[str]) -> frozenset[str]:
    """The kinds of types."""
    return frozenset(kind for kind in map(kind_of, types) if kind is not None)
