"""Sentence splitters."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Callable

from blink.errors import SettingsError

Splitter = Callable[[str], list[tuple[int, int]]]
"""Text to the character spans of its sentences, in order, ends exclusive; they cover the text."""

_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s+["'“‘(\[]*[^\W_a-zß-öø-ÿ])|[。！？]+[」』）]*""")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"“])(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Mt|Gen|Col|Capt|Lt|Sgt|Rev|Gov|Sen|Rep|Hon"
    r"|No|Nos|Vol|Fig|pp|vs|cf|ca|approx|ed|eds|e\.g|i\.e)\.$"
)


def split_by_rules(text: str) -> list[tuple[int, int]]:
    """Sentences end at . ! ? before a capital or a digit, except after an initial or a common English abbreviation."""
    ends = [m.end() for m in _END.finditer(text) if not _ABBREVIATION.search(text, max(m.start() - 12, 0), m.end())]
    bounds = [0, *(end for end in ends if end < len(text)), len(text)]
    return [(a, b) for a, b in itertools.pairwise(bounds) if b > a]


def make_splitter(name: str) -> Splitter:
    """The splitter of a name: ``rules``, or an ICU locale such as ``en``.

    Raises:
        SettingsError: ICU is not installed, or does not know the locale.
    """
    return split_by_rules if name == "rules" else _icu_splitter(name)


def _icu_splitter(locale: str) -> Splitter:
    try:
        icu = importlib.import_module("icu")
    except ImportError as error:
        problem = f"the sentence splitter of the locale {locale!r} needs PyICU, which is not installed"
        raise SettingsError(f"{problem}; run: pip install pyicu, or give --sentence-splitter rules") from error
    if locale.partition("_")[0] not in icu.Locale.getISOLanguages():
        raise SettingsError(f"ICU knows no locale {locale!r}; give one such as en or de, or --sentence-splitter rules")
    breaks = icu.BreakIterator.createSentenceInstance(icu.Locale(locale))

    def split(text: str) -> list[tuple[int, int]]:
        unicode_text = icu.UnicodeString(text)  # ICU counts 16-bit units; rare characters have two
        breaks.setText(unicode_text)
        units = [0, *breaks]
        boundaries = [len(str(unicode_text[:unit])) for unit in units]
        return [(a, b) for a, b in itertools.pairwise(boundaries) if b > a]

    return split
