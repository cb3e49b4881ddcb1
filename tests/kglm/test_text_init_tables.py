"""Tables of entities and relation types: columns, missing texts, ids; and vectors with their ids on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.checksums import CHECKSUMS_FILE
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import read_json, write_json
from blink.kglm.text_init.tables import ENTITY_COLUMNS, TextRow, compose, read_entities, read_relation_types, select_ids
from blink.kglm.text_init.vectors import (
    META_FILE,
    Space,
    read_folder,
    read_space,
    read_tsv,
    vectors_folder,
    write_folder,
    write_tsv,
)

pytestmark = pytest.mark.quick


def entities_tsv(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = ENTITY_COLUMNS) -> Path:
    lines = ["\t".join(columns), *("\t".join(row.get(c, "") for c in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def space(n: int = 5, width: int = 3, kind: str = "entity") -> Space:
    random = np.random.default_rng(n)
    ids = [f"Q{i}" for i in range(n)]
    vectors = (random.normal(size=(n, width)) * 10.0 ** random.integers(-8, 8, (n, 1))).astype(np.float32)
    return Space(
        kind, ids, vectors, [f'the "{i}" one' for i in ids], ["a", "b"] * (n // 2) + [""] * (n % 2), list(range(1, n + 1))
    )


def test_rows_keep_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [
        {"id": "SYMP:2", "name": "ache", "label": "Symptom", "description": " it hurts ", "synonyms": "pain|hurt"},
        {"id": "SYMP:1", "name": "cough", "label": "Symptom", "description": "nan"},
    ]
    first, second = read_entities(entities_tsv(tmp_path / "e.tsv", rows))
    assert first == TextRow(1, "SYMP:2", "ache", "Symptom", "it hurts", ("pain", "hurt"))
    assert second == TextRow(2, "SYMP:1", "cough", "Symptom")
    assert [r.id for r in read_entities(tmp_path / "e.tsv", node_ids=True)] == ["Symptom::SYMP:2", "Symptom::SYMP:1"]


@pytest.mark.parametrize("missing", ENTITY_COLUMNS)
def test_every_column_of_entities_is_required(tmp_path: Path, missing: str) -> None:
    columns = tuple(c for c in ENTITY_COLUMNS if c != missing)
    with pytest.raises(DataError, match=f"lacks the column {missing}"):
        read_entities(entities_tsv(tmp_path / "e.tsv", [{"id": "1", "name": "x"}], columns))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name+description", ["ache: it hurts", "cough", "only this", ""]),
        ("description", ["it hurts", "cough", "only this", ""]),
        ("name", ["ache", "cough", "", ""]),
        ("name+aliases", ["ache, pain", "cough", "", ""]),
    ],
)
def test_texts_of_rows_with_gaps(text: str, expected: list[str]) -> None:
    rows = [
        TextRow(1, "1", "ache", description="it\n hurts", synonyms=("pain", "ache")),
        TextRow(2, "2", "cough"),
        TextRow(3, "3", "", description="only this"),
        TextRow(4, "4", ""),
    ]
    assert [compose(row, text) for row in rows] == expected


def test_an_unknown_text_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"text is 'label'; allowed are name\+description"):
        compose(TextRow(1, "1", "x"), "label")


def test_the_direction_of_a_relation_type_is_part_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "r.tsv"
    kinds = ("hetionet::treats::Compound:Disease", "hetionet::treats::Disease:Compound", "plain_name")
    path.write_text("relation_type\tannotation\tdescription\n" + "".join(f"{k}\tx\tsaid\n" for k in kinds), encoding="utf-8")
    rows = read_relation_types(path)
    assert [r.name for r in rows] == ["Compound treats Disease", "Disease treats Compound", "plain name"]
    assert [r.id for r in rows] == list(kinds)
    assert rows[0].description == "said"


def test_a_missing_description_of_a_relation_type_becomes_its_name(tmp_path: Path) -> None:
    path = tmp_path / "r.tsv"
    path.write_text("relation_type\tdescription\nsrc::is_a::A:B\t\n", encoding="utf-8")
    assert compose(read_relation_types(path)[0], "description") == "A is a B"


def test_catalogues_and_relation_objects_are_read_too(tmp_path: Path) -> None:
    catalogue = tmp_path / "entity.jsonl"
    rows = [{"title": "Oslo", "text": "a city", "kb_idx": "Q585", "aliases": ["Christiania"]}, {"title": "Bergen"}]
    catalogue.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    assert read_entities(catalogue) == [
        TextRow(1, "Q585", "Oslo", "", "a city", ("Christiania",)),
        TextRow(2, "Bergen", "Bergen"),
    ]
    relations = tmp_path / "relations.json"
    relations.write_text(json.dumps({"P1": {"label": "kind of", "description": "d"}, "P2": {}}), encoding="utf-8")
    assert [(r.id, r.name, r.description) for r in read_relation_types(relations)] == [("P1", "kind of", "d"), ("P2", "P2", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks the column id"),
        ("HEAD", "has no rows"),
        ("HEAD\n1\ta", "line 2: 2 fields where the header has 9"),
        ("HEAD\n" + "\t" * 8, "row 1: the id '' is empty"),
        ("HEAD\n1\ta" + "\t" * 7 + "\n1\tb" + "\t" * 7, "the id '1' is in row 1 and in row 2"),
        ('HEAD\n1\t"a' + "\t" * 7 + "\n2\tb" + "\t" * 7, "line 2: 2 fields.*unpaired quotation mark"),
    ],
)
def test_malformed_tables_are_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "e.tsv"
    path.write_text(content.replace("HEAD", "\t".join(ENTITY_COLUMNS)), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_entities(path)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_utf8_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "e.tsv"
    path.write_bytes("\t".join(ENTITY_COLUMNS).encode() + b"\n1\tcaf\xe9" + b"\t" * 7)
    with pytest.raises(DataError, match="not UTF-8"):
        read_entities(path)
    with pytest.raises(MissingFileError, match="does not exist"):
        read_entities(tmp_path / "no.tsv")


def test_only_takes_ids_or_triples(tmp_path: Path) -> None:
    rows = [TextRow(i, f"Q{i}", "x") for i in range(5)]
    (tmp_path / "ids").write_text("Q3\nQ9\n", encoding="utf-8")
    assert [r.id for r in select_ids(rows, tmp_path / "ids")] == ["Q3"]
    (tmp_path / "triples").write_text("Q1\tQ2\tQ4\n", encoding="utf-8")
    assert [r.id for r in select_ids(rows, tmp_path / "triples")] == ["Q1", "Q4"]
    assert [r.id for r in select_ids(rows, tmp_path / "triples", tmp_path / "ids")] == ["Q1", "Q3", "Q4"]
    (tmp_path / "none").write_text("P3\n", encoding="utf-8")
    with pytest.raises(DataError, match="names none of the 5 rows"):
        select_ids(rows, tmp_path / "none")


@pytest.mark.parametrize("kind", ["entity", "relation"])
def test_a_tsv_gives_back_the_same_float32(tmp_path: Path, kind: str) -> None:
    vectors = space(7, 4, kind)
    write_tsv(vectors, tmp_path / "out.tsv")
    header, first = (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()[:2]
    columns = ["entity_id", "entity_name", "entity_type"] if kind == "entity" else ["relation_type"]
    assert header.split("\t") == ["embedding_id", *columns, "embedding"]
    assert first.startswith("1\tQ0\t")
    assert first.count("|") == 3
    back = read_tsv(tmp_path / "out.tsv")
    assert np.array_equal(back.vectors, vectors.vectors)
    assert (back.kind, back.ids) == (kind, vectors.ids)
    assert kind == "relation" or (back.names, back.types) == (vectors.names, vectors.types)


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\t\r\n\ufeff", codec="utf-8"), min_size=1).filter(str.strip),
        unique=True,
        min_size=1,
    )
)
def test_folders_and_tsvs_keep_any_id(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("v")
    vectors = Space("entity", ids, np.ones((len(ids), 2), np.float32), ids, ids, list(range(len(ids))))
    write_folder(vectors, folder)
    write_tsv(vectors, folder / "out.tsv")
    assert read_space(folder).ids == read_space(folder / "out.tsv").ids == ids
    assert read_space(folder).names == ids


def test_a_folder_says_what_it_holds(tmp_path: Path) -> None:
    vectors = space(6, 3)
    write_folder(vectors, tmp_path)
    back = read_folder(tmp_path)
    assert np.array_equal(back.vectors, vectors.vectors)
    norms = np.linalg.norm(vectors.vectors, axis=1)
    assert (back.meta["dim"], back.meta["rows"], back.meta["layout"]) == (3, 6, "real")
    assert back.meta["mean_norm"] == pytest.approx(norms.mean(), rel=1e-5)


def as_earlier(folder: Path, **more: Any) -> None:
    """Let a folder be as earlier versions wrote it, without checksums or with those in ``meta.json``."""
    meta = read_json(folder / META_FILE)
    write_json(folder / META_FILE, {key: value for key, value in meta.items() if key not in ("checked", "sha256")} | more)
    (folder / CHECKSUMS_FILE).unlink()


@pytest.mark.parametrize("name", ["entity_vectors.npy", "entity_ids.txt", "entity_labels.tsv", META_FILE])
def test_a_changed_file_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    write_folder(space(6, 3), tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-3] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is (damaged|not valid).*create the folder again"):
        read_folder(tmp_path)
    if name == "entity_vectors.npy":
        as_earlier(tmp_path)
        np.save(tmp_path / name, np.full((6, 3), np.nan, np.float32))
        with pytest.raises(DataError, match="holds NaN or infinity"):
            read_folder(tmp_path)


def test_a_folder_of_an_earlier_version_is_compared_and_replaced(tmp_path: Path) -> None:
    write_folder(space(6, 3), tmp_path)
    of = read_json(tmp_path / CHECKSUMS_FILE)["files"]
    as_earlier(tmp_path, files={name: of[name] for name in of if name != META_FILE})
    assert read_folder(tmp_path).width == 3
    (tmp_path / "entity_ids.txt").write_text("Q0\n")
    with pytest.raises(DataError, match=r"entity_ids\.txt is damaged"):
        read_folder(tmp_path)
    write_folder(space(4, 2), tmp_path)
    assert read_folder(tmp_path).width == 2


def test_vectors_of_both_kinds_in_one_folder_stay(tmp_path: Path) -> None:
    write_folder(space(6, 3), tmp_path)
    write_folder(space(4, 2, "relation"), tmp_path)
    assert (read_folder(tmp_path).width, read_folder(tmp_path, "relation").width) == (3, 2)


def test_lost_checksums_are_noticed(tmp_path: Path) -> None:
    write_folder(space(6, 3), tmp_path)
    (tmp_path / CHECKSUMS_FILE).unlink()
    with pytest.raises(MissingFileError, match=r"checksums\.json is missing; create the folder again"):
        read_folder(tmp_path)


def test_folders_that_do_not_fit_together(tmp_path: Path) -> None:
    write_folder(space(6, 3), tmp_path)
    as_earlier(tmp_path)
    (tmp_path / "entity_ids.txt").write_text("Q0\nQ1\n", encoding="utf-8")
    with pytest.raises(MismatchError, match=r"2 ids \(2 different\) for 6 vectors"):
        read_folder(tmp_path)
    with pytest.raises(MissingFileError, match=r"relation_vectors\.npy does not exist"):
        read_folder(tmp_path, "relation")
    np.save(tmp_path / "entity_vectors.npy", np.arange(6))
    with pytest.raises(DataError, match="must be a table of float vectors"):
        read_folder(tmp_path)
    (tmp_path / "entity_vectors.npy").write_bytes(b"no array")
    with pytest.raises(MismatchError, match="damaged"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"), [("1|2", "row 2: 2 values, the rows before have 3"), ("1|x|2", "row 2: .*numbers joined by")]
)
def test_vectors_of_another_width_or_no_numbers(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "v.tsv"
    path.write_text(f"embedding_id\trelation_type\tembedding\n1\ta\t1|2|3\n2\tb\t{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_tsv(path)


def test_the_folder_is_named_after_the_tsv() -> None:
    assert vectors_folder("a/out.tsv") == Path("a/out.vectors")
    assert vectors_folder("a/out.v2") == Path("a/out.v2.vectors")


def test_the_formatted_relation_type_is_read_where_there_is_one(tmp_path: Path) -> None:
    header = "relation_type\tformatted_relation_type\tdescription"
    rows = [header, "Hetionet::CtD::Compound:Disease\tX::Treatment::Compound:Disease\t"]
    (tmp_path / "r.tsv").write_text("\n".join([*rows, "Hetionet::binds::Compound:Gene\t\td"]))
    first, second = read_relation_types(tmp_path / "r.tsv")
    assert (first.id, first.name, first.kind) == ("Hetionet::CtD::Compound:Disease", "Compound Treatment Disease", "Hetionet")
    assert second.name == "Compound binds Gene"
