"""Scores: against Python's complex numbers, against PyKEEN, against finite differences, and of one path against another."""

from __future__ import annotations

import cmath
import math
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blink.errors import SettingsError
from blink.kglm.config import load_settings
from blink.kglm.graph.answers import Answers
from blink.kglm.graph.interactions import ComplEx, FromPyKEEN, RotatE, SummedModuli, euclidean, make_interaction
from blink.kglm.graph.model import GraphModel, Queries, make_model, queries_of
from blink.kglm.graph.ranking import rank

pytest.importorskip("pykeen", reason="needs the extra kglm")

ENTITIES, RELATIONS, DIM = 7, 3, 6
IMPLEMENTED = [
    ("complex", {}),
    ("distmult", {}),
    ("transe", {"p": 1}),
    ("transe", {"p": 2}),
    ("rotate", {"p": 1}),
    ("rotate", {"p": 2}),
]
OTHERS = ["rescal", "tucker", "simple", "hole", "transh", "transd", "transr", "pairre", "quate", "mure", "cp", "ntn", "um"]


def model_of(name: str, arguments: dict[str, Any] | None = None, **changes: Any) -> GraphModel:
    changed = {"model.name": name, "model.arguments": arguments or {}, "model.dim": DIM, "model.init": "normal", **changes}
    return make_model(load_settings("graph").replace(changed), ENTITIES, RELATIONS).eval()


def all_triples() -> Tensor:
    return torch.cartesian_prod(torch.arange(ENTITIES), torch.arange(RELATIONS), torch.arange(ENTITIES))


def complex_numbers(row: Tensor) -> list[complex]:
    re, im = row.chunk(2)
    return [complex(a, b) for a, b in zip(re.tolist(), im.tolist(), strict=True)]


def by_hand(name: str, p: int, h: Tensor, r: Tensor, t: Tensor) -> float:
    """Scores by their definitions, in Python's own numbers."""
    if name == "distmult":
        return sum(a * b * c for a, b, c in zip(h.tolist(), r.tolist(), t.tolist(), strict=True))
    if name == "transe":
        return -(sum(abs(a + b - c) ** p for a, b, c in zip(h.tolist(), r.tolist(), t.tolist(), strict=True)) ** (1 / p))
    head, tail = complex_numbers(h), complex_numbers(t)
    if name == "complex":
        return sum((a * b * c.conjugate()).real for a, b, c in zip(head, complex_numbers(r), tail, strict=True))
    turned = [a * cmath.exp(1j * angle) for a, angle in zip(head, r.tolist(), strict=True)]
    return -(sum(abs(a - c) ** p for a, c in zip(turned, tail, strict=True)) ** (1 / p))


@pytest.mark.parametrize(("name", "arguments"), IMPLEMENTED)
def test_scores_are_what_their_formulas_say(name: str, arguments: dict[str, Any]) -> None:
    model = model_of(name, arguments, **{"model.reciprocal": False}).exact()
    h, r, t = all_triples().unbind(1)
    entities, relations = model.entity_tables[0].double(), model.relation_tables[0].double()
    p = arguments.get("p", 2)
    expected = torch.tensor([by_hand(name, p, entities[a], relations[b], entities[c]) for a, b, c in zip(h, r, t, strict=True)])
    assert torch.allclose(model.score_hrt(h, r, t), expected.double(), atol=1e-6)
    everything = model.scores(Queries(h, r, torch.zeros_like(h, dtype=torch.bool)))
    assert torch.allclose(everything.gather(1, t.unsqueeze(1)).squeeze(1), expected.double(), atol=1e-6)
    everything = model.scores(Queries(t, r, torch.ones_like(t, dtype=torch.bool)))
    assert torch.allclose(everything.gather(1, h.unsqueeze(1)).squeeze(1), expected.double(), atol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), [case for case in IMPLEMENTED if case != ("rotate", {"p": 1})])
def test_scores_are_those_of_pykeen(name: str, arguments: dict[str, Any]) -> None:
    from pykeen.nn import interaction_resolver

    model = model_of(name, arguments, **{"model.reciprocal": False}).exact()
    h, r, t = all_triples().unbind(1)
    theirs = interaction_resolver.make(name, arguments)
    entities, relations = model.entity_tables[0].double(), model.relation_tables[0].double()
    if name == "rotate":
        relations = torch.polar(torch.ones_like(relations), relations)
    if name in ("complex", "rotate"):
        entities = torch.complex(*entities.chunk(2, -1))
        relations = relations if name == "rotate" else torch.complex(*relations.chunk(2, -1))
    assert torch.allclose(model.score_hrt(h, r, t), theirs(entities[h], relations[r], entities[t]), atol=1e-6)


@pytest.mark.parametrize("reciprocal", [True, False])
@pytest.mark.parametrize("name", [*(name for name, _ in IMPLEMENTED[::2]), *OTHERS])
def test_all_ways_to_score_agree(name: str, reciprocal: bool) -> None:
    """All candidates, some for all queries, some for each; heads and tails in one batch and in two."""
    model = model_of(name, **{"model.reciprocal": reciprocal, "model.dim": 8}).exact()
    queries, answers = queries_of(all_triples()[::5])
    everything = model.scores(queries)
    assert everything.shape == (len(queries), ENTITIES)
    assert everything.dtype == torch.float64
    some = torch.tensor([4, 1, 1])
    assert torch.allclose(model.scores(queries, some), everything[:, some], atol=1e-9)
    assert torch.allclose(model.scores(queries, slice(2, 5)), everything[:, 2:5], atol=1e-9)
    pairs = torch.stack([answers, answers.flip(0)], 1)
    assert torch.allclose(model.scores(queries, pairs), everything.gather(1, pairs), atol=1e-9)
    for side in (True, False):
        mask = queries.heads == side
        assert torch.allclose(model.scores(queries[mask]), everything[mask], atol=1e-9)
    tails = ~queries.heads
    h, r, t = queries.anchors[tails], queries.relations[tails], answers[tails]
    assert torch.allclose(model.score_hrt(h, r, t), everything[tails].gather(1, t.unsqueeze(1)).squeeze(1), atol=1e-9)
    heads = model.scores(Queries(queries.anchors[~tails], queries.relations[~tails], queries.heads[~tails]))
    assert torch.allclose(heads, everything[~tails], atol=1e-9)


def test_pykeens_vectors_of_pairs_are_made_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("pairre").exact()
    queries, _ = queries_of(all_triples())
    sizes: list[int] = []
    inner = model.interaction.inner
    inner.register_forward_hook(lambda module, inputs, scores: sizes.append(scores.numel()))
    with torch.no_grad():
        full = model.scores(queries)
        monkeypatch.setattr(FromPyKEEN, "CHUNK_VALUES", 2 * len(queries) * DIM)
        chunked = model.scores(queries)
    assert torch.allclose(full, chunked)
    assert sizes == [len(queries) * n for n in (ENTITIES, 2, 2, 2, 1)]


@pytest.mark.parametrize(("name", "arguments"), IMPLEMENTED)
def test_without_reciprocals_a_triple_has_one_score(name: str, arguments: dict[str, Any]) -> None:
    queries, answers = queries_of(all_triples())
    for reciprocal in (False, True):
        model = model_of(name, arguments, **{"model.reciprocal": reciprocal}).exact()
        tails, heads = model.scores(queries, answers.unsqueeze(1)).view(2, -1)
        assert torch.allclose(tails, heads) == (not reciprocal)


def test_distmult_cannot_tell_head_from_tail_and_complex_can() -> None:
    h, r, t = all_triples().unbind(1)
    symmetric, other = (model_of(n, **{"model.reciprocal": False}).exact() for n in ("distmult", "complex"))
    assert torch.allclose(symmetric.score_hrt(h, r, t), symmetric.score_hrt(t, r, h))
    assert not torch.allclose(other.score_hrt(h, r, t), other.score_hrt(t, r, h))


@pytest.mark.parametrize(("name", "arguments"), IMPLEMENTED)
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_are_those_of_finite_differences(name: str, arguments: dict[str, Any], shared: bool) -> None:
    interaction = make_interaction(name, 4, 4, arguments)
    random = torch.Generator().manual_seed(3)
    shapes = [(3, 4), (3, 2 if name == "rotate" else 4), (5, 4) if shared else (3, 2, 4)]
    anchor, relation, candidates = (torch.randn(s, dtype=torch.float64, generator=random, requires_grad=True) for s in shapes)
    heads = torch.tensor([False, True, False])
    score = lambda a, r, c: interaction((a,), (r,), heads, (c,))  # noqa: E731
    assert torch.autograd.gradcheck(score, (anchor, relation, candidates))


@settings(max_examples=20)
@given(rows=st.integers(1, 20), others=st.integers(1, 40), k=st.integers(1, 9), at_once=st.integers(1, 400))
def test_summed_moduli_are_the_same_however_they_are_cut(rows: int, others: int, k: int, at_once: int) -> None:
    random = torch.Generator().manual_seed(rows * 100 + others)
    q, c = (torch.randn(n, 2 * k, dtype=torch.float64, generator=random).requires_grad_() for n in (rows, others))
    slopes = torch.randn(rows, others, dtype=torch.float64, generator=random)
    difference = q.unsqueeze(1) - c
    plain = torch.hypot(*difference.chunk(2, -1)).sum(-1)
    expected = torch.autograd.grad(plain, (q, c), slopes)
    before, SummedModuli.CHUNK_VALUES = SummedModuli.CHUNK_VALUES, at_once
    try:
        moduli = SummedModuli.apply(q, c)
        gradients = torch.autograd.grad(moduli, (q, c), slopes)
    finally:
        SummedModuli.CHUNK_VALUES = before
    assert torch.allclose(moduli, plain)
    assert all(torch.allclose(a, b) for a, b in zip(gradients, expected, strict=True))


@pytest.mark.parametrize(("name", "arguments"), IMPLEMENTED)
def test_a_distance_of_nothing_has_a_finite_slope(name: str, arguments: dict[str, Any]) -> None:
    interaction = make_interaction(name, 4, 4, arguments)
    anchor = torch.ones(1, 4, requires_grad=True)
    relation = torch.zeros(1, 2 if name == "rotate" else 4)
    for candidates in (torch.ones(1, 4), torch.ones(1, 1, 4)):
        interaction((anchor,), (relation,), torch.tensor([False]), (candidates,)).sum().backward()
        assert anchor.grad is not None
        assert anchor.grad.isfinite().all()


def test_euclidean_distances_by_a_product_are_close() -> None:
    q, c = torch.randn(9, 50), torch.randn(11, 50)
    direct = (q.double().unsqueeze(1) - c.double()).norm(dim=-1)
    assert torch.allclose(euclidean(q, c).double(), direct, rtol=1e-5)
    assert torch.allclose(euclidean(q.double(), c.double()), direct, rtol=1e-14)


@pytest.mark.parametrize(("name", "arguments"), IMPLEMENTED)
def test_a_model_in_which_all_entities_are_alike_gets_the_middle_rank(name: str, arguments: dict[str, Any]) -> None:
    """Neither distances of nothing nor their rounding tell entities apart."""
    for shift in (0.0, 0.3):
        model = model_of(name, arguments)
        with torch.no_grad():
            model.entity_tables[0][:] = torch.randn(DIM) / 3
            model.relation_tables[0].fill_(shift)
        triples = all_triples()[::11]
        ranks = rank(model.exact(), triples, Answers(triples[:1], ENTITIES, RELATIONS), ENTITIES, chunk=3)
        assert set(ranks.realistic.tolist()) == {(ENTITIES + 1) / 2}


def test_phases_are_spread_over_the_circle() -> None:
    for scale in (1.0, 50.0):
        model = make_model(
            load_settings("graph").replace({"model.name": "rotate", "model.arguments": {"phase_scale": scale}}), 5, 100
        )
        assert isinstance(model.interaction, RotatE)
        phases = model.interaction.phases(model.relation_tables[0].detach())
        assert phases.abs().max() <= math.pi
        assert abs(phases.std() - math.pi / math.sqrt(3)) < 0.05


def test_dropout_is_on_both_sides_of_scores_and_off_in_exact_ones() -> None:
    plain = model_of("distmult")
    model = model_of("distmult", **{"model.entity_dropout": 0.5}).train()
    queries = Queries(torch.arange(5), torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.bool))
    assert torch.equal(model.exact().scores(queries), plain.exact().scores(queries))
    assert torch.equal(model.eval().scores(queries), plain.scores(queries))
    model.train()
    rate = torch.stack([model.entity_rows(slice(None))[0] != 0 for _ in range(400)]).float().mean()
    assert abs(rate - 0.5) < 0.02
    assert (model.rows(queries)[0][0] == 0).any()
    assert not (model.rows(queries)[1][0] == 0).any()


def test_the_penalty_is_the_mean_over_triples_of_powers_of_moduli() -> None:
    triples = torch.tensor([[0, 0, 1], [0, 1, 2], [3, 0, 1]])
    queries, answers = queries_of(triples)
    model = model_of("complex", **{"model.reciprocal": False})
    assert isinstance(model.interaction, ComplEx)
    e, r = model.entity_tables[0].detach(), model.relation_tables[0].detach()
    cubes = lambda x: sum(abs(z) ** 3 for z in complex_numbers(x))  # noqa: E731
    expected = sum(cubes(e[a]) + cubes(r[b]) + cubes(e[c]) for a, b, c in triples.tolist()) / 3
    assert model.penalty(queries, answers, 3.0, True).item() == pytest.approx(expected, rel=1e-5)
    once = model.penalty(queries[:3], answers[:3], 3.0, False).item()
    expected = (
        sum(cubes(e[i]) for i in (0, 3)) / 2 + sum(cubes(r[i]) for i in (0, 1)) / 2 + sum(cubes(e[i]) for i in (1, 2)) / 2
    )
    assert once == pytest.approx(expected, rel=1e-5)


def test_sparse_tables_score_alike() -> None:
    queries, answers = queries_of(all_triples()[::9])
    dense, sparse = model_of("complex"), model_of("complex", **{"model.sparse": True})
    for model in (dense, sparse):
        model.scores(queries, answers.unsqueeze(1)).sum().backward()
    for one, other in zip(dense.parameters(), sparse.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert other.grad.is_sparse
        assert torch.allclose(one.grad, other.grad.to_dense())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("complecks", {}, "model.name is 'complecks', which is no interaction; allowed are complex"),
        ("complex", {"model.dim": 7}, "complex needs an even number"),
        ("transe", {"model.arguments": {"p": 3}}, "must be 1 or 2"),
        ("transe", {"model.arguments": {"q": 3}}, "it takes: p"),
        ("tucker", {"model.arguments": {"nonsense": 3}}, "tucker does not take model.arguments"),
        ("complex", {"model.init": "zeros"}, "model.init is 'zeros'"),
        ("complex", {"model.entity_dropout": 1.0}, "give numbers below 1"),
        ("complex", {"model.dim": 0}, "model.dim is 0"),
    ],
)
def test_a_model_that_cannot_be_made(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        model_of(name, **changes)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pykeen.nn", None)
    with pytest.raises(SettingsError, match=r"pip install 'blink-linker\[kglm\]'"):
        model_of("tucker")
    assert model_of("complex").entities == ENTITIES
