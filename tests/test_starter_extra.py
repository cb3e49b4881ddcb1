"""The entities that were added to the starter by hand: ids, sentences, types, and aliases that are no everyday words."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from blink.kb.alias_table import normalise, without_brackets

DATA = Path(__file__).parent / "data"
KB = Path(__file__).parents[1] / "models" / "starter-kb"
ID = re.compile(r"Q[1-9]\d*|blink:[a-z0-9]+(-[a-z0-9]+)*")
WORDS = (15, 36)
TYPES = DATA / "starter-extra-types.txt"
ALSO_WORDS = {"curry", "meta"}
"""Aliases that are words too, and by which the entity is called more often than by its title."""


@cache
def rows() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in (KB / "extra.jsonl").read_text(encoding="utf-8").splitlines())


@cache
def everyday_words() -> frozenset[str]:
    """Words that everyday texts use without meaning an entity."""
    words: set[str] = set()
    for name in ("everyday.jsonl", "everyday-dev.jsonl"):
        for line in (DATA / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = list(row["text"])
            for start, end in row["mentions"]:
                text[start:end] = " " * (end - start)
            words.update(re.findall(r"[^\W\d_]+", "".join(text).lower()))
    return frozenset(words)


def test_ids_and_titles_are_unique() -> None:
    for key in ("kb_idx", "title"):
        counts = Counter(row[key] for row in rows())
        assert [value for value, count in counts.items() if count > 1] == []
    assert all(ID.fullmatch(row["kb_idx"]) for row in rows())


def names(row: dict[str, Any]) -> set[str]:
    return {normalise(name) for name in (row["title"], without_brackets(row["title"]), *row.get("aliases", ()))}


def test_an_id_of_the_base_stands_for_the_same_entity() -> None:
    base = {row["kb_idx"]: row for row in map(json.loads, (KB / "entity.jsonl").open(encoding="utf-8"))}
    for row in rows():
        assert names(row) & names(base.get(row["kb_idx"], row)), row["title"]


def test_texts_are_one_or_two_sentences_of_plain_words() -> None:
    for row in rows():
        text = row["text"]
        assert WORDS[0] <= len(text.split()) <= WORDS[1], row["title"]
        assert text.endswith("."), row["title"]
        assert text == " ".join(text.split())
        assert not re.search(r"[<>\[\]{}|]|\(\)|\.\.|,,", text), text


def test_aliases_name_the_entity_and_nothing_in_every_text() -> None:
    for row in rows():
        forms = [normalise(alias) for alias in row["aliases"]]
        assert len(set(forms)) == len(forms), row["title"]
        for form in forms:
            assert len(form) > 1
            assert form != normalise(row["title"])
            assert form != normalise(without_brackets(row["title"])), (row["title"], form)
            assert form not in everyday_words() - ALSO_WORDS, (row["title"], form)


def test_types_are_of_the_list() -> None:
    known = TYPES.read_text(encoding="utf-8").split("\n")
    for row in rows():
        assert row["types"], row["title"]
        assert set(row["types"]) <= set(known), row["title"]


def test_addresses_are_of_wikipedia() -> None:
    for row in rows():
        assert re.fullmatch(r"(https://en\.wikipedia\.org/wiki/[^\s?#]+)?", row["idx"]), row["idx"]


def test_everyday_texts_name_few_of_them() -> None:
    """They were chosen by what people talk about, not by what the test texts name."""
    named = {
        kb_id
        for line in (DATA / "everyday.jsonl").read_text(encoding="utf-8").splitlines()
        for kb_id in json.loads(line)["wikidata_id"]
    }
    ours = {row["kb_idx"] for row in rows()}
    assert len(ours & named) <= 0.4 * len(ours)


@pytest.mark.parametrize("name", ["everyday.jsonl", "everyday-dev.jsonl"])
def test_entities_without_a_wikidata_id_in_everyday_texts_are_here(name: str) -> None:
    ours = {row["kb_idx"] for row in rows()}
    for line in (DATA / name).read_text(encoding="utf-8").splitlines():
        missing = [kb_id for kb_id in json.loads(line)["wikidata_id"] if kb_id.startswith("blink:") and kb_id not in ours]
        assert missing == []
