"""The starter knowledge base's facts: triples.tsv and relations.tsv next to its catalogue."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from prior_toys import AsTheyAre, by_row, spans

from blink.data.prior_file import PriorTable, PriorWeights
from blink.linking.coherence import Coherence

pytestmark = pytest.mark.quick

SYMMETRIC = {"P47": "shares border with", "P26": "spouse", "P3373": "sibling"}
FUNCTIONAL = {"P19": "place of birth", "P20": "place of death", "P36": "capital", "P397": "parent astronomical body"}
LEAST_FACTS = 60_000
LEAST_COVERAGE = 0.9


class Fact(NamedTuple):
    """One line of triples.tsv: ids of two entities of the catalogue and of the relation between them."""

    head: str
    relation: str
    tail: str


def number(name: str) -> int:
    """The digits of an id, for sorting: Q9 comes before Q10."""
    return int(name[1:])


@pytest.fixture(scope="module")
def home(root: Path) -> Path:
    """The folder of the starter knowledge base."""
    return root / "models" / "starter-kb"


@pytest.fixture(scope="module")
def titles(home: Path) -> dict[str, str]:
    """Entity id to title, from the catalogue."""
    rows = map(json.loads, (home / "entity.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["kb_idx"]: row["title"] for row in rows}


@pytest.fixture(scope="module")
def facts(home: Path) -> list[Fact]:
    """Every line of triples.tsv, in order."""
    return [Fact(*line.split("\t")) for line in (home / "triples.tsv").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def labels(home: Path) -> dict[str, str]:
    """Relation id to English label."""
    return dict(line.split("\t") for line in (home / "relations.tsv").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("name", "line"), [("triples.tsv", r"Q[1-9]\d*\tP[1-9]\d*\tQ[1-9]\d*"), ("relations.tsv", r"P[1-9]\d*\t\S[^\t]*\S")]
)
def test_every_line_has_the_format(home: Path, name: str, line: str) -> None:
    text = (home / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert [entry for entry in text[:-1].split("\n") if not re.fullmatch(line, entry)] == []


def test_both_ends_are_entities_of_the_catalogue(facts: list[Fact], titles: dict[str, str]) -> None:
    assert {end for fact in facts for end in (fact.head, fact.tail)} <= set(titles)


def test_relations_are_listed_once_and_used(facts: list[Fact], labels: dict[str, str], home: Path) -> None:
    listed = [line.split("\t")[0] for line in (home / "relations.tsv").read_text(encoding="utf-8").splitlines()]
    assert listed == sorted(set(listed), key=number)
    assert set(listed) == {fact.relation for fact in facts}
    assert len(set(labels.values())) == len(labels)


def test_sorted_without_duplicates_or_loops(facts: list[Fact]) -> None:
    assert facts == sorted(set(facts), key=lambda fact: tuple(map(number, fact)))
    assert [fact for fact in facts if fact.head == fact.tail] == []


def test_enough_facts_about_nearly_every_entity(facts: list[Fact], titles: dict[str, str]) -> None:
    covered = {end for fact in facts for end in (fact.head, fact.tail)}
    assert len(facts) >= LEAST_FACTS
    assert len(covered) >= LEAST_COVERAGE * len(titles)


@pytest.mark.parametrize("relation", SYMMETRIC, ids=SYMMETRIC.values())
def test_symmetric_relations_hold_in_both_directions(facts: list[Fact], labels: dict[str, str], relation: str) -> None:
    pairs = {(fact.head, fact.tail) for fact in facts if fact.relation == relation}
    assert pairs
    assert labels[relation] == SYMMETRIC[relation]
    assert {(tail, head) for head, tail in pairs} == pairs


@pytest.mark.parametrize("relation", FUNCTIONAL, ids=FUNCTIONAL.values())
def test_functional_relations_have_one_value(
    facts: list[Fact], labels: dict[str, str], titles: dict[str, str], relation: str
) -> None:
    counts = Counter(fact.head for fact in facts if fact.relation == relation)
    assert counts
    assert labels[relation] == FUNCTIONAL[relation]
    assert [titles[head] for head, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    ("head", "label", "tail"),
    [
        ("France", "capital", "Paris"),
        ("Georgia (country)", "shares border with", "Armenia"),
        ("Georgia (U.S. state)", "shares border with", "Alabama"),
        ("Marie Curie", "spouse", "Pierre Curie"),
        ("Pride and Prejudice", "author", "Jane Austen"),
        ("Texas (band)", "location of formation", "Glasgow"),
        ("Mercury (planet)", "parent astronomical body", "Sun"),
        ("Perth", "named after", "Perth, Scotland"),
    ],
)
def test_namesakes_are_told_apart(
    facts: list[Fact], labels: dict[str, str], titles: dict[str, str], head: str, label: str, tail: str
) -> None:
    triples = {(titles[fact.head], labels[fact.relation], titles[fact.tail]) for fact in facts}
    assert (head, label, tail) in triples


def test_no_club_speaks_for_the_seat_of_its_rival(facts: list[Fact]) -> None:
    ids = sorted({end for fact in facts for end in (fact.head, fact.tail)})
    index, relations = {name: i for i, name in enumerate(ids)}, sorted({fact.relation for fact in facts})
    triples = np.array([(index[h], relations.index(r), index[t]) for h, r, t in facts], np.int32)
    edges = np.unique(np.sort(triples[:, [0, 2]], axis=1), axis=0)
    degrees = np.bincount(triples[:, [0, 2]].ravel(), minlength=len(ids))
    with_triples = PriorTable(tuple(ids), degrees, edges, triples=triples)
    weights = PriorWeights("ranker-1", True, coherence=2.0)

    def gain(coherence: Coherence, sender: str, seat: str, head: str) -> float:
        """By how much a mention of ``sender`` raises the seat over another entity with this seat."""
        scored = spans([[index[sender], -1], [index[seat], index[head]]], [[5.0, -np.inf], [1.0, 0.5]])
        scores = by_row(coherence.rescore(scored))[1]
        return scores[index[seat]] - scores[index[head]] - 0.5

    def coherence(table: PriorTable) -> Coherence:
        built = Coherence.from_prior(table, weights, AsTheyAre(len(ids)))
        assert built is not None
        return built

    seats: dict[str, list[str]] = {}
    for head, relation, tail in facts:
        if relation == "P159":  # headquarters location
            seats.setdefault(tail, []).append(head)
    pairs = [(a, seat, b) for seat, heads in seats.items() for a in heads for b in heads if a != b]
    pairs = random.Random(5).sample(pairs, 200)
    tables = (replace(with_triples, triples=None), with_triples)
    before, after = ([gain(built, *pair) for pair in pairs] for built in map(coherence, tables))
    assert sum(value > 0.1 for value in before) > 0.9 * len(pairs)
    assert max(after) < 1e-5
