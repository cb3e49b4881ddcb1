"""The table of a prior: what it takes from a graph, how vectors are joined to it, and what does not fit."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_toys import TRAIN, family, learner_of, random_graph, toy_loop, write_triples
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pykeen", reason="needs the extra kglm")

from blink.data.prior_file import Prior, read_prior, write_prior
from blink.errors import BlinkError, DataError, MismatchError, MissingFileError
from blink.files import read_json, write_json
from blink.kglm.graph.export import write_export
from blink.kglm.graph.triples import Graph
from blink.kglm.prior_table import FALSE_POSITIVE_RATE, SIGNATURE_WIDTH, make_table, read_train_graph, signatures
from blink.kglm.text_init.vectors import Space, write_folder
from blink.linking.coherence import relatedness_of

HELD_OUT = [("ada", "likes", "eve"), ("cleo", "likes", "ben"), ("gus", "likes", "ada")]
"""Triples that are not learned from; one names an entity that no training triple has."""


def graph_of(rows: list[tuple[str, str, str]], folder: Path, held_out: list[tuple[str, str, str]] = HELD_OUT) -> Graph:
    write_triples(folder / "train.txt", rows)
    for split in ("valid", "test"):
        write_triples(folder / f"{split}.txt", held_out)
    return read_train_graph([str(folder)])


class TestGraph:
    def test_degrees_and_edges_are_those_of_training_triples(self, tmp_path: Path) -> None:
        rows = [*TRAIN, ("dan", "knows", "ada"), ("ben", "knows", "ben")]
        graph = graph_of(rows, tmp_path)
        table = make_table(graph, None)
        degrees = dict(zip(table.ids, table.degrees.tolist(), strict=True))
        assert {name: n for name, n in degrees.items() if name != "ben"} == {
            name: sum(name in (h, t) for h, _, t in rows) for name in table.ids if name != "ben"
        }
        assert degrees["gus"] == 0
        edges = [(table.ids[a], table.ids[b]) for a, b in table.edges.tolist()]
        assert {frozenset(pair) for pair in edges} == {frozenset((h, t)) for h, _, t in rows if h != t}
        assert len(edges) == len({frozenset(pair) for pair in edges})
        pairs = table.edges.tolist()
        assert pairs == sorted(pairs)
        assert all(a < b for a, b in pairs)
        assert table.edges.dtype == np.int32
        assert table.triples is not None
        assert [(table.ids[h], graph.relations[r], table.ids[t]) for h, r, t in table.triples.tolist()] == rows
        assert (table.vectors, table.relations) == (None, None)
        assert table.about["graph"] == graph.digest
        assert table.about["triples"] == len(rows)
        assert table.about["sources"] == [f"{tmp_path.name}/{name}.txt" for name in ("train", "valid", "test")]

    @given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 60))
    @settings(max_examples=30)
    def test_of_any_graph_the_file_comes_back(self, seed: int, entities: int, triples: int) -> None:
        table = make_table(random_graph(entities, 3, min(triples, entities), seed, valid=1), "signature")
        with tempfile.TemporaryDirectory() as folder:
            write_prior(Path(folder) / "p", Prior(table))
            back = read_prior(Path(folder) / "p").table
        assert back.ids == table.ids
        assert np.array_equal(back.edges, table.edges)
        assert np.array_equal(back.degrees, table.degrees)
        assert back.about == table.about
        assert back.vectors is not None
        assert table.vectors is not None
        assert np.allclose(back.vectors, table.vectors, atol=1e-3)

    def test_several_graphs_are_one_and_names_may_be_odd(self, tmp_path: Path) -> None:
        one, other = tmp_path / 'a "quoted", #1: graph', tmp_path / "back\\slash [x]"
        write_triples(one / "train.txt", TRAIN)
        write_triples(other / "train.txt", [("ada", "parent", "fay"), TRAIN[0]])
        graph = read_train_graph([str(one), str(other)])
        assert Counter(graph.entities).keys() == {"ada", "ben", "cleo", "dan", "eve", "fay"}
        assert len(graph.train) == len(TRAIN) + 1
        inside = read_train_graph([one.name], str(tmp_path))
        assert len(inside.train) == len(TRAIN)

    @pytest.mark.parametrize(
        ("name", "kind", "words"),
        [("nowhere", MissingFileError, "nowhere"), ("empty", DataError, "empty"), ("broken", DataError, "line 1")],
    )
    def test_graphs_that_are_none(self, tmp_path: Path, name: str, kind: type[BlinkError], words: str) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "train.txt").touch()
        write_triples(tmp_path / "broken" / "train.txt", [("ada", "parent")])
        with pytest.raises(kind, match=words) as caught:
            read_train_graph([str(tmp_path / name)])
        assert "\n" not in str(caught.value)


class TestSignatures:
    def test_entities_with_the_same_relations_have_the_same(self, tmp_path: Path) -> None:
        cities = [(f"city{i}", "in", f"land{i % 2}") for i in range(4)]
        rows = [*cities, *((f"person{i}", "born", f"city{i}") for i in range(3)), ("person0", "knows", "person1")]
        graph = graph_of(rows, tmp_path, [("city0", "in", "land1"), ("nobody", "in", "land0")])
        signature_of = dict(zip(graph.entities, signatures(graph), strict=True))
        assert np.allclose(signature_of["city0"], signature_of["city2"], atol=1e-6)
        assert np.allclose(signature_of["land0"], signature_of["land1"], atol=1e-6)
        assert not np.allclose(signature_of["city0"], signature_of["city3"], atol=0.1)  # where nobody was born
        assert not np.allclose(
            signature_of["person0"], signature_of["person1"], atol=0.1
        )  # to know somebody is not to be known
        assert not signature_of["nobody"].any()
        assert np.allclose([np.linalg.norm(row) for name, row in signature_of.items() if name != "nobody"], 1, atol=1e-5)

    def test_they_are_the_same_again_and_keep_angles(self) -> None:
        graph = random_graph(80, 6, 300, 1)
        one, again = signatures(graph), signatures(graph)
        assert np.array_equal(one, again)
        assert one.dtype == np.float32
        profile = np.zeros((80, 12))
        for head, relation, tail in graph.train.tolist():
            profile[head, relation] += 1
            profile[tail, 6 + relation] += 1
        profile = np.log1p(profile)
        profile /= np.linalg.norm(profile, axis=1, keepdims=True).clip(1e-6)
        assert one.shape == (80, 12)
        assert np.allclose(one @ one.T, profile @ profile.T, atol=1e-4)
        few = signatures(graph, 3)
        assert np.allclose(few, one[:, :3])
        assert (few**2).sum() >= max((one[:, i : i + 3] ** 2).sum() for i in range(10)) - 1e-3  # the directions that tell most

    def test_they_are_not_wider_than_they_need_be(self, tmp_path: Path) -> None:
        assert signatures(random_graph(50, 40, 300)).shape == (50, SIGNATURE_WIDTH)
        graph = graph_of(TRAIN, tmp_path)
        table = make_table(graph, "signature")
        assert table.vectors is not None
        assert table.vectors.shape == (6, 6)
        assert table.about["vectors"] == {"name": "signature"}
        assert table.relations is None


def folder_of(folder: Path, ids: list[str], width: int = 4, **meta: Any) -> tuple[Path, dict[str, np.ndarray]]:
    vectors = np.random.default_rng(0).normal(size=(len(ids), width)).astype(np.float32)
    write_folder(Space("entity", ids, vectors, ids, [""] * len(ids), list(range(1, len(ids) + 1)), meta), folder)
    return folder, dict(zip(ids, vectors, strict=True))


class TestJoined:
    def test_vectors_are_joined_by_id(self, tmp_path: Path) -> None:
        graph = graph_of(TRAIN, tmp_path / "graph")
        folder, vectors = folder_of(tmp_path / "vectors", ["eve", "stranger", "ada", "gus", "dan"])
        table = make_table(graph, str(folder))
        assert table.vectors is not None
        for name, row in zip(table.ids, table.vectors, strict=True):
            assert np.array_equal(row, vectors.get(name, np.zeros(4)))
        assert table.about["vectors"]["name"] == "vectors"
        assert len(table.about["vectors"]["sha256"]) == 64

    @pytest.mark.parametrize(
        ("ids", "meta", "words"),
        [
            (["Q1", "Q2"], {}, ("no vector of an entity of the graph", "'Q1'", "'ada'")),
            (["ada", "ben"], {"graph": "0" * 64}, ("made from another graph (000000000000,", "the same --graph")),
        ],
    )
    def test_vectors_that_do_not_belong(
        self, tmp_path: Path, ids: list[str], meta: dict[str, Any], words: tuple[str, ...]
    ) -> None:
        folder, _ = folder_of(tmp_path / "vectors", ids, **meta)
        with pytest.raises(MismatchError) as caught:
            make_table(graph_of(TRAIN, tmp_path / "graph"), str(folder))
        assert all(word in str(caught.value) for word in (str(folder), *words))

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="blink kglm export"):
            make_table(graph_of(TRAIN, tmp_path), str(tmp_path / "nowhere"))


def exported(home: Path, name: str, epochs: int = 1) -> tuple[Graph, Path]:
    """A run on the toy graph, and the folder of its vectors."""
    trainer = toy_loop(family(home / "family"), home / "run", model__name=name, train__epochs=epochs)
    trainer.run()
    graph = read_train_graph([str(home / "family")])
    write_export(home / "vectors", learner_of(trainer).model, graph, learner_of(trainer).settings)
    return graph, home / "vectors"


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path]:
    """The export of a run that has learned the toy graph by heart."""
    return exported(tmp_path_factory.mktemp("learned"), "complex", 60)


class TestExports:
    @pytest.mark.parametrize("name", ["complex", "distmult", "transe"])
    def test_relations_come_along_where_the_model_multiplies(
        self, learned: tuple[Graph, Path], tmp_path: Path, name: str
    ) -> None:
        graph, folder = learned if name == "complex" else exported(tmp_path, name)
        table = make_table(graph, str(folder))
        assert table.vectors is not None
        assert np.array_equal(table.vectors, np.load(folder / "entity_vectors.npy"))
        assert table.about["vectors"]["model"] == name
        if name == "transe":
            assert table.relations is None
            return
        assert table.relations is not None
        assert table.relations.layout == {"complex": "re_im", "distmult": "real"}[name]
        assert np.array_equal(table.relations.vectors, np.load(folder / "relation_vectors.npy")[: len(graph.relations)])
        assert table.relations.bias.shape == table.relations.spread.shape == (len(graph.relations),)
        assert (table.relations.spread > 0).all()

    def test_what_a_trained_model_joins_is_plausible(self, learned: tuple[Graph, Path]) -> None:
        graph, folder = learned
        table = make_table(graph, str(folder))
        assert table.relations is not None
        assert table.vectors is not None
        half = table.vectors.shape[1] // 2
        z, r = (v[:, :half] + 1j * v[:, half:] for v in (table.vectors, table.relations.vectors))
        scores = np.einsum("hd,rd,td->rht", z, r, z.conj()).real
        for head, relation, tail in graph.train.tolist():
            true = {(h, t) for h, r, t in graph.train.tolist() if r == relation}
            false = [scores[relation, h, t] for h in range(5) for t in range(5) if (h, t) not in true]
            assert scores[relation, head, tail] > max(false)
        phi = relatedness_of(table, "plausibility")(np.arange(len(table)))
        assert ((phi > 0) | np.eye(len(table), dtype=bool)).all()
        assert np.array_equal(phi, phi.T)

    def test_relations_that_do_not_belong(self, learned: tuple[Graph, Path], tmp_path: Path) -> None:
        graph, folder = learned
        copy = shutil.copytree(folder, tmp_path / "copy")
        (copy / "relation_vectors.npy").write_bytes((copy / "relation_vectors.npy").read_bytes()[:-4] + b"\x00\x00\x80\x3f")
        with pytest.raises(DataError, match=r"relation_vectors\.npy is damaged, or was changed"):
            make_table(graph, str(copy))
        meta = read_json(copy / "meta.json")  # as earlier versions wrote it
        write_json(copy / "meta.json", {key: value for key, value in meta.items() if key not in ("checked", "sha256")})
        (copy / "checksums.json").unlink()
        np.save(copy / "relation_vectors.npy", np.zeros((6, 3), np.float32))
        with pytest.raises(MismatchError, match=r"\(6, 3\) for 6 ids and entities of width 16"):
            make_table(graph, str(copy))
        np.save(copy / "relation_vectors.npy", np.zeros((5, 16), np.float32))
        with pytest.raises(MismatchError, match="for 6 ids"):
            make_table(graph, str(copy))
        (copy / "relation_ids.txt").unlink()
        with pytest.raises(MissingFileError, match=r"relation_ids\.txt does not exist; give a folder"):
            make_table(graph, str(copy))
        (copy / "relation_vectors.npy").write_bytes(b"\x93NUMPY")
        with pytest.raises(BlinkError, match=r"relation_(vectors\.npy|ids\.txt)"):
            make_table(graph, str(copy))
        (copy / "relation_vectors.npy").unlink()
        assert make_table(graph, str(copy)).relations is None


@pytest.mark.parametrize("model", ["complex", "distmult"])
def test_a_bias_lets_one_random_pair_in_a_thousand_pass(tmp_path: Path, model: str) -> None:
    graph = random_graph(700, 3, 2000, 2)
    folder, _ = folder_of(tmp_path / "v", list(graph.entities), 8, model=model)
    random = np.random.default_rng(7)
    np.save(folder / "relation_vectors.npy", random.normal(size=(6, 8)).astype(np.float32))
    names = [*graph.relations, *(f"{name}^-1" for name in graph.relations)]
    (folder / "relation_ids.txt").write_text("".join(f"{name}\n" for name in names))
    table = make_table(graph, str(folder))
    assert table.relations is not None
    assert table.vectors is not None
    assert len(table.relations.vectors) == 3  # those that ask for the tail
    pairs = random.integers(700, size=(2, 100_000))
    heads, tails = table.vectors[pairs[0]].astype(float), table.vectors[pairs[1]].astype(float)
    for vector, bias, spread in zip(table.relations.vectors, table.relations.bias, table.relations.spread, strict=True):
        if model == "distmult":
            scores = (heads * vector * tails).sum(1)
        else:
            h, r, t = (x[..., :4] + 1j * x[..., 4:] for x in (heads, vector.astype(float), tails))
            scores = (h * r * t.conj()).sum(1).real
        assert FALSE_POSITIVE_RATE / 2 < (scores > bias).mean() < 2 * FALSE_POSITIVE_RATE
        assert spread == pytest.approx(scores.std(), rel=0.05)
    assert json.loads((folder / "meta.json").read_text())["model"] == model
