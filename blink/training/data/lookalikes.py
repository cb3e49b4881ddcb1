"""Texts about entities that share a name, in which the context tells them apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from blink.data.records import Entity, Sample
from blink.errors import SettingsError
from blink.kb.alias_table import without_brackets
from blink.training.data.names import PARTICLES, Names, sharing_forms
from blink.training.data.passages import Passages

PROSE_SHARE = 0.45
RARE_SHARE = 0.5
"""Share of texts about the entity of a name that has the fewest facts, or has the name as surname only."""
SURNAME_SHARE = 0.2
"""Share of the names that are surnames of people only."""
TRIES = 500
BROKEN = re.compile(r"[();:|]|\b(?:[A-Z]\w*|\w{1,2}|\w+t[eh]|\w+-)$")
"""Definitions that contain brackets or end within a name or number."""
ARTICLE = re.compile(r"^(?:an?|the|any|one|some) ", re.IGNORECASE)


class Lookalikes:
    """Generates texts about entities that share a name with others.

    Args:
        names: of the catalogue.
        passages: excerpts and labels descriptions.
        templates: ``{a}`` is the name, ``{x}`` its definition with an article, ``{d}`` without, ``{n}`` a neighbour.
    """

    def __init__(self, names: Names, passages: Passages, templates: Sequence[str]) -> None:
        self._names, self._passages = names, passages
        self._with_neighbour = [t for t in templates if "{n}" in t]
        self._others = [t for t in templates if "{n}" not in t]
        self._rows = sharing_forms(names)
        forms = [f for f in sorted(self._rows) if len(f) > 2 and f[0].isupper()]
        self._surnames = [f for f in forms if names.people.issuperset(self._rows[f]) and " " not in f]
        self._forms = sorted(set(forms) - set(self._surnames))

    def draw(self, random: np.random.Generator, name: str) -> Sample:
        """A text with a shared name and the words that tell its entity.

        Raises:
            SettingsError: no two entities of the catalogue share a name.
        """
        for _ in range(TRIES if self._forms or self._surnames else 0):
            other = self._surnames and (not self._forms or random.random() < SURNAME_SHARE)
            forms = self._surnames if other else self._forms
            form = forms[random.integers(len(forms))]
            entity = self._names.catalogue[self._choose(form, random)]
            prose = entity.row in self._names.prose_rows and random.random() < PROSE_SHARE
            text = self._passages.excerpt(entity.text, random) if prose else self._text(entity, form, random)
            if not text:
                continue
            sample = self._passages.labelled(name, text, entity, random, form=form, known=None if prose else {form: entity.row})
            if any(sample.text[m.start : m.end] == form and m.row == entity.row for m in sample.mentions or ()):
                return sample
        raise SettingsError("the source lookalike needs a catalogue with entities that share names; choose other sources")

    def _choose(self, form: str, random: np.random.Generator) -> int:
        rows = self._rows[form]
        if len(rows) > 6:
            rows = [rows[i] for i in random.choice(len(rows), 6, replace=False)]
        ranked = sorted(rows, key=lambda row: (self._has_alias(row, form), self._names.degree(row), row))
        if random.random() < RARE_SHARE:
            return ranked[0]
        return ranked[int(random.integers(1, len(ranked)))]

    def _has_alias(self, row: int, form: str) -> bool:
        entity = self._names.catalogue[row]
        return form in (without_brackets(entity.title), *entity.aliases)

    def _text(self, entity: Entity, form: str, random: np.random.Generator) -> str:
        definition = ARTICLE.sub("", self._names.definition(entity))
        if not definition or not self._tells(definition, entity.row, form) or BROKEN.search(definition):
            return ""
        neighbours = [r for r in self._names.neighbours.get(entity.row, ()) if self._names.catalogue.title(r)[:1].isupper()]
        templates = self._with_neighbour if neighbours and random.random() < 0.3 else self._others
        template = str(templates[random.integers(len(templates))])
        article = "an" if definition[0].lower() in "aeiou" else "a"
        text = template.replace("{a}", form).replace("{x}", f"{article} {definition}").replace("{d}", definition)
        if neighbours:
            other = self._names.catalogue.title(neighbours[random.integers(len(neighbours))])
            text = text.replace("{n}", without_brackets(other))
        return text

    def _tells(self, definition: str, row: int, form: str) -> bool:
        """Whether a definition has words that those of the other entities of the name lack."""
        own = _content(definition) - _content(form)
        others = [_content(self._names.definition(self._names.catalogue[r])) for r in self._rows[form][:20] if r != row]
        return bool(own) and all(own - other for other in others)


def _content(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - PARTICLES
