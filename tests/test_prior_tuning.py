"""Weighing a prior: what is planted is found, what is of no use gets nothing, and a cut-off is the best there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import toys
from prior_toys import AsTheyAre, by_row, spans, table
from shell_toys import weighing

from blink.data.prior_file import PriorTable, PriorWeights
from blink.data.records import Mention, Sample
from blink.errors import DataError, SettingsError
from blink.evaluation.sweep import curve
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import Analysis, TokenizedText
from blink.linking.coherence import Coherence, PriorStages
from blink.linking.decoder import Decoder, Thresholds
from blink.linking.graph_prior import EntityAlignment, GraphPrior, scorer_fingerprint
from blink.linking.linker import Linker
from blink.linking.reranker import Reranker
from blink.linking.scoring import link_probabilities
from blink.model.biencoder import BiEncoder
from blink.training.fit.calibration import CUTOFFS
from blink.training.fit.graph_prior import (
    F1_TOLERANCE,
    L2_PENALTY,
    DevPredictions,
    LabelledText,
    fit_coherence,
    fit_weights,
    learn_vectors,
    read_labelled,
    select_cutoff,
)
from blink.training.settings import PriorTuneSettings

torch.set_num_threads(1)
ENTITIES, WIDTH = 60, 8
RANKED, PLAIN = PriorWeights("ranker-1", True), PriorWeights("encoder-1", False)
TABLE = table([f"Q{i}" for i in range(ENTITIES)], 1)


def popularity_texts(
    texts: int, popularity: float, *, seed: int = 0, ranked: bool = True, scale: float = 0.7, unknown: int = 5
) -> list[LabelledText]:
    """Texts of four mentions whose right candidate, or "nothing", is drawn by scores and how well known candidates are."""
    random = np.random.default_rng(seed)
    labelled_texts = []
    for _ in range(texts):
        rows = np.stack([random.permutation(ENTITIES + unknown)[:5] for _ in range(4)])  # some the graph lacks
        scores = random.normal(size=(4, 5)).astype(np.float32) * 2 - 2 * ranked
        scores[0, 4], rows[0, 4] = -np.inf, -1
        degrees = np.append(TABLE.degrees, np.zeros(6))[rows.clip(max=ENTITIES)] * (rows >= 0)
        logits = scale * scores + popularity * np.log1p(degrees) - 2 * popularity * ranked
        logits = np.concatenate([logits, np.full((4, 1), 0.0 if ranked else -np.inf)], 1)
        drawn = (logits + random.gumbel(size=logits.shape)).argmax(1)
        gold = np.where(drawn < 5, rows[np.arange(4), drawn.clip(max=4)], -1)
        order = np.lexsort((rows, -scores), axis=1)
        scored = spans(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))
        mentions = random.normal(size=(4, WIDTH)).astype(np.float32)
        labelled_texts.append(LabelledText(scored, mentions, AsTheyAre(ENTITIES), gold, np.ones(4, bool)))
    return labelled_texts


def surprise(texts: Sequence[LabelledText], prior_table: PriorTable, prior_weights: PriorWeights) -> float:
    """Mean of -log p of what mentions name, by the prior as a linker adds it."""
    total, count = 0.0, 0
    for text in texts:
        after = by_row(GraphPrior(prior_table, prior_weights, text.alignment).rescore(text.spans, text.mention_vectors))
        for scores, gold in zip(after, text.gold.tolist(), strict=True):
            if prior_weights.ranked or gold in scores:
                of = [*([0.0] if prior_weights.ranked else []), *scores.values()]
                total += math.log(sum(map(math.exp, of))) - scores.get(gold, 0.0)
                count += 1
    return total / count


class TestNumbers:
    @pytest.mark.parametrize("ranked", [True, False])
    def test_what_is_planted_is_found(self, ranked: bool) -> None:
        fitted = fit_weights(popularity_texts(800, 0.6, ranked=ranked), TABLE, RANKED if ranked else PLAIN, ["popularity"])
        assert fitted.popularity == pytest.approx(0.6, abs=0.08)
        assert fitted.scale == pytest.approx(0.7, abs=0.08)
        assert fitted.shift == (pytest.approx(-1.2, abs=0.25) if ranked else 0.0)
        assert (fitted.vector, fitted.coherence) == (0.0, 0.0)

    @pytest.mark.parametrize("ranked", [True, False])
    def test_nothing_near_is_likelier(self, ranked: bool) -> None:
        texts, start = popularity_texts(100, 0.4, ranked=ranked), RANKED if ranked else PLAIN
        fitted = fit_weights(texts, TABLE, start, ["popularity"])

        def cost(prior_weights: PriorWeights) -> float:
            far = (prior_weights.scale - 1) ** 2 + prior_weights.shift**2 + prior_weights.popularity**2
            return surprise(texts, TABLE, prior_weights) + L2_PENALTY * far

        least = cost(fitted)
        for name in ("scale", "popularity", *(["shift"] if ranked else [])):
            for step in (-0.05, 0.05):
                assert cost(replace(fitted, **{name: getattr(fitted, name) + step})) > least

    def test_what_is_not_so_counts_for_nothing(self) -> None:
        # Of entities in the graph alone: which it lacks is no secret, however its degrees are dealt out.
        texts = popularity_texts(800, 0.6, unknown=0)
        order = np.random.default_rng(5).permutation(ENTITIES)
        shuffled = fit_weights(texts, replace(TABLE, degrees=TABLE.degrees[order]), RANKED, ["popularity"])
        assert 0 <= shuffled.popularity < 0.12
        assert fit_weights(texts, TABLE, RANKED, ["popularity"]).popularity > 0.5
        against = fit_weights(popularity_texts(400, -0.6), TABLE, RANKED, ["popularity"])
        without = fit_weights(popularity_texts(400, -0.6), TABLE, RANKED, [])
        assert against.popularity == 0.0
        assert (against.scale, against.shift) == (without.scale, without.shift)
        assert fit_weights(texts, TABLE, replace(RANKED, popularity=3.0), []).popularity == 0.0

    def test_texts_without_gold_or_against_all_scores(self) -> None:
        texts = popularity_texts(50, 0.0)
        unsaid = [replace(text, counted=np.zeros(4, bool)) for text in texts]
        with pytest.raises(DataError, match="finds no gold mention"):
            fit_weights(unsaid, TABLE, RANKED, ["popularity"])
        nothing = [replace(text, gold=np.full(4, -1)) for text in texts]
        with pytest.raises(DataError, match="finds no gold mention"):
            fit_weights(nothing, TABLE, PLAIN, [])
        with pytest.raises(DataError, match="below those of wrong ones"):
            fit_weights(popularity_texts(400, 0.0, ranked=False, scale=-2.0), TABLE, PLAIN, [])

    def test_spans_that_say_nothing_are_left_out(self) -> None:
        texts = popularity_texts(60, 0.5)
        wrong = [replace(text, gold=np.full(4, -1), counted=np.zeros(4, bool)) for text in texts]
        assert fit_weights([*texts, *wrong], TABLE, RANKED, ["popularity"]) == fit_weights(texts, TABLE, RANKED, ["popularity"])


SETTINGS = PriorTuneSettings(width=2, epochs=30, batch_size=64, learning_rate=0.03)


def meant(texts: int, *, seed: int, ranked: bool) -> list[LabelledText]:
    """Texts of four mentions whose right candidate follows from mention and graph vector alone, by a planted matrix."""
    planted = np.random.default_rng(99)
    matrix = planted.normal(size=(WIDTH, 2)) @ planted.normal(size=(2, 6))
    directions, random = TABLE.directions(), np.random.default_rng(seed)
    labelled_texts = []
    for _ in range(texts):
        rows = np.stack([np.sort(random.permutation(ENTITIES)[:5]) for _ in range(4)])
        mentions = random.normal(size=(4, WIDTH)).astype(np.float32)
        unit = mentions / np.linalg.norm(mentions, axis=1, keepdims=True)
        agreed = np.einsum("md,mkd->mk", unit @ matrix, directions[rows])
        gold = rows[np.arange(4), agreed.argmax(1)]
        scores = np.zeros((4, 5), np.float32)
        lacking = random.integers(4)
        if rows[lacking, 4] != gold[lacking]:
            scores[lacking, 4], rows[lacking, 4] = -np.inf, -1
        labelled_texts.append(LabelledText(spans(rows, scores), mentions, AsTheyAre(ENTITIES), gold, np.ones(4, bool)))
    return labelled_texts


def right(texts: Sequence[LabelledText], prior_weights: PriorWeights) -> float:
    """Share of mentions whose best candidate is the right one."""
    after = [GraphPrior(TABLE, prior_weights, text.alignment).rescore(text.spans, text.mention_vectors) for text in texts]
    return float(np.mean([(rescored.rows[:, 0] == text.gold).mean() for rescored, text in zip(after, texts, strict=True)]))


@pytest.fixture(scope="module")
def learned() -> PriorWeights:
    losses: list[float] = []
    fitted = learn_vectors(meant(300, seed=1, ranked=False), TABLE, SETTINGS, PLAIN, losses.append)
    assert len(losses) == SETTINGS.epochs
    assert losses[-1] < 0.7 * losses[0]
    return fitted


class TestVectors:
    def test_what_is_learned_holds_for_other_mentions(self, learned: PriorWeights) -> None:
        held_out = meant(150, seed=2, ranked=False)
        assert right(held_out, PLAIN) < 0.35
        assert right(held_out, learned) > 0.7
        assert (learned.text.shape, learned.graph.shape, learned.gate.shape) == ((2, WIDTH), (2, 6), (6,))
        assert learned.text.dtype == learned.graph.dtype == learned.gate.dtype == np.float32
        weighed = fit_weights(held_out, TABLE, learned, ["popularity", "vector"])
        assert weighed.vector > 0.5
        assert surprise(held_out, TABLE, weighed) < 0.7 * surprise(held_out, TABLE, PLAIN)
        assert fit_weights(held_out, TABLE, learned, ["popularity"]).vector == 0.0

    def test_vectors_of_others_are_of_no_use(self, learned: PriorWeights) -> None:
        held_out = meant(150, seed=2, ranked=False)
        assert TABLE.vectors is not None
        shuffled = replace(TABLE, vectors=TABLE.vectors[np.random.default_rng(0).permutation(ENTITIES)])
        assert fit_weights(held_out, shuffled, learned, ["vector"]).vector < 0.1

    def test_the_same_seed_learns_the_same(self) -> None:
        texts, short = meant(40, seed=1, ranked=True), SETTINGS.replace({"epochs": 2})
        one, again, other = (
            learn_vectors(texts, TABLE, short.replace({"seed": seed}), replace(RANKED, popularity=0.3)) for seed in (1, 1, 2)
        )
        assert np.array_equal(one.text, again.text)
        assert np.array_equal(one.gate, again.gate)
        assert not np.array_equal(one.text, other.text)
        assert one.popularity == 0.3
        for name in ("text", "graph", "gate", "gate_bias"):
            assert np.isfinite(getattr(one, name)).all()  # although some candidates are not there


def related(texts: int, *, useful: bool, ranked: bool, seed: int = 0) -> tuple[PriorTable, list[LabelledText]]:
    """Texts of three mentions; where it is useful the right candidates are those that the graph joins."""
    random = np.random.default_rng(seed)
    groups = np.arange(ENTITIES).reshape(-1, 3)
    edges = np.concatenate([groups[:, [0, 1]], groups[:, [1, 2]], groups[:, [0, 2]]])
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))].astype(np.int32)
    labelled_texts = []
    for _ in range(texts):
        gold = groups[random.integers(len(groups))] if useful else random.permutation(ENTITIES)[:3]
        others = np.stack([random.choice(np.setdiff1d(np.arange(ENTITIES), gold), 3, replace=False) for _ in range(3)])
        if not useful:  # what the graph joins is wrong
            others[:, 0] = groups[random.integers(len(groups))]
            gold = np.where((others == gold[:, None]).any(1), -1, gold)
        rows = np.concatenate([gold[:, None], others], 1)
        scores = random.normal(size=rows.shape) + np.array([1.0, 0, 0, 0]) + ranked
        order = np.lexsort((rows, -scores), axis=1)
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
        scores = np.where(rows < 0, -np.inf, scores)
        order = np.lexsort((rows, -scores), axis=1)
        scored = spans(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))
        labelled_texts.append(LabelledText(scored, np.ones((3, 2), np.float32), AsTheyAre(ENTITIES), gold, np.ones(3, bool)))
    return replace(TABLE, edges=edges), labelled_texts


class TestCoherence:
    @pytest.mark.parametrize("ranked", [True, False])
    def test_it_counts_where_it_is_of_use(self, ranked: bool) -> None:
        prior_table, texts = related(60, useful=True, ranked=ranked)
        fitted = fit_coherence(texts, prior_table, RANKED if ranked else PLAIN, ["cosine", "neighbours"])
        assert fitted.coherence >= 1
        assert fitted.relatedness == "neighbours"
        coherence = Coherence.from_prior(prior_table, fitted, AsTheyAre(ENTITIES))
        assert coherence is not None
        before = np.mean([text.spans.rows[:, 0] == text.gold for text in texts])
        after = np.mean([coherence.rescore(text.spans).rows[:, 0] == text.gold for text in texts])
        assert after > before + 0.1

    @pytest.mark.parametrize("ranked", [True, False])
    def test_it_counts_for_nothing_where_it_is_not(self, ranked: bool) -> None:
        prior_table, texts = related(60, useful=False, ranked=ranked)
        start = replace(RANKED if ranked else PLAIN, coherence=4.0, popularity=0.01)
        assert fit_coherence(texts, prior_table, start, ["neighbours"]) == replace(start, coherence=0.0)
        alone = [
            LabelledText(
                text.spans.select(np.array([0])), text.mention_vectors[:1], text.alignment, text.gold[:1], text.counted[:1]
            )
            for text in texts
        ]
        assert fit_coherence(alone, prior_table, start, ["neighbours"]).coherence == 0.0


def read_already(seed: int, *, ranked: bool, clear: bool = False) -> tuple[DevPredictions, list[Sample]]:
    """Texts of two words, read with scores that are higher where they are right; without doubt if ``clear``."""
    random = np.random.default_rng(seed)
    readings, samples = [], []
    for i in range(30):
        hits = random.random(2) < 0.6
        scores = np.where(hits, 1.0, -1.0) * (1 if clear else 0.7) + (0 if clear else random.normal(size=2))
        scored = spans([[3, 4], [5, 6]], [[s, s - 3] for s in scores], mentions=scores)
        gold = tuple(Mention(2 * n, 2 * n + 1, (3, 5)[n] if hit else 9) for n, hit in enumerate(hits))
        readings.append(Analysis("a b", np.array([[0, 1], [2, 3]]), scored))
        samples.append(Sample(str(i), "a b", gold if i % 4 else (*gold[:1], replace(gold[1], row=-1))))
    decoder = Decoder("probability" if ranked else "joint", Thresholds(0.0))
    return DevPredictions(decoder, samples, readings), samples


class TestCutOff:
    def test_without_doubt_it_lies_between_right_and_wrong(self) -> None:
        dev, _ = read_already(0, ranked=True, clear=True)
        cutoff, f1 = select_cutoff([dev], True)
        scores = sorted({float(link_probabilities(r.spans)[i, 0]) for r in dev.analyses for i in (0, 1)})
        assert len(scores) == 2
        assert cutoff == max(c for c in CUTOFFS if c < scores[1])  # of those that are as good, the highest
        assert scores[0] < cutoff
        assert 0.5 < f1 <= 1

    @pytest.mark.parametrize("ranked", [True, False])
    @pytest.mark.parametrize("seed", [1, 2])
    def test_no_other_is_better(self, seed: int, ranked: bool) -> None:
        dev, samples = read_already(seed, ranked=ranked)
        cutoff, f1 = select_cutoff([dev], ranked)

        def mean(threshold: float) -> float:
            (point,) = curve(dev.decoder, dev.analyses, samples, [threshold])
            return (point.point("weak", covered=True).f1 + point.point("weak", covered=False).f1) / 2

        assert f1 == pytest.approx(mean(cutoff))
        tried = CUTOFFS if ranked else [-0.1 * i for i in range(1, 60)]
        slack = F1_TOLERANCE if ranked else 0.02  # elsewhere the thresholds tried are others
        assert all(mean(threshold) <= f1 + slack for threshold in tried)
        if ranked:
            assert cutoff in CUTOFFS


# --- reading --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(6, threshold=-2.0)
    biencoder.reranker = weighing(-3.0, alias=3.0, is_fuzzy_match=3.0, dice=4.0, logit=0.02)
    return biencoder


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


def labelled(kb: KnowledgeBase) -> list[Sample]:
    samples = []
    for i, row in enumerate((0, 3, 7, 12)):
        title = kb.catalogue.title(row)
        text = f"is {title} or Oslo there?"
        mentions = (Mention(3, 3 + len(title), row), Mention(7 + len(title), 11 + len(title), -1))
        samples.append(Sample(str(i), text, mentions[: 2 - i % 2], partial=i == 3))
    return samples


@pytest.mark.parametrize("rank", [True, False])
@pytest.mark.parametrize("given_spans", [True, False])
def test_what_is_seen_is_what_a_prior_would_be_given(
    model: BiEncoder, kb: KnowledgeBase, rank: bool, given_spans: bool
) -> None:
    linker, samples = Linker(model, kb, rank=rank, precision="fp32", device="cpu"), labelled(kb)
    ids = [entity.kb_id for entity in kb.catalogue if entity.kb_id]
    prior_table, done = table(ids), list[int]()
    alignment = EntityAlignment(prior_table, kb.catalogue)
    texts = read_labelled(linker, samples, alignment, gold_spans=given_spans, progress=done.append)
    assert linker.stages.graph_prior is None
    assert done == [1] * len(samples)
    prior_weights = replace(
        PriorWeights(scorer_fingerprint(model, model.reranker if rank else None), rank), popularity=0.7, vector=2.0
    )
    random = np.random.default_rng(0)
    prior_weights = replace(
        prior_weights,
        text=random.normal(size=(2, toys.HIDDEN)).astype(np.float32),
        graph=random.normal(size=(2, 6)).astype(np.float32),
        gate=np.zeros(6, np.float32),
    )
    prior = GraphPrior(prior_table, prior_weights, alignment)
    with_prior = Linker(model, kb, rank=rank, precision="fp32", device="cpu", stages={"graph_prior": prior})
    bounds = [[(m.start, m.end) for m in s.mentions or ()] for s in samples] if given_spans else None
    minimum = -4.0 if not rank else float("-inf")
    readings = with_prior.analyze([s.text for s in samples], spans=bounds, min_mention_log_prob=minimum)
    for text, reading in zip(texts, readings, strict=True):
        after = prior.rescore(text.spans, text.mention_vectors)
        retained = np.flatnonzero(np.isin(after.start * 99 + after.end, reading.spans.start * 99 + reading.spans.end))
        assert len(retained) == len(reading.spans)
        assert np.array_equal(after.rows[retained], reading.spans.rows)
        assert np.allclose(after.entity_logits[retained], reading.spans.entity_logits, atol=1e-5)


def test_gold_is_where_it_is_said(model: BiEncoder, kb: KnowledgeBase) -> None:
    linker, samples = Linker(model, kb, precision="fp32", device="cpu"), labelled(kb)
    alignment = EntityAlignment(table(["Q101"]), kb.catalogue)
    for text, sample in zip(read_labelled(linker, samples, alignment), samples, strict=True):
        (reading,) = linker.analyze([sample.text])
        bounds = [reading.characters(*where) for where in zip(text.spans.start.tolist(), text.spans.end.tolist(), strict=True)]
        gold = {(m.start, m.end): m.row for m in sample.mentions or ()}
        assert text.gold.tolist() == [gold.get(where, -1) for where in bounds]
        assert text.counted.tolist() == [where in gold or not sample.partial for where in bounds]
        assert max(text.gold) == gold[3, min(end for _, end in gold)]
    labelled_texts = read_labelled(linker, samples, alignment, gold_spans=True)
    assert [text.gold.tolist() for text in labelled_texts] == [[m.row for m in s.mentions or ()] for s in samples]


def test_texts_in_which_nothing_is_found_are_told_from_a_fault(model: BiEncoder, kb: KnowledgeBase) -> None:
    assert model.reranker is not None
    strict = Reranker(replace(model.reranker, min_mention_log_prob=0.0))
    linker = Linker(model, kb, precision="fp32", device="cpu", stages={"reranker": strict})
    alignment = EntityAlignment(table(["Q101"]), kb.catalogue)
    texts = read_labelled(linker, labelled(kb), alignment)
    assert [len(text.spans) for text in texts] == [0, 0, 0, 0]
    with pytest.raises(DataError, match="finds no gold mention"):
        fit_weights(texts, TABLE, RANKED, ["popularity"])
    assert fit_coherence(texts, TABLE, RANKED, ["neighbours"]).coherence == 0.0


@pytest.mark.parametrize("window_length", [0, 16])
def test_long_texts_are_scored_as_by_a_linker_with_the_prior(model: BiEncoder, kb: KnowledgeBase, window_length: int) -> None:
    titles = [kb.catalogue.title(row) for row in (0, 3, 7, 12)]
    text = " ".join(f"Is {titles[i % 4]} there? Nobody knows of {titles[(i + 1) % 4]}, I think." for i in range(12))
    last = text.rindex(titles[3])
    samples = [
        Sample("long", text, (Mention(last, last + len(titles[3]), 12),)),
        Sample("empty", "", ()),
        Sample("short", f"is {titles[1]} there?", (Mention(3, 3 + len(titles[1]), 3),)),
    ]
    options = {"precision": "fp32", "device": "cpu", "window_length": window_length, "document": False}
    linker = Linker(model, kb, **options)
    windows = linker.stages.windows.inputs([TokenizedText(text, linker.stages.tokenizer.tokenize([text])[0])])
    assert len(windows[0]) > 3
    prior_table = table([entity.kb_id for entity in kb.catalogue if entity.kb_id])
    alignment = EntityAlignment(prior_table, kb.catalogue)
    texts = read_labelled(linker, samples, alignment)
    assert [sorted(set(text.gold.tolist()) - {-1}) for text in texts] == [[12], [], [3]]
    assert model.reranker is not None
    tuned = PriorWeights(scorer_fingerprint(model, model.reranker), True, popularity=0.7, coherence=4.0)
    prior = PriorStages.from_prior(prior_table, tuned, alignment)
    stages = {"graph_prior": prior.graph_prior, "coherence": prior.coherence}
    analyses = Linker(model, kb, **options, stages=stages).analyze([s.text for s in samples])
    for of_text, analysis in zip(texts, analyses, strict=True):
        rescored = of_text.with_prior(prior)
        assert rescored.span_characters() == analysis.span_characters()
        assert np.array_equal(rescored.spans.rows, analysis.spans.rows)
        assert np.allclose(rescored.spans.entity_logits, analysis.spans.entity_logits, atol=1e-5)
    assert fit_weights(texts, prior_table, tuned, ["popularity"]).scale > 0


def test_a_linker_with_a_prior_is_refused(model: BiEncoder, kb: KnowledgeBase) -> None:
    prior_table = table(["Q101"])
    alignment = EntityAlignment(prior_table, kb.catalogue)
    stages = {"graph_prior": GraphPrior(prior_table, PriorWeights("ranker-1", True, popularity=0.7), alignment)}
    with pytest.raises(SettingsError, match="open the linker without one"):
        read_labelled(Linker(model, kb, precision="fp32", device="cpu", stages=stages), labelled(kb), alignment)
