"""What a step asks, what it compares with, what loss it makes of it, and how it moves a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from graph_toys import random_graph
from torch import Tensor
from torch.nn import functional

from blink.errors import SettingsError
from blink.kglm.config import load_settings
from blink.kglm.graph.answers import Answers
from blink.kglm.graph.batches import Batches, Negatives, head_query_rates, pair_weights
from blink.kglm.graph.losses import OVER_ALL, OVER_SAMPLED, LossOptions, loss_options, self_adversarial, softmax_over_all
from blink.kglm.graph.optimisers import RowwiseAdagrad
from blink.kglm.graph.triples import Graph
from blink.kglm.settings import Settings

pytest.importorskip("pykeen", reason="needs the extra kglm")


def settings_of(**changes: Any) -> Settings:
    return load_settings("graph").replace({k.replace("__", "."): v for k, v in changes.items()})


def known_of(graph: Graph) -> Answers:
    return Answers(torch.from_numpy(graph.train), len(graph.entities), len(graph.relations))


def random_answers(rows: int, entities: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, right answers as (rows, targets), and as a table of zeros and ones."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, entities, generator=random, dtype=torch.float64)
    hot = torch.rand(rows, entities, generator=random) < 0.3
    hot[torch.arange(rows), torch.arange(rows) % entities] = True
    positions = hot.nonzero()
    return scores, positions[:, 0], positions[:, 1], hot.double()


# -- losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_torch(smoothing: float) -> None:
    scores, rows, targets, hot = random_answers(6, 9)
    options = LossOptions(smoothing=smoothing, scale=3.0)
    probabilities = hot / hot.sum(1, keepdim=True) * (1 - smoothing) + smoothing / 9
    expected = functional.cross_entropy(3 * scores, probabilities, reduction="none")
    assert torch.allclose(softmax_over_all(scores, rows, targets, options), expected)
    single = torch.tensor([1, 4, 8, 0, 0, 3])
    expected = functional.cross_entropy(3 * scores, single, reduction="none", label_smoothing=smoothing)
    assert torch.allclose(softmax_over_all(scores, torch.arange(6), single, options), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_is_that_of_torch(smoothing: float) -> None:
    scores, rows, targets, hot = random_answers(6, 9)
    losses = OVER_ALL["bce"](scores, rows, targets, LossOptions(smoothing=smoothing, scale=2.0, margin=0.5))
    labels = hot * (1 - smoothing) + smoothing / 9
    expected = functional.binary_cross_entropy_with_logits(2 * scores + 0.5, labels, reduction="none").mean(1)
    assert torch.allclose(losses, expected)


def test_the_self_adversarial_loss_is_that_of_pykeen() -> None:
    from pykeen.losses import NSSALoss

    right, wrong = torch.randn(7, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    mask = torch.rand(7, 5) < 0.7
    mask[:, 0] = True
    losses = self_adversarial(right, wrong, mask, LossOptions(margin=4.0, temperature=0.7))
    loss = NSSALoss(margin=4.0, adversarial_temperature=0.7, reduction="mean")
    for i in range(7):
        theirs = loss.process_slcwa_scores(right[i].view(1, 1), wrong[i][mask[i]].view(1, -1))
        assert float(theirs) == pytest.approx(float(losses[i]))


def test_no_gradient_flows_through_self_adversarial_shares() -> None:
    right, wrong = torch.zeros(1), torch.tensor([[0.5, -1.0]], requires_grad=True)
    self_adversarial(right, wrong, torch.ones(1, 2, dtype=torch.bool), LossOptions(margin=1.0)).sum().backward()
    probabilities = wrong.detach().softmax(1)
    assert torch.allclose(wrong.grad, probabilities * torch.sigmoid(wrong.detach() + 1) / 2)


@pytest.mark.parametrize("name", sorted(OVER_SAMPLED))
def test_a_drawn_answer_that_does_not_count_changes_nothing(name: str) -> None:
    options = LossOptions(margin=2.0)
    right, wrong = torch.randn(4), torch.randn(4, 3)
    mask = torch.ones(4, 3, dtype=torch.bool)
    padded = torch.cat([wrong, torch.full((4, 1), 50.0)], 1)
    masked = torch.cat([mask, torch.zeros(4, 1, dtype=torch.bool)], 1)
    expected = OVER_SAMPLED[name](right, wrong, mask, options)
    assert torch.allclose(OVER_SAMPLED[name](right, padded, masked, options), expected)
    nothing = OVER_SAMPLED[name](right, padded, torch.zeros_like(masked), options)
    assert nothing.isfinite().all()


def test_losses_by_hand() -> None:
    right, wrong, mask = torch.tensor([2.0]), torch.tensor([[1.0, 3.5]]), torch.ones(1, 2, dtype=torch.bool)
    assert OVER_SAMPLED["margin"](right, wrong, mask, LossOptions(margin=1.0)).item() == pytest.approx((0 + 2.5) / 2)
    logs = [np.log1p(np.exp(-2.0)), (np.log1p(np.exp(1.0)) + np.log1p(np.exp(3.5))) / 2]
    assert OVER_SAMPLED["bce"](right, wrong, mask, LossOptions()).item() == pytest.approx(sum(logs) / 2)
    expected = -2.0 + np.log(np.exp([2.0, 1.0, 3.5]).sum())
    assert OVER_SAMPLED["cross_entropy"](right, wrong, mask, LossOptions()).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__type": "1vsall"}, "did you mean 1vsAll"),
        ({"train__loss": "margin"}, "must be one of cross_entropy, bce"),
        ({"train__label_smoothing": 1.0}, "below 1"),
        ({"train__type": "negative", "train__label_smoothing": 0.1}, "set it to 0"),
    ],
)
def test_a_loss_that_does_not_go_with_the_rest(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        loss_options(settings_of(**changes).train, distance=False)


def test_only_distances_have_a_margin_against_zero() -> None:
    assert loss_options(settings_of(train__type="negative", train__loss="self_adversarial").train, distance=False).margin == 0
    assert loss_options(settings_of(train__type="negative", train__loss="self_adversarial").train, distance=True).margin == 9
    assert loss_options(settings_of(train__type="negative", train__loss="margin").train, distance=False).margin == 9


# -- queries -----------------------------------------------------------------------------------------------------------


def queries_of_steps(batches: Batches, steps: range) -> list[tuple[int, ...]]:
    queries = []
    for step in steps:
        batch = batches[step]
        q = batch.queries
        for row, target in zip(batch.rows.tolist(), batch.targets.tolist(), strict=True):
            queries.append((bool(q.heads[row]), int(q.relations[row]), int(q.anchors[row]), target))
    return queries


@pytest.mark.parametrize("kind", ["1vsAll", "KvsAll", "negative"])
def test_an_epoch_asks_everything_once_in_a_new_order(kind: str) -> None:
    graph = random_graph(20, 3, 50)
    batches = Batches(graph, known_of(graph), settings_of(train__type=kind, train__batch_size=16))
    everything = {(False, r, h, t) for h, r, t in graph.train.tolist()} | {(True, r, t, h) for h, r, t in graph.train.tolist()}
    first, second = (queries_of_steps(batches, range(e * batches.steps, (e + 1) * batches.steps)) for e in range(2))
    assert set(first) == set(second) == everything
    assert len(first) == len(second) == len(everything)
    assert first != second
    assert (
        queries_of_steps(
            Batches(graph, known_of(graph), settings_of(train__type=kind, train__batch_size=16)), range(batches.steps)
        )
        == first
    )
    other = settings_of(train__type=kind, train__batch_size=16, seed=1)
    assert queries_of_steps(Batches(graph, known_of(graph), other), range(batches.steps)) != first


def test_parts_of_a_batch_are_the_batch() -> None:
    graph = random_graph(20, 3, 50)
    batch = Batches(graph, known_of(graph), settings_of(train__type="KvsAll", train__batch_size=10))[0]
    micro_batches = [batch.micro_batch(0, 4), batch.micro_batch(4, 8), batch.micro_batch(8, 10)]
    assert torch.equal(torch.cat([p.rows + first for p, first in zip(micro_batches, (0, 4, 8), strict=True)]), batch.rows)
    assert torch.equal(torch.cat([p.targets for p in micro_batches]), batch.targets)
    assert torch.equal(torch.cat([p.queries.anchors for p in micro_batches]), batch.queries.anchors)


def test_bernoulli_asks_for_heads_by_the_share_of_the_relation() -> None:
    """One head with many tails: its head is replaced far more often, for a false tail may well be true."""
    train = np.array([[0, 0, t] for t in range(1, 10)] + [[h, 1, 0] for h in range(1, 10)])
    graph = Graph(tuple(map(str, range(10))), ("p", "q"), {"train": train})
    assert torch.allclose(head_query_rates(known_of(graph), 2), torch.tensor([0.9, 0.1]))
    options = settings_of(train__type="negative", negatives__sides="bernoulli", train__batch_size=1000)
    batches = Batches(graph, known_of(graph), options)
    queries = [q for step in range(200) for q in queries_of_steps(batches, range(step, step + 1))]
    assert len(queries) == 200 * 36
    for relation, rate in ((0, 0.9), (1, 0.1)):
        heads = [side for side, r, _, _ in queries if r == relation]
        assert len(heads) == 3600
        assert abs(np.mean(heads) - rate) < 0.02


def test_weights_are_those_of_the_authors_of_rotate() -> None:
    triples = torch.tensor([[0, 0, 1], [0, 0, 2], [3, 0, 1]])
    weights = pair_weights(Answers(triples, 4, 1), triples)
    counts = torch.tensor([(2 + 3) + (2 + 3), (2 + 3) + (1 + 3), (1 + 3) + (2 + 3)])
    assert torch.allclose(weights, counts.float().rsqrt())
    graph = random_graph(20, 3, 50)
    batch = Batches(graph, known_of(graph), settings_of(train__subsampling=True, train__batch_size=16))[0]
    assert batch.weights is not None
    assert batch.weights.mean().item() == pytest.approx(1.0)
    with pytest.raises(SettingsError, match="does not go with"):
        Batches(graph, known_of(graph), settings_of(train__subsampling=True, train__type="KvsAll"))


# -- negatives -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"negatives__shared": True}, {"negatives__draw": "batch"}])
def test_no_true_answer_counts_as_wrong(changes: dict[str, Any]) -> None:
    graph = random_graph(8, 2, 60)
    options = settings_of(train__type="negative", negatives__count=20, train__batch_size=16, **changes)
    batch = Batches(graph, known_of(graph), options)[3]
    truth = set(map(tuple, graph.train.tolist()))
    for filtered in (True, False):
        negatives = Negatives(graph, known_of(graph), options.replace({"negatives.filter": filtered}))
        drawn = negatives.draw(3, batch)
        mask = negatives.mask(batch, drawn)
        candidates = drawn if drawn.dim() == 2 else drawn.expand(16, -1)
        right = 0
        for i, (a, r, side) in enumerate(zip(batch.queries.anchors, batch.queries.relations, batch.queries.heads, strict=True)):
            for e, counts in zip(candidates[i].tolist(), mask[i].tolist(), strict=True):
                triple = (e, int(r), int(a)) if side else (int(a), int(r), e)
                assert counts == (triple not in truth if filtered else e != int(batch.targets[i]))
                right += triple in truth
        assert right > 0
        assert torch.equal(drawn, negatives.draw(3, batch))
        assert not torch.equal(drawn, negatives.draw(4, batch)) or changes.get("negatives__draw") == "batch"


def test_frequent_entities_are_drawn_more_often() -> None:
    train = np.array([[0, 0, t] for t in range(1, 10)])
    graph = Graph(tuple(map(str, range(20))), ("p",), {"train": train})
    options = settings_of(train__type="negative", negatives__count=100_000, negatives__shared=True, negatives__draw="frequency")
    negatives = Negatives(graph, known_of(graph), options)
    drawn = negatives.draw(0, Batches(graph, known_of(graph), options)[0])
    shares = torch.bincount(drawn, minlength=20) / len(drawn)
    expected = torch.tensor(graph.degrees + 1) / (graph.degrees + 1).sum()
    assert (shares - expected).abs().max() < 0.01


def test_a_draw_that_is_not_known() -> None:
    graph = random_graph(8, 2, 60)
    with pytest.raises(SettingsError, match="did you mean uniform"):
        Negatives(graph, known_of(graph), settings_of(negatives__draw="uniforme"))
    with pytest.raises(SettingsError, match=r"negatives\.count is 0"):
        Negatives(graph, known_of(graph), settings_of(negatives__count=0))


# -- the rowwise optimiser -----------------------------------------------------------------------------------------------


def test_rowwise_adagrad_keeps_one_number_a_row() -> None:
    slopes = [torch.randn(5, 4) * (torch.rand(5, 1) < 0.5) for _ in range(6)]
    tables = [torch.zeros(5, 4, requires_grad=True) for _ in range(2)]
    makers = [RowwiseAdagrad([table], lr=0.1) for table in tables]
    expected, sums = torch.zeros(5, 4), torch.zeros(5)
    for slope in slopes:
        tables[0].grad, tables[1].grad = slope.clone(), slope.to_sparse(1)
        for optimiser in makers:
            optimiser.step()
        sums += slope.square().mean(1)
        expected -= 0.1 * slope / (sums.sqrt() + 1e-10).unsqueeze(1)
    assert torch.allclose(tables[0], expected)
    assert torch.allclose(tables[1], expected)
    assert makers[0].state[tables[0]]["sum"].shape == (5,)
