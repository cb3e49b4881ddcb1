"""How two names relate: which words agree and how, and which are left over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from blink.resolve.names import CACHED_NAMES, Name, acronyms, edit_distance, parse_name, sound_key
from blink.resolve.word_tables import SHORT_FORMS, TEAM_WORDS

EQUAL, NICKNAME, SOUND, TYPO, INITIAL = "equal", "nickname", "sound", "typo", "initial"
AGREEMENTS = (EQUAL, NICKNAME, SOUND, TYPO, INITIAL)
"""How two words may agree, the strongest first."""
_LENGTH_FOR_TYPO, _LENGTH_FOR_TWO_TYPOS = 4, 9
_LEAST_SOUND = 3
_MOST_LETTERS_MORE = 4


@dataclass(frozen=True)
class NameMatch:
    """How two names relate.

    Attributes:
        relation: ``exact`` (the same words in order), ``spacing`` (the same letters), ``acronym``, ``full`` (all words agree),
            ``contained`` (the words of one agree with some of the other) or ``conflict`` (both have words the other lacks).
        agreements: the number of words that agree in each way of `AGREEMENTS`.
        letters: letters of the words that agree, those of the shorter side.
        reordered: whether the words come in another order, without a comma that would explain it.
        rest_a: words of the first name alone.
        rest_b: words of the second name alone.
        last_word_agrees: whether the last words agree, where family names are.
        first_word_agrees: whether the first words agree.
        is_number_conflict: both have numbers, and other ones.
        is_number_missing: one has a number that the other lacks.
        is_generation_conflict: one is the elder and one the younger.
        is_generation_missing: one alone has a generation.
        initials: words of one letter that both names have.
        similarity: share of letters that agree, from 0 to 1.
    """

    relation: str
    agreements: tuple[int, ...]
    letters: int
    reordered: bool
    rest_a: tuple[str, ...]
    rest_b: tuple[str, ...]
    last_word_agrees: bool
    first_word_agrees: bool
    is_number_conflict: bool
    is_number_missing: bool
    is_generation_conflict: bool
    is_generation_missing: bool
    initials: int
    similarity: float

    def count(self, agreement: str) -> int:
        """How many words agree in this way."""
        return self.agreements[AGREEMENTS.index(agreement)]


@lru_cache(maxsize=1 << 18)
def word_agreement(a: str, b: str) -> str | None:
    """How two words agree; None if they do not."""
    if a == b:
        return EQUAL
    short, long = sorted((a, b), key=len)
    if len(short) == 1:
        return INITIAL if long[0] == short else None
    if any(c.isdigit() for c in a + b):
        return None
    if SHORT_FORMS.get(a, _NONE) & SHORT_FORMS.get(b, _NONE):
        return NICKNAME
    if SHORT_FORMS.get(a) and SHORT_FORMS.get(b) and min(len(a), len(b)) <= 6:
        return None  # two first names that differ, such as martin and marian
    key = sound_key(a)
    distance = edit_distance(a, b)
    if (
        len(key) >= _LEAST_SOUND
        and key == sound_key(b)
        and distance <= max(3, len(long) // 2)
        and len(long) - len(short) <= _MOST_LETTERS_MORE
    ):
        return SOUND
    if len(key) >= 2 and key == sound_key(b) and a[0] == b[0] and len(short) >= _LENGTH_FOR_TYPO and distance <= 2:
        return SOUND
    if len(short) >= _LENGTH_FOR_TYPO and a[0] == b[0]:
        most = 2 if len(short) >= _LENGTH_FOR_TWO_TYPOS else 1
        if distance <= most:
            return TYPO
    return None


_NONE: frozenset[str] = frozenset()


@lru_cache(maxsize=CACHED_NAMES)
def match_names(first: str, second: str) -> NameMatch:
    """Compare two names."""
    a, b = parse_name(first), parse_name(second)
    counts = dict.fromkeys(AGREEMENTS, 0)
    pairs, letters = _aligned(a.words, b.words, counts)
    rest_a = tuple(word for i, word in enumerate(a.words) if i not in {i for i, _ in pairs})
    rest_b = tuple(word for j, word in enumerate(b.words) if j not in {j for _, j in pairs})
    if a.is_company or b.is_company or TEAM_WORDS & ({*a.form.split()} ^ {*b.form.split()}):
        rest_a, rest_b = _without(rest_a, TEAM_WORDS), _without(rest_b, TEAM_WORDS)
    order = [j for _, j in sorted(pairs)]
    is_reordered = order != sorted(order) and not (a.is_inverted or b.is_inverted)
    relation = _relation(a, b, pairs, rest_a, rest_b)
    if relation == "spacing":
        letters, rest_a, rest_b, is_reordered = len(a.joined), (), (), False
    numbers_a, numbers_b = set(a.numbers), set(b.numbers)
    longest = max(sum(map(len, a.words)), sum(map(len, b.words)), 1)
    return NameMatch(
        relation=relation,
        agreements=tuple(counts.values()),
        letters=letters,
        reordered=is_reordered,
        rest_a=rest_a,
        rest_b=rest_b,
        last_word_agrees=(len(a.words) - 1, len(b.words) - 1) in pairs or (a.is_inverted != b.is_inverted and not rest_a),
        first_word_agrees=(0, 0) in pairs,
        is_number_conflict=bool(numbers_a - numbers_b and numbers_b - numbers_a),
        is_number_missing=numbers_a != numbers_b,
        is_generation_conflict={a.generation, b.generation} == {"elder", "younger"},
        is_generation_missing=a.generation != b.generation,
        initials=sum(len(a.words[i]) == 1 and a.words[i] == b.words[j] for i, j in pairs),
        similarity=min(1.0, letters / longest),
    )


def _aligned(a: tuple[str, ...], b: tuple[str, ...], counts: dict[str, int]) -> tuple[set[tuple[int, int]], int]:
    """Pairs of words that agree, the strongest agreements first, and their letters."""
    options = [
        (AGREEMENTS.index(how), abs(i / len(a) - j / len(b)), i, j, how)
        for i, x in enumerate(a)
        for j, y in enumerate(b)
        if (how := word_agreement(x, y)) is not None
    ]
    pairs: set[tuple[int, int]] = set()
    used_a, used_b, letters = set(), set(), 0
    for _, _, i, j, how in sorted(options):
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            pairs.add((i, j))
            counts[how] += 1
            letters += min(len(a[i]), len(b[j]))
    return pairs, letters


def _relation(a: Name, b: Name, pairs: set[tuple[int, int]], rest_a: tuple[str, ...], rest_b: tuple[str, ...]) -> str:
    if a.words == b.words:
        return "exact"
    if a.joined == b.joined and len(a.joined) > 2:
        return "spacing"
    if not rest_a and not rest_b:
        return "full"
    if (a.is_acronym and a.joined in acronyms(b.text)) or (b.is_acronym and b.joined in acronyms(a.text)):
        return "acronym"
    if not pairs or (rest_a and rest_b):
        return "conflict"
    return "contained"


def _without(words: tuple[str, ...], ignored: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in ignored)
