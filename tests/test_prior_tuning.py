"""Weighing a prior: what is planted is found, what is of no use gets nothing, and a cut-off is the best there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import toys
from prior_toys import AsTheyAre, by_row, spans, table
from shell_toys import weighing

from blink.data.prior_file import PriorTable, PriorWeights
from blink.data.records import Mention, Sample
from blink.errors import DataError, SettingsError
from blink.evaluation.sweep import Replay, curve
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.graph_prior import EntityAlignment, GraphPrior, scorer_fingerprint
from blink.linking.linker import Analysis, Linker, characters
from blink.linking.scoring import Thresholds, link_probabilities
from blink.model.biencoder import BiEncoder
from blink.training.fit.calibration import CUTOFFS
from blink.training.fit.graph_prior import (
    CAREFUL,
    SHRINK,
    DevPredictions,
    LabelledText,
    choose_cutoff,
    fit_coherence,
    fit_numbers,
    learn_vectors,
    read_labelled,
)
from blink.training.settings import WeighSettings

torch.set_num_threads(1)
ENTITIES, WIDTH = 60, 8
RANKED, PLAIN = PriorWeights("ranker-1", True), PriorWeights("encoder-1", False)
TABLE = table([f"Q{i}" for i in range(ENTITIES)], 1)


def known(
    texts: int, popularity: float, *, seed: int = 0, ranked: bool = True, scale: float = 0.7, unknown: int = 5
) -> list[LabelledText]:
    """Texts of four mentions whose right candidate, or "nothing", is drawn by scores and how well known candidates are."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(texts):
        rows = np.stack([random.permutation(ENTITIES + unknown)[:5] for _ in range(4)])  # some the graph lacks
        scores = random.normal(size=(4, 5)).astype(np.float32) * 2 - 2 * ranked
        scores[0, 4], rows[0, 4] = -np.inf, -1
        degrees = np.append(TABLE.degrees, np.zeros(6))[rows.clip(max=ENTITIES)] * (rows >= 0)
        logits = scale * scores + popularity * np.log1p(degrees) - 2 * popularity * ranked
        logits = np.concatenate([logits, np.full((4, 1), 0.0 if ranked else -np.inf)], 1)
        chosen = (logits + random.gumbel(size=logits.shape)).argmax(1)
        gold = np.where(chosen < 5, rows[np.arange(4), chosen.clip(max=4)], -1)
        order = np.lexsort((rows, -scores), axis=1)
        made = spans(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))
        mentions = random.normal(size=(4, WIDTH)).astype(np.float32)
        found.append(LabelledText(made, mentions, AsTheyAre(ENTITIES), gold, np.ones(4, bool)))
    return found


def surprise(texts: Sequence[LabelledText], made: PriorTable, how: PriorWeights) -> float:
    """Mean of -log p of what mentions name, by the prior as a linker adds it."""
    total, count = 0.0, 0
    for text in texts:
        after = by_row(GraphPrior(made, how, text.joined).rescore(text.spans, text.mentions))
        for scores, gold in zip(after, text.gold.tolist(), strict=True):
            if how.ranked or gold in scores:
                of = [*([0.0] if how.ranked else []), *scores.values()]
                total += math.log(sum(map(math.exp, of))) - scores.get(gold, 0.0)
                count += 1
    return total / count


class TestNumbers:
    @pytest.mark.parametrize("ranked", [True, False])
    def test_what_is_planted_is_found(self, ranked: bool) -> None:
        found = fit_numbers(known(800, 0.6, ranked=ranked), TABLE, RANKED if ranked else PLAIN, ["popularity"])
        assert found.popularity == pytest.approx(0.6, abs=0.08)
        assert found.scale == pytest.approx(0.7, abs=0.08)
        assert found.shift == (pytest.approx(-1.2, abs=0.25) if ranked else 0.0)
        assert (found.vector, found.coherence) == (0.0, 0.0)

    @pytest.mark.parametrize("ranked", [True, False])
    def test_nothing_near_is_likelier(self, ranked: bool) -> None:
        texts, start = known(100, 0.4, ranked=ranked), RANKED if ranked else PLAIN
        found = fit_numbers(texts, TABLE, start, ["popularity"])

        def cost(how: PriorWeights) -> float:
            far = (how.scale - 1) ** 2 + how.shift**2 + how.popularity**2
            return surprise(texts, TABLE, how) + SHRINK * far

        least = cost(found)
        for name in ("scale", "popularity", *(["shift"] if ranked else [])):
            for step in (-0.05, 0.05):
                assert cost(replace(found, **{name: getattr(found, name) + step})) > least

    def test_what_is_not_so_counts_for_nothing(self) -> None:
        # Of entities in the graph alone: which it lacks is no secret, however its degrees are dealt out.
        texts = known(800, 0.6, unknown=0)
        order = np.random.default_rng(5).permutation(ENTITIES)
        shuffled = fit_numbers(texts, replace(TABLE, degrees=TABLE.degrees[order]), RANKED, ["popularity"])
        assert 0 <= shuffled.popularity < 0.12
        assert fit_numbers(texts, TABLE, RANKED, ["popularity"]).popularity > 0.5
        against = fit_numbers(known(400, -0.6), TABLE, RANKED, ["popularity"])
        without = fit_numbers(known(400, -0.6), TABLE, RANKED, [])
        assert against.popularity == 0.0
        assert (against.scale, against.shift) == (without.scale, without.shift)
        assert fit_numbers(texts, TABLE, replace(RANKED, popularity=3.0), []).popularity == 0.0

    def test_texts_without_gold_or_against_all_scores(self) -> None:
        texts = known(50, 0.0)
        unsaid = [replace(text, kept=np.zeros(4, bool)) for text in texts]
        with pytest.raises(DataError, match="finds no gold mention"):
            fit_numbers(unsaid, TABLE, RANKED, ["popularity"])
        nothing = [replace(text, gold=np.full(4, -1)) for text in texts]
        with pytest.raises(DataError, match="finds no gold mention"):
            fit_numbers(nothing, TABLE, PLAIN, [])
        with pytest.raises(DataError, match="below those of wrong ones"):
            fit_numbers(known(400, 0.0, ranked=False, scale=-2.0), TABLE, PLAIN, [])

    def test_spans_that_say_nothing_are_left_out(self) -> None:
        texts = known(60, 0.5)
        wrong = [replace(text, gold=np.full(4, -1), kept=np.zeros(4, bool)) for text in texts]
        assert fit_numbers([*texts, *wrong], TABLE, RANKED, ["popularity"]) == fit_numbers(texts, TABLE, RANKED, ["popularity"])


SETTINGS = WeighSettings(width=2, epochs=30, batch_size=64, learning_rate=0.03)


def meant(texts: int, *, seed: int, ranked: bool) -> list[LabelledText]:
    """Texts of four mentions whose right candidate follows from mention and graph vector alone, by a planted matrix."""
    planted = np.random.default_rng(99)
    matrix = planted.normal(size=(WIDTH, 2)) @ planted.normal(size=(2, 6))
    directions, random = TABLE.directions(), np.random.default_rng(seed)
    found = []
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
        found.append(LabelledText(spans(rows, scores), mentions, AsTheyAre(ENTITIES), gold, np.ones(4, bool)))
    return found


def right(texts: Sequence[LabelledText], how: PriorWeights) -> float:
    """Share of mentions whose best candidate is the right one."""
    after = [GraphPrior(TABLE, how, text.joined).rescore(text.spans, text.mentions) for text in texts]
    return float(np.mean([(each.rows[:, 0] == text.gold).mean() for each, text in zip(after, texts, strict=True)]))


@pytest.fixture(scope="module")
def learned() -> PriorWeights:
    losses: list[float] = []
    found = learn_vectors(meant(300, seed=1, ranked=False), TABLE, SETTINGS, PLAIN, losses.append)
    assert len(losses) == SETTINGS.epochs
    assert losses[-1] < 0.7 * losses[0]
    return found


class TestVectors:
    def test_what_is_learned_holds_for_other_mentions(self, learned: PriorWeights) -> None:
        held_out = meant(150, seed=2, ranked=False)
        assert right(held_out, PLAIN) < 0.35
        assert right(held_out, learned) > 0.7
        assert (learned.text.shape, learned.graph.shape, learned.gate.shape) == ((2, WIDTH), (2, 6), (6,))
        assert learned.text.dtype == learned.graph.dtype == learned.gate.dtype == np.float32
        weighed = fit_numbers(held_out, TABLE, learned, ["popularity", "vector"])
        assert weighed.vector > 0.5
        assert surprise(held_out, TABLE, weighed) < 0.7 * surprise(held_out, TABLE, PLAIN)
        assert fit_numbers(held_out, TABLE, learned, ["popularity"]).vector == 0.0

    def test_vectors_of_others_are_of_no_use(self, learned: PriorWeights) -> None:
        held_out = meant(150, seed=2, ranked=False)
        assert TABLE.vectors is not None
        shuffled = replace(TABLE, vectors=TABLE.vectors[np.random.default_rng(0).permutation(ENTITIES)])
        assert fit_numbers(held_out, shuffled, learned, ["vector"]).vector < 0.1

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
    found = []
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
        made = spans(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))
        found.append(LabelledText(made, np.ones((3, 2), np.float32), AsTheyAre(ENTITIES), gold, np.ones(3, bool)))
    return replace(TABLE, edges=edges), found


class TestCoherence:
    @pytest.mark.parametrize("ranked", [True, False])
    def test_it_counts_where_it_is_of_use(self, ranked: bool) -> None:
        made, texts = related(60, useful=True, ranked=ranked)
        found = fit_coherence(texts, made, RANKED if ranked else PLAIN, ["cosine", "neighbours"])
        assert found.coherence >= 1
        assert found.relatedness == "neighbours"
        prior = GraphPrior(made, found, AsTheyAre(ENTITIES))
        before = np.mean([text.spans.rows[:, 0] == text.gold for text in texts])
        after = np.mean([prior.settle(text.spans).rows[:, 0] == text.gold for text in texts])
        assert after > before + 0.1

    @pytest.mark.parametrize("ranked", [True, False])
    def test_it_counts_for_nothing_where_it_is_not(self, ranked: bool) -> None:
        made, texts = related(60, useful=False, ranked=ranked)
        start = replace(RANKED if ranked else PLAIN, coherence=4.0, popularity=0.01)
        assert fit_coherence(texts, made, start, ["neighbours"]) == replace(start, coherence=0.0)
        alone = [
            LabelledText(text.spans.select(np.array([0])), text.mentions[:1], text.joined, text.gold[:1], text.kept[:1])
            for text in texts
        ]
        assert fit_coherence(alone, made, start, ["neighbours"]).coherence == 0.0


class Played(Replay):
    """A linker that has read everything already."""

    def __init__(self, mode: str, readings: Sequence[Analysis], prior: Any) -> None:
        super().__init__(mode, Thresholds(0.0))
        self.readings, self.prior = readings, prior

    def read(self, texts: Any, **options: Any) -> Iterator[Analysis]:
        assert list(texts) == [reading.text for reading in self.readings]
        yield from self.readings


def read_already(seed: int, *, ranked: bool, clear: bool = False) -> tuple[Played, list[Sample]]:
    """Texts of two words, read with scores that are higher where they are right; without doubt if ``clear``."""
    random = np.random.default_rng(seed)
    readings, samples = [], []
    for i in range(30):
        hits = random.random(2) < 0.6
        scores = np.where(hits, 1.0, -1.0) * (1 if clear else 0.7) + (0 if clear else random.normal(size=2))
        found = spans([[3, 4], [5, 6]], [[s, s - 3] for s in scores], mentions=scores)
        gold = tuple(Mention(2 * n, 2 * n + 1, (3, 5)[n] if hit else 9) for n, hit in enumerate(hits))
        readings.append(Analysis("a b", np.array([[0, 1], [2, 3]]), found))
        samples.append(Sample(str(i), "a b", gold if i % 4 else (*gold[:1], replace(gold[1], row=-1))))
    prior = GraphPrior(TABLE, RANKED if ranked else PLAIN, AsTheyAre(ENTITIES))
    return Played("probability" if ranked else "joint", readings, prior), samples


class TestCutOff:
    def test_without_doubt_it_lies_between_right_and_wrong(self) -> None:
        linker, samples = read_already(0, ranked=True, clear=True)
        cutoff, f1 = choose_cutoff([DevPredictions(linker, samples, linker.readings)], True)
        scores = sorted({float(link_probabilities(r.spans)[i, 0]) for r in linker.readings for i in (0, 1)})
        assert len(scores) == 2
        assert cutoff == max(c for c in CUTOFFS if c < scores[1])  # of those that are as good, the highest
        assert scores[0] < cutoff
        assert 0.5 < f1 <= 1

    @pytest.mark.parametrize("ranked", [True, False])
    @pytest.mark.parametrize("seed", [1, 2])
    def test_no_other_is_better(self, seed: int, ranked: bool) -> None:
        linker, samples = read_already(seed, ranked=ranked)
        cutoff, f1 = choose_cutoff([DevPredictions(linker, samples, linker.readings)], ranked)

        def mean(threshold: float) -> float:
            (point,) = curve(linker, linker.readings, samples, [threshold])
            return (point.point("weak", covered=True).f1 + point.point("weak", covered=False).f1) / 2

        assert f1 == pytest.approx(mean(cutoff))
        tried = CUTOFFS if ranked else [-0.1 * i for i in range(1, 60)]
        slack = CAREFUL if ranked else 0.02  # elsewhere the thresholds tried are others
        assert all(mean(threshold) <= f1 + slack for threshold in tried)
        if ranked:
            assert cutoff in CUTOFFS


# --- reading --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    made = toys.model(6, threshold=-2.0)
    made.reranker = weighing(-3.0, alias=3.0, is_fuzzy_match=3.0, dice=4.0, logit=0.02)
    return made


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


def labelled(kb: KnowledgeBase) -> list[Sample]:
    made = []
    for i, row in enumerate((0, 3, 7, 12)):
        title = kb.catalogue.title(row)
        text = f"is {title} or Oslo there?"
        mentions = (Mention(3, 3 + len(title), row), Mention(7 + len(title), 11 + len(title), -1))
        made.append(Sample(str(i), text, mentions[: 2 - i % 2], partial=i == 3))
    return made


@pytest.mark.parametrize("rank", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_what_is_seen_is_what_a_prior_would_be_given(model: BiEncoder, kb: KnowledgeBase, rank: bool, given: bool) -> None:
    linker, samples = Linker(model, kb, rank=rank, precision="fp32", device="cpu"), labelled(kb)
    ids = [entity.kb_id for entity in kb.catalogue if entity.kb_id]
    made, done = table(ids), list[int]()
    places = EntityAlignment(made, kb.catalogue)
    seen = read_labelled(linker, samples, places, given=given, progress=done.append)
    assert linker.prior is None
    assert done == [1] * len(samples)
    how = replace(PriorWeights(scorer_fingerprint(model, model.reranker if rank else None), rank), popularity=0.7, vector=2.0)
    random = np.random.default_rng(0)
    how = replace(
        how,
        text=random.normal(size=(2, toys.HIDDEN)).astype(np.float32),
        graph=random.normal(size=(2, 6)).astype(np.float32),
        gate=np.zeros(6, np.float32),
    )
    with_prior = Linker(model, kb, rank=rank, precision="fp32", device="cpu")
    with_prior.prior = GraphPrior(made, how, places)
    bounds = [[(m.start, m.end) for m in s.mentions or ()] for s in samples] if given else None
    floor = -4.0 if not rank else float("-inf")
    for text, reading in zip(seen, with_prior.read([s.text for s in samples], spans=bounds, floor=floor), strict=True):
        after = with_prior.prior.rescore(text.spans, text.mentions)
        kept = np.flatnonzero(np.isin(after.start * 99 + after.end, reading.spans.start * 99 + reading.spans.end))
        assert len(kept) == len(reading.spans)
        assert np.array_equal(after.rows[kept], reading.spans.rows)
        assert np.allclose(after.entity_logits[kept], reading.spans.entity_logits, atol=1e-5)


def test_gold_is_where_it_is_said(model: BiEncoder, kb: KnowledgeBase) -> None:
    linker, samples = Linker(model, kb, precision="fp32", device="cpu"), labelled(kb)
    places = EntityAlignment(table(["Q101"]), kb.catalogue)
    for text, sample in zip(read_labelled(linker, samples, places), samples, strict=True):
        (reading,) = linker.read([sample.text])
        at = [characters(reading, *where) for where in zip(text.spans.start.tolist(), text.spans.end.tolist(), strict=True)]
        gold = {(m.start, m.end): m.row for m in sample.mentions or ()}
        assert text.gold.tolist() == [gold.get(where, -1) for where in at]
        assert text.kept.tolist() == [where in gold or not sample.partial for where in at]
        assert max(text.gold) == gold[3, min(end for _, end in gold)]
    found = read_labelled(linker, samples, places, given=True)
    assert [text.gold.tolist() for text in found] == [[m.row for m in s.mentions or ()] for s in samples]


def test_texts_in_which_nothing_is_found_are_told_from_a_fault(model: BiEncoder, kb: KnowledgeBase) -> None:
    assert model.reranker is not None
    linker = Linker(model, kb, precision="fp32", device="cpu")
    linker.refiner.ranker = replace(model.reranker, min_mention_log_prob=0.0)  # type: ignore[union-attr]
    places = EntityAlignment(table(["Q101"]), kb.catalogue)
    seen = read_labelled(linker, labelled(kb), places)
    assert [len(text.spans) for text in seen] == [0, 0, 0, 0]
    with pytest.raises(DataError, match="finds no gold mention"):
        fit_numbers(seen, TABLE, RANKED, ["popularity"])
    assert fit_coherence(seen, TABLE, RANKED, ["neighbours"]).coherence == 0.0


def test_long_and_empty_texts_are_refused(model: BiEncoder, kb: KnowledgeBase) -> None:
    linker = Linker(model, kb, precision="fp32", device="cpu")
    places = EntityAlignment(table(["Q101"]), kb.catalogue)
    for text in ("", "so long " * 40):
        with pytest.raises(SettingsError, match="the labelled text x is"):
            read_labelled(linker, [Sample("x", text, ())], places)
    assert linker.prior is None
