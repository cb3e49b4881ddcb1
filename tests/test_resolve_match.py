"""Records that are matched each for itself: as a dry run of each alone, in any company, and nothing is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.kb.knowledge_base import KnowledgeBase
from blink.resolve.resolver import LINKED, NEW, Resolver
from tests.resolve_toys import base

PEOPLE: list[dict[str, Any]] = [
    {"title": "Ann Miller", "text": "Painter of landscapes.", "kb_idx": "P1", "types": ["person"], "ids": {"own": "a1"}},
    {"title": "Ann Miller", "text": "American swimmer and Olympic champion.", "kb_idx": "P2", "types": ["person"]},
    {"title": "Robert Stone", "text": "Judge of a court.", "kb_idx": "P3", "types": ["person"], "aliases": ["Bob Stone"]},
    {"title": "Stoneham", "text": "Town in Massachusetts.", "kb_idx": "P4", "types": ["town", "place"], "tags": ["new"]},
    {"title": "Miller", "text": "Village in Ohio.", "kb_idx": "P5", "types": ["village", "place"]},
]  # fmt: skip
NAMES = ["Ann Miller", "A. Miller", "Bob Stone", "Robert Stone", "Stoneham", "Miller", "Zorblax", "Stone"]
TEXTS = ["", "Painter of landscapes.", "American swimmer.", "Judge", "Town in Massachusetts.", "A comet."]
RECORDS = st.fixed_dictionaries({"name": st.sampled_from(NAMES), "description": st.sampled_from(TEXTS)})


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return base(tmp_path_factory.mktemp("match") / "kb", PEOPLE)


@settings(max_examples=40, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=6))
def test_each_record_has_the_result_of_a_dry_run_of_it_alone(kb: KnowledgeBase, records: list[dict[str, Any]]) -> None:
    together = [resolution.to_json() for resolution in Resolver(kb).match(records)]
    assert together == [next(Resolver(kb).resolve([record], dry_run=True)).to_json() for record in records]


def test_nothing_is_added_or_remembered(kb: KnowledgeBase) -> None:
    resolver, before = Resolver(kb), kb.digest()
    (first,) = resolver.match([{"name": "Zorblax", "description": "A comet."}])
    (second,) = resolver.match([{"name": "Zorblax", "description": "A bright comet."}])
    assert (first.status, second.status) == (NEW, NEW)
    assert not first.candidates
    assert not second.candidates
    assert kb.digest() == before
    assert not (Path(kb.folder or "") / "resolved.jsonl").exists()


def test_only_selected_rows_are_matched(kb: KnowledgeBase) -> None:
    resolver = Resolver(kb)
    query = {"name": "Miller"}
    free, places, people = resolver.match([query] * 3, [None, kb.selector("type=place"), kb.selector("type=person")], listed=9)
    assert {c.id for c in places.candidates} == {"P5"}
    assert {c.id for c in people.candidates} <= {"P1", "P2", "P3"}
    assert {c.id for c in free.candidates} >= {c.id for c in (*places.candidates, *people.candidates)}


def test_an_id_matches_inside_the_selected_rows_alone(kb: KnowledgeBase) -> None:
    record = {"name": "The painter", "id": "a1", "source": "own"}
    of_id, none = Resolver(kb).match([record] * 2, [None, kb.selector("type=place")])
    assert (of_id.status, of_id.entity.kb_id, of_id.probability) == (LINKED, "P1", 1.0)
    assert none.status != LINKED


def test_any_number_of_resolvers_share_one_encoder(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb", PEOPLE)
    for _ in range(3):
        Resolver(kb).match([{"name": "Stoneham"}])
        encode = kb.encode
    assert Resolver(kb).kb.encode is encode
