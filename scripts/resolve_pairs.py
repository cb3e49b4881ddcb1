"""Pairs of records for the weights of the resolver, made from a table of entities and a catalogue with descriptions.

    python scripts/resolve_pairs.py FACTS.jsonl.gz ENTITY.jsonl PAIRS.jsonl

FACTS has ``title``, ``aliases``, ``types``, ``facts`` and ``kb_idx`` a line; ENTITY.jsonl is a catalogue, some of whose ids are
those of FACTS. A description of a thing is a clause of its text or a few of its facts; two of one thing are of different
sentences. Namesakes are entities that share a name, and others that get the name of one, as there are too few namesakes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from blink.data.sentences import boundaries
from blink.files import write_json_lines
from blink.kb.alias_table import normalise, without_brackets
from blink.resolve.kinds import kind_of
from blink.resolve.profiles import stems
from blink.resolve.word_tables import SHORT_FORMS

LEGAL = ("Inc.", "Ltd", "Ltd.", "AG", "GmbH", "Corporation", "Corp.", "S.A.", "PLC", "LLC", "Co.")
HONORIFICS = ("Dr.", "Prof.", "Sir", "President", "Mr.")
PREDICATE = re.compile(r"\b(?:is|was|are|were) (?:an? |the |one of the )?(.+)")


@dataclass
class Thing:
    """An entity with what can be said of it."""

    title: str
    aliases: list[str]
    types: list[str]
    short: str
    sentences: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    @cached_property
    def kind(self) -> str | None:
        """The kind of its first type that has one, or else of its short description."""
        return next((kind for type_ in (*self.types, self.short) if (kind := kind_of(type_))), None)

    def phrase(self, rng: random.Random) -> str:
        """Something that is said of it, its short description as a rule."""
        if self.sentences and rng.random() < 0.4:
            return rng.choice(self.sentences)
        return rng.choice(self.facts) if self.facts and rng.random() < 0.15 else self.short


def main() -> None:
    """Read the tables and write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", type=Path)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    things = read_things(arguments.facts, arguments.catalogue)
    rng = random.Random(arguments.seed)
    write_json_lines(arguments.out, pairs(things, arguments.pairs, rng))


def read_things(facts: Path, catalogue: Path) -> list[Thing]:
    """The things of both tables that are of a kind that records are about, with what each table says of them."""
    things: dict[str, Thing] = {}
    with gzip.open(facts, "rt", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            short = row["text"].removeprefix(f"{row['title']}: ").split("; ")[0].rstrip(".")
            objects = [fact["o"] for fact in row["facts"][:8] if not any(map(str.isdigit, fact["o"]))]
            thing = Thing(without_brackets(row["title"]), row["aliases"], row["types"], short)
            thing.facts = [", ".join(objects[i : i + 3]) for i in range(0, len(objects) - 1, 3)][:2]
            things[row["kb_idx"]] = thing
    with catalogue.open(encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            clauses = [
                clause for start, end in sentence_spans(row["text"][:900]) if (clause := clause_of(row["text"][start:end]))
            ]
            if not clauses or "gloss" in row["source"]:
                continue
            thing = things.setdefault(row["kb_idx"], Thing(without_brackets(row["title"]), [], [], clauses[0]))
            thing.aliases = list(dict.fromkeys([*thing.aliases, *row.get("aliases", [])]))
            thing.sentences = [clause for clause in clauses if not is_like(clause, thing.short)]
    return [thing for thing in things.values() if thing.kind is not None and len(thing.short.split()) > 2]


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """The first three sentences of a text."""
    begin = 0
    for end in [*(boundary.at for boundary in boundaries(text)), len(text)][:3]:
        if end > begin:
            yield begin, end
        begin = end


def clause_of(sentence: str) -> str | None:
    """What a sentence says of its subject; the sentence itself where that is not clear."""
    match = PREDICATE.search(sentence)
    clause = (match[1] if match else sentence).strip().rstrip(".")
    return clause if len(clause.split()) >= 3 else None


def pairs(things: Sequence[Thing], count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Half of them of one thing, half of two."""
    shared: dict[str, list[Thing]] = defaultdict(list)
    families: dict[str, list[Thing]] = defaultdict(list)
    of_kind: dict[str, list[Thing]] = defaultdict(list)
    for thing in things:
        for name in {normalise(name) for name in (thing.title, *thing.aliases)}:
            shared[name].append(thing)
        of_kind[thing.kind or ""].append(thing)
        if thing.kind == "person" and len(thing.title.split()) > 1:
            families[normalise(thing.title).split()[-1]].append(thing)
    namesakes = [group for group in shared.values() if 1 < len(group) < 20]
    relatives = [group for group in families.values() if len(group) > 1]
    many = [thing for thing in things if thing.sentences]
    words = word_index(things)
    for i in range(count):
        if i % 2:
            yield positive(rng.choice(many), rng)
        else:
            yield negative(things, namesakes, relatives, of_kind, words, rng)


def positive(thing: Thing, rng: random.Random) -> dict[str, Any]:
    """Two records of one thing."""
    # What begins a text says most; what follows is said of a thing that the reader knows.
    first, second = thing.short, thing.sentences[0] if rng.random() < 0.6 else thing.phrase(rng)
    first, second = (first, second) if rng.random() < 0.5 else (second, first)
    how = rng.choice(VARIANTS)
    name = how(thing, rng) or thing.title
    if name == thing.title and rng.random() < 0.5:
        name = rng.choice([thing.title, *thing.aliases])
    a, b = record(thing.title, thing, first, rng), record(name, thing, second, rng)
    return {"same": True, "kind": how.__name__, "a": a, "b": b}


def negative(
    things: Sequence[Thing],
    namesakes: Sequence[Sequence[Thing]],
    relatives: Sequence[Sequence[Thing]],
    of_kind: dict[str, list[Thing]],
    words: dict[str, list[Thing]],
    rng: random.Random,
) -> dict[str, Any]:
    """Records of two things whose names are alike."""
    kind = rng.choice(("namesake", "namesake", "namesake", "given_name", "like_name", "like_name", "relative", "family_name"))
    described = True
    if kind == "namesake":
        x, y = rng.sample(list(rng.choice(namesakes)), 2)
        names = {normalise(n): n for n in (x.title, *x.aliases)}
        if len(names.keys() & {normalise(n) for n in (y.title, *y.aliases)}) > 1 or is_like(x.short, y.short):
            return negative(things, namesakes, relatives, of_kind, words, rng)  # perhaps one thing with two ids
        common = [names[n] for n in {normalise(n) for n in (y.title, *y.aliases)} if n in names]
        names_of = (rng.choice(common), rng.choice(common))
        described = rng.random() < 0.85
    elif kind == "given_name":  # another thing of its kind gets its name, or a variant of it
        x = rng.choice(things)
        y = rng.choice(of_kind[x.kind or ""])
        names_of = (x.title, rng.choice(VARIANTS)(x, rng) or x.title)
    elif kind == "relative":
        x, y = rng.sample(list(rng.choice(relatives)), 2)
        names_of = (x.title, initials(y, rng) or y.title) if rng.random() < 0.4 else (x.title, y.title)
    elif kind == "family_name":
        x, y = rng.sample(list(rng.choice(relatives)), 2)
        names_of = (x.title, y.title.split()[-1])
    else:
        x = rng.choice(things)
        y = rng.choice(words[rng.choice(normalise(x.title).split() or [""])] or [rng.choice(things)])
        names_of = (x.title, y.title)
    if kind == "given_name" and is_like(x.short, y.short):
        return negative(things, namesakes, relatives, of_kind, words, rng)
    if x is y or (x.title == y.title and kind != "namesake"):
        return negative(things, namesakes, relatives, of_kind, words, rng)
    a = record(names_of[0], x, x.phrase(rng), rng, described)
    b = record(names_of[1], y, y.phrase(rng), rng, described or "description" not in a)
    return {"same": False, "kind": kind, "a": a, "b": b}


def word_index(things: Sequence[Thing]) -> dict[str, list[Thing]]:
    """Things by words of their titles, those of words that few have."""
    index: dict[str, list[Thing]] = defaultdict(list)
    for thing in things:
        for word in set(normalise(thing.title).split()):
            index[word].append(thing)
    return defaultdict(list, {word: of_word for word, of_word in index.items() if 1 < len(of_word) < 300})


def record(name: str, thing: Thing, text: str, rng: random.Random, described: bool | None = None) -> dict[str, Any]:
    """A record with a shortened description, or without; with a type, or without."""
    values: dict[str, Any] = {"name": name}
    if thing.types and rng.random() < 0.6:
        values["type"] = thing.types[0] if rng.random() < 0.7 else rng.choice(thing.types[:4])
    if described or (described is None and rng.random() < 0.92):
        values["description"] = shortened(text, rng.randint(6, 18))
    return values


def shortened(text: str, most: int) -> str:
    """At most so many words, up to a comma if there is one after the third."""
    words = text.split()
    if len(words) <= most:
        return text
    at = next((i for i in range(most, 3, -1) if words[i - 1].endswith((",", ";"))), most)
    return " ".join(words[:at]).rstrip(",;(")


def is_like(a: str, b: str) -> bool:
    """Whether two descriptions hardly differ, so that they may be of one thing with two ids."""
    x, y = stems(a), stems(b)
    return len(x & y) >= 0.6 * min(len(x), len(y))


def same_name(thing: Thing, rng: random.Random) -> str | None:
    """The title."""
    return thing.title


def alias(thing: Thing, rng: random.Random) -> str | None:
    """One of its aliases."""
    return rng.choice(thing.aliases) if thing.aliases else None


def initials(thing: Thing, rng: random.Random) -> str | None:
    """A person's first names as initials."""
    words = thing.title.split()
    if thing.kind != "person" or not 2 <= len(words) <= 4:
        return None
    return " ".join([*(f"{word[0]}." for word in words[:-1]), words[-1]])


def nickname(thing: Thing, rng: random.Random) -> str | None:
    """A person's first name in its short or full form."""
    first, *rest = thing.title.split()
    known = SHORT_FORMS.get(normalise(first))
    if thing.kind != "person" or not rest or not known:
        return None
    others = sorted({name for name, full in SHORT_FORMS.items() if full & known} - {normalise(first)})
    return " ".join([rng.choice(others).capitalize(), *rest]) if others else None


def typo(thing: Thing, rng: random.Random) -> str | None:
    """The title with a letter dropped, doubled, swapped or replaced."""
    title = thing.title
    if len(title) < 6:
        return None
    at = rng.randrange(1, len(title) - 1)
    if not (title[at].isalpha() and title[at + 1].isalpha()):
        return None
    changed = (
        title[at + 1] + title[at],
        title[at + 1],
        title[at] * 2 + title[at + 1],
        rng.choice("aeiourstln") + title[at + 1],
    )
    return title[:at] + rng.choice(changed) + title[at + 2 :]


def inverted(thing: Thing, rng: random.Random) -> str | None:
    """A person's family name first."""
    words = thing.title.split()
    if thing.kind != "person" or len(words) < 2:
        return None
    comma = "," if rng.random() < 0.7 else ""
    return f"{words[-1]}{comma} {' '.join(words[:-1])}"


def with_words_around(thing: Thing, rng: random.Random) -> str | None:
    """A person's title before the name, or a company's legal form after it."""
    if thing.kind == "person":
        return f"{rng.choice(HONORIFICS)} {thing.title}"
    if (thing.kind or "").startswith("organisation/company"):
        return f"{thing.title} {rng.choice(LEGAL)}"
    return None


def acronym(thing: Thing, rng: random.Random) -> str | None:
    """The initials of an organisation."""
    words = [word for word in thing.title.split() if word[0].isupper()]
    return "".join(word[0] for word in words) if (thing.kind or "").startswith("organisation") and len(words) > 2 else None


def family_name(thing: Thing, rng: random.Random) -> str | None:
    """A person's family name alone."""
    words = thing.title.split()
    return words[-1] if thing.kind == "person" and len(words) == 2 else None


def without_middle(thing: Thing, rng: random.Random) -> str | None:
    """A person's name without middle names, or with an initial more."""
    words = thing.title.split()
    if thing.kind != "person" or len(words) < 2:
        return None
    return f"{words[0]} {words[-1]}" if len(words) > 2 else f"{words[0]} {rng.choice('ABCDEFGHJLMPRSTW')}. {words[1]}"


VARIANTS: tuple[Callable[[Thing, random.Random], str | None], ...] = (
    same_name, same_name, alias, alias, initials, nickname, typo, typo, inverted, with_words_around, acronym,
    family_name, without_middle,
)  # fmt: skip
"""How the second name of a pair comes from the first."""


if __name__ == "__main__":
    main()
