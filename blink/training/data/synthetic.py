"""Synthetic training texts: entity replacement, template filling, distant supervision, and texts without entities.

The labelled question sets are small and uniform. Synthetic texts train the mention head on other sentence frames, and on texts
without entities.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np

from blink.data.records import Entity, Sample
from blink.errors import DataError, SettingsError
from blink.input_files import read_lines_of
from blink.kb.alias_table import normalise, without_brackets
from blink.kb.catalogue import Catalogue
from blink.training.data.enumerations import Enumerations
from blink.training.data.lookalikes import Lookalikes
from blink.training.data.names import Names
from blink.training.data.noise import augmented
from blink.training.data.passages import Passages
from blink.training.data.segments import NO_MENTION, Segment, assemble, filled
from blink.training.data.sport import SportTexts
from blink.training.data.traps import Traps

logger = logging.getLogger(__name__)

COMMON_NOUN_TAILS = frozenset(
    ("P106", "P136", "P1303", "P509", "P101", "P641", "P1050", "P2348", "P452", "P2283", "P1056", "P780", "P3095")
)
"""Relations whose tail is a common noun (occupation, genre, instrument, ...). It fills the template but is not a mention."""

ROLES: dict[str, tuple[tuple[str, int], ...]] = {
    "person": (("P106", 0), ("P19", 0), ("P27", 0), ("P26", 1)),
    "place": (("P19", 1), ("P20", 1), ("P551", 1), ("P17", 0), ("P17", 1), ("P30", 0), ("P840", 1)),
    "organisation": (("P69", 1), ("P108", 1), ("P264", 1), ("P463", 1), ("P102", 1)),
    "work": (("P161", 0), ("P57", 0), ("P495", 0)),
}
"""Kind of slot -> the relations whose heads (0) or tails (1) fill it."""

ALIAS_SHARE = 0.25
CONCEPT = "concept"
"""Kind of common nouns, which fill slots but are not mentions, so that not every name of the catalogue is linked."""
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
LENGTHS = (30, 160)
"""Shortest and longest sentence of a description that is used, in characters."""
MAX_NEIGHBOURS = 60
MAX_DEFINITION_LENGTH = 90
DEFINITIONS = (
    "{a} is the {d}", "{a}, {d}, was in the news again", "the {d} {a}", "have you heard of {a}, the {d}?",
    "is {a} a {d} or something else", "I mean {a} the {d}, not the other one", "what is {a}? {d}, I think",
    "the {d} is called {a}", "{d}: {a}", "my favourite {d} is {a} and always will be", "a {d} named {a}",
    "We talked about {a} for hours. Such a {d}!",
)  # fmt: skip
"""Templates that join a name ``a`` with the short description ``d`` of its entity."""


@dataclass(frozen=True)
class Triple:
    """A fact between catalogue rows."""

    head: int
    relation: str
    tail: int


def read_triples(path: str | Path, catalogue: Catalogue) -> list[Triple]:
    """Read ``head<TAB>relation<TAB>tail`` (Wikidata ids), without triples whose entities are not in the catalogue.

    Raises:
        DataError: the file is not UTF-8, or a line does not have three columns.
    """
    triples, lines = [], read_lines_of(path, "give a file of triples")
    for number, line in enumerate(lines, 1):
        columns = line.split("\t")
        if len(columns) != 3:
            raise DataError(f"{path}, line {number}: found {len(columns)} columns; a triple is head<TAB>relation<TAB>tail")
        head, tail = catalogue.row_of(columns[0]), catalogue.row_of(columns[2])
        if head is not None and tail is not None:
            triples.append(Triple(head, columns[1], tail))
    if lines and not triples:
        line = lines[0].replace("\t", " ")
        logger.warning(
            "%s: no triple has both of its entities in the catalogue (the first: %r); it needs ids of it", path, line
        )
    return triples


class Synthesizer:
    """Generates labelled synthetic texts.

    Args:
        catalogue: whose titles and aliases fill the slots.
        triples: facts between its rows.
        questions: labelled texts whose mentions `replace_entities` replaces.
        pseudo_labelled: texts that a model has labelled; see ``blink label``.
        augmentation: share of names that are augmented, see `blink.training.data.noise`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        triples: Sequence[Triple],
        questions: Sequence[Sample],
        *,
        pseudo_labelled: Sequence[Sample] = (),
        augmentation: float = 0.15,
    ) -> None:
        self._pseudo_labelled, self._augmentation = pseudo_labelled, augmentation
        self._catalogue = catalogue
        self._questions = _replaceable(questions)
        self._plain = _read_text("plain_texts.txt").splitlines()
        self._slots: dict[str, list[str]] = json.loads(_read_text("slot_templates.json"))
        relations: dict[str, list[str]] = json.loads(_read_text("relation_templates.json"))
        self._templates = relations
        self._triples: dict[str, list[Triple]] = defaultdict(list)
        for triple in triples:
            if triple.relation in relations:
                self._triples[triple.relation].append(triple)
        self._kinds = {kind: self._rows_of_roles(roles) for kind, roles in ROLES.items()} if triples else {}
        self._kind_of = {row: kind for kind, rows in self._kinds.items() for row in rows}
        self._neighbours: dict[int, list[int]] = defaultdict(list)
        for triple in triples:
            if triple.relation not in COMMON_NOUN_TAILS:
                self._neighbours[triple.head].append(triple.tail)
                self._neighbours[triple.tail].append(triple.head)
        self._rows_of = rows_of = _rows_of_forms(catalogue)
        self._known = rows_of.keys()
        self._namesakes = sorted({row for form, rows in rows_of.items() if form and len(rows) > 1 for row in rows})
        everybody = sorted({row for rows in self._kinds.values() for row in rows})
        self._kinds["any"] = everybody or list(range(len(catalogue)))
        self._kinds[CONCEPT] = [e.row for e in catalogue if e.title[:1].islower()]
        if not self._kinds[CONCEPT]:
            self._slots = {k: t for k, t in self._slots.items() if not any("{c}" in template for template in t)}

    def of_questions(self, questions: Sequence[Sample]) -> Synthesizer:
        """A copy whose `replace_entities` uses other questions."""
        other = copy.copy(self)
        other._questions = _replaceable(questions)
        return other

    def make(self, source: str, count: int, seed: int) -> list[Sample]:
        """Generate ``count`` texts of a source of `MAKERS`; the same seed gives the same texts.

        Raises:
            SettingsError: the source is unknown, or needs triples or questions that were not given.
        """
        if source not in MAKERS:
            raise SettingsError(f"training source is {source!r}; allowed are questions, {', '.join(MAKERS)}")
        random = np.random.default_rng([seed, STREAMS[source]])
        return [MAKERS[source](self, random, f"{source}-{i}") for i in range(count)]

    def draw_plain(self, random: np.random.Generator, name: str) -> Sample:
        """A text without entities."""
        return Sample(name, str(random.choice(self._plain)), ())

    def replace_entities(self, random: np.random.Generator, name: str) -> Sample:
        """A question whose mentions are replaced with other entities of their kind."""
        if not self._questions:
            raise SettingsError("swapping entities needs labelled questions whose entities are in the catalogue; give --train")
        question = self._questions[random.integers(len(self._questions))]
        segments: list[Segment] = []
        offset = 0
        for mention in sorted(question.mentions or (), key=lambda m: (m.start, m.end)):
            if mention.start < offset:
                continue  # nested gold: the outer mention is used
            kind = self._kind_of.get(mention.row, "any")
            segments += [question.text[offset : mention.start], self._form(self._draw(kind, random), random)]
            offset = mention.end
        return assemble(name, [*segments, question.text[offset:]])

    def draw_pseudo_labelled(self, random: np.random.Generator, name: str) -> Sample:
        """A text labelled by a model."""
        if not self._pseudo_labelled:
            raise SettingsError("the source pseudo needs texts that a model has labelled (blink label); give --pseudo FILE")
        return self._pseudo_labelled[int(random.integers(len(self._pseudo_labelled)))]

    def fill_relation(self, random: np.random.Generator, name: str) -> Sample:
        """A template of a relation, filled with the names of a triple."""
        if not self._triples:
            raise SettingsError("templates over relations need triples; give --triples")
        relations = sorted(self._triples)
        weights = np.sqrt([len(self._triples[r]) for r in relations])
        relation = relations[random.choice(len(relations), p=weights / weights.sum())]
        triple = self._triples[relation][random.integers(len(self._triples[relation]))]
        slots: dict[str, Segment] = {"h": self._form(triple.head, random), "t": self._form(triple.tail, random)}
        if relation in COMMON_NOUN_TAILS:
            slots["t"] = (slots["t"][0], NO_MENTION)
        return assemble(name, filled(str(random.choice(self._templates[relation])), slots))

    def fill_slots(self, random: np.random.Generator, name: str) -> Sample:
        """An everyday text about one or two entities of a kind; some templates add a common noun, which is not a mention."""
        kind = sorted(self._slots)[random.integers(len(self._slots))]
        slots: dict[str, Segment] = {slot: self._form(self._draw(kind, random), random) for slot in "ab"}
        if self._kinds[CONCEPT]:
            slots["c"] = (self._form(self._draw(CONCEPT, random), random)[0], NO_MENTION)
        return assemble(name, filled(str(random.choice(self._slots[kind])), slots))

    def describe(self, random: np.random.Generator, name: str) -> Sample:
        """A text from the description of an entity, partially labelled (distant supervision).

        Half of the entities share a name with another entity, so that the model learns to disambiguate by context. A sentence
        that names the entity, or a neighbour in the graph, is used, in half of the cases with another name of the entity. A
        short description without the name is joined with it by a template.
        """
        while True:
            entity = self._catalogue[self._draw_entity(random)]
            segments = self._described_segments(entity, random)
            if len(segments) > 1:
                return replace(assemble(name, segments), partial=True)

    def draw_passage(self, random: np.random.Generator, name: str) -> Sample:
        """Sentences of a description with all names that can be told, see `blink.training.data.passages`."""
        return self._passages.draw(random, name, self._draw_entity(random))

    def draw_sport(self, random: np.random.Generator, name: str) -> Sample:
        """A text about teams that are named by their city, or about the city, see `blink.training.data.sport`."""
        return self._sport.draw(random, name)

    @cached_property
    def _sport(self) -> SportTexts:
        return SportTexts(self._names, json.loads(_read_text("sport_templates.json")))

    def draw_lookalike(self, random: np.random.Generator, name: str) -> Sample:
        """A text about an entity that shares its name, see `blink.training.data.lookalikes`."""
        return self._lookalikes.draw(random, name)

    @cached_property
    def _lookalikes(self) -> Lookalikes:
        return Lookalikes(self._names, self._passages, json.loads(_read_text("lookalike_templates.json")))

    def draw_trap(self, random: np.random.Generator, name: str) -> Sample:
        """A text whose tempting words are not names of the catalogue, see `blink.training.data.traps`."""
        return self._traps.draw(random, name)

    def draw_enumeration(self, random: np.random.Generator, name: str) -> Sample:
        """A list of names, see `blink.training.data.enumerations`."""
        return self._enumerations.draw(random, name)

    @cached_property
    def _traps(self) -> Traps:
        about_places = json.loads(_read_text("sport_templates.json"))["city"]
        return Traps(self._names, json.loads(_read_text("trap_templates.json")), about_places)

    @cached_property
    def _enumerations(self) -> Enumerations:
        return Enumerations(self._names, {kind: self._kinds.get(kind, ()) for kind in ROLES})

    @cached_property
    def _names(self) -> Names:
        return Names(self._catalogue, self._neighbours, self._rows_of, self._kinds.get("person", ()))

    @cached_property
    def _passages(self) -> Passages:
        return Passages(self._names)

    def _draw_entity(self, random: np.random.Generator) -> int:
        if self._namesakes and random.random() < 0.5:
            return int(self._namesakes[random.integers(len(self._namesakes))])
        # The kind is drawn first, since most descriptions are of people.
        kind = (*sorted(ROLES), "all")[random.integers(len(ROLES) + 1)]
        rows = self._kinds.get(kind) or range(len(self._catalogue))
        return int(rows[random.integers(len(rows))])

    def _described_segments(self, entity: Entity, random: np.random.Generator) -> list[Segment]:
        if entity.text and len(entity.text) <= MAX_DEFINITION_LENGTH and not entity.text.endswith("."):
            forms = self._forms(entity)
            before, after = str(random.choice(DEFINITIONS)).split("{a}")
            form = (forms[random.integers(len(forms))], entity.row)
            return [before.replace("{d}", entity.text), form, after.replace("{d}", entity.text)]
        sentences = [s for s in SENTENCE.split(entity.text) if LENGTHS[0] <= len(s) <= LENGTHS[1]]
        return self._mark(str(sentences[random.integers(len(sentences))]), entity, random) if sentences else [""]

    def _mark(self, sentence: str, entity: Entity, random: np.random.Generator) -> list[Segment]:
        rows = {form.casefold(): entity.row for form in self._forms(entity)}
        for neighbour in self._neighbours.get(entity.row, ())[:MAX_NEIGHBOURS]:
            rows.setdefault(without_brackets(self._catalogue.title(neighbour)).casefold(), neighbour)
        pattern = "|".join(re.escape(form) for form in sorted(rows, key=len, reverse=True) if len(form) > 2)
        segments: list[Segment] = []
        offset = 0
        for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", sentence, re.IGNORECASE) if pattern else ():
            form = match[0]
            if form.casefold() not in rows:
                continue  # matched by case rules of `re` that differ from casefold
            row = rows[form.casefold()]
            if row == entity.row and random.random() < 0.5:
                forms = self._forms(entity)
                form = forms[random.integers(len(forms))]
            segments += [sentence[offset : match.start()], (form, row)]
            offset = match.end()
        return [*segments, sentence[offset:]]

    def _forms(self, entity: Entity) -> list[str]:
        title = without_brackets(entity.title)
        forms = [title, *(a for a in entity.aliases if len(a) > 2)]
        if self._kind_of.get(entity.row) == "person" and " " in title:
            forms.append(title.rsplit(" ", 1)[1])
        return forms

    def _rows_of_roles(self, roles: tuple[tuple[str, int], ...]) -> list[int]:
        rows = {(t.head, t.tail)[end] for relation, end in roles for t in self._triples[relation]}
        return sorted(rows)

    def _draw(self, kind: str, random: np.random.Generator) -> int:
        rows = self._kinds.get(kind) or self._kinds["any"]
        return int(rows[random.integers(len(rows))])

    def _form(self, row: int, random: np.random.Generator) -> tuple[str, int]:
        entity: Entity = self._catalogue[row]
        form = without_brackets(entity.title)
        if entity.aliases and random.random() < ALIAS_SHARE:
            form = str(entity.aliases[random.integers(len(entity.aliases))])
        if random.random() < self._augmentation:
            other = augmented(form, random)
            # An augmented name that is the name of another entity would be a wrong label.
            if len(other) > 1 and normalise(other) not in self._known:
                form = other
        return form, row


MAKERS: dict[str, Callable[[Synthesizer, np.random.Generator, str], Sample]] = {
    "described": Synthesizer.describe,
    "plain": Synthesizer.draw_plain,
    "pseudo": Synthesizer.draw_pseudo_labelled,
    "swapped": Synthesizer.replace_entities,
    "related": Synthesizer.fill_relation,
    "slotted": Synthesizer.fill_slots,
    "passage": Synthesizer.draw_passage,
    "sport": Synthesizer.draw_sport,
    "lookalike": Synthesizer.draw_lookalike,
    "notname": Synthesizer.draw_trap,
    "enumeration": Synthesizer.draw_enumeration,
}
"""Source in the settings -> the method that generates its texts."""

STREAMS = {
    source: stream
    for stream, source in enumerate(
        [
            "described",
            "plain",
            "pseudo",
            "related",
            "slotted",
            "swapped",
            "passage",
            "sport",
            "lookalike",
            "notname",
            "enumeration",
        ]
    )
}
"""Source -> number of its stream of random numbers, which must not change: a seed then gives the same texts."""


def _replaceable(questions: Sequence[Sample]) -> list[Sample]:
    return [q for q in questions if q.mentions and q.covered]


def _rows_of_forms(catalogue: Catalogue) -> dict[str, set[int]]:
    """The rows of each title and alias."""
    rows_of: dict[str, set[int]] = defaultdict(set)
    for entity in catalogue:
        for form in (without_brackets(entity.title), *entity.aliases):
            rows_of[normalise(form)].add(entity.row)
    return rows_of


def _read_text(name: str) -> str:
    return (resources.files("blink.training") / "texts" / name).read_text(encoding="utf-8")


def mixed(questions: Sequence[Sample], mix: dict[str, float], synthesizer: Synthesizer | None, seed: int) -> Iterator[Sample]:
    """The texts of an epoch: the questions, and synthetic texts in proportion to their number.

    Args:
        questions: labelled texts.
        mix: source -> texts per question, such as ``{"questions": 1, "plain": 0.25}``.
        synthesizer: generates the synthetic texts; None if ``mix`` has questions only.
        seed: of this epoch.
    """
    repeats, fraction = divmod(mix.get("questions", 1.0), 1)
    for _ in range(int(repeats)):
        yield from questions
    if fraction:
        rows_drawn = np.random.default_rng(seed).permutation(len(questions))[: round(fraction * len(questions))]
        yield from (questions[i] for i in rows_drawn)
    for source, share in mix.items():
        if source != "questions" and synthesizer is not None:
            yield from synthesizer.make(source, round(share * len(questions)), seed)
