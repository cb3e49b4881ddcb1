"""The popularity and the counts of names that a line of a catalogue may state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Entity
from blink.kb.alias_table import normalise
from blink.kb.building import build_knowledge_base
from blink.kb.catalogue_line import entity_from, line_of, unusable
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.name_count_table import NameCountTable, NameCountWriter
from blink.kb.popularity import POPULARITY, describe


@given(st.floats(-2, 7), st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 10**6), max_size=4))
def test_an_entity_survives_its_line(popularity: float, counts: dict[str, int]) -> None:
    entity = Entity(3, "Berlin", popularity=popularity, name_counts=tuple(counts.items()))
    assert entity_from(3, line_of(entity)) == entity
    assert describe([entity])[0, POPULARITY] == np.float32(popularity)


@pytest.mark.parametrize("value", [109.8, "4", True, [1], float("nan"), -3])
def test_what_is_not_on_the_scale_is_named_and_the_wikidata_number_counts(value: Any) -> None:
    line = {"title": "Berlin", "kb_idx": "Q64", "popularity": value}
    assert describe([entity_from(0, line)])[0, POPULARITY] == pytest.approx(7 - np.log10(74))
    assert any("'popularity'" in fault for fault in unusable(line))


def test_counts_that_are_none_are_left_out() -> None:
    assert entity_from(0, {"title": "x", "alias_counts": {"a": 2, "b": 0, "c": "3", "d": True}}).name_counts == (("a", 2),)
    assert entity_from(0, {"title": "x", "alias_counts": [1]}).name_counts == ()


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["Ann", "ANN", "Bob", "Zoë"]), st.integers(1, 9)), max_size=60))
@settings(max_examples=40, deadline=None)
def test_links_of_a_name_are_those_of_all_its_spellings(tmp_path_factory: Any, uses: list[tuple[int, str, int]]) -> None:
    folder = tmp_path_factory.mktemp("links")
    with NameCountWriter(folder) as writer:
        for row, name, n in uses:
            writer.add([Entity(row, "x", name_counts=((name, n),))])
        writer.finish()
    table, rows = NameCountTable.open(folder), np.arange(41)
    for name in ("ann", "Bob", "zoe"):
        expected = [sum(n for r, of, n in uses if r == row and normalise(of) == name.lower()) for row in rows]
        assert (table.links(name, rows).tolist() if table else [0] * 41) == expected


def test_candidates_of_an_ambiguous_name_are_those_that_links_call_so(tmp_path: Path) -> None:
    lines = [{"title": f"Sam {n}", "kb_idx": f"Q{n + 1}", "aliases": ["Sam"]} for n in range(40)]
    for n in (33, 35):
        lines[n]["alias_counts"] = {"sam": n}
    path = toys.write_catalogue(tmp_path / "entity.jsonl", lines)
    build_knowledge_base(path, tmp_path / "kb", toys.letter_counts(), "letters")
    names = KnowledgeBase.open(tmp_path / "kb").names
    assert names is not None
    counts, values = names.candidates_all(["Sam"])
    assert sorted((values >> 2).tolist()) == [*range(14), 33, 35]  # the others by popularity
    assert [match.row for match in names.candidates("sam")] == [*range(14), 33, 35]
    assert counts.tolist() == [16]
