"""Texts that list several names, with the separators and brackets that people write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blink.data.records import Sample
from blink.errors import SettingsError
from blink.kb.alias_table import without_brackets
from blink.training.data.names import Names
from blink.training.data.segments import NO_MENTION, Segment, assemble

SEPARATORS = (
    (", ", " and "),
    (", ", " and "),
    (", ", ", and "),
    (", ", " or "),
    (", ", ", "),
    ("; ", "; "),
    (" | ", " | "),
    (" / ", " / "),
    ("\n", "\n"),
    ("\n- ", "\n- "),
    ("\n* ", "\n* "),
    ("\t", "\t"),
    (" & ", " & "),
    (" - ", " - "),
    (",", ","),
    ("/", "/"),
    (" + ", " + "),
    (" vs ", " vs "),
    (" and ", " and "),
    (" > ", " > "),
    (" · ", " · "),
    ("\n• ", "\n• "),
    (" – ", " – "),
    (";", ";"),
)
"""What separates the names of a list, and the last two."""
WRAPPERS = (
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("(", ")"),
    ("[", "]"),
    ("[[", "]]"),
    ("pro-", ""),
    ("anti-", ""),
    ("non-", ""),
    ("", "-based"),
    ("", "-born"),
    ("", "'s"),
    ("*", "*"),
    ("**", "**"),
    ("<b>", "</b>"),
    ("‘", "’"),
    ("_", "_"),
    ("", " (?)"),
    ("", ":"),
)
"""What stands before and after each name of a list."""
FRAMES = (
    "{l}",
    "{l}.",
    "My list: {l}",
    "Topics: {l}.",
    "We talked about {l}.",
    "I have read about {l} this week.",
    "see also: {l}",
    "Tags: {l}",
    "Keywords: {l}",
    "Which of these do you know: {l}?",
    "between {l}",
    "such as {l}",
    "(including {l})",
    "Next week: {l}",
    "compare {l} please",
    "what do {l} have in common",
    "Results for {l}:",
    "1) {l}",
    "[{l}]",
    "({l})",
    "- {l}",
    "* {l}",
    "| {l} |",
    "Today's questions were on {l}, nothing else.",
    "from {l} to the rest of the world",
    "He mentioned {l}, but not why.",
    '"{l}"',
    "not only {l}",
    "notes on {l} (draft)",
    "My favourites are {l}!",
)
HANDLE_SHARE = 0.15
"""Share of lists with a hashtag or handle, which are not mentions."""
WRAPPED_SHARE = 0.4
LENGTHS = (3, 8)
TRIES = 50


class Enumerations:
    """Generates lists of names.

    Args:
        names: of the catalogue.
        kinds: kind -> rows; most lists are of one kind.
    """

    def __init__(self, names: Names, kinds: Mapping[str, Sequence[int]]) -> None:
        self._names = names
        self._pools = [rows for _, rows in sorted({**kinds, "place": names.places}.items()) if len(rows) > 1]
        self._pools.append(range(len(names.catalogue)))

    def draw(self, random: np.random.Generator, name: str) -> Sample:
        """A list of three to eight names, as a text.

        Raises:
            SettingsError: the catalogue has no name that tells its entity.
        """
        pool = self._pools[int(random.integers(len(self._pools)))]
        listed = [self._name(pool, random) for _ in range(int(random.integers(LENGTHS[0], LENGTHS[1] + 1)))]
        between, last = SEPARATORS[random.integers(len(SEPARATORS))]
        before, after = WRAPPERS[random.integers(len(WRAPPERS))] if random.random() < WRAPPED_SHARE else ("", "")
        opening, closing = str(FRAMES[random.integers(len(FRAMES))]).split("{l}")
        segments: list[Segment] = [opening]
        for i, item in enumerate(listed):
            separator = "" if i == 0 else last if i == len(listed) - 1 else between
            segments += [separator + before, item, after]
        segments.append(closing)
        if random.random() < HANDLE_SHARE:
            word = self._name(pool, random)[0].replace(" ", "")
            segments += [" #" if random.random() < 0.5 else " @", (word, NO_MENTION)]
        return assemble(name, segments)

    def _name(self, pool: Sequence[int], random: np.random.Generator) -> tuple[str, int]:
        for rows in (pool, self._pools[-1]):
            for _ in range(TRIES):
                row = rows[int(random.integers(len(rows)))]
                form = without_brackets(self._names.catalogue.title(row))
                if form[:1].isupper() and self._names.usual_row(form) == row:
                    return form, row
        raise SettingsError("the source enumeration needs a catalogue with capitalised names; choose other sources")
