"""Filtered realistic ranks, against a brute force of their own; triple classification, against one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from graph_toys import random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blink.errors import DataError
from blink.kglm.graph.answers import Answers, answers_of
from blink.kglm.graph.classification import (
    Labelled,
    Thresholds,
    best_threshold,
    classify,
    fit_thresholds,
    sample_negatives,
)
from blink.kglm.graph.model import Queries, queries_of
from blink.kglm.graph.ranking import RelationFrequency, rank, relation_categories, report, summary
from blink.kglm.graph.triples import Graph
from blink.runs.finite import NotFinite


@dataclass
class Table:
    """A scorer with a table of scores. *Shape:* (2 sides, relations, anchors, entities)."""

    values: Tensor

    def scores(self, queries: Queries, candidates: Tensor | slice | None = None) -> Tensor:
        rows = self.values[queries.heads.long(), queries.relations, queries.anchors]
        if isinstance(candidates, Tensor) and candidates.dim() == 2:
            return rows.gather(1, candidates)
        return rows[:, slice(None) if candidates is None else candidates].clone()


def brute_force(
    values: np.ndarray, triples: list[list[int]], true_triples: set[tuple[int, ...]]
) -> list[tuple[float, float, float]]:
    """Realistic, optimistic and pessimistic ranks, all queries for tails first."""
    entities = values.shape[-1]
    ranks = []
    for side in (0, 1):
        for h, r, t in triples:
            anchor, answer = (h, t) if side == 0 else (t, h)
            target, rivals = values[side, r, anchor, answer], []
            for e in range(entities):
                triple = (h, r, e) if side == 0 else (e, r, t)
                if e != answer and triple not in true_triples:
                    rivals.append(values[side, r, anchor, e])
            best = 1 + sum(s > target for s in rivals)
            worst = best + sum(s == target for s in rivals)
            ranks.append(((best + worst) / 2, best, worst))
    return ranks


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), entities=st.integers(1, 9), relations=st.integers(1, 3), levels=st.integers(1, 6))
def test_ranks_are_those_of_a_brute_force(seed: int, entities: int, relations: int, levels: int) -> None:
    graph = random_graph(entities, relations, 12, seed)
    random = np.random.default_rng(seed)
    values = random.integers(0, levels, size=(2, relations, entities, entities)).astype(float)
    triples = torch.from_numpy(graph.train)
    ranked_triples = triples[: len(triples) // 2 + 1]
    expected = brute_force(values, ranked_triples.tolist(), set(map(tuple, graph.train.tolist())))
    answers = Answers(triples, entities, relations)
    for batch, chunk in ((512, 512), (3, 1), (1, 4)):
        ranks = rank(Table(torch.from_numpy(values)), ranked_triples, answers, entities, batch_size=batch, chunk=chunk)
        assert (
            list(zip(ranks.realistic.tolist(), ranks.optimistic.tolist(), ranks.pessimistic.tolist(), strict=True)) == expected
        )


def test_200_triples_of_a_trained_like_model_against_the_brute_force() -> None:
    """A model with equal and nearly equal vectors; chunked, unchunked and by hand."""
    from blink.kglm.config import load_settings
    from blink.kglm.graph.model import make_model

    graph = random_graph(60, 5, 1000, 7)
    model = make_model(load_settings("graph").replace({"model.dim": 32}), 60, 5).eval()
    with torch.no_grad():
        model.entity_tables[0][10:20] = model.entity_tables[0][9]
    exact = model.exact()
    everything = torch.stack(
        [
            torch.stack(
                [exact.scores(Queries(torch.arange(60), torch.full((60,), r), torch.full((60,), side))) for r in range(5)]
            )
            for side in (False, True)
        ]
    )
    triples = torch.from_numpy(graph.train)
    expected = brute_force(everything.detach().numpy().round(12), triples[:200].tolist(), set(map(tuple, graph.train.tolist())))
    answers = Answers(triples, 60, 5)
    one, other = (rank(exact, triples[:200], answers, 60, chunk=chunk) for chunk in (7, 60))
    assert one.realistic.tolist() == other.realistic.tolist() == [r for r, _, _ in expected]
    assert summary(one.realistic)["mrr"] == pytest.approx(np.mean([1 / r for r, _, _ in expected]))


@pytest.mark.parametrize("entities", [1, 2, 7, 100])
def test_a_scorer_that_knows_nothing_gets_the_middle_rank(entities: int) -> None:
    triples = torch.tensor([[0, 0, 0]])
    constant = Table(torch.zeros(2, 1, entities, entities))
    ranks = rank(constant, triples, Answers(triples, entities, 1), entities, chunk=3)
    assert ranks.realistic.tolist() == [(entities + 1) / 2] * 2
    assert ranks.optimistic.tolist() == [1, 1]
    assert ranks.pessimistic.tolist() == [entities] * 2


def test_scores_apart_by_rounding_are_equal() -> None:
    """Noise of float arithmetic is neither for nor against the answer."""
    values = torch.tensor([0.3, 0.1 + 0.2, 0.3 - 1e-13, 0.2999]).double().expand(2, 1, 4, 4)
    triples = torch.tensor([[0, 0, 0]])
    assert rank(Table(values), triples, Answers(triples, 4, 1), 4).realistic.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    triples = torch.tensor([[0, 0, 1]])
    with pytest.raises(NotFinite, match="not finite"):
        rank(Table(torch.full((2, 1, 2, 2), bad)), triples, Answers(triples, 2, 1), 2)


def test_other_true_answers_are_left_out_and_the_answer_stays() -> None:
    values = torch.tensor([5.0, 4.0, 3.0, 2.0]).expand(2, 1, 4, 4)
    triples = torch.tensor([[3, 0, 2]])
    true_triples = torch.tensor([[3, 0, 0], [3, 0, 2], [2, 0, 1]])
    assert rank(Table(values), triples, Answers(triples, 4, 1), 4).realistic.tolist() == [3, 4]
    assert rank(Table(values), triples, Answers(true_triples, 4, 1), 4).realistic.tolist() == [2, 4]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=30))
def test_answers_are_those_of_the_triples(rows: list[tuple[int, int, int]]) -> None:
    triples = torch.tensor(rows)
    answers, truth = answers_of([triples[:1], triples[1:]], 5, 3), set(rows)
    queries, _ = queries_of(torch.cartesian_prod(torch.arange(5), torch.arange(3), torch.arange(5)))
    indices = answers.find(queries)
    query_rows = zip(queries.anchors.tolist(), queries.relations.tolist(), queries.heads.tolist(), strict=True)
    expected = {
        i: {e for e in range(5) if ((e, r, a) if heads else (a, r, e)) in truth} for i, (a, r, heads) in enumerate(query_rows)
    }
    answers_found: dict[int, set[int]] = {i: set() for i in expected}
    for row, target in zip(*(x.tolist() for x in answers.of(indices)), strict=True):
        assert target not in answers_found[row]
        answers_found[row].add(target)
    assert answers_found == expected
    contained = answers.contains(indices, torch.arange(5))
    assert [set(torch.nonzero(row).flatten().tolist()) for row in contained] == list(expected.values())
    indices, drawn = indices.repeat(2), torch.tensor([3, 0, 3, 4])  # queries and candidates may come twice
    assert torch.equal(answers.contains(indices, drawn), answers.contains(indices, drawn.expand(len(indices), -1)))
    assert answers.counts.sum() == 2 * len(truth)
    assert answers.find(answers.queries).tolist() == list(range(len(answers.queries)))


def test_categories_and_buckets_of_a_report() -> None:
    star = [[0, 0, t] for t in range(1, 5)]  # one head, many tails
    pairs = [[h, 1, h + 1] for h in range(4)]
    funnel = [[h, 2, 0] for h in range(1, 5)]
    block = [[h, 3, t] for h in range(3) for t in range(3)]
    train = np.array(star + pairs + funnel + block)
    graph = Graph(tuple("abcde"), tuple("pqrs"), {"train": train})
    assert relation_categories(graph).tolist() == [1, 0, 2, 3]
    answers = Answers(torch.from_numpy(train), 5, 4)
    ranks = rank(Table(torch.rand(2, 4, 5, 5)), torch.from_numpy(train), answers, 5)
    metrics: Any = report(ranks, graph)
    assert [metrics["by_category"][c]["questions"] for c in ("1-1", "1-N", "N-1", "N-N")] == [8, 8, 8, 18]
    assert metrics["tails"]["questions"] == metrics["heads"]["questions"] == len(train)
    assert metrics["mrr"] == pytest.approx((metrics["tails"]["mrr"] + metrics["heads"]["mrr"]) / 2)
    assert sum(b["questions"] for b in metrics["by_answer_degree"].values()) == 2 * len(train)
    assert metrics["by_answer_degree"]["0-5"]["questions"] == sum(graph.degrees[e] <= 5 for e in train[:, [0, 2]].ravel())
    assert {r: v["questions"] for r, v in metrics["by_relation"].items()} == {"p": 8, "q": 8, "r": 8, "s": 18}


def test_relation_frequencies_are_counts_of_training_answers() -> None:
    train = torch.tensor([[0, 0, 1], [2, 0, 1], [2, 0, 3], [3, 1, 0]])
    scorer = RelationFrequency(train, 4)
    queries = Queries(torch.tensor([9, 9, 9]), torch.tensor([0, 0, 1]), torch.tensor([False, True, False]))
    expected = [[0, 2, 0, 1], [1, 0, 2, 0], [1, 0, 0, 0]]
    assert scorer.scores(queries).tolist() == expected
    assert scorer.scores(queries, slice(1, 3)).tolist() == [row[1:3] for row in expected]
    assert scorer.scores(queries, torch.tensor([[1], [2], [0]])).tolist() == [[2], [2], [1]]


# -- classification ------------------------------------------------------------------------------------------------------

SCORES = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=20)


@given(SCORES)
def test_the_best_threshold_is_that_of_a_brute_force(rows: list[tuple[int, bool]]) -> None:
    scores, true = np.array([float(s) for s, _ in rows]), np.array([t for _, t in rows])
    accuracies = {float(c): float(((scores >= c) == true).mean()) for c in scores}
    best = max(accuracies.values())
    assert best_threshold(scores, true) == min(c for c, a in accuracies.items() if a == best)


def test_a_relation_without_validation_triples_gets_the_common_threshold() -> None:
    valid = Labelled(np.array([1.0, 0.0, 5.0, 4.0]), np.array([0, 0, 1, 1]), np.array([True, False, True, False]))
    thresholds = fit_thresholds(valid)
    assert thresholds == Thresholds({0: 1.0, 1: 5.0}, 1.0)
    test = Labelled(np.array([0.5, 4.5, 0.5, 2.0]), np.array([0, 1, 2, 2]), np.array([False, True, False, True]))
    metrics = classify(test, thresholds, ["p", "q", "r"])
    assert metrics["by_relation"]["p"]["accuracy"] == 1
    assert metrics["by_relation"]["q"]["accuracy"] == 0
    assert metrics["by_relation"]["r"]["accuracy"] == 1  # not "always true"
    assert (metrics["by_common_threshold"], metrics["common_threshold"]) == (2, 1.0)
    assert [metrics["by_relation"][r]["threshold"] for r in "pqr"] == [1.0, 5.0, 1.0]
    assert metrics["accuracy"] == 0.75
    assert metrics["f1"] == pytest.approx(2 / 3)
    assert (metrics["precision"], metrics["recall"]) == (1.0, 0.5)


def test_thresholds_need_both_sorts_of_triples() -> None:
    with pytest.raises(DataError, match="true and false validation triples"):
        fit_thresholds(Labelled(np.ones(3), np.zeros(3, dtype=int), np.ones(3, dtype=bool)))


@pytest.mark.parametrize("same_relation", [False, True])
def test_sample_negatives_are_false_and_drawn_again_alike(same_relation: bool) -> None:
    graph = random_graph(300, 4, 600, 3)
    train, true = graph.train, graph.train[:200]
    negatives = sample_negatives(true, train, 300, 5, same_relation=same_relation)
    assert len(negatives) == 200
    assert negatives[:, :2].tolist() == true[:, :2].tolist()
    assert not set(map(tuple, negatives.tolist())) & set(map(tuple, train.tolist()))
    tails = {r: set(train[train[:, 1] == r, 2].tolist()) for r in range(4)}
    in_relation = [t in tails[r] for _, r, t in negatives.tolist()]
    assert all(in_relation) == same_relation
    assert negatives.tolist() == sample_negatives(true, train, 300, 5, same_relation=same_relation).tolist()
    assert negatives.tolist() != sample_negatives(true, train, 300, 6, same_relation=same_relation).tolist()


def test_a_head_that_has_all_tails_gets_no_negative() -> None:
    full = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert sample_negatives(full, full, 2, 0).tolist() == [[1, 0, 1]]


def test_ranks_are_those_of_pykeens_evaluator() -> None:
    pytest.importorskip("pykeen", reason="needs the extra kglm")
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.models import DistMult
    from pykeen.triples import CoreTriplesFactory

    from blink.kglm.config import load_settings
    from blink.kglm.graph.model import make_model

    graph = random_graph(40, 4, 500, 2, valid=60)
    train, valid = (torch.from_numpy(graph.splits[s]) for s in ("train", "valid"))
    ours = make_model(
        load_settings("graph").replace({"model.name": "distmult", "model.dim": 8, "model.reciprocal": False}), 40, 4
    )
    with torch.no_grad():
        ours.entity_tables[0][5:15] = ours.entity_tables[0][4]
    factory = CoreTriplesFactory.create(train, num_entities=40, num_relations=4)
    theirs = DistMult(triples_factory=factory, embedding_dim=8, random_seed=0)
    with torch.no_grad():
        theirs.entity_representations[0]._embeddings.weight.copy_(ours.entity_tables[0])
        theirs.relation_representations[0]._embeddings.weight.copy_(ours.relation_tables[0])
    expected = RankBasedEvaluator().evaluate(theirs, valid, additional_filter_triples=[train], use_tqdm=False, batch_size=16)
    metrics = summary(rank(ours.exact(), valid, answers_of([train, valid], 40, 4), 40, chunk=9).realistic)
    assert metrics["mrr"] == pytest.approx(expected.get_metric("both.realistic.inverse_harmonic_mean_rank"))
    assert metrics["mean_rank"] == pytest.approx(expected.get_metric("both.realistic.arithmetic_mean_rank"))
    for k in (1, 3, 10):
        assert metrics[f"hits@{k}"] == pytest.approx(expected.get_metric(f"both.realistic.hits_at_{k}"))
