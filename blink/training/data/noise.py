"""Augmentation of names: misspellings, abbreviations, joined words, plurals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

VOWELS = "aeiou"
SMALL_WORDS = frozenset(("a", "an", "and", "at", "de", "for", "in", "of", "on", "the", "to", "von"))


def augmented(name: str, random: np.random.Generator) -> str:
    """``name`` changed by a random augmentation; unchanged if none applies."""
    candidates = [augmentation for augmentation, fits in AUGMENTATIONS.items() if fits(name)]
    return candidates[random.integers(len(candidates))](name, random) if candidates else name


def swapped_letters(name: str, random: np.random.Generator) -> str:
    """``Obama`` -> ``Oabma``."""
    i = _inner(name, random, 1)
    return name[:i] + name[i + 1] + name[i] + name[i + 2 :]


def dropped_letter(name: str, random: np.random.Generator) -> str:
    """``Farrell`` -> ``Farell``."""
    i = _inner(name, random)
    return name[:i] + name[i + 1 :]


def doubled_letter(name: str, random: np.random.Generator) -> str:
    """``Islam`` -> ``Isslam``."""
    i = _inner(name, random)
    return name[: i + 1] + name[i:]


def other_vowel(name: str, random: np.random.Generator) -> str:
    """``Ferrell`` -> ``Farrell``."""
    positions = [i for i, c in enumerate(name) if i and c in VOWELS]
    i = positions[random.integers(len(positions))]
    return name[:i] + VOWELS[random.integers(len(VOWELS))] + name[i + 1 :]


def joined_words(name: str, random: np.random.Generator) -> str:
    """``New York`` -> ``Newyork``."""
    words = name.split()
    i = int(random.integers(len(words) - 1))
    return " ".join([*words[:i], words[i] + words[i + 1].lower(), *words[i + 2 :]])


def dropped_word(name: str, random: np.random.Generator) -> str:
    """``John F. Kerry`` -> ``John Kerry``."""
    words = name.split()
    i = int(random.integers(len(words)))
    return " ".join([*words[:i], *words[i + 1 :]])


def last_word(name: str, random: np.random.Generator) -> str:
    """``Joseph Stiglitz`` -> ``Stiglitz``."""
    return name.split()[-1]


def first_word(name: str, random: np.random.Generator) -> str:
    """``Britney Spears`` -> ``Britney``."""
    return name.split()[0]


def initials(name: str, random: np.random.Generator) -> str:
    """``New York Public Library`` -> ``NYPL``."""
    return "".join(w[0] for w in name.split() if w.lower() not in SMALL_WORDS).upper()


def plural(name: str, random: np.random.Generator) -> str:
    """``vitamin`` -> ``vitamins``."""
    return name + ("es" if name[-1] in "sxz" else "s")


def _inner(name: str, random: np.random.Generator, keep: int = 0) -> int:
    """A position after the first letter, followed by ``keep`` letters. First letters are rarely misspelt."""
    positions = [i for i in range(1, len(name) - keep) if name[i : i + 1 + keep].isalpha()]
    return positions[random.integers(len(positions))] if positions else 1


def _long(name: str) -> bool:
    return len(name) > 4 and name[1:].replace(" ", "").isalpha()


def _words(min_words: int, max_words: int = 6) -> Callable[[str], bool]:
    def fits(name: str) -> bool:
        words = name.split()
        return min_words <= len(words) <= max_words and all(len(w) > 2 or w.lower() in SMALL_WORDS for w in words)

    return fits


AUGMENTATIONS: dict[Callable[[str, np.random.Generator], str], Callable[[str], bool]] = {
    swapped_letters: _long,
    dropped_letter: _long,
    doubled_letter: _long,
    other_vowel: lambda name: _long(name) and any(c in VOWELS for c in name[1:]),
    joined_words: _words(2, 3),
    dropped_word: _words(3),
    last_word: lambda name: _words(2, 4)(name) and len(name.split()[-1]) > 3,
    first_word: lambda name: _words(2, 3)(name) and len(name.split()[0]) > 3 and name.split()[0].lower() not in SMALL_WORDS,
    initials: _words(3),
    plural: lambda name: name[:1].islower() and name[-1:].isalpha(),
}
"""Augmentation -> whether it applies to a name."""
