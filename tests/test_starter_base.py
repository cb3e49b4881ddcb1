"""The starter's catalogue as a whole: ids, sentences generated from facts, types, aliases, licences, and shared names."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from blink.kb.alias_table import normalise, without_brackets
from scripts.starter_phrases import article, listed
from scripts.starter_tables import ALLOWED_LICENCES

pytestmark = pytest.mark.quick

WRITTEN = 1212
LEAST_GENERATED, LEAST_SHARED_NAMES = 20_000, 2_000
ABBREVIATED = re.compile(r"\b(?:D\.C|Jr|Sr|Inc|Bros|Luck|Co|Ltd|St|[A-Z])\.(?=[,. ])")
"""Stops that end no sentence."""
SOURCES = {
    "codex": {"MIT", "Wikidata CC0"},
    "codex-types": {"MIT", "Wikidata CC0"},
    "congress-legislators": {"CC0"},
    "country-coder": {"ISC"},
    "fb15k-e2w": {"Wikidata CC0"},
    "natural-earth": {"public domain"},
    "nga": {"CC0"},
    "nsi": {"BSD-3-Clause", "Wikidata CC0"},
    "reep": {"CC0"},
    "ror": {"CC0"},
    "wikidata-lang": {"MIT", "Wikidata CC0"},
}
"""Sources and their licences, as in the card."""


@pytest.fixture(scope="module")
def home(root: Path) -> Path:
    return root / "models" / "starter-kb"


@pytest.fixture(scope="module")
def rows(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "entity.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def generated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if "source" in row]


def test_entities_written_by_hand_come_first(rows: list[dict[str, Any]]) -> None:
    first = next(i for i, row in enumerate(rows) if "source" in row)
    assert first >= WRITTEN
    assert all("source" in row for row in rows[first:])
    assert (rows[0]["title"], rows[WRITTEN - 1]["title"]) == ("Afghanistan", "Notre-Dame de Paris")


def test_there_are_enough(generated: list[dict[str, Any]]) -> None:
    assert len(generated) >= LEAST_GENERATED


def test_ids_and_titles_are_unique(rows: list[dict[str, Any]], generated: list[dict[str, Any]]) -> None:
    for key in ("kb_idx", "title"):
        assert [value for value, count in Counter(row[key] for row in rows).items() if count > 1] == []
    assert all(re.fullmatch(r"Q[1-9]\d*", row["kb_idx"]) for row in generated)
    assert all(re.fullmatch(r"/m/\w+", row["ids"]["freebase"]) for row in generated if "ids" in row)


def test_sources_have_licences_of_the_table(generated: list[dict[str, Any]], home: Path) -> None:
    used = {source for row in generated for source in row["source"].split("+")}
    assert used <= set(SOURCES)
    assert set().union(*SOURCES.values()) <= ALLOWED_LICENCES
    card = (home / "README.md").read_text(encoding="utf-8")
    assert [source for source in used - {"codex-types", "wikidata-lang"} if f"`{source}`" not in card] == []


def test_sentences_are_whole(generated: list[dict[str, Any]]) -> None:
    faults = {
        "no full stop at the end": lambda text: not text.endswith("."),
        "double spaces": lambda text: "  " in text or text != text.strip(),
        "stops or commas that follow each other": lambda text: re.search(r"[.,] ?[.,]", ABBREVIATED.sub("x", text)),
        "an id": lambda text: re.search(r"\bQ\d{2,}|/m/", text),
        "an empty place": lambda text: re.search(r"(?<![\w'`])(in|of|by|from|with|and|the|a|an)[.,]", text),
        "an article twice": lambda text: re.search(r"\b(the the|the The|a the|an the|the a)\b", text),
        "a small letter at the beginning": lambda text: not (text[0].isupper() or text[0].isdigit()),
        "a list with one comma too many": lambda text: ", and " in text and re.search(r", and (the )?\w+\.$", text),
    }
    found = {name: [row["title"] for row in generated if fault(row["text"])][:5] for name, fault in faults.items()}
    assert {name: titles for name, titles in found.items() if titles} == {}


def test_sentences_are_short_and_tell_entities_apart(generated: list[dict[str, Any]]) -> None:
    assert all(3 <= len(row["text"].split()) <= 45 for row in generated)
    assert max(Counter(row["text"] for row in generated).values()) == 1


def test_indefinite_articles(generated: list[dict[str, Any]]) -> None:
    wrong = re.compile(r"(?<![\w'])(a [aeioAEIO]|an (?!der )[bcdfgjklpqrstvwxyz]|an uni)")
    assert [row["text"] for row in generated if wrong.search(row["text"])] == []
    assert [article(noun) for noun in ("actor", "university", "heir", "NBA team", "UK singer", "European", "hotel")] == [
        "an actor",
        "a university",
        "an heir",
        "an NBA team",
        "a UK singer",
        "a European",
        "a hotel",
    ]


def test_lists_in_prose() -> None:
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_types_are_few_and_readable(rows: list[dict[str, Any]], generated: list[dict[str, Any]]) -> None:
    assert all(1 <= len(row["types"]) <= 4 for row in generated)
    types = {t for row in rows for t in row.get("types", ())}
    assert [t for t in types if "(" in t or t != t.strip() or len(t) > 40] == []
    assert {"person", "place", "city", "country", "company", "film", "sports team", "university"} <= types


def test_aliases_are_names(generated: list[dict[str, Any]]) -> None:
    aliases = [(row["title"], alias) for row in generated for alias in row.get("aliases", ())]
    assert [a for a in aliases if not any(c.isupper() for c in a[1]) or not 2 <= len(a[1]) <= 40] == []
    assert all(len(row.get("aliases", ())) <= 4 for row in generated)
    assert not any(normalise(alias) == normalise(title) for title, alias in aliases)


def test_common_nouns_are_left_out(generated: list[dict[str, Any]]) -> None:
    assert [row["title"] for row in generated if row["title"][0].islower()] == []
    names = {normalise(without_brackets(row["title"])) for row in generated}
    hubs = ("actor", "English", "Spanish", "Jewish people", "guitar", "jazz", "Protestantism", "January", "comedy film")
    assert [hub for hub in hubs if normalise(hub) in names] == []


def test_names_are_ambiguous(rows: list[dict[str, Any]]) -> None:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({normalise(name) for name in (without_brackets(row["title"]), *row.get("aliases", ()))})
    assert sum(count > 1 for count in counts.values()) >= LEAST_SHARED_NAMES
