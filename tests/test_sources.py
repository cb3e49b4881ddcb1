"""Entities from CSV, TSV, JSON, Parquet and Python objects: one content gives one catalogue, whatever its form."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from blink.cluster import plans
from blink.data.records import Entity
from blink.errors import BlinkError, DataError, SettingsError
from blink.kb.building import BuildProgress, build_knowledge_base
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.sources import json_rows, rows
from blink.kb.sources.columns import ColumnMap, parse_columns
from blink.kb.sources.conversion import SourceOptions, open_source
from blink.kb.sources.formats import JSON, LINES, PARQUET, TABLE, file_format
from blink.kb.sources.reading import entity_lines
from blink.kb.sources.records import RecordRows
from blink.kb.vectors import CandidateEncoder
from tests import toys

pytestmark = pytest.mark.quick
OWN = Path(__file__).parent / "data" / "own" / "catalogue.csv"

PEOPLE = [
    {"title": "Müller, Ada", "text": 'Sie sagte: "Nein;\ndanke", und ging.', "kb_idx": "1", "aliases": ["Ada M.", "A|B"]},
    {"title": "Łucja Żuk", "text": "Biegaczka na 400 m", "kb_idx": "Q7", "types": ["person", "athlete"]},
    {"title": "川端", "kb_idx": "x-9", "idx": "https://example.org/9", "tags": ["a b"]},
    {"title": "No text"},
]
HEADER = ("id", "name", "description", "aliases", "types", "tags", "url")
KEYS = ("kb_idx", "title", "text", "aliases", "types", "tags", "idx")


def cell(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value or ""


def table(lines: list[dict[str, Any]], separator: str = ",", header: tuple[str, ...] = HEADER, end: str = "\r\n") -> str:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=separator, lineterminator=end)
    writer.writerow(header)
    writer.writerows([cell(line.get(key)) for key in KEYS] for line in lines)
    return written.getvalue()


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def opened(source: Any, folder: Path, **options: Any) -> list[Entity]:
    with open_source(source, folder / "converted.jsonl", SourceOptions(**options)) as catalogue:
        return list(catalogue)


def parquet_bytes(lines: list[dict[str, Any]]) -> bytes:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    written = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist([{key: line.get(key) for key in KEYS} for line in lines]), written)
    return written.getvalue()


FORMS: dict[str, Callable[[list[dict[str, Any]]], tuple[str, str | bytes, str]]] = {
    "comma": lambda lines: ("a.csv", table(lines), TABLE),
    "semicolon": lambda lines: ("a.csv", table(lines, ";"), TABLE),
    "tab": lambda lines: ("a.tsv", table(lines, "\t"), TABLE),
    "bar": lambda lines: ("a.csv", table(lines, "|"), TABLE),
    "byte order mark": lambda lines: ("a.csv", "\ufeff" + table(lines, ";"), TABLE),
    "utf-16": lambda lines: ("a.csv", table(lines, "\t").encode("utf-16"), TABLE),
    "utf-16 little": lambda lines: ("a.csv", table(lines, ";").encode("utf-16-le"), TABLE),
    "utf-16 big": lambda lines: ("a.csv", table(lines).encode("utf-16-be"), TABLE),
    "utf-32": lambda lines: ("a.csv", table(lines).encode("utf-32"), TABLE),
    "separator line": lambda lines: ("a.csv", "sep=;\r\n" + table(lines, ";"), TABLE),
    "named as JSON lines": lambda lines: ("a.jsonl", table(lines, ";"), TABLE),
    "without a name": lambda lines: ("a", table(lines, "\t"), TABLE),
    "blank lines": lambda lines: ("a.csv", "\n\n" + table(lines, end="\n").replace("No text", "\n,,,,,,\n  \n,No text"), TABLE),
    "gzip": lambda lines: ("a.csv.gz", gzip.compress(table(lines).encode()), TABLE),
    "bzip2": lambda lines: ("a.csv", bz2.compress(table(lines).encode("utf-16")), TABLE),
    "array": lambda lines: ("a.json", json.dumps(lines), JSON),
    "array over lines": lambda lines: ("a.jsonl", json.dumps(lines, indent=1, ensure_ascii=False), JSON),
    "array, a line each": lambda lines: ("a", "[\n" + ",\n".join(map(json.dumps, lines)) + "\n]\n", JSON),
    "objects over lines": lambda lines: ("a.json", "\n".join(json.dumps(line, indent=2) for line in lines), JSON),
    "array in utf-16": lambda lines: ("a.json", json.dumps(lines, ensure_ascii=False).encode("utf-16"), JSON),
    "lines": lambda lines: ("a.csv", "\n".join(map(json.dumps, lines)), LINES),
    "lines of other keys": lambda lines: (
        "a.jsonl", "\n".join(json.dumps({"name" if k == "title" else k: v for k, v in line.items()}) for line in lines), LINES,
    ),
    "lines in utf-16": lambda lines: ("a.jsonl", "\n".join(map(json.dumps, lines)).encode("utf-16-le"), LINES),
    "lines in xz": lambda lines: ("a.jsonl", lzma.compress("\n".join(map(json.dumps, lines)).encode()), LINES),
    "parquet": lambda lines: ("a", parquet_bytes(lines), PARQUET),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_one_content_in_every_form(tmp_path: Path, form: str) -> None:
    expected = opened(RecordRows(PEOPLE), tmp_path)
    name, content, kind = FORMS[form](PEOPLE)
    path = put(tmp_path, name, content)
    assert file_format(path).kind == kind
    assert opened(path, tmp_path) == expected
    assert [line["title"] for line in entity_lines(path)] == [entity.title for entity in expected]
    assert expected[0] == Entity(0, "Müller, Ada", PEOPLE[0]["text"], "1", aliases=("Ada M.", "A|B"))
    assert expected[2] == Entity(2, "川端", "", "x-9", "https://example.org/9", tags=("a b",))


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(lambda s: " ".join(s.split()))
people = st.lists(
    st.fixed_dictionaries(
        {"title": text.filter(bool)},
        optional={
            "text": st.one_of(text, st.just('"a";b|c\td, \n e"')),
            "aliases": st.lists(text.filter(bool), unique=True, max_size=3),
        },
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=people, form=st.sampled_from([f for f in FORMS if f not in ("blank lines", "without a name")]))
@example(lines=[{"title": '"'}, {"title": ";,"}], form="comma")
@example(lines=[{"title": "[1"}, {"title": "{"}], form="semicolon")
def test_every_text_survives_every_form(tmp_path: Path, lines: list[dict[str, Any]], form: str) -> None:
    name, content, _ = FORMS[form](lines)
    expected = [(e.title, e.text, e.aliases) for e in opened(RecordRows(lines), tmp_path)]
    assert [(e.title, e.text, e.aliases) for e in opened(put(tmp_path, name, content), tmp_path)] == expected


BEGINNINGS = [b"name,text\n", b"[", b"PK\x03\x04", b"\xff\xfe", b'{"a": 1}\n', b"PAR1", b"\x1f\x8b"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.builds(lambda *of: b"".join(of), st.sampled_from([b"", *BEGINNINGS]), st.binary(max_size=80)),
    name=st.sampled_from(["a.csv", "a.jsonl", "a", "a.tsv.gz"]),
    skip_bad=st.booleans(),
)  # fmt: skip
def test_any_bytes_end_in_entities_or_one_line(tmp_path: Path, content: bytes, name: str, skip_bad: bool) -> None:
    path = put(tmp_path, name, content)
    with contextlib.suppress(BlinkError):
        assert any(entity.title for entity in opened(path, tmp_path, skip_bad=skip_bad))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=people, cut=st.integers(0, 400), form=st.sampled_from(["array", "array over lines", "gzip", "bzip2", "lines in xz"])
)
def test_a_file_that_is_cut_off_is_never_a_smaller_base(
    tmp_path: Path, lines: list[dict[str, Any]], cut: int, form: str
) -> None:
    name, content, _ = FORMS[form](lines)
    content = content.encode() if isinstance(content, str) else content
    assume(0 < cut < len(content))
    path = put(tmp_path, name, content[:cut])
    for skip_bad in (False, True) if "array" not in form else (False,):
        with pytest.raises(DataError):
            opened(path, tmp_path, skip_bad=skip_bad)


def test_small_pieces_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = opened(RecordRows(PEOPLE), tmp_path)
    for form in ("array", "array over lines", "objects over lines"):
        for size in (1, 2, 7, 64):
            monkeypatch.setattr(rows, "_PIECE_CHARACTERS", size)
            assert opened(put(tmp_path, "a.json", FORMS[form](PEOPLE)[1]), tmp_path) == expected


FAULTS = {
    "title": (table([{"title": "A"}, {}, {"text": "x"}, {"title": "B"}, {"title": "C"}]), "line 4: column 'name' is empty"),
    "fields": ("name,text\nA,b\nC\nD,e\nF,g\n", "line 3: 1 fields, the header has 2"),
    "surplus": ("name,text\nA,b\nC,d,e\nF,g\n", "line 3: 3 fields"),
    "quote": ('name,text\nA,b\nB,c\nC,d\nE,"f\n', "line 5: a field that begins with a quote has no end"),
    "lines in quotes": ('name,text\nA,"b\nb\nb"\nB,c\nC\n', "line 6: 1 fields"),
    "ids": ('name,ids\nA,\nB,"{""freebase"": ""/m/1""}"\nC,x\n', "line 4: column 'ids' holds no ids by system"),
    "array element": ('[{"title": "a"},\n\n {"title": "b"}, 7]', r"line 3 \(object 3\): expected an object, found int"),
    "array title": ('[{"title": "a"},\n {"title": "b"}, {"title": [1]}]', r"line 2 \(object 3\): .* holds list, not text"),
    "array syntax": ('[{"title": "a"},\n{"title": "b"},\n{"title": "b",}]', r"line 3: not JSON \(.* at column \d+\)"),
    "repeated id": ("id,name\n1,A\n\n2,B\n1,C\n", "line 5: kb_idx '1' already stands on line 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_counted(tmp_path: Path, fault: str) -> None:
    content, message = FAULTS[fault]
    path = put(tmp_path, "a.json" if content.startswith("[") else "a.csv", content)
    with pytest.raises(DataError, match=message) as caught:
        opened(path, tmp_path)
    assert str(path) in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    notes: list[str] = []
    open_source(path, tmp_path / "converted.jsonl", SourceOptions(skip_bad=True), note=notes.append).close()
    if fault == "repeated id":
        assert "looked up on its last row" in notes[1]
        assert len(list(entity_lines(path))) == 3  # ids are compared where they are looked up
    else:
        assert "rows left out, the first: line" in notes[0]
        with pytest.raises(DataError, match=message):
            list(entity_lines(path))


OTHERS = {
    "no title column": ("a.csv", b"number,price\n1,2\n3,4\n", "a title .*'number', 'price'.*--columns title=NAME"),
    "no header": ("a.csv", b"1;Ada;x\n2;Bob;y\n", "line 1 should name the columns"),
    "two titles": ("a.csv", b"title,name\nDr.,Ada\n", "both 'title' and 'name' could be the title"),
    "same names": ("a.csv", b"id,name,Name\n1,a,b\n", "two are named 'name'"),
    "spreadsheet": ("a.xlsx", b"PK\x03\x04" + bytes(40), "spreadsheet .*save the sheet as CSV"),
    "old spreadsheet": ("a.csv", b"\xd0\xcf\x11\xe0" + bytes(40), "save the sheet as CSV"),
    "windows": ("a.csv", "name;x\nMüller;é\n".encode("cp1252"), r"line 2: not utf-8 \(byte 2 .*'Müller;é' .*--encoding cp1252"),
    "zeros": ("a.jsonl", b"ab\x00" * 9, "is no text in UTF-8 or UTF-16"),
    "html": ("a.csv", b"<!DOCTYPE html><table>", "XML or HTML"),
    "prose": ("entity.jsonl", b"Hello there.\nThis is no catalogue.\n", "line 1: not JSON .*; give JSON lines"),
    "empty": ("a.csv", b"", "has no entities"),
    "header alone": ("a.csv", b"name,text\n", "has no entities"),
    "empty array": ("a.json", b"[]", "has no entities"),
    "mostly broken": ("a.csv", b"name,text\nA,b\nC\nD\nE\n", "line 3: 1 fields.*3 of 4 rows"),
    "unclosed quote": ("a.csv", b'name,text\nA,b\nC,"d\n' + b"E,f\n" * 50, "line 3: a field that begins with a quote"),
    "lines without titles": ("a.jsonl", b'{"x": 1}\n{"x": 2}\n', "line 1: none is named as a title"),
    "cut gzip": ("a.csv.gz", gzip.compress(b"name\n" + b"Ada\n" * 999)[:-9], "damaged or cut off"),
    "cut parquet": ("a.parquet", b"PAR1" + bytes(40), "damaged or cut off"),
}  # fmt: skip


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_source_of_entities_is_refused(tmp_path: Path, name: str, skip_bad: bool) -> None:
    file, content, message = OTHERS[name]
    path = put(tmp_path, file, content)
    with pytest.raises(DataError, match=message if name != "prose" or not skip_bad else "2 of 2 lines") as caught:
        build_knowledge_base(path, tmp_path / "kb", toys.letter_counts(), "model", skip_bad=skip_bad)
    assert "--skip-bad" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "kb" / "manifest.json").exists()


def test_a_catalogue_of_mostly_broken_lines_is_refused(tmp_path: Path) -> None:
    source = toys.write_catalogue(tmp_path / "entity.jsonl", [*toys.rows(2), "{", "{", "{"])
    with pytest.raises(DataError, match=r"3 of 5 lines .* are no entities \(line 3: not JSON"):
        build_knowledge_base(source, tmp_path / "kb", toys.letter_counts(), "model", skip_bad=True)


def test_other_commands_name_the_format_and_the_command(tmp_path: Path) -> None:
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=r"is a table \(separator ','\); .*blink kb build .*catalogue.csv --out DIR"):
            Catalogue.open(OWN, sidecar=tmp_path / "offsets", skip_bad=skip_bad)


def test_a_base_of_a_table_is_that_of_its_catalogue(tmp_path: Path) -> None:
    notes: list[str] = []
    progress = BuildProgress(note=notes.append)
    manifest = build_knowledge_base(OWN, tmp_path / "kb", toys.letter_counts(), "model", progress=progress)
    assert manifest.entities == 50
    assert manifest.skipped == 0
    assert "50 entities of title=name, text=description, kb_idx=id, aliases=aliases, types=type" in notes[0]
    base = KnowledgeBase.open(tmp_path / "kb")
    again = build_knowledge_base(tmp_path / "kb" / "entity.jsonl", tmp_path / "again", toys.letter_counts(), "model")
    assert again.catalogue_sha256 == manifest.catalogue_sha256
    assert again.sha256 == manifest.sha256
    assert base.catalogue.row_of("pers-22") == 49
    with OWN.open(encoding="utf-8", newline="") as f:
        assert [row["name"] for row in csv.DictReader(f)] == [entity.title for entity in base.catalogue]


def test_named_columns(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "Nr;Begriff;Erklärung;MID\n1;Ada;Frau;/m/1\n")
    columns = parse_columns("title=begriff, text=Erklärung,kb_idx=Nr,ids.freebase=MID")
    assert opened(path, tmp_path, columns=columns) == [Entity(0, "Ada", "Frau", "1", ids=(("freebase", "/m/1"),))]
    with pytest.raises(DataError, match="none is named 'Titel' among 'Nr', 'Begriff'"):
        opened(path, tmp_path, columns={"title": "Titel"})
    for wrong in ("title", "=x", "title=", "name=Begriff", "title=a,title=b", "ids.=x"):
        with pytest.raises(SettingsError):
            parse_columns(wrong)
    with pytest.raises(SettingsError, match="no encoding is named"):
        opened(path, tmp_path, encoding="utf-99")
    assert opened(put(tmp_path, "b.csv", "name\nMüller\n".encode("cp1252")), tmp_path, encoding="cp1252")[0].title == "Müller"


@given(names=st.lists(st.sampled_from(["Title", "name", "text", "Description", "id", "x", "", "ids.a"]), max_size=6))
def test_a_column_is_used_once(names: list[str]) -> None:
    try:
        columns = ColumnMap.of(names)
    except DataError:
        assert not {"Title", "name"} & set(names) or {"Title", "name"} <= set(names) or len(set(names)) < len(names)
        return
    assert len(set(columns.of_key.values())) == len(columns.of_key)
    assert {*columns.of_key.values(), *columns.unused} == {name for name in names if name}


def test_cells() -> None:
    columns = ColumnMap.of(["name", "aliases", "id", "ids"])
    cases: list[tuple[Any, tuple[str, ...]]] = [
        ("a|b; c", ("a", "b; c")), ("a; b;;a", ("a", "b")), ('["a|b", "c"]', ("a|b", "c")), ("['a', 'b']", ("a", "b")),
        ("[not a list", ("[not a list",)), (["a", None, 3], ("a", "3")), (float("nan"), ()), ("[]", ()),
    ]  # fmt: skip
    for value, expected in cases:
        assert tuple(columns.line_of({"name": "x", "aliases": value}).get("aliases", ())) == expected
    assert columns.line_of({"name": "x", "id": np.int64(7), "aliases": np.array(["a"])}) == {
        "title": "x",
        "kb_idx": "7",
        "aliases": ["a"],
    }
    assert columns.line_of({"name": "x", "id": float("inf")})["kb_idx"] == "inf"
    assert columns.line_of({"name": " a \n b ", "id": 12.0, "ids": {"mid": 5}}) == {
        "title": "a b",
        "kb_idx": "12",
        "ids": {"mid": "5"},
    }
    with pytest.raises(ValueError, match="column 'id' holds bool, not text"):
        columns.line_of({"name": "x", "id": True})


def test_frames_and_mappings(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(OWN)
    assert opened(RecordRows(frame), tmp_path) == opened(OWN, tmp_path)
    frame = pandas.DataFrame({"id": [1, None], "name": ["Ada", "Bob"], "text": [None, "x"]})
    assert opened(RecordRows(frame), tmp_path) == [Entity(0, "Ada", "", "1"), Entity(1, "Bob", "x")]
    expected = [Entity(0, "Ada", "A woman."), Entity(1, "Bob")]
    assert opened(RecordRows({"Ada": "A woman.", "Bob": None}), tmp_path) == expected
    assert opened(RecordRows([Entity(7, "Ada", "A woman."), "Bob"]), tmp_path) == expected
    with pytest.raises(DataError, match="the records, record 2: column 'title' is empty"):
        opened(RecordRows([{"title": "Ada"}, {"title": " "}]), tmp_path)
    for wrong in (7, "Ada", None):
        with pytest.raises(DataError, match="as a list, a mapping or a data frame"):
            opened(RecordRows(wrong), tmp_path)


def test_a_long_file_takes_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = put(tmp_path, "a.json", json.dumps([{"title": f"t{i}", "text": "x" * 200} for i in range(6_000)], indent=0))
    tracemalloc.start()
    assert sum(1 for _ in json_rows.JsonRows(path, file_format(path), None)) == 6_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 1_300_000
    assert peak < 5_000_000


def test_shards_of_a_cluster_read_the_converted_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_model = CandidateEncoder(toys.letter_counts(), "model")
    monkeypatch.setattr(plans, "open_candidate_encoder", lambda *options: opened_model)
    encoder: dict[str, Any] = {"model": None}
    options = {"layout": "kb", "index": "flat", "dtype": "fp32", "skip_bad": False}
    encoding = plans.encoding_of(str(OWN), str(tmp_path / "out"), encoder, 20, job=tmp_path / "job", **options)
    assert encoding.rows == 50
    with Catalogue.open(encoding.catalogue, sidecar=tmp_path / "job" / "entity.offsets") as catalogue:
        assert (len(catalogue), catalogue.sha256) == (50, encoding.catalogue_sha256)
    dry = plans.encoding_of(str(OWN), str(tmp_path / "out"), encoder, 20, job=None, **options)
    assert dry.catalogue_sha256 == encoding.catalogue_sha256
