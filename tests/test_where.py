"""Filters: the table of types and tags, expressions, and the rows that they allow, compared with one entity after the other."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Entity
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.kb import attribute_table
from blink.kb.attribute_table import ATTRIBUTES, AttributeTable, AttributeTableWriter, attributes_of, folded
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_line import entity_from
from blink.kb.filters import FilteredFiles, Filters
from blink.kb.live.changes import Changes
from blink.kb.where import Condition, Where
from tests import toys

pytestmark = pytest.mark.quick

labels = st.lists(st.sampled_from(["city", "City", "town", "Straße", "a b", "A  b", "x|y", "\u0130"]), max_size=3)
systems = st.dictionaries(st.sampled_from(["own", "freebase", "Geo"]), st.integers(0, 5), max_size=2)
lines = st.fixed_dictionaries(
    {"title": st.just("x"), "types": labels, "tags": labels, "ids": systems},
    optional={"kb_idx": st.integers(100, 104).map(lambda n: f"Q{n}") | st.integers(0, 5)},
)
conditions = st.one_of(
    st.builds(
        Condition.of,
        st.sampled_from(["type", "tag"]),
        st.lists(st.sampled_from(["CITY", "town", "strasse", "a b"]), min_size=1, max_size=2),
        negated=st.booleans(),
    ),
    st.builds(
        Condition.of,
        st.just("system"),
        st.lists(st.sampled_from(["own", "geo", "wikidata"]), min_size=1, max_size=2),
        negated=st.booleans(),
    ),
    st.builds(
        Condition.of,
        st.just("id"),
        st.lists(st.sampled_from(["Q100", "wd:Q101", "3", "own:3", "Geo:4", "row:1"]), min_size=1, max_size=3),
        negated=st.booleans(),
        file=st.sampled_from(["", "list.txt"]),
    ),
    st.builds(Condition.of, st.just("row"), st.lists(st.integers(0, 6), min_size=1, max_size=2), negated=st.booleans()),
)  # fmt: skip
wheres = st.lists(conditions, max_size=3).map(lambda of: Where(tuple(of)))


def files_of(folder: Path, rows: list[dict[str, Any]]) -> FilteredFiles:
    """A catalogue and its table."""
    catalogue = Catalogue.open(toys.write_catalogue(folder / "entity.jsonl", rows), skip_bad=True)
    with AttributeTableWriter(folder, len(catalogue)) as writer:
        for start in range(0, len(catalogue), 3):
            writer.add(list(catalogue.iter(start, start + 3)))
        writer.finish()
    return FilteredFiles(catalogue, AttributeTable.open(folder))


def no_changes(files: FilteredFiles) -> Changes:
    return Changes.none(len(files.catalogue), 4)


@given(rows=st.lists(lines, max_size=9), run=st.integers(1, 4))
@settings(max_examples=25)
def test_the_table_has_what_the_entities_have(
    rows: list[dict[str, Any]], run: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribute_table, "_RUN_RECORDS", run)
        patch.setattr(attribute_table, "_CACHED_VALUES", 2)
        files = files_of(tmp_path_factory.mktemp("table"), rows)
    assert files.table is not None
    expected: dict[tuple[str, str], list[int]] = {}
    for entity in files.catalogue:
        for name, value in dict.fromkeys((name, folded(value)) for name, value in attributes_of(entity)):
            expected.setdefault((name, value), []).append(entity.row)
    for (name, value), of_value in expected.items():
        assert files.table.rows_with(name, value.upper() if value != "i̇" else value).tolist() == of_value
    for name in ATTRIBUTES:
        values = files.table.values(name)
        assert {folded(value): count for value, count in values} == {v: len(of) for (n, v), of in expected.items() if n == name}
        assert [count for _, count in values] == sorted((count for _, count in values), reverse=True)
        assert files.table.rows_with(name, "of none").tolist() == []


def test_parts_of_two_tables_are_refused(tmp_path: Path) -> None:
    files_of(tmp_path, [{"title": "x", "types": ["a"]}])
    (tmp_path / "other").mkdir()
    files_of(tmp_path / "other", [{"title": "x", "types": ["a", "b"]}])
    (tmp_path / "other" / attribute_table.FILES[0]).replace(tmp_path / attribute_table.FILES[0])
    with pytest.raises(MismatchError, match="parts of different ones; build"):
        AttributeTable.open(tmp_path)


@given(rows=st.lists(lines, min_size=1, max_size=7), edits=st.dictionaries(st.integers(0, 7), st.none() | lines), where=wheres)
@settings(max_examples=60)
def test_rows_are_those_of_the_entities_that_match(
    rows: list[dict[str, Any]], edits: dict[int, Any], where: Where, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = files_of(tmp_path_factory.mktemp("rows"), [*rows, {"title": ""}])
    n = max([len(files.catalogue), *(row + 1 for row in edits)])
    edits |= {row: None for row in range(len(files.catalogue), n) if row not in edits}
    changed = {row: None if line is None else entity_from(row, line) for row, line in edits.items()}
    empty = Changes.none(0, 4)
    changes = Changes(len(files.catalogue), n, 1, changed, empty.vector_rows, empty.vectors)
    current = [changed[row] if row in changed else files.catalogue[row] for row in range(n)]
    try:
        selector = Filters().selector(where, files, changes)
    except SettingsError:
        lacking = [c for c in where.conditions if not all(has_any(current, c, value) for value in c.values)]
        assert lacking
        return
    assert selector.mask.tolist() == [entity is not None and where.matches(entity) for entity in current]


def has_any(entities: list[Entity | None], condition: Condition, value: str) -> bool:
    one = Condition.of(condition.name, [value])
    return any(entity is not None and entity.title and one.has_value(entity) for entity in entities)


@given(where=wheres)
def test_what_is_printed_is_read_again(where: Where) -> None:
    short = Where(tuple(c for c in where.conditions if len(c.values) <= 3 and not c.file))
    if short:
        operators = [(c, "!=" if c.negated else "=") for c in short.conditions]
        quoted = " & ".join(c.name + operator + "|".join(f'"{value}"' for value in c.values) for c, operator in operators)
        assert Where.parse(quoted) == Where.parse(str(short)) == short


@pytest.mark.parametrize(
    ("given_as", "same"),
    [
        ("type=City", {"types": "city"}),
        ("type = city | Town & tag != x", {"type": ["town", "city"], "tag!": "X"}),
        (["type=city", {"tag!=": ["x"]}], "type=city & tag!=x"),
        ('type="rock & roll"|"a|b"', {"type": ["rock & roll", "a|b"]}),
        ("ids=https://www.wikidata.org/wiki/Q60|Geo:7", {"id": ["Q60", "geo:7"]}),
        ("kb_id=17", {"id": 17}),
        (None, []),
        (Where.parse("row=3"), {"rows": [3]}),
    ],
)
def test_forms_of_a_filter(given_as: Any, same: Any) -> None:
    assert Where.parse(given_as) == Where.parse(same)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("", "cannot be read"),
        ("city", "the filter 'city' cannot be read at 'city'; write type=city"),
        ("type=", "has no value"),
        ("kind=city", "no 'kind' to filter by; allowed are type, tag, system, id, row"),
        ("type=a & ", "ends with &"),
        ("type=a tag=b & x", "cannot be read at 'x'"),
        ('type="a" b', "cannot be read"),
        ("row=x", "'x' is no row"),
        ({"type": 2.5}, "a value of the filter type is float"),
        ({"type": [True]}, "a value of the filter type is bool"),
        ({"type": [" "]}, "is empty"),
        ({"type": []}, "has no value"),
        ({3: "x"}, "has the key 3"),
        (7, "a filter is int"),
    ],
)
def test_what_cannot_be_read_is_one_line(wrong: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said.replace("|", r"\|")) as caught:
        Where.parse(wrong)
    assert "\n" not in str(caught.value)


ROWS = [
    {"title": "a", "types": ["city"], "kb_idx": "Q1"},
    {"title": "b", "types": ["City", "capital"], "kb_idx": "Q2"},
    {"title": "c", "types": ["person"]},
]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("type=citty", r"no entity has type 'citty'; nearest: city \(2\)"),
        ("type!=persons", r"no entity has type 'persons'; nearest: person \(1\)"),
        ("type=zzz", r"no entity has type 'zzz'; most frequent: city \(2\), "),
        ("tag=x", "no entity has tag 'x': none has a tag; add 'tags' to the lines"),
        ("id=Q9", "no entity has id 'Q9'; blink kb search"),
        ("row=3", "no entity has row '3'"),
    ],
)
def test_values_of_no_entity(where: str, said: str, tmp_path: Path) -> None:
    files = files_of(tmp_path, ROWS)
    with pytest.raises(SettingsError, match=said):
        Filters().selector(Where.parse(where), files, no_changes(files))


def test_without_a_table(tmp_path: Path) -> None:
    files = FilteredFiles(files_of(tmp_path, ROWS).catalogue, None)
    with pytest.raises(SettingsError, match=r"built by an earlier version, .* build it again"):
        Filters().selector(Where.parse("type=city"), files, no_changes(files))
    assert Filters().selector(Where.parse("id!=Q1"), files, no_changes(files)).rows.tolist() == [1, 2]


def test_an_edit_may_remove_a_value_later(tmp_path: Path) -> None:
    files, filters, where = files_of(tmp_path, ROWS), Filters(), Where.parse("type!=person")
    before = no_changes(files)
    selector = filters.selector(where, files, before)
    assert filters.selector(Where.parse({"type!": "Person"}), files, before) is selector
    after = Changes(3, 4, 1, {2: None, 3: Entity(3, "d", types=("moon",))}, before.vector_rows, before.vectors)
    assert filters.selector(where, files, after).rows.tolist() == [0, 1, 3]
    assert filters.selector(Where.parse("type=moon"), files, after).rows.tolist() == [3]
    with pytest.raises(SettingsError, match="no entity has type 'person'"):
        Filters().selector(where, files, after)


def test_lists_of_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = files_of(tmp_path, ROWS)
    allow, deny = tmp_path / "allow.txt", tmp_path / "deny.txt"
    allow.write_text("# mine\nhttps://www.wikidata.org/wiki/Q1\tA\nrow:2\n\nQ77\n")
    deny.write_text("wd:Q1\n")
    with caplog.at_level(logging.WARNING):
        assert Filters().selector(Where.of_files([allow]), files, no_changes(files)).rows.tolist() == [0, 2]
    assert f"{allow}: 1 of 3 ids are of no entity, the first: 'Q77'" in caplog.text
    both = Where.of_files([allow], [str(deny)])
    assert Filters().selector(both, files, no_changes(files)).rows.tolist() == [2]
    assert str(both) == f"in {allow} & not in {deny}"
    deny.write_text("Q77\nQ78\n")
    with pytest.raises(SettingsError, match="2 of 2 ids are of no entity"):
        Filters().selector(Where.of_files(deny=[deny]), files, no_changes(files))
    deny.write_text("# none\n")
    with pytest.raises(DataError, match="holds no ids"):
        Where.of_files(deny=[deny])
    with pytest.raises(MissingFileError):
        Where.of_files([tmp_path / "none.txt"])


def test_nothing_fulfils_a_filter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = files_of(tmp_path, ROWS)
    with caplog.at_level(logging.WARNING):
        selector = Filters().selector(Where.parse("type=person & type=city"), files, no_changes(files))
    assert len(selector) == 0
    assert "no entity fulfils type=person & type=city: nothing can be linked" in caplog.text


def test_many_values_in_limited_memory(tmp_path: Path) -> None:
    rows = [{"title": "x", "tags": [f"t{row}", f"u{row % 7}"]} for row in range(500)]
    files = files_of(tmp_path, rows)
    assert files.table is not None
    assert files.table.rows_with("tag", "T77").tolist() == [77]
    assert files.table.rows_with("tag", "u3").tolist() == list(range(3, 500, 7))
    assert len(files.table.values("tag")) == 507
    assert np.isin(files.table.rows_with("tag", "u3"), np.arange(500)).all()
    assert files.table.values("tag")[:2] == [("u0", 72), ("u1", 72)]


@pytest.mark.parametrize("where", [{"type": ["\ud800"]}, "type=a|\udfff", {"id": ["x\0"]}])
def test_values_that_no_entity_can_have_are_refused(where: Any) -> None:
    with pytest.raises(SettingsError, match="well-formed"):
        Where.parse(where)
