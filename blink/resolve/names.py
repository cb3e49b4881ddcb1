"""Names taken apart for comparison: words, numbers, generation, initials, and what may be left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from blink.kb.alias_table import normalise
from blink.resolve.word_tables import (
    ABBREVIATIONS,
    FUNCTION_WORDS,
    GENERATIONS,
    HONORIFICS,
    LEGAL_FORMS,
    LEGAL_PHRASES,
    ORDINALS,
)

CACHED_NAMES = 1 << 17
_BRACKETS = re.compile(r"\s*\(([^()]*)\)\s*$")
_ROMAN = re.compile(r"(?=[ivxl])(x{0,3}|xl|l)(ix|iv|v?i{0,3})")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50}
_ARTICLES = frozenset(["the", "an", "la", "le", "les", "los", "las", "el", "das", "der", "die", "il"])
_APOSTROPHES = re.compile(r"['’`´]")
_LEGAL_PHRASES = re.compile(r" (?:" + "|".join(LEGAL_PHRASES) + r")$")
_SOUNDS = {
    "s": "schtsch shch sch sh sz zh ts tz z s",
    "k": "tzsch tsch tch tsj kh ch ck gh c g q h k",
    "v": "ph f v w",
    "ks": "x",
    "": "a e i o u y j",
}
"""A sound -> the letters that different transliterations write for it."""
_SOUND_OF = {letters: sound for sound, all_letters in _SOUNDS.items() for letters in all_letters.split()}
_LETTERS = re.compile("|".join(sorted(_SOUND_OF, key=len, reverse=True)))
_REPEATED = re.compile(r"(.)\1+")


@dataclass(frozen=True)
class Name:
    """A name taken apart.

    Attributes:
        text: as it was given.
        form: normalized, without brackets at its end.
        qualifier: what the brackets held, such as ``1984 film``.
        words: its words in order, without function words, honorifics, legal forms, numbers and generation; all words where
            nothing else remains.
        numbers: its numbers, those of Roman numerals, ordinals and words with digits, ascending.
        generation: ``younger``, ``elder`` or "".
        honorifics: its titles and degrees.
        is_company: whether it has a legal form.
        is_inverted: whether it has a comma, as in ``Curie, Marie``.
        is_acronym: whether it may be initials: one word of capital letters.
    """

    text: str
    form: str
    qualifier: str
    words: tuple[str, ...]
    numbers: tuple[str, ...]
    generation: str
    honorifics: frozenset[str]
    is_company: bool
    is_inverted: bool
    is_acronym: bool

    @property
    def joined(self) -> str:
        """The words without blanks."""
        return "".join(self.words)


@lru_cache(maxsize=CACHED_NAMES)
def parse_name(text: str) -> Name:
    """Take a name apart."""
    bare, brackets = _without_brackets(text)
    form = normalise(_APOSTROPHES.sub("", bare.replace("&", " and ")))
    stripped = _LEGAL_PHRASES.sub("", form)
    is_company = stripped != form
    tokens = stripped.split()
    # Letters with dots: "J.R.R. Tolkien" has initials, "N.A.S.A." is an acronym.
    if len(tokens) > 1 and all(len(token) == 1 for token in tokens) and "." in bare:
        tokens = ["".join(tokens)]
    compact = bare.replace(".", "").replace(" ", "")
    is_acronym = len(tokens) == 1 and 2 <= len(tokens[0]) <= 8 and compact.isupper() and compact.isalpha()
    words, numbers, honorifics, generation = [], [], set(), ""
    for at, token in enumerate(tokens):
        is_last, is_only = at == len(tokens) - 1, len(tokens) == 1
        if is_only:
            words.append(ABBREVIATIONS.get(token, token) if not token.isdigit() else token)
            numbers += _numbers(token)
        elif token in LEGAL_FORMS and at > 0:
            is_company = True
        elif token in GENERATIONS and (is_last or (at == len(tokens) - 2 and tokens[-1] in LEGAL_FORMS)):
            generation = GENERATIONS[token]
        elif (number := _number_of(token, at)) is not None:
            numbers.append(number)
        elif token in HONORIFICS and not (token == "st" and at > 0) and _is_title(token, at, len(tokens)):
            honorifics.add(token)
        elif not _is_function_word(token, at, bare):
            words.append(ABBREVIATIONS.get(token, token))
    if not words and not numbers:
        words = tokens
    elif not words:
        words = [token for token in tokens if token in HONORIFICS] or numbers
    return Name(
        text, form, brackets, tuple(words), tuple(sorted(numbers)), generation, frozenset(honorifics), is_company,
        "," in bare and not is_company, is_acronym,
    )  # fmt: skip


def _without_brackets(text: str) -> tuple[str, str]:
    match = _BRACKETS.search(text)
    if match is None or match.start() == 0:
        return text, ""
    return text[: match.start()], match[1]


def _is_title(token: str, at: int, count: int) -> bool:
    """Titles precede a name; a name of which nothing else would remain keeps them."""
    after = token in {"phd", "md", "esq", "mp", "cbe", "obe", "kbe"}
    return at == count - 1 if after else at < count - 1


def _is_function_word(token: str, at: int, text: str) -> bool:
    """Whether a word adds nothing to a name; initials and short first names, such as ``Al``, are no such words."""
    if token not in FUNCTION_WORDS:
        return False
    if len(token) == 1:
        return re.search(rf"\b{token}\b", text) is not None
    return at > 0 or token in _ARTICLES


def _numbers(token: str) -> list[str]:
    return [token] if any(c.isdigit() for c in token) else []


def _number_of(token: str, at: int) -> str | None:
    """The number that a word is: ``7``, ``vii``, ``seventh``, ``7th``, ``d750``; None if it is none."""
    if token.isdigit():
        return token.lstrip("0") or "0"
    if any(c.isdigit() for c in token):
        ordinal = re.fullmatch(r"(\d+)(?:st|nd|rd|th)", token)
        return ordinal[1] if ordinal else token
    if token in ORDINALS:
        return ORDINALS[token]
    # A letter alone at the beginning is an initial.
    if at > 0 and _ROMAN.fullmatch(token) and token != "l":
        values = [_ROMAN_VALUES[c] for c in token]
        return str(sum(-v if any(w > v for w in values[i + 1 : i + 2]) else v for i, v in enumerate(values)))
    return None


@lru_cache(maxsize=CACHED_NAMES)
def sound_key(word: str) -> str:
    """Consonants of a word as different transliterations agree on them: ``tschaikowski`` and ``tchaikovsky`` give ``kvsk``."""
    return _REPEATED.sub(r"\1", _LETTERS.sub(lambda match: _SOUND_OF[match[0]], word))


def acronyms(text: str) -> frozenset[str]:
    """The initials that a name of several words may be known by: of all words, and without function words."""
    tokens = normalise(_APOSTROPHES.sub("", _without_brackets(text)[0])).split()
    if len(tokens) < 2:
        return frozenset()
    main = [token for token in tokens if token not in FUNCTION_WORDS and token not in LEGAL_FORMS]
    return frozenset("".join(token[0] for token in words) for words in (tokens, main) if len(words) > 1)


@lru_cache(maxsize=1 << 20)
def edit_distance(a: str, b: str, most: int = 3) -> int:
    """Insertions, deletions, replacements and swaps of neighbours that turn ``a`` into ``b``, at most ``most`` + 1 (Damerau
    1964, restricted to one edit of a substring).
    """
    if abs(len(a) - len(b)) > most:
        return most + 1
    before, last = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i] + [0] * len(b)
        for j, y in enumerate(b, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)
