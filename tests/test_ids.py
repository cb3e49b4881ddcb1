"""Ids of several systems side by side: read and looked up in any form, and what cannot be right is counted and said."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.ids import freebase_id, id_in_system, normal_id, own_id, wikipedia_page
from blink.data.mention_files import bind, read_samples
from blink.data.records import Mention, Sample
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_line import entity_from, line_of
from blink.kb.live.changes import Changes
from blink.kb.live.live_catalogue import LiveCatalogue
from tests import toys

pytestmark = pytest.mark.quick

FREEBASE = [
    "m.04jpl",
    "/m/04jpl",
    "m/04jpl",
    "<http://rdf.freebase.com/ns/m.04jpl>",
    "https://www.freebase.com/m/04jpl",
    "fb:m.04jpl",
]
WIKIPEDIA = [
    "https://en.wikipedia.org/wiki/New_York_City",
    "http://en.wikipedia.org/wiki/New_York_City#History",
    "//en.m.wikipedia.org/wiki/new_York_City",
    "en.wikipedia.org/wiki/New York City",
    "<https://en.wikipedia.org/wiki/New%20York_City?oldid=7>",
]
PAGE_NUMBER = [
    "https://en.wikipedia.org/wiki?curid=645042",
    "http://en.wikipedia.org/?curid=645042",
    "en.wikipedia.org/w/index.php?curid=645042",
]


@pytest.mark.parametrize(
    ("forms", "normal"),
    [
        (FREEBASE, "/m/04jpl"),
        (WIKIPEDIA, "https://en.wikipedia.org/wiki/New_York_City"),
        (PAGE_NUMBER, "https://en.wikipedia.org/?curid=645042"),
        (["Q60", "wd:Q60", "https://www.wikidata.org/wiki/Q60"], "Q60"),
    ],
)
def test_forms_of_an_id(forms: list[str], normal: str, tmp_path: Path) -> None:
    assert {normal_id(form) for form in [*forms, normal]} == {normal}
    for form in forms:
        lines = [{"title": "A"}, {"title": "B", "kb_idx": "own", "ids": {"x": form}}, {"title": "C", "kb_idx": 7}]
        catalogue = Catalogue.open(toys.write_catalogue(tmp_path / "entity.jsonl", lines), sidecar=tmp_path / "offsets")
        assert [catalogue.row_of(other) for other in (*forms, normal, "own", "7", "row:2")] == [1] * (len(forms) + 2) + [2, 2]


@pytest.mark.parametrize("text", ["m.", "p/04jpl", "m/04JPL", "/m/04jpl/x", "freebase.com", "am.04jpl", ""])
def test_not_of_freebase(text: str) -> None:
    assert freebase_id(text) is None


@pytest.mark.parametrize(
    "text",
    ["https://en.wikipedia.org/", "https://en.wikipedia.org/wiki/", "https://wikipedia.org/wiki/X", "Berlin",
     "https://en.wikipedia.org.example.org/wiki/X"],
)  # fmt: skip
def test_no_page_of_wikipedia(text: str) -> None:
    assert wikipedia_page(text) is None


@given(text=st.one_of(st.text(max_size=20), st.sampled_from([*FREEBASE, *WIKIPEDIA, *PAGE_NUMBER, "wd:Q60"]), st.integers()))
def test_normal_forms_are_final(text: str | int) -> None:
    assert normal_id(normal_id(str(text))) == normal_id(str(text))
    own = own_id(text)
    assert own is None or (own_id(own) == own and normal_id(own) == normal_id(str(text)))
    for system in ("wikidata", "Wikipedia", "freebase", "mine"):
        of_system = id_in_system(system, text)
        assert of_system is None or id_in_system(system, of_system) == of_system


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@given(lists=st.dictionaries(st.sampled_from(["aliases", "types", "tags", "ids", "idx"]), json_values))
def test_an_entity_survives_its_line(lists: dict[str, Any]) -> None:
    entity = entity_from(3, {"title": "x", **lists})
    assert entity_from(3, json.loads(json.dumps(line_of(entity)))) == entity


def test_values_that_say_something_are_taken() -> None:
    value = {
        "title": "x",
        "kb_idx": 0,
        "types": "city ",
        "tags": [2024, "a", "a", " "],
        "aliases": "y",
        "ids": {"own": 17, "wikidata": "wd:Q1"},
    }
    entity = entity_from(0, value)
    assert (entity.kb_id, entity.types, entity.tags, entity.aliases) == ("0", ("city",), ("2024", "a"), ("y",))
    assert entity.ids == (("own", "17"), ("wikidata", "Q1"))


def test_values_that_cannot_be_right_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        {"title": "a", "types": None, "tags": [], "ids": {"own": None}},
        {"title": "b", "types": ["x", 2.5, None, ["y"]], "tags": {"k": "v"}},
        {"title": "c", "ids": ["Q1"], "aliases": [True]},
        {"title": "d", "ids": {"own": False}, "idx": 3},
    ]
    path = toys.write_catalogue(tmp_path / "entity.jsonl", lines)
    with caplog.at_level(logging.WARNING):
        catalogue = Catalogue.open(path)
    (record,) = caplog.records
    assert "7 values were left out" in record.getMessage()
    assert "the first: line 2: 'types' holds a fraction" in record.getMessage()
    assert catalogue[1].types == ("x",)
    assert Catalogue.open(path).notices == catalogue.notices


def test_one_id_of_several_entities(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        {"title": "a", "ids": {"wikidata": "Q1", "own": 5}, "idx": "https://x.org"},
        {"title": "b", "kb_idx": "Q1", "idx": "https://x.org"},
        {"title": "c", "ids": {"other": "Q1", "own": 5}},
        {"title": "d", "ids": {"other": 5}},
    ]
    with caplog.at_level(logging.WARNING):
        catalogue = Catalogue.open(toys.write_catalogue(tmp_path / "entity.jsonl", lines))
    (record,) = caplog.records
    assert "2 ids under 'ids' belong to several entities" in record.getMessage()
    assert "'5' on lines 1 and 3" in record.getMessage()
    assert [catalogue.row_of(form) for form in ("Q1", "wd:Q1", "5", "own:5", "Own:5", "x:5", "https://x.org")] == [
        1,
        1,
        3,
        2,
        2,
        None,
        None,
    ]
    assert list(catalogue.rows_of("Q1")) == [1, 2, 0]
    assert [catalogue.row_of(form) for form in ("row:0", "row:3", "row:4", "row:", "row:x", "row:-1")] == [
        0,
        3,
        None,
        None,
        None,
        None,
    ]


@given(
    rows=st.lists(
        st.tuples(st.none() | st.integers(0, 9), st.lists(st.integers(0, 9), max_size=2)),
        min_size=1, max_size=8, unique_by=lambda row: object() if row[0] is None else row[0],
    )
)  # fmt: skip
def test_the_strongest_claim_then_the_last_row(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    lines = [
        {"title": "x", "ids": {f"s{i}": of for i, of in enumerate(ids)}} | ({} if own is None else {"kb_idx": own})
        for own, ids in rows
    ]
    catalogue = Catalogue.open(toys.write_catalogue(tmp_path_factory.mktemp("ids") / "entity.jsonl", lines))
    for wanted in range(10):
        claims = [(2 if own == wanted else wanted in ids, row) for row, (own, ids) in enumerate(rows)]
        assert list(catalogue.rows_of(str(wanted))) == [row for claim, row in sorted(claims, reverse=True) if claim]


id_lines = st.fixed_dictionaries(
    {"title": st.just("x"), "ids": st.dictionaries(st.sampled_from(["Own", "geo"]), st.integers(0, 3), max_size=2)},
    optional={"kb_idx": st.integers(0, 3)},
)


@given(
    rows=st.lists(id_lines, min_size=1, max_size=6), edits=st.dictionaries(st.integers(0, 6), st.none() | id_lines, max_size=4)
)
def test_edited_entities_are_found_as_in_a_file_of_them(
    rows: list[Any], edits: dict[int, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, n = tmp_path_factory.mktemp("live"), max([len(rows), *(row + 1 for row in edits)])
    edits |= {row: None for row in range(len(rows), n) if row not in edits}
    entities = {row: None if line is None else entity_from(row, line) for row, line in edits.items()}
    none = Changes.none(0, 1)
    changes = Changes(len(rows), n, 1, entities, none.vector_rows, none.vectors)
    files = Catalogue.open(toys.write_catalogue(folder / "files.jsonl", rows), skip_bad=True)
    current = [edits[row] if row in edits else rows[row] for row in range(n)]
    whole = Catalogue.open(
        toys.write_catalogue(folder / "whole.jsonl", [line or {"title": "x"} for line in current]), skip_bad=True
    )
    live = LiveCatalogue(files, changes)
    for form in ("0", "1", "own:2", "Geo:3", "geo:1", "3"):
        if not files.repeated_ids and not whole.repeated_ids:
            assert list(dict.fromkeys(live.rows_of(form))) == list(dict.fromkeys(whole.rows_of(form)))
            assert live.row_of(form) == whole.row_of(form)


def test_gold_of_any_system(tmp_path: Path) -> None:
    lines = [{"title": "A", "kb_idx": 7, "ids": {"freebase": "m.0a1"}}, {"title": "B", "kb_idx": 8}]
    catalogue = Catalogue.open(toys.write_catalogue(tmp_path / "entity.jsonl", lines))
    gold = {"text": "ab cd ef", "mentions": [[0, 2], [3, 5], [6, 8]], "wikidata_id": [7, "/m/0a1", 99], "label_id": [1, 0, 0]}
    file = tmp_path / "gold.jsonl"
    file.write_text(json.dumps(gold) + "\n")
    (sample,) = bind(read_samples(file), catalogue)
    assert [m.row for m in sample.mentions or ()] == [0, 0, -1]
    (kept,) = bind([Sample("x", "ab", (Mention(0, 2, 1, None),))], catalogue)
    assert [m.row for m in kept.mentions or ()] == [1]
