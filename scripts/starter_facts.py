"""Facts about entities from a table of rows and graphs of triples, in one form for all kinds of entities."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blink.kb.alias_table import normalise, without_brackets
from scripts.starter_relations import ATTRIBUTES, INVERSE
from scripts.starter_tables import (
    ALLOWED_LICENCES,
    BRANDS,
    CAPITALISED_WORDS,
    COUNTRY_NAMES,
    COUNTRY_OF,
    DEMONYMS_OTHERWISE,
    KINDS_OF_HEADS,
    LOCAL_TYPES,
    NUMBERS,
    RAW_TYPES,
    ROLES,
    ROW_FACTS,
)

_ID = re.compile(r"Q[1-9]\d*")
_FREEBASE = re.compile(r"/m/[0-9a-z_]+")
_TITLED = re.compile(
    r"^(?:Sir|Baron|Count|King|Queen|Duke|Prince|Princess|Lord|Lady|Comte|Marquis|Master)\b|,| [IVX]+$|\bCo\.|Company|School"
)
_PLACE_WORD = r"[A-ZÀ-ÞŁŚŠŽ][\w.'’\-]*"
_PLACE = rf"{_PLACE_WORD}(?:(?:, | |, and | and | of | de | del | la | upon | the )+?{_PLACE_WORD})*"
_TAIL = re.compile(
    r"^,?(?: (?:located|based|headquartered|situated))? (in|of|from|on|near|representing)(?: the)?(?: city of| town of)?"
    rf" ({_PLACE})"
)
_NAME = rf"{_PLACE_WORD}(?: {_PLACE_WORD})+"
_BY = re.compile(rf"(?: directed)? by (?!.*(?:Studios|Pictures|Films|Entertainment|Productions))({_NAME}(?: and {_NAME})?)$")
_NOUN_ENDS = re.compile(
    r"(?:,| (?:in|of|from|based|located|headquartered|situated|by|directed|that|which|who|serving|for|at|on|near|held|played|"
    r"operating|with|to|founded|was|is|owned|between|written|featuring|produced|created|during|formed|as|active|since|under|"
    r"presented|given|awarded|bestowed|spoken|known|specializing|consisting|centered|connected|appearing|representing|native|"
    r"affiliated|comprising|comprised|associated|fought|involving|containing|headquartered|within|off|serving|running)\b)"
)
_DEMONYM = (re.compile(r"((?:[A-Z][\w.]*[ \-])?[A-Z][\w.]*)[ \-/]+"), re.compile(r"([A-Z][\w.]*)(?: and |[ \-/]+)"))
_MEDIA = frozenset(("film", "television", "stage", "theatre", "theater", "voice", "radio", "screen", "tv", "movie"))
_CAPITALS = frozenset(CAPITALISED_WORDS.split())


@dataclass
class Described:
    """What a short description says, as facts.

    Attributes:
        year: it begins with.
        demonyms: such as ``American``.
        nouns: noun phrases for what it is, such as ``film director``.
        former: whether it is no more.
        places: ``(preposition, place)``.
        people: whose work it is.
    """

    year: int | None = None
    demonyms: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    former: bool = False
    places: tuple[tuple[str, str], ...] = ()
    people: tuple[str, ...] = ()


@dataclass
class Item:
    """An entity and all that is known of it.

    Attributes:
        id: in Wikidata.
        title: its name.
        aliases: other names, as in the source.
        raw_types: as in the source.
        popularity: as in the source.
        source, licence: of its row.
        described: facts of its short description.
        values: attribute to ids or labels, without duplicates.
        numbers: attribute to a number.
        freebase: its id in Freebase.
        kind: such as ``person``; empty if no rule applies.
        noun: what it is, such as ``research university``.
    """

    id: str
    title: str
    aliases: tuple[str, ...]
    raw_types: tuple[str, ...]
    popularity: float
    source: str
    licence: str
    described: Described
    values: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    numbers: dict[str, int] = field(default_factory=dict)
    freebase: str = ""
    kind: str = ""
    noun: str = ""

    def add(self, attribute: str, value: str) -> None:
        """Add a value of an attribute once."""
        values = self.values[attribute]
        if value not in values:
            values.append(value)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines, compressed or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def licences_of(row: Mapping[str, Any]) -> frozenset[str]:
    """The licences of the sources of a row."""
    return frozenset(segment.strip() for segment in str(row["licence"]).split(";"))


def described(text: str) -> Described:
    """Parse a short description such as ``American film director`` or ``county in Texas, United States``."""
    rest = re.sub(r"\s*\([^)]*\)", "", text).strip().rstrip(".")
    rest = re.sub(r"^(?:an?|the) ", "", rest, flags=re.IGNORECASE)
    rest = re.sub(r"\b(?:the )?(?:U\.S\.|US|American|[A-Z][a-z]+n) state of ", "", rest).replace("U.S.", "United States")
    year, former, demonyms = None, False, []
    while True:
        if match := re.match(r"(?:[A-Z][a-z]+ )?(1[5-9]\d\d|20[0-2]\d)(?:[-–]\d+)? ", rest):
            year = int(match[1])
        elif match := re.match(r"[Ff]ormer ", rest):
            former = True
        elif match := next((m for p in _DEMONYM if (m := p.match(rest)) and _demonym(m[1])), None):
            demonyms.append(_demonym(match[1]))
        else:
            break
        rest = rest[match.end() :]
    roles = _roles(rest)
    end = _NOUN_ENDS.search(rest)
    phrase, tail = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    nouns = roles
    if not roles and phrase:
        words = phrase.split()
        demonyms += [_demonym(word) for word in words if _demonym(word)]
        words = [word for word in words if not _demonym(word)]
        nouns = _noun(words)
    places, people = [], tuple(re.split(r" and ", by[1])) if (by := _BY.search(tail)) else ()
    if roles:
        tail = re.sub(r"^.*?(?= (?:in|from|of) )", "", rest[len(", ".join(roles)) :]) if " from " in rest else ""
    while match := _TAIL.match(tail):
        places.append((match[1], match[2]))
        tail = tail[match.end() :]
    return Described(year, tuple(dict.fromkeys(demonyms)), nouns, former, tuple(places), people)


def _noun(words: Sequence[str]) -> tuple[str, ...]:
    """The noun phrase of words: of several the first that ends with a kind, of a long one its end."""
    if all(word[:1].isupper() or word in {"of", "and"} for word in words):
        words = [word if word in _CAPITALS else word.lower() for word in words]
    segments = re.split(r" and | & |, ", " ".join(words))
    segment = next((p for p in segments if p.split() and p.split()[-1].lower() in KINDS_OF_HEADS), " ".join(words))
    remaining: list[str] = []
    for word in reversed(segment.split()):
        word = word if word in _CAPITALS or len(remaining) < len(segment.split()) - 1 else word[:1].lower() + word[1:]
        if len(remaining) == 5 or not (word.islower() or word in _CAPITALS):
            break
        remaining.insert(0, word)
    if not remaining or (len(remaining) < len(segment.split()) and remaining[-1].lower() not in KINDS_OF_HEADS):
        return ()
    return (" ".join(remaining),)


def _demonym(word: str) -> str:
    word = word.removesuffix("-born")
    word = DEMONYMS_OTHERWISE.get(word, word)
    return word if word in COUNTRY_OF else ""


def _roles(text: str) -> tuple[str, ...]:
    """Occupations at the beginning of a text, such as ``actor, comedian and film producer from ...``."""
    text = re.split(r" (?:from|in|of|who|best|known|for|with|on|at)\b|[;:(]", text)[0]
    roles = []
    segments = [segment.strip() for segment in re.split(r",? and |, |/| & ", text)]
    while len(segments) > 1 and segments[0].lower() in _MEDIA:  # film, stage and television actor
        segments.pop(0)
    for segment in segments:
        words = segment.split()
        if not words or len(words) > 3 or words[-1].lower() not in ROLES:
            break
        if words[0][:1].isupper() and words[0] not in _CAPITALS:
            segment = segment[0].lower() + segment[1:]
        if not all(word.islower() or word in _CAPITALS for word in segment.split()):
            break
        roles.append(segment)
    return tuple(roles)


def description_of(row: Mapping[str, Any]) -> str:
    """The short description of Wikidata in a row's text, which is in the public domain; empty where there is none."""
    if not any(source in row["source"] for source in ("fb15k-e2w", "nsi")):
        return ""
    text = str(row["text"])[len(row["title"]) + 2 :].split("; ")[0].rstrip(".")
    is_types = text == ", ".join(row["types"][: text.count(", ") + 1])
    return "" if is_types or ": " in text else text


def read_items(path: Path, dropped: Counter[str]) -> dict[str, Item]:
    """Checked entities of a table by id; those left out are counted by reason."""
    items: dict[str, Item] = {}
    for row in rows_of(path):
        reason = _fault(row, items)
        if reason:
            dropped[reason] += 1
            continue
        item = Item(
            row["kb_idx"],
            " ".join(row["title"].split()),
            tuple(row["aliases"]),
            tuple(t for t in row["types"] if not t.startswith(LOCAL_TYPES)),
            float(row["popularity"]),
            "+".join(source for source in row["source"].split("+") if source != "oewn"),
            row["licence"],
            described(description_of(row)),
        )
        for fact in row["facts"]:
            if fact["r"] in NUMBERS:
                if re.fullmatch(r"-?\d+", fact["o"]):
                    item.numbers.setdefault(NUMBERS[fact["r"]], int(fact["o"]))
            elif fact["r"] in ROW_FACTS:
                item.add(ROW_FACTS[fact["r"]], fact["q"] or COUNTRY_NAMES.get(fact["o"], fact["o"]))
        _check_numbers(item, dropped)
        items[item.id] = item
    return items


def _fault(row: Mapping[str, Any], items: Mapping[str, Item]) -> str:
    title = row["title"]
    if not _ID.fullmatch(row["kb_idx"]):
        return "id is not well-formed"
    if row["kb_idx"] in items:
        return "id twice"
    if not licences_of(row) <= ALLOWED_LICENCES:
        return "licence is not allowed"
    if title[:1].islower():
        return "common noun (title in lower case)"
    if row["source"].startswith("nga") and (_TITLED.search(title) or title.isupper()):
        return "name of a person with a title"
    if not 2 <= len(title) <= 60 or title.startswith(("Category:", "List of", "Wikimedia")) or not title[0].isalnum():
        return "title is not a name"
    return ""


def _check_numbers(item: Item, dropped: Counter[str]) -> None:
    born, died = item.numbers.get("born"), item.numbers.get("died")
    if (born is not None and died is not None and not 10 <= died - born <= 105) or max(born or 0, died or 0) > 2025:
        dropped["facts: dates of a life"] += 1
        item.numbers.pop("born", None)
        item.numbers.pop("died", None)
    if item.numbers.get("founded", 1000) > 2025 or item.numbers.get("founded", 1000) < 500:
        dropped["facts: year of foundation"] += 1
        del item.numbers["founded"]


def labels_of(path: Path) -> dict[str, str]:
    """Names of the objects of facts by id, as in the rows of allowed licences."""
    labels: dict[str, str] = {}
    for row in rows_of(path):
        if licences_of(row) <= ALLOWED_LICENCES:
            labels[row["kb_idx"]] = row["title"]
            for fact in row["facts"]:
                if fact["q"]:
                    labels.setdefault(fact["q"], fact["o"])
    return labels


def read_triples(paths: Iterable[Path]) -> list[tuple[str, str, str]]:
    """Distinct triples of tab-separated files, in order."""
    triples: dict[tuple[str, str, str], None] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            head, relation, tail = line.split("\t")
            triples[head, relation, tail] = None
    return list(triples)


def add_triples(items: Mapping[str, Item], triples: Iterable[tuple[str, str, str]]) -> None:
    """Give items the attributes that triples state."""
    for head, relation, tail in triples:
        for attribute, is_inverse in ATTRIBUTES.get(relation, ()):
            subject, value = (tail, head) if is_inverse == INVERSE else (head, tail)
            if subject in items and value != subject and not value.startswith("/m/"):
                items[subject].add(attribute, value)


def add_freebase(items: Mapping[str, Item], path: Path) -> None:
    """Give items their ids in Freebase, from lines ``/m/...<TAB>Q...``; an entity with two ids gets none."""
    ids: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        machine_id, kb_id = line.split("\t")
        if _FREEBASE.fullmatch(machine_id):
            ids[kb_id].append(machine_id)
    for kb_id, item in items.items():
        item.freebase = ids[kb_id][0] if len(ids.get(kb_id, ())) == 1 else ""


_PERSON = ("citizen", "born_in", "died_in", "gender", "spouse", "acted_in", "band", "studied_at", "directed", "plays_for")


def find_kinds(items: Iterable[Item]) -> None:
    """Set the kind and the noun of each item, by its facts, its description and its types, in this order."""
    for item in items:
        item.kind, item.noun = _kind(item)


def _kind(item: Item) -> tuple[str, str]:
    nouns = item.described.nouns
    heads = [noun.split()[-1].lower() for noun in nouns]
    is_person = "gender" in item.values or "human" in item.raw_types or "artist" in item.raw_types
    if is_person or (heads and heads[0] in ROLES and any(a in item.values for a in (*_PERSON, "occupation"))):
        return ("person", "") if not (heads and heads[0] in {"band", "duo", "group"}) else ("band", nouns[0])
    if heads and heads[0] in ROLES and heads[0] not in KINDS_OF_HEADS:
        return "person", ""
    for noun, head in zip(nouns, heads, strict=True):
        if head in KINDS_OF_HEADS:
            return _special(noun, KINDS_OF_HEADS[head], item)
    for raw in item.raw_types:
        if raw in RAW_TYPES:
            return RAW_TYPES[raw]
        if (match := re.fullmatch(r"brand \((.*)\)", raw)) and match[1] in BRANDS:
            return "brand", BRANDS[match[1]]
    for raw in item.raw_types:
        type_facts = described(raw)
        for noun in type_facts.nouns:
            if noun.split()[-1] in KINDS_OF_HEADS and not re.search(r"genre|position|occupation|type", raw):
                item.described = replace(
                    item.described, nouns=type_facts.nouns, places=item.described.places or type_facts.places
                )
                return _special(noun, KINDS_OF_HEADS[noun.split()[-1]], item)
    if "cast" in item.values:
        return "film", "film"
    return "", ""


def _special(noun: str, kind: str, item: Item) -> tuple[str, str]:
    if kind == "band" and noun.split()[-1] == "group" and not re.search(r"music|rock|pop|hip|vocal|girl|rap|folk|comedy", noun):
        return ("company", noun) if re.search(r"company|media|retail|bank|hotel|automotive|insurance", noun) else ("", "")
    if kind == "place" and re.search(r"executive|police|government|fire|building|of state", noun):
        return "org", noun
    if kind == "place" and "nsi" in item.source and "fb15k" not in item.source and "natural-earth" not in item.source:
        return "", ""
    if kind == "tv" and "film" in noun:
        return "work", noun
    if kind == "film" and noun.endswith("film") and "cast" not in item.values and "director" not in item.values:
        return "film", noun
    return kind, noun


_ART = re.compile(
    r"(?i)paint|artist|sculpt|engrav|etch|print|draw|draughts|drafts|photo|architect|illustrat|design|potter|craft|lithograph|"
    r"miniatur|medal|silver|gold|weav|ceram|caricat|cartoon|woodcut|\bart\b|calligraph|glass|publisher|furniture|cabinet"
)


def drop_contradicted(items: dict[str, Item], catalogue: Path, dropped: Counter[str]) -> None:
    """Remove items that another catalogue names otherwise or does not know as artists, and years that it lacks."""
    for row in rows_of(catalogue):
        item = items.get(row.get("kb_idx", ""))
        if item is None:
            continue
        ours = {normalise(name) for name in (item.title, without_brackets(item.title), *item.aliases)}
        if not ours & {normalise(name) for name in (row["title"], without_brackets(row["title"]), *row.get("aliases", ()))}:
            dropped["another name in the catalogue of --check"] += 1
            del items[item.id]
        elif "artist" in item.raw_types and "codex" in row.get("source", "codex").lower() and not _ART.search(row["text"]):
            dropped["no artist in the catalogue of --check"] += 1
            del items[item.id]
        elif "codex" in row.get("source", "").lower():
            for year in ("born", "died"):
                if item.numbers.get(year) and str(abs(item.numbers[year])) not in row["text"]:
                    dropped["facts: years that --check does not have"] += 1
                    item.numbers.pop("born", None)
                    item.numbers.pop("died", None)


def prominence(item: Item) -> float:
    """How well known an item is: its popularity in the source, and its Wikidata number (low ones were given first)."""
    return item.popularity + 4 * (8 - math.log10(int(item.id[1:]) + 10))
