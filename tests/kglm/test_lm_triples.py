"""Triples as text: names, false triples, splits by entity, figures of a classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import DataError, MismatchError, SettingsError
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.classification import measure_classification
from blink.kglm.lm.negatives import Negatives, NegativeSampling
from blink.kglm.lm.splits import held_out_lines, read_subjects, split_by_head
from blink.kglm.lm.triples import Facts, Lexicon, read_names
from blink.kglm.lm.vocabulary import BOS, UNK, Vocabulary

pytestmark = pytest.mark.quick


def toy_graph(relations: int = 3, entities: int = 12, triples: int = 60) -> Graph:
    """Relation r has its tails among those entities whose number is r modulo ``relations``."""
    random = np.random.default_rng(1)
    head, relation = random.integers(0, entities, triples), random.integers(0, relations, triples)
    tail = random.integers(0, entities // relations, triples) * relations + relation
    train = np.unique(np.stack([head, relation, tail], axis=1), axis=0)
    return Graph(tuple(f"Q{i}" for i in range(entities)), tuple(f"P{i}" for i in range(relations)), {"train": train})


def maker(graph: Graph, name_keys: np.ndarray | None = None, same: tuple[int, ...] = ()) -> Negatives:
    facts = Facts.of(graph.train)
    name_keys = np.arange(len(graph.entities)) if name_keys is None else name_keys
    return Negatives(facts, facts, name_keys, np.array(same, dtype=np.int64))


def rows(facts: Facts) -> set[tuple[int, int, int]]:
    return set(zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist(), strict=True))


def test_names_are_read_from_three_layouts(tmp_path: Path) -> None:
    (tmp_path / "n.tsv").write_text("Q1\tNew York\tmore\n\nQ2\tUlm\n", encoding="utf-8")
    (tmp_path / "n.json").write_text('{"P1": {"label": "place of birth", "description": "x"}, "P2": "spouse", "P3": {}}')
    (tmp_path / "e.jsonl").write_text('{"title": "Ulm", "kb_idx": "Q2"}\n{"title": "nobody"}\n', encoding="utf-8")
    assert read_names(tmp_path / "n.tsv") == {"Q1": "New York", "Q2": "Ulm"}
    assert read_names(tmp_path / "n.json") == {"P1": "place of birth", "P2": "spouse"}
    assert read_names(tmp_path / "e.jsonl") == {"Q2": "Ulm"}
    for name, content, message in (("a.tsv", "", "0 bytes"), ("b.tsv", "Q1\n", "line 1"), ("c.json", "[1]", "no labels by id")):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message):
            read_names(tmp_path / name)


def test_a_triple_is_read_as_its_words() -> None:
    graph = Graph(("Q1", "Q2", "ulm_minster"), ("P1",), {"train": np.array([[0, 0, 1], [2, 0, 0]])})
    lexicon = Lexicon(graph, {"Q1": "Ulm", "Q2": "New York!"}, {"P1": "lies in"})
    assert lexicon.nameless == 1
    words = Vocabulary(("ulm", "lies", "in", "new", "york"), (1,) * 5)
    ids, lengths = lexicon.texts(words).batch(Facts.of(graph.train))
    assert ids.tolist() == [[BOS, 4, 5, 6, 7, 8], [BOS, 4, UNK, 5, 6, 4]]
    assert lengths.tolist() == [6, 6]
    names, lengths = lexicon.texts(words).names(np.array([1, 0]))
    assert names.tolist() == [[BOS, 7, 8], [BOS, 4, 0]]
    assert lengths.tolist() == [3, 2]
    assert lexicon.relation_numbers(["lies_in"]).tolist() == lexicon.relation_numbers(["P1"]).tolist() == [0]
    assert lexicon.relation_numbers(["born in"]).tolist() == []


@given(st.integers(0, 30))
def test_easy_false_tails_are_those_of_other_relations(seed: int) -> None:
    graph = toy_graph()
    true = Facts.of(graph.train)
    facts = maker(graph).with_true(true, NegativeSampling("easy", 2, 3), np.random.default_rng(seed))
    false = facts.select(~facts.label)
    assert len(facts) - len(true) == len(false)
    assert (false.tail % 3 != false.relation).all()
    per_triple = np.diff(np.flatnonzero(facts.label), append=len(facts)) - 1
    assert set(per_triple.tolist()) <= {1, 2}
    two = np.flatnonzero(per_triple == 2)
    starts = np.flatnonzero(facts.label)[two]
    assert (facts.tail[starts + 1] % 3 != facts.tail[starts + 2] % 3).all()  # each of another relation
    assert (facts.head[starts + 1] == facts.head[starts]).all()


def test_easy_takes_own_tails_of_relations_that_are_named() -> None:
    graph = toy_graph()
    sampling = NegativeSampling("easy", 4, 4)
    facts = maker(graph, same=(1,)).with_true(Facts.of(graph.train), sampling, np.random.default_rng(0))
    negatives = facts.select(facts.relation == 1)
    assert (negatives.tail % 3 == 1).all()
    assert len(negatives) == 2 * (graph.train[:, 1] == 1).sum()  # one false triple each, whatever is asked for


def test_easy_false_triples_that_spell_like_the_true_one_are_true() -> None:
    graph = toy_graph()
    facts = maker(graph, name_keys=np.zeros(12, dtype=np.int64)).with_true(
        Facts.of(graph.train), NegativeSampling("easy", 2, 2), np.random.default_rng(0)
    )
    assert facts.label.all()


@pytest.mark.parametrize("kind", ["same_type", "uniform"])
@pytest.mark.parametrize("both", [False, True])
def test_filtered_false_triples_are_never_known_as_true(kind: str, both: bool) -> None:
    graph = toy_graph(triples=40)
    true = Facts.of(graph.train)
    facts = maker(graph).with_true(true, NegativeSampling(kind, 3, 3, both), np.random.default_rng(2))
    false = facts.select(~facts.label)
    assert len(false) > len(true)
    assert not rows(false) & rows(true)
    assert len(facts.select(facts.label)) == len(true)
    heads_moved = (
        np.repeat(facts.head[facts.label], np.diff(np.flatnonzero(facts.label), append=len(facts))) != facts.head
    ).any()
    assert heads_moved == both
    if kind == "same_type" and not both:
        assert (false.tail % 3 == false.relation).all()


def test_a_false_triple_that_cannot_be_made_is_left_out() -> None:
    every = np.array([(h, 0, t) for h in range(3) for t in range(3)])
    graph = Graph(("a", "b", "c"), ("r",), {"train": every})
    facts = maker(graph).with_true(Facts.of(every), NegativeSampling("same_type", 2, 2), np.random.default_rng(0))
    assert rows(facts) == rows(Facts.of(every))
    assert facts.label.all()
    with pytest.raises(DataError, match="the graph has one relation; set"):
        maker(graph).with_true(Facts.of(every), NegativeSampling("easy", 2, 2), np.random.default_rng(0))


@pytest.mark.parametrize("wrong", [{"kind": "hard"}, {"fewest": 0}, {"fewest": 5, "most": 4}])
def test_false_triples_out_of_range_are_told(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="negatives"):
        NegativeSampling(**wrong)  # type: ignore[arg-type]


def test_a_held_out_entity_is_in_no_training_triple_as_head_nor_told_the_other_way_round() -> None:
    train = np.array([[0, 0, 1], [1, 0, 0], [2, 0, 3], [3, 0, 2], [4, 0, 2], [5, 0, 4]])
    graph = Graph(tuple("abcdef"), ("r",), {"train": train, "valid": train[:1]}, {"valid": train[:1]})
    splits = split_by_head(graph, ["b"], ["c", "elsewhere"])
    rows = {name: {tuple(row) for row in triples.tolist()} for name, triples in splits.splits.items()}
    assert rows == {"train": {(4, 0, 2), (5, 0, 4)}, "valid": {(1, 0, 0)}, "test": {(2, 0, 3)}}
    assert splits.negatives == {}
    assert "2 triples dropped" in splits.notes[-1]
    with pytest.raises(DataError, match="no triple is left for test"):
        split_by_head(graph, ["b"], ["nobody"])


@given(st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=40), st.integers(0, 9))
def test_lines_of_an_entity_are_held_out_together(subjects: list[str], seed: int) -> None:
    held_out = held_out_lines(subjects, len(subjects), 0.5, seed)
    inside = {s for s, is_held_out in zip(subjects, held_out, strict=True) if is_held_out}
    outside = {s for s, is_held_out in zip(subjects, held_out, strict=True) if not is_held_out}
    assert not inside & outside
    assert len(inside) == round(len(set(subjects)) * 0.5)
    assert held_out.tolist() == held_out_lines(subjects, len(subjects), 0.5, seed).tolist()


def test_ids_must_be_as_many_as_lines(tmp_path: Path) -> None:
    (tmp_path / "t.ids").write_text("Q1\nQ2\n")
    assert read_subjects(tmp_path / "t.ids", 2) == ["Q1", "Q2"]
    with pytest.raises(MismatchError, match="names 2 entities for 3 lines"):
        read_subjects(tmp_path / "t.ids", 3)


@given(st.integers(0, 200), st.integers(2, 60))
def test_figures_agree_with_scikit_learn(seed: int, count: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    logits = random.integers(-3, 4, count).astype(np.float32)  # with ties
    labels = np.concatenate([[True, False], random.random(count - 2) < 0.4])
    measured = measure_classification(logits, labels)
    judged = logits >= 0
    assert measured.accuracy == pytest.approx(metrics.accuracy_score(labels, judged))
    assert measured.roc_auc == pytest.approx(metrics.roc_auc_score(labels, logits))
    assert measured.pr_auc == pytest.approx(metrics.average_precision_score(labels, logits))
    assert measured.f1 == pytest.approx(metrics.f1_score(labels, judged))
    assert measured.recall == pytest.approx(metrics.recall_score(labels, judged))
    assert measured.precision == pytest.approx(metrics.precision_score(labels, judged, zero_division=0.0))
    assert measured.loss == pytest.approx(metrics.log_loss(labels, 1 / (1 + np.exp(-logits.astype(float)))), abs=1e-6)


def test_figures_need_both_kinds() -> None:
    with pytest.raises(DataError, match="2 true and 0 false"):
        measure_classification(np.zeros(2), np.ones(2, dtype=bool))
