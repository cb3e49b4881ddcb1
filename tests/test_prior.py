"""The prior in a linker: the formula, what it must leave alone, and that it joins by ids whatever the knowledge base."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from prior_toys import AsTheyAre, by_row, random_spans, same, spans, table, weights
from shell_toys import weighing

from blink.data.prior_file import Prior, PriorTable, PriorWeights, write_prior
from blink.errors import DataError, MismatchError, MissingFileError
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import Analysis
from blink.linking.coherence import PriorStages
from blink.linking.decoder import Thresholds
from blink.linking.graph_prior import EntityAlignment, GraphPrior, scorer_fingerprint, weights_for
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder
from blink.model.reranker import Scaling

torch.set_num_threads(1)
TEXTS = (
    "Who governed Georgia 0 before Atlanta 2 burned?",
    "the ohio river the 3th, lake garda 4 and Mount Elbrus 6",
    "",
    "Turing 9!",
    "Tbilisi 1 is in Georgia 10, Atlanta the 12th is in Georgia; " * 6 + "Oslo 7.",
)
"""The last takes several windows."""
GIVEN_SPANS = ([(13, 20), (30, 37)], [(4, 14)], [], [(0, 6)], [(0, 9), (16, 26), (100, 107), (360, 364)])


# --- the formula --------------------------------------------------------------------------------------------------------


def expected(
    scored: ScoredSpans, mentions: np.ndarray, prior_table: PriorTable, prior_weights: PriorWeights
) -> list[dict[int, float]]:
    """The formula of `blink.linking.graph_prior`, one number at a time."""
    assert prior_table.vectors is not None
    real = [row for row in prior_table.vectors.astype(float).tolist() if any(row)]
    mean = [sum(column) / len(real) for column in zip(*real, strict=True)]

    def dot(a: Any, b: Any) -> float:
        return float(sum(x * y for x, y in zip(a, b, strict=True)))

    def agreement(mention: list[float], entity: int) -> float:
        vector = prior_table.vectors[entity].astype(float).tolist() if prior_table.vectors is not None else []
        if not any(vector):
            return 0.0
        vector = [x - y for x, y in zip(vector, mean, strict=True)]
        vector = [x / math.hypot(*vector) for x in vector]
        mention = [x / (math.hypot(*mention) or 1) for x in mention]
        gate = 1 / (1 + math.exp(-dot(prior_weights.gate.tolist(), vector) - prior_weights.gate_bias))
        inner = [
            dot(a, mention) * dot(b, vector)
            for a, b in zip(prior_weights.text.tolist(), prior_weights.graph.tolist(), strict=True)
        ]
        return gate * sum(inner)

    result = []
    for rows, scores, mention in zip(scored.rows.tolist(), scored.entity_logits.tolist(), mentions.tolist(), strict=True):
        of_span = {}
        for row, score in zip(rows, scores, strict=True):
            if row >= 0:
                of_span[row] = prior_weights.scale * score + prior_weights.shift
                if row < len(prior_table):
                    of_span[row] += prior_weights.popularity * math.log(1 + int(prior_table.degrees[row]))
                    of_span[row] += prior_weights.vector * agreement(mention, row)
        result.append(of_span)
    return result


@pytest.mark.quick
@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 6), st.booleans())
def test_scores_are_those_of_the_formula(seed: int, m: int, counts: bool) -> None:
    random = np.random.default_rng(seed)
    prior_table = table([f"Q{i}" for i in range(9)], seed, bare=2)
    scored = random_spans(random, m, 4, len(prior_table) + 2)
    mentions = (random.normal(size=(m, 5)) * 3).astype(np.float32)
    mentions[0] = 0 if seed % 7 == 0 else mentions[0]
    scale, shift, popularity = random.uniform(0.1, 3), random.normal(), random.uniform(0, 2)
    numbers = {"scale": float(scale), "shift": float(shift), "popularity": float(popularity), "vector": 1.3 * counts}
    prior_weights = weights("ranker-1", text=5, seed=seed, **numbers)
    rescored = GraphPrior(prior_table, prior_weights, AsTheyAre(len(prior_table))).rescore(scored, mentions)
    for actual, theirs in zip(by_row(rescored), expected(scored, mentions, prior_table, prior_weights), strict=True):
        assert actual == pytest.approx(theirs, abs=2e-4)
    assert rescored.entity_logits.dtype == np.float32
    assert rescored.rows.dtype == scored.rows.dtype
    assert (np.isneginf(rescored.entity_logits) == (rescored.rows < 0)).all()
    for rows, scores in zip(rescored.rows.tolist(), rescored.entity_logits.tolist(), strict=True):
        pairs = [(-score, row) for row, score in zip(rows, scores, strict=True)]
        assert pairs == sorted(pairs)  # the best first, of equal ones the smaller row
    assert np.array_equal(rescored.mention_logits, scored.mention_logits)


@pytest.mark.quick
def test_the_best_known_wins_where_scores_are_near() -> None:
    prior_table = PriorTable(("Q1", "Q2"), np.array([2, 400]), np.zeros((0, 2), np.int32))
    scored, mentions = spans([[0, 1, 2]], [[1.0, 0.5, 0.4]]), np.ones((1, 3), np.float32)
    stages = PriorStages.from_prior(prior_table, PriorWeights("ranker-1", True, popularity=0.5), AsTheyAre(2))
    prior = stages.graph_prior
    rescored = prior.rescore(scored, mentions)
    assert rescored.rows.tolist() == [[1, 0, 2]]
    assert by_row(rescored)[0] == pytest.approx({1: 0.5 + 0.5 * math.log(401), 0: 1 + 0.5 * math.log(3), 2: 0.4})
    assert [prior.degree(row) for row in (0, 1, 2)] == [2, 400, 0]
    none = ScoredSpans.none(3)
    assert prior.rescore(none, np.zeros((0, 3), np.float32)) is none
    assert stages.rescore(none, np.zeros((0, 3), np.float32)) is none


@pytest.mark.quick
@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_no_weights_leave_scores_as_they_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    scored = random_spans(random, 5, 4, 9)
    prior = PriorStages.from_prior(table([f"Q{i}" for i in range(7)]), PriorWeights("ranker-1", True), AsTheyAre(7))
    rescored = prior.rescore(scored, np.ones((5, 3), np.float32))
    assert same(rescored, scored)
    assert prior.coherence is None


@pytest.mark.quick
@pytest.mark.parametrize("changes", [{"graph": np.ones((3, 5), np.float32)}, {"gate": np.ones(7, np.float32)}])
def test_weights_for_vectors_of_another_width(changes: dict[str, Any]) -> None:
    prior_table = table(["Q1", "Q2"])
    prior_weights = replace(weights("ranker-1", text=5, vector=1.0), **changes)
    with pytest.raises(MismatchError, match=r"the prior has 6; tune it again: blink kglm tune-prior"):
        GraphPrior(prior_table, prior_weights, AsTheyAre(2))
    with pytest.raises(MismatchError, match=r"the prior has 0; tune it again"):
        GraphPrior(replace(prior_table, vectors=None), weights("ranker-1", text=5, vector=1.0), AsTheyAre(2))
    GraphPrior(prior_table, replace(prior_weights, vector=0.0), AsTheyAre(2))  # what does not count does no harm


# --- joined by id ---------------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_an_edited_knowledge_base_gets_the_same_scores_by_id(tmp_path: Path) -> None:
    lines = [{"title": f"T{i}", "text": "", **({"kb_idx": f"Q{i}"} if i % 3 else {"kb_idx": f"m.{i}x"})} for i in range(12)]
    prior_table = table([f"Q{i}" for i in range(1, 30, 1)] + ["m.3x", "Zo\u00eb"])
    prior_weights, mention = weights("ranker-1", text=5, vector=0.7, popularity=0.4), np.ones((1, 5), np.float32)

    def scored(name: str, lines: list[Any]) -> dict[str | None, float]:
        with Catalogue.open(toys.write_catalogue(tmp_path / name, lines)) as catalogue:
            prior = GraphPrior(prior_table, prior_weights, EntityAlignment(prior_table, catalogue))
            rescored = prior.rescore(spans([list(range(len(lines)))], [[0.0] * len(lines)]), mention)
            return {catalogue[row].kb_id: score for row, score in by_row(rescored)[0].items()}

    before = scored("one.jsonl", lines)
    new = [{"title": "new", "kb_idx": "Q29"}, {"title": "nameless", "text": ""}, {"title": "Zo", "kb_idx": "Zo\u00eb"}]
    after = scored("two.jsonl", [new[0], *lines[:0:-1], *new[1:]])
    assert {k: after[k] for k in before if k != "m.0x"} == {k: v for k, v in before.items() if k != "m.0x"}
    assert before["m.0x"] == after[None] == 0.0  # the graph lacks the one, and nobody can name the other
    assert all(score != 0 for name, score in after.items() if name and name[0] == "Q")
    assert after["Zo\u00eb"] != 0
    assert before["m.3x"] != 0


@pytest.mark.quick
def test_places_and_how_many_are_shared(tmp_path: Path) -> None:
    prior_table = table(["Q5", "Q900", "Q1"])
    lines = [{"title": "a", "kb_idx": "Q1"}, {"title": "b"}, {"title": "c", "kb_idx": "Q5"}]
    with Catalogue.open(toys.write_catalogue(tmp_path / "c.jsonl", lines)) as catalogue:
        alignment = EntityAlignment(prior_table, catalogue)
    assert alignment.shared == 2
    assert alignment[np.array([[0, 1], [2, -1]])].tolist() == [[2, -1], [0, -1]]


# --- in a linker ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(6, threshold=-9.0)
    biencoder.reranker = weighing(-3.0, alias=3.0, is_fuzzy_match=3.0, popularity_gap=2.0, dice=4.0, logit=0.02)
    return biencoder


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


@pytest.fixture(scope="module")
def prior(model: BiEncoder, kb: KnowledgeBase) -> Prior:
    """Weighed for both kinds of scores."""
    ids = [*[entity.kb_id for entity in kb.catalogue if entity.kb_id][2:], "Q9", "Q8"]
    prior_table = table(ids, bare=3)
    weights_by_scorer = [
        weights(
            scorer_fingerprint(model, reranker),
            text=toys.HIDDEN,
            vector=4.0,
            popularity=0.8,
            scale=0.9,
            shift=-0.2,
            cutoff=cutoff,
        )
        for reranker, cutoff in ((model.reranker, 0.31), (None, -6.5))
    ]
    return Prior(prior_table, tuple(weights_by_scorer))


def coherent(prior: Prior) -> Prior:
    return replace(prior, weights=tuple(replace(prior_weights, coherence=2.0) for prior_weights in prior.weights))


def open_toy(model: BiEncoder, kb: KnowledgeBase, **options: Any) -> Linker:
    return Linker(model, kb, device="cpu", **{"precision": "fp32", **options})


def readings(linker: Linker, texts: Any = TEXTS, **options: Any) -> list[Analysis]:
    return list(linker.analyze(texts, **options))


@pytest.mark.parametrize("rank", [True, False])
@pytest.mark.parametrize("given_spans", [None, GIVEN_SPANS])
def test_without_a_prior_nothing_changes(
    model: BiEncoder, kb: KnowledgeBase, prior: Prior, rank: bool, given_spans: Any
) -> None:
    plain, none = open_toy(model, kb, rank=rank), open_toy(model, kb, rank=rank, prior="none")
    assert none.stages.graph_prior is None
    assert none.thresholds == plain.thresholds
    neutral = PriorWeights(scorer_fingerprint(model, model.reranker if rank else None), rank, cutoff=plain.thresholds.score)
    idle = open_toy(model, kb, rank=rank, prior=prior.with_weights(neutral))
    assert idle.stages.graph_prior is not None
    before = readings(plain, spans=given_spans)
    assert sum(len(reading.spans) for reading in before) >= 8
    for other in (none, idle):
        for one, again in zip(before, readings(other, spans=given_spans), strict=True):
            assert same(one.spans, again.spans)
            assert np.array_equal(one.offsets, again.offsets)
            assert other.decode(again) == plain.decode(one)
        assert list(other.link(TEXTS, spans=given_spans)) == list(plain.link(TEXTS, spans=given_spans))
    weighed = readings(open_toy(model, kb, rank=rank, prior=prior), spans=given_spans)
    assert not all(same(one.spans, other.spans) for one, other in zip(before, weighed, strict=True))


@pytest.mark.parametrize("rank", [True, False])
@pytest.mark.parametrize("given_spans", [None, GIVEN_SPANS])
def test_batches_order_and_windows_do_not_matter(
    model: BiEncoder, kb: KnowledgeBase, prior: Prior, rank: bool, given_spans: Any
) -> None:
    linker = open_toy(model, kb, rank=rank, prior=coherent(prior), mentions=12)
    together = readings(linker, spans=given_spans)
    back = None if given_spans is None else given_spans[::-1]
    separate = readings(linker, TEXTS[::-1], spans=back, batch_size=1)[::-1]
    for one, other in zip(together, separate, strict=True):
        assert np.array_equal(one.spans.rows, other.spans.rows)
        assert np.allclose(one.spans.entity_logits, other.spans.entity_logits, atol=1e-4)


@pytest.mark.parametrize("rank", [True, False])
@pytest.mark.parametrize("given_spans", [None, GIVEN_SPANS])
def test_each_span_is_rescored_once_whatever_its_window(
    model: BiEncoder, kb: KnowledgeBase, prior: Prior, rank: bool, given_spans: Any
) -> None:
    without_vectors = replace(prior, weights=tuple(replace(prior_weights, vector=0.0) for prior_weights in prior.weights))
    linker = open_toy(model, kb, rank=rank, prior=without_vectors)
    assert linker.stages.graph_prior is not None
    before = readings(open_toy(model, kb, rank=rank), spans=given_spans)
    assert len(before[-1].offsets) > 2 * model.config.max_context_length
    for one, other in zip(before, readings(linker, spans=given_spans), strict=True):
        assert same(linker.stages.graph_prior.rescore(one.spans, np.ones((len(one.spans), toys.HIDDEN))), other.spans)


@pytest.mark.parametrize("given_spans", [None, GIVEN_SPANS])
def test_coherence_is_of_whole_texts(model: BiEncoder, kb: KnowledgeBase, prior: Prior, given_spans: Any) -> None:
    before = readings(open_toy(model, kb, prior=prior), spans=given_spans)
    linker = open_toy(model, kb, prior=coherent(prior))
    coherence = linker.stages.coherence
    assert coherence is not None
    after = readings(linker, spans=given_spans)
    for one, other in zip(before, after, strict=True):
        assert same(coherence.rescore(one.spans), other.spans)
    assert not same(before[-1].spans, after[-1].spans)


@pytest.mark.parametrize("threshold", [-1.0, -4.0, -8.0])
def test_spans_below_the_threshold_speak_as_they_do_in_a_sweep(
    model: BiEncoder, kb: KnowledgeBase, prior: Prior, threshold: float
) -> None:
    for options in ({"rank": False}, {"rank": True, "mode": "joint"}):
        linker = open_toy(model, kb, prior=coherent(prior), threshold=threshold, **options)
        swept = [linker.decode(reading, Thresholds(threshold)) for reading in readings(linker)]
        for one, other in zip(linker.link(TEXTS), swept, strict=True):
            assert [(x.start, x.end, x.row) for x in one.links] == [(x.start, x.end, x.row) for x in other.links]
            assert [x.score for x in one.links] == pytest.approx([x.score for x in other.links], abs=1e-4)
    alone = open_toy(model, kb, prior=prior, rank=False, threshold=threshold)
    assert alone.min_mention_log_prob == threshold  # without coherence they have no say, and need not be read


def test_the_cut_off_is_the_prior_s_unless_the_caller_says_otherwise(model: BiEncoder, kb: KnowledgeBase, prior: Prior) -> None:
    assert open_toy(model, kb, prior=prior).thresholds.score == 0.31
    assert open_toy(model, kb, prior=prior, rank=False).thresholds.score == -6.5
    assert open_toy(model, kb, prior=prior, threshold=0.9).thresholds.score == 0.9
    assert open_toy(model, kb, prior=prior, mode="joint").thresholds.score == -9.0  # it was not chosen for this mode


def test_a_prior_of_other_entities_is_refused(model: BiEncoder, kb: KnowledgeBase) -> None:
    stranger = Prior(
        table(["X1", "X2"]), (weights(scorer_fingerprint(model, model.reranker), text=toys.HIDDEN, popularity=2.0),)
    )
    with pytest.raises(MismatchError, match="no entity of the knowledge base is in the prior"):
        open_toy(model, kb, prior=stranger)


def test_a_file_will_do(model: BiEncoder, kb: KnowledgeBase, prior: Prior, tmp_path: Path) -> None:
    write_prior(tmp_path / "p", prior)
    from_file = open_toy(model, kb, prior=tmp_path / "p")
    for one, other in zip(readings(open_toy(model, kb, prior=prior)), readings(from_file), strict=True):
        assert same(one.spans, other.spans)
    assert from_file(TEXTS[0]) == open_toy(model, kb, prior=str(tmp_path / "p"))(TEXTS[0])
    with pytest.raises(MissingFileError):
        open_toy(model, kb, prior=tmp_path / "nowhere")
    (tmp_path / "p").write_bytes(b"x")
    with pytest.raises(DataError):
        open_toy(model, kb, prior=tmp_path / "p")


def test_mentions_of_another_width(model: BiEncoder, kb: KnowledgeBase, prior: Prior) -> None:
    wrong = weights(scorer_fingerprint(model, model.reranker), text=toys.HIDDEN + 1, vector=1.0)
    with pytest.raises(MismatchError, match=r"33-dimensional mention vectors, the model has 32 dimensions; tune it"):
        open_toy(model, kb, prior=prior.with_weights(wrong))


# --- which scores weights are for ---------------------------------------------------------------------------------------


def test_the_id_tells_scores_apart(model: BiEncoder) -> None:
    reranker = model.reranker
    assert reranker is not None
    others = [
        weighing(-3.0, alias=3.1),
        weighing(-2.0, alias=3.0, is_fuzzy_match=3.0, popularity_gap=2.0, dice=4.0, logit=0.02),
        reranker.scaled(Scaling(2.0)),
        reranker.without(["dice"]),
    ]
    ids = [scorer_fingerprint(model, network) for network in (reranker, *others, None)]
    trained = copy.deepcopy(model)
    heads = [p for name, p in trained.named_parameters() if not name.startswith(("context_encoder.", "candidate_encoder."))]
    with torch.no_grad():
        heads[0].view(-1)[0] += 0.01
    ids += [scorer_fingerprint(trained, None), scorer_fingerprint(toys.model(7), None)]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("ranker-") == (index < 5) for index, name in enumerate(ids))
    assert scorer_fingerprint(trained, reranker) == ids[0]  # a reranker's scores do not depend on the encoder


def test_the_id_stays_with_what_does_not_change_scores(model: BiEncoder, kb: KnowledgeBase, tmp_path: Path) -> None:
    ids = [scorer_fingerprint(model, network) for network in (model.reranker, None)]
    model.save_pretrained(tmp_path / "m")
    assert model.reranker is not None
    model.reranker.save(tmp_path / "m")
    loaded = BiEncoder.from_pretrained(tmp_path / "m")
    assert [scorer_fingerprint(loaded, network) for network in (loaded.reranker, None)] == ids
    reopened = open_toy(loaded, kb, precision="bf16", threshold=-3.0, context_length=20)
    assert [scorer_fingerprint(reopened.model, network) for network in (loaded.reranker, None)] == ids
    if torch.cuda.is_available():
        assert scorer_fingerprint(loaded.to("cuda"), None) == ids[1]


def test_what_is_said_of_weights_that_are_not_there(model: BiEncoder, kb: KnowledgeBase, prior: Prior) -> None:
    name = scorer_fingerprint(model, model.reranker)
    with pytest.raises(MismatchError, match=rf"not tuned yet, the linker has ranked scores \({name}\).*blink kglm tune-prior"):
        weights_for(Prior(prior.table), name)
    with pytest.raises(MismatchError, match=r"tuned for 2 other kinds.*a bi-encoder's own scores \(encoder-0\)"):
        weights_for(prior, "encoder-0")
    with pytest.raises(MismatchError, match="tuned for 2 other kinds"):
        open_toy(model, kb, prior=prior, without=["spelling"])
    assert weights_for(prior, name) is prior.weights[0]
    assert json.dumps(dict(prior.weights[0].about)) == "{}"
