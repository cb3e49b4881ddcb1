"""Readers of graphs: layouts, ids, what is dropped, what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_toys import TRAIN, family, toy_settings, write_triples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blink.errors import DataError, MissingFileError
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.runner import known_answers
from blink.kglm.graph.triples import Graph, Triples, build_graph, set_aside

pytest.importorskip("pykeen", reason="needs the extra kglm")


def read(path: Path | str, **changes: Any) -> Graph:
    return read_graph(toy_settings(Path(str(path)), **{"data__graph": str(path), **changes}).data)


def named(graph: Graph, split: str = "train") -> list[tuple[str, str, str]]:
    return [(graph.entities[h], graph.relations[r], graph.entities[t]) for h, r, t in graph.splits[split]]


def test_a_folder_of_splits_with_hard_negatives(tmp_path: Path) -> None:
    family(tmp_path)
    write_triples(tmp_path / "valid_negatives.txt", [("ben", "parent", "ada")])
    graph = read(tmp_path)
    assert named(graph) == TRAIN
    assert list(graph.splits) == ["train", "valid", "test"]
    assert [graph.entities[i] for i in graph.negatives["valid"][0, [0, 2]]] == ["ben", "ada"]
    assert graph.degrees.tolist() == [sum((n == h) + (n == t) for h, _, t in TRAIN) for n in graph.entities]


@pytest.mark.parametrize("name", ["facts.tsv", "facts.txt", "facts.tsv.gz"])
def test_one_file_of_triples(tmp_path: Path, name: str) -> None:
    text = "\ufeff" + "".join("\t".join(row) + "\r\n" for row in TRAIN) + "\n"
    (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wb").write(text.encode())
    assert named(read(tmp_path / name)) == TRAIN


def test_facts_of_the_original(tmp_path: Path) -> None:
    (tmp_path / "b.en").write_text("ada  parent\tben\nno fact\n a b c d\n")
    (tmp_path / "a.en").write_text("new_york part_of usa\n")
    assert named(read(tmp_path)) == [("new_york", "part_of", "usa"), ("ada", "parent", "ben")]
    assert named(read(tmp_path / "b.en")) == [("ada", "parent", "ben")]


def test_a_dataset_that_pykeen_knows() -> None:
    graph = read("pykeen:nations")
    assert (len(graph.entities), len(graph.relations)) == (14, 55)
    assert [len(graph.splits[s]) for s in ("train", "valid", "test")] == [1592, 199, 201]


def test_a_dataset_that_pykeen_saved_is_read_without_its_pickles(tmp_path: Path) -> None:
    from pykeen.datasets import get_dataset

    get_dataset(dataset="nations").to_directory_binary(tmp_path)
    for pickled in tmp_path.rglob("*.p*"):
        pickled.unlink()
    saved, from_pykeen = read(tmp_path), read("pykeen:nations")
    for split in ("train", "valid", "test"):
        assert sorted(named(saved, split)) == sorted(named(from_pykeen, split))


def test_duplicates_are_dropped_and_told(tmp_path: Path) -> None:
    graph = read(write_triples(tmp_path / "t.txt", [*TRAIN, TRAIN[0], TRAIN[3], TRAIN[0]]))
    assert named(graph) == TRAIN
    assert graph.notes == ("train: 3 of 11 triples are duplicates and were dropped",)


def test_what_is_unusual_is_told(tmp_path: Path) -> None:
    write_triples(tmp_path / "train.txt", TRAIN)
    write_triples(tmp_path / "valid.txt", [TRAIN[0], ("ada", "knows", "stranger")])
    notes = " | ".join(read(tmp_path).notes)
    assert "valid: 1 entities are in no training triple" in notes
    assert "valid: 1 triples are also in an earlier split" in notes


def test_a_relation_that_was_never_trained(tmp_path: Path) -> None:
    family(tmp_path)
    write_triples(tmp_path / "test.txt", [TRAIN[0], ("ada", "hates", "ben")])
    with pytest.raises(DataError, match=r"'hates' \(.*test\.txt, line 2\).*unseen_relations drop"):
        read(tmp_path)
    graph = read(tmp_path, data__unseen_relations="drop")
    assert named(graph, "test") == [TRAIN[0]]
    assert "hates" not in graph.relations
    assert any("1 triples dropped" in note for note in graph.notes)


def test_an_id_that_is_not_listed(tmp_path: Path) -> None:
    family(tmp_path)
    listed = tmp_path / "ids.tsv"
    listed.write_text("".join(f"{name}\tlabel\n" for name in ("zoe", "ada", "ben", "cleo", "dan", "eve")))
    graph = read(tmp_path, data__entities=str(listed))
    assert graph.entities[:2] == ("zoe", "ada")
    assert graph.degrees[0] == 0
    write_triples(tmp_path / "valid.txt", [TRAIN[0], ("ada", "knows", "Q404")])
    with pytest.raises(DataError, match=r"valid\.txt, line 2: entity 'Q404'"):
        read(tmp_path, data__entities=str(listed))
    (tmp_path / "r.txt").write_text("parent\nknows\n")
    with pytest.raises(DataError, match=r"train\.txt, line 7: relation 'likes'"):
        read(tmp_path, data__relations=str(tmp_path / "r.txt"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.txt", b"", "train.txt is empty"),
        ("valid.txt", b"", "valid.txt is empty"),
        ("valid_negatives.txt", b"\n\n", "holds no triples"),
        ("train.txt", b"a\tb\tc\na\tb\n", "line 2: 2 fields"),
        ("train.txt", b"a b c\n", "line 1: 1 field;"),
        ("train.txt", b"a\t\tc\n", "line 1: an empty field"),
        ("train.txt", b"a\tb\tc\n\xff\tb\tc\n", "line 2: not UTF-8 (byte 0)"),
        ("train.tsv.gz", gzip.compress(b"a\tb\tc\n" * 9)[:-9], "train.tsv.gz is damaged or cut off"),
        ("train.tsv.gz", b"no gzip", "line 1: 1 field;"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    family(tmp_path)
    if name.endswith(".gz"):
        (tmp_path / "train.txt").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ("", "data.graph is not set"),
        ("nowhere", "there is no nowhere"),
        ("pykeen:nonesuch", "PyKEEN knows no dataset 'nonesuch'"),
        ("EMPTY", "has no triples to train on"),
        ("PICKLE", "is a pickle, which could run code"),
    ],
)
def test_a_graph_that_is_not_there(tmp_path: Path, graph: str, message: str) -> None:
    (tmp_path / "data.pkl").write_bytes(b"\x80\x04N.")
    path = {"EMPTY": str(tmp_path), "PICKLE": str(tmp_path / "data.pkl")}.get(graph, graph)
    with pytest.raises((MissingFileError, DataError), match=message):
        read(path)


def two_graphs(tmp_path: Path) -> tuple[Path, Path]:
    """The family, and what else is known of some of its members; each has its own validation triples."""
    write_triples(tmp_path / "a" / "train.txt", TRAIN[:6])
    write_triples(tmp_path / "a" / "valid.txt", TRAIN[6:7])
    write_triples(tmp_path / "b" / "train.txt", [("eve", "born", "rome"), TRAIN[0], ("rome", "in", "italy"), TRAIN[7]])
    write_triples(tmp_path / "b" / "valid.txt", [("ada", "born", "italy")])
    return tmp_path / "a", tmp_path / "b"


def test_several_graphs_are_read_as_one(tmp_path: Path) -> None:
    folders = two_graphs(tmp_path)
    write_triples(folders[1] / "valid_negatives.txt", [("dan", "born", "rome")])
    both = read_graph(toy_settings(tmp_path, data__graph=[str(f) for f in folders], data__unseen_relations="drop").data)
    assert named(both) == [*TRAIN[:6], ("eve", "born", "rome"), ("rome", "in", "italy"), TRAIN[7]]
    assert set(named(both, "valid")) == {("ada", "born", "italy"), TRAIN[6]}
    assert both.negatives["valid"].tolist() == [[both.entities.index("dan"), both.relations.index("born"), 5]]
    assert [s.parent.name + "/" + s.name for s in both.sources] == [
        "a/train.txt", "b/train.txt", "a/valid.txt", "b/valid.txt", "b/valid_negatives.txt",
    ]  # fmt: skip
    assert any("1 of 10 triples are duplicates" in note for note in both.notes)


def test_a_line_of_the_second_graph_is_named(tmp_path: Path) -> None:
    folders = two_graphs(tmp_path)
    write_triples(folders[1] / "valid.txt", [("ada", "born", "italy"), ("ada", "owns", "rome")])
    graphs = [str(f) for f in folders]
    with pytest.raises(DataError, match=r"1 valid triples .* first relation 'owns' \(.*b/valid\.txt, line 2\)"):
        read_graph(toy_settings(tmp_path, data__graph=graphs).data)
    graph = read_graph(toy_settings(tmp_path, data__graph=graphs, data__unseen_relations="drop").data)
    assert set(named(graph, "valid")) == {("ada", "born", "italy"), TRAIN[6]}


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("train.txt", [("x", "likes", "y")], r"shares no entity with the rest of data\.graph \('ada' in .*, 'x' in .*same ids"),
        ("valid.txt", [("ben", "likes", "rome"), TRAIN[2]], r"1 valid triples of one graph are .* b/valid\.txt, line 2"),
        ("test_negatives.txt", [TRAIN[3]], r"1 test negatives triples of one graph are training triples of another"),
    ],
)
def test_graphs_that_clash(tmp_path: Path, name: str, rows: list[tuple[str, ...]], message: str) -> None:
    folders = two_graphs(tmp_path)
    write_triples(folders[1] / name, rows)
    message = message.replace(" b/", r" \S*b/")
    with pytest.raises(DataError, match=message):
        read_graph(toy_settings(tmp_path, data__graph=[str(f) for f in folders]).data)


def test_a_split_that_is_missing_is_named(tmp_path: Path) -> None:
    graph = read(write_triples(tmp_path / "t.txt", TRAIN))
    with pytest.raises(DataError, match=r"no test triples \(only train\).*data\.test_share"):
        graph.split("test")


TRIPLE = st.tuples(st.sampled_from("abcdef"), st.sampled_from("pqr"), st.sampled_from("abcdef"))


@settings(max_examples=40)
@given(st.lists(TRIPLE, min_size=1, max_size=60), st.floats(0.05, 0.6), st.integers(0, 3))
def test_what_is_set_aside_leaves_training_triples_of_all(rows: list[tuple[str, str, str]], fraction: float, seed: int) -> None:
    graph = build_graph({"train": Triples(Path("made"), rows, range(1, len(rows) + 1))})
    all_triples = {tuple(t) for t in graph.train.tolist()}
    try:
        split_graph = set_aside(graph, "test", fraction, seed)
    except DataError:  # so few triples that most ids occur once
        assume(False)
    split_triples = [{tuple(t) for t in split_graph.splits[s].tolist()} for s in ("train", "test")]
    assert split_triples[0] | split_triples[1] == all_triples
    assert not split_triples[0] & split_triples[1]
    assert len(split_triples[1]) == round(fraction * len(all_triples))
    assert set(np.unique(split_graph.train[:, [0, 2]])) == set(range(len(graph.entities)))
    assert set(np.unique(split_graph.train[:, 1])) == set(range(len(graph.relations)))


def test_splits_are_in_order_however_they_are_given(tmp_path: Path) -> None:
    """What is filtered when a split is ranked are the splits up to it."""
    write_triples(tmp_path / "train.txt", TRAIN)
    write_triples(tmp_path / "test.txt", [("ben", "knows", "cleo")])
    valid = write_triples(tmp_path / "other.txt", [("ben", "knows", "dan")])
    for changes in ({"data__valid": str(valid)}, {"data__valid_share": 0.2}):
        graph = read(tmp_path, **changes)
        assert list(graph.splits) == ["train", "valid", "test"]
        answers = known_answers(graph, "test")
        assert answers.counts.sum() == 2 * sum(len(triples) for triples in graph.splits.values())


def test_too_much_cannot_be_set_aside() -> None:
    graph = build_graph({"train": Triples(Path("made"), [("a", "r", "b"), ("b", "r", "c")], [1, 2])})
    with pytest.raises(DataError, match=r"only 0 of 2 training triples.*lower data\.test_share"):
        set_aside(graph, "test", 0.5, 0)


def test_shares_are_drawn_again_alike(tmp_path: Path) -> None:
    file = write_triples(tmp_path / "t.txt", [(f"e{i % 7}", "r", f"e{i % 11}") for i in range(77)])
    one, two = (read(file, data__valid_share=0.1, data__test_share=0.1) for _ in range(2))
    assert list(one.splits) == ["train", "valid", "test"]
    assert one.digest == two.digest
    assert one.digest != read(file, data__valid_share=0.1, data__test_share=0.1, data__split_seed=1).digest


def test_graphs_that_differ_have_other_digests() -> None:
    one = Triples(Path("made"), [("a", "r", "b")], [1])
    two = Triples(Path("made"), [("b", "r", "a")], [1])
    assert build_graph({"train": one}).digest != build_graph({"train": two}).digest


def test_a_real_graph(shared: Path) -> None:
    graph = read(shared / "data" / "kg" / "codex-s")
    sizes = (len(graph.entities), len(graph.relations), *map(len, graph.splits.values()))
    assert sizes == (2034, 42, 32888, 1827, 1828)
    assert graph.notes == ()
