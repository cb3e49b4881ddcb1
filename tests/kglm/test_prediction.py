"""Predictions: those of a brute-force count over all entities, by name, for any interaction, in any chunks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from graph_toys import PEOPLE, TRAIN, family, random_graph, toy_settings
from outcomes import done, refused

pytest.importorskip("pykeen", reason="needs the extra kglm")

from blink.errors import DataError, SettingsError
from blink.kglm.config import load_settings
from blink.kglm.graph.model import GraphModel, Queries, make_model
from blink.kglm.graph.triples import Graph
from blink.kglm.kinds import runner_for
from blink.kglm.names import Names
from blink.kglm.prediction import Predictor, Question, read_questions

Blink = Callable[..., tuple[int, str, str]]
INTERACTIONS = ("transe", "rotate", "complex", "distmult", "tucker", "quate", "transh", "ermlp", "conve")


def model_of(name: str, graph: Graph, *, reciprocal: bool = True) -> GraphModel:
    changes = {"model.name": name, "model.dim": 16, "model.reciprocal": reciprocal}
    return make_model(load_settings("graph").replace(changes), len(graph.entities), len(graph.relations)).eval()


def brute_force(
    model: GraphModel, graph: Graph, anchor: int, relation: int, heads: bool, known: bool
) -> list[tuple[str, bool]]:
    true = {(h, r, t) for triples in graph.splits.values() for h, r, t in triples.tolist()}
    query = Queries(torch.tensor([anchor]), torch.tensor([relation]), torch.tensor([heads]))
    scores = model.exact().scores(query)[0].tolist()
    triple = (lambda e: (e, relation, anchor)) if heads else (lambda e: (anchor, relation, e))
    order = sorted(range(len(graph.entities)), key=lambda e: -scores[e])
    return [(graph.entities[e], triple(e) in true) for e in order if known or triple(e) not in true]


@torch.no_grad()
@pytest.mark.parametrize("name", INTERACTIONS)
def test_the_best_are_those_of_all(name: str) -> None:
    graph = random_graph(23, 3, 60, valid=10)
    reciprocal = name != "transh"
    model = model_of(name, graph, reciprocal=reciprocal)
    predictor = Predictor(model, graph, batch_size=2, chunk=7)
    cases = [(e, r, heads) for e in (0, 5, 22) for r in (0, 2) for heads in (False, True)]
    texts = [(graph.entities[e], graph.relations[r]) for e, r, _ in cases]
    questions = [
        Question(None, r, e) if heads else Question(e, r, None) for (e, r), (_, _, heads) in zip(texts, cases, strict=True)
    ]
    for known in (False, True):
        found = predictor.answers(questions, 9, known=known)
        assert [[(a.id, a.known) for a in answers] for answers in found] == [
            brute_force(model, graph, *case, known)[:9] for case in cases
        ]
        scores = [answer.score for answer in found[0]]
        assert scores == sorted(scores, reverse=True)


@torch.no_grad()
def test_more_answers_than_entities() -> None:
    graph = random_graph(5, 2, 12)
    predictor = Predictor(model_of("complex", graph), graph, chunk=2)
    everything = predictor.answers([Question("Q0", "P0")], 99, known=True)[0]
    new = predictor.answers([Question("Q0", "P0")], 99)[0]
    assert len(everything) == 5
    assert [a.id for a in new] == [a.id for a in everything if not a.known]


@torch.no_grad()
def test_relations() -> None:
    graph = random_graph(9, 6, 80)
    model = model_of("transe", graph)
    predictor = Predictor(model, graph)
    head, _, tail = graph.train[0].tolist()
    question = Question(graph.entities[head], None, graph.entities[tail])
    n = torch.tensor([head]), torch.tensor([tail])
    scores = [model.exact().score_hrt(n[0], torch.tensor([r]), n[1]).item() for r in range(6)]
    answers = predictor.answers([question], 6, known=True)[0]
    assert [a.id for a in answers] == [f"P{r}" for r in sorted(range(6), key=lambda r: -scores[r])]
    assert [a.score for a in answers] == pytest.approx(sorted(scores, reverse=True))
    known = {graph.relations[r] for h, r, t in graph.train.tolist() if (h, t) == (head, tail)}
    assert {a.id for a in answers if a.known} == known
    assert {a.id for a in predictor.answers([question], 6)[0]} == set(graph.relations) - known


class TestNames:
    names = Names("entity", ["Q1", "Q2", "Q3", "Q4"], {"Q1": "Paris", "Q2": "Paris", "Q3": "Rome"})

    def test_ids_and_names(self) -> None:
        assert [self.names.row(text) for text in ("Q1", "Q4", "Rome", " rome ")] == [0, 3, 2, 2]
        assert [self.names.shown(row) for row in (2, 3)] == ["Rome (Q3)", "Q4"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("paris", r"2 entities are named 'paris'; give one of their ids: Q1, Q2"),
            ("Romee", r"no entity 'Romee'; did you mean Rome \(Q3\)\?"),
            ("q3", r"no entity 'q3'; did you mean Rome \(Q3\)|Q"),
            ("xyzzy", "no entity 'xyzzy'; give its id, or a file of names by --names"),
        ],
    )
    def test_mistakes(self, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            self.names.row(text)

    def test_many_names_are_compared_with_those_that_begin_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("blink.kglm.names.MANY_NAMES", 2)
        with pytest.raises(DataError, match=r"did you mean Rome \(Q3\)\?$"):
            self.names.row("Rome.")


# -- the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    runner_for("graph").train(toy_settings(family(folder / "graph")), folder / "run")
    (folder / "names.tsv").write_text("ada\tAda L.\nben\tBen\nparent\tparent of\n")
    (folder / "questions.tsv").write_text("ada\tparent\t?\r\n\n\tlikes\tada\neve\t?\tada\n")
    return folder / "run"


def test_by_name_with_known_triples_marked(blink: Blink, run: Path) -> None:
    names = ("--names", run.parent / "names.tsv")
    out, _ = done(blink("kglm", "predict", run, "--head", "ada l.", "--relation", "parent of", *names, "--all", "--top", 2))
    lines = out.splitlines()
    assert lines[0] == "Ada L. (ada)  parent of (parent)  ?"
    assert {line.split(maxsplit=2)[2] for line in lines[1:]} == {"Ben (ben)  known", "cleo  known"}
    out, _ = done(blink("kglm", "predict", run, "--head", "ada", "--relation", "parent"))
    assert {line.split()[-1] for line in out.splitlines()[1:]} == {"ada", "dan", "eve"}


def test_many_questions_as_json(blink: Blink, run: Path) -> None:
    out, _ = done(blink("kglm", "predict", run, "--file", run.parent / "questions.tsv", "--json", "--top", 1, "--all"))
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["head"], row["relation"], row["tail"]) for row in rows] == [
        ("ada", "parent", None), (None, "likes", "ada"), ("eve", None, "ada"),
    ]  # fmt: skip
    assert [row["answers"][0]["known"] for row in rows] == [True, True, True]  # a graph that was learned by heart
    assert rows[1]["answers"][0]["id"] == "eve"
    assert rows[2]["answers"][0]["id"] == "likes"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--head", "ada"), ("two of head, relation and tail",)),
        (("--head", "ada", "--relation", "parent", "--tail", "ben"), ("two of head, relation and tail",)),
        (("--head", "adda", "--relation", "parent"), ("no entity 'adda'", "did you mean ada")),
        (("--head", "ada", "--relation", "parnt"), ("no relation 'parnt'", "did you mean parent")),
        (("--head", "ada", "--file", "q.tsv"), ("--file has whole questions",)),
        (("--file", "nowhere.tsv"), ("nowhere.tsv does not exist",)),
        (("--names", "nowhere.tsv", "--head", "ada", "--relation", "parent"), ("nowhere.tsv",)),
    ],
)
def test_mistakes_are_one_line(blink: Blink, run: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(blink("kglm", "predict", run, *arguments), *words)


@pytest.mark.parametrize("text", ["a\tb\n", "a\tb\tc\n", "?\t?\tc\n"])
def test_lines_that_are_no_questions(tmp_path: Path, text: str) -> None:
    (tmp_path / "q.tsv").write_text("a\tb\t?\n" + text)
    with pytest.raises(DataError, match=r"q\.tsv, line 2: no question"):
        read_questions(tmp_path / "q.tsv")
    (tmp_path / "q.tsv").write_text("\n")
    with pytest.raises(DataError, match="holds no questions"):
        read_questions(tmp_path / "q.tsv")


def test_a_run_without_a_graph(tmp_path: Path) -> None:
    load_settings("glove", None, ["--joint.alpha", "0", "--data.text", "x"]).write(tmp_path / "settings.yaml")
    with pytest.raises(SettingsError, match="words alone"):
        Predictor.open(tmp_path)
    load_settings("lm").write(tmp_path / "settings.yaml")
    with pytest.raises(SettingsError, match="kind lm, not graph"):
        Predictor.open(tmp_path)


def test_the_family_is_asked_by_all(run: Path) -> None:
    predictor = Predictor.open(run)
    for head, relation, tail in TRAIN:
        best = predictor.answers([Question(head, relation)], top=5, known=True)[0]
        assert tail in {answer.id for answer in best if answer.known}
    assert sorted(predictor.entities.ids) == PEOPLE
