"""Files of triples however they are written: separators, headers, columns; and one graph from training to a linker's prior."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from graph_toys import TRAIN, toy_settings, write_triples
from hypothesis import given
from hypothesis import strategies as st
from outcomes import done, refused

from blink.errors import DataError
from blink.kglm.graph.layouts import COLUMNS, ROLES, SEPARATORS, Layout, parse, roles_of
from blink.kglm.graph.readers import read_graph, read_triples
from blink.kglm.graph.triples import Triples, build_graph
from blink.kglm.kinds import runner_for

pytest.importorskip("pykeen", reason="needs the extra kglm")

Blink = Callable[..., tuple[int, str, str]]
Row = tuple[str, str, str]
NAME = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=6)
NAME |= st.sampled_from(["New York", 'the "Rock"', "a, b", "a;b|c", "it's"])
ROWS = st.lists(st.tuples(NAME, NAME, NAME), min_size=1, max_size=8)


def lines_of(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def written(rows: list[Row], separator: str) -> str:
    out = io.StringIO()
    if separator == "tab":
        return "".join("\t".join(row) + "\n" for row in rows)
    csv.writer(out, delimiter=SEPARATORS[separator], lineterminator="\n").writerows(rows)
    return out.getvalue()


@given(ROWS, st.sampled_from(["tab", "comma", "semicolon", "pipe"]))
def test_what_is_written_is_read(rows: list[Row], separator: str) -> None:
    fields = parse(Path("made"), iter(lines_of(written(rows, separator))), Layout(separator, "triple"))
    assert fields.rows == [tuple(field.strip() for field in row) for row in rows]


@given(st.permutations(ROLES), st.data(), st.sampled_from(["tab", "comma", "semicolon", "pipe"]), st.booleans())
def test_a_header_in_any_order_of_columns(roles: list[str], data: st.DataObject, separator: str, loud: bool) -> None:
    header = tuple(data.draw(st.sampled_from(sorted(COLUMNS[role]))) for role in roles)
    header = tuple(f"{name.upper()}_ID" if loud else name for name in header)
    rows = [tuple(dict(zip(ROLES, row, strict=True))[role] for role in roles) for row in TRAIN]
    fields = parse(Path("made"), iter(lines_of(written([header, *rows], separator))), Layout())
    assert fields.rows == TRAIN
    assert fields.lines[0] == 2
    assert [note for note in fields.notes if "is a header, 1 line that is no triple" in note]


@pytest.mark.parametrize(
    ("first", "first_line", "kept", "note"),
    [
        (("head", "relation", "tail"), "auto", False, "is a header"),
        (("head", "relation", "tail"), "triple", True, ""),
        (("head", "parent", "tail"), "auto", True, ""),
        (("subject", "predicate", "ada"), "auto", True, ""),
        (("id1", "x", "id2"), "auto", True, ""),
        (("id1", "x", "id2"), "header", False, "is a header"),
    ],
)
def test_only_the_first_line_and_never_in_silence(tmp_path: Path, first: Row, first_line: str, kept: bool, note: str) -> None:
    path = write_triples(tmp_path / "t.tsv", [first, *TRAIN, ("head", "is", "tail")])
    triples = read_triples(path, Layout("auto", first_line))
    assert list(triples.rows) == [*([first] if kept else []), *TRAIN, ("head", "is", "tail")]
    assert [n for n in triples.notes if "line 1 (" in n] == [n for n in triples.notes if note and note in n]
    assert bool(triples.notes) == bool(note)


def test_a_relation_of_other_lines_makes_no_header(tmp_path: Path) -> None:
    rows = [("h", "r", "t"), ("a", "r", "b")]
    triples = read_triples(write_triples(tmp_path / "t.tsv", rows))
    assert list(triples.rows) == rows
    assert "is a triple, for other lines have the relation 'r' too" in triples.notes[0]


def test_notes_reach_the_user(tmp_path: Path) -> None:
    graph = read_graph(toy_settings(write_triples(tmp_path / "t.tsv", [("h", "r", "t"), *TRAIN])).data)
    assert "t.tsv: line 1 (h, r, t) is a header" in graph.notes[0]
    kept = read_graph(toy_settings(tmp_path / "t.tsv", data__first_line="triple").data)
    assert (len(graph.train), len(kept.train), kept.notes) == (8, 9, ())


@pytest.mark.parametrize(
    ("text", "layout", "message"),
    [
        ("a,b,c\na,b\n", Layout(), "line 2: 2 fields; a triple is head,relation,tail"),
        ("a,b,c\nd e f\n", Layout(), "line 2: 1 field"),
        ("Born in Ulm, he lived in Bern, then left.\n", Layout(), "line 1: 1 field; .* or set data.separator comma"),
        ("a b c\n", Layout(), "line 1: 1 field; .* or set data.separator blank"),
        ('a,b,c\nx,"y,z\n', Layout(), "line 2: unexpected end of data"),
        ('a,b,c\nx,"y\nz",w\n', Layout(), "line 3: a tab or line break in an id"),
        ("a\tb\tc\n", Layout("comma"), "line 1: 1 field"),
    ],
)
def test_what_is_no_triple_is_named(tmp_path: Path, text: str, layout: Layout, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_triples(tmp_path / "t.csv", layout)


def test_a_separator_that_is_named_may_have_blanks_around(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('ada, parent , "ben, the old"\n')
    assert list(read_triples(tmp_path / "t.csv", Layout("comma")).rows) == [("ada", "parent", "ben, the old")]


def test_blanks_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ada parent ben\n\nben  parent\tdan\n")
    assert list(read_triples(tmp_path / "t.txt", Layout("blank")).rows) == [("ada", "parent", "ben"), ("ben", "parent", "dan")]


def test_roles_need_all_three() -> None:
    assert roles_of(("Subject", "Predicate", "Object")) == ROLES
    assert roles_of(("source", "target", "type")) == ("head", "tail", "relation")
    assert roles_of(("head", "head", "tail")) is None
    assert roles_of(("Q1", "P1", "Q2")) is None


@given(st.lists(st.sampled_from(TRAIN), min_size=2, max_size=8, unique=True), st.randoms())
def test_the_content_is_of_names_and_not_of_their_order(rows: list[Row], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    digests = [build_graph({"train": Triples(Path("made"), r, range(len(r)))}).content for r in (rows, shuffled, rows[1:])]
    assert digests[0] == digests[1] != digests[2]
    swapped = [(rows[0][2], rows[0][1], rows[0][0]), *rows[1:]]
    other = build_graph({"train": Triples(Path("made"), swapped, range(len(rows)))}).content
    assert (other == digests[0]) == (set(swapped) == set(rows))


# -- one graph, from training to a prior ---------------------------------------------------------------------------------

CYCLE = [(f"city {i}", "next to", f"city {(i * 7 + 3) % 20}") for i in range(20)]


def as_one(folder: Path) -> str:
    return f"[{write_triples(folder / 'own.tsv', CYCLE)}]"


def as_two(folder: Path) -> str:
    return f"[{write_triples(folder / 'a.tsv', CYCLE[:12])}, {write_triples(folder / 'b.tsv', CYCLE[10:])}]"


def as_csv(folder: Path) -> str:
    (folder / "own.csv").write_text(written([("subject", "predicate", "object"), *CYCLE], "comma"))
    return f"[{folder / 'own.csv'}]"


def as_gzip(folder: Path) -> str:
    (folder / "own.tsv.gz").write_bytes(gzip.compress(written(CYCLE, "tab").encode()))
    return f"[{folder / 'own.tsv.gz'}]"


def as_folder(folder: Path) -> str:
    write_triples(folder / "own" / "train.txt", CYCLE)
    return f"[{folder / 'own'}]"


LAYOUTS = (as_one, as_two, as_csv, as_gzip, as_folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of the cycle, of which a share was held out for validation."""
    folder = tmp_path_factory.mktemp("own")
    own = {"data__graph": as_one(folder).strip("[]"), "data__valid_share": 0.2, "data__test_share": 0.1}
    runner = runner_for("graph")
    runner.train(toy_settings(folder, **own, model__dim=8, train__epochs=2), folder / "run")
    runner.export(folder / "run", folder / "vectors")
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_own_vectors_fit_their_graph_however_it_is_written(
    blink: Blink, trained: Path, tmp_path: Path, layout: Callable[[Path], str]
) -> None:
    graphs = [word for path in layout(tmp_path).strip("[]").split(", ") for word in ("--graph", path)]
    _, err = done(blink("kglm", "prior", *graphs, "--vectors", trained / "vectors", "--out", tmp_path / "prior"))
    assert "20 entities" in err
    assert "20 vectors of 8" in err


def test_vectors_of_other_triples_are_refused(blink: Blink, trained: Path, tmp_path: Path) -> None:
    other = write_triples(tmp_path / "other.tsv", [*CYCLE[:-1], ("city 19", "next to", "city 1")])
    command = ("kglm", "prior", "--graph", other, "--vectors", trained / "vectors", "--out", tmp_path / "prior")
    refused(blink(*command), "was made from another graph", "the same --graph")


def test_own_labels_are_vectors_too(blink: Blink, trained: Path, tmp_path: Path) -> None:
    """Vectors of one's own, without the description that an export has."""
    import numpy as np

    np.save(tmp_path / "entity_vectors.npy", np.ones((3, 4), np.float32))
    (tmp_path / "entity_ids.txt").write_text("city 3\ncity 4\nsomewhere else\n")
    command = ("kglm", "prior", "--graph", trained / "own.tsv", "--vectors", tmp_path, "--out", tmp_path / "prior")
    assert "2 vectors of 4" in done(blink(*command))[1]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_what_was_held_out_is_measured(blink: Blink, trained: Path, split: str) -> None:
    out, _ = done(blink("kglm", "eval", trained / "run", "--split", split))
    assert f"questions {8 if split == 'valid' else 4}" in out
