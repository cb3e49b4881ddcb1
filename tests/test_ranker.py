"""The reranker: what it weighs, that it can be switched off, stored, fitted and calibrated."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import LinkedText, Mention, Sample
from blink.data.windows import split_into_windows
from blink.errors import CheckpointError, DataError, MismatchError, SettingsError
from blink.evaluation.calibration import calibration_of
from blink.evaluation.sweep import link_outcomes
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.subset import subset
from blink.linking.analysis import DetectedMentions
from blink.linking.candidates import CandidateGenerator
from blink.linking.decoder import Thresholds
from blink.linking.features import FEATURES, CandidateFeatures, CandidateFeaturizer
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans, joint_scores, link_probabilities
from blink.linking.surroundings import SURROUNDINGS, TextContext, surroundings
from blink.model.biencoder import BiEncoder
from blink.model.config import FEATURE_GROUPS
from blink.model.reranker import RANKER_FILE, RerankerNetwork, Scaling
from blink.training.fit.calibration import DevSet, calibrate
from blink.training.fit.reranker import LabelledSpans, _merged, fit_reranker, fit_scaling, label_spans, labelled_spans
from blink.training.fit.reranker_texts import LabelledTexts, SpanExtractor, TextSource
from blink.training.settings import Fold, RankSettings

TEXT = "see Oslo 7 and the java the 8th"
OPTIONS = {"precision": "fp32", "device": "cpu"}
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60)


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model(11)


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("ranked"), model, toys.rows())


def weighing(shift: float = -5.0, min_mention_log_prob: float = float("-inf"), **weights: float) -> RerankerNetwork:
    """A reranker without hidden layer: the score is the weighted sum of some features."""
    weight = np.array([[weights.get(name, 0.0) for name in FEATURES]], dtype=np.float32)
    ones = np.ones(len(FEATURES), dtype=np.float32)
    return RerankerNetwork(FEATURES, 0 * ones, ones, ((weight, np.array([shift], dtype=np.float32)),), min_mention_log_prob)


def context_of(*strings: str, is_cased: bool) -> TextContext:
    """Spans that are a text each, which are the lines of one."""
    starts = np.cumsum([0, *(len(s) + 1 for s in strings)]).tolist()
    text = "\n".join(strings)
    return TextContext(text, [(a, a + len(s)) for a, s in zip(starts, strings, strict=False)], (0, len(text)), is_cased)


def measure(
    kb: KnowledgeBase, spans: ScoredSpans, vectors: np.ndarray, context: TextContext, topics: np.ndarray | None = None
) -> CandidateFeatures:
    assert kb.names is not None
    mentions = DetectedMentions(spans.start, spans.end, spans.mention_logits, vectors, topics)
    candidates = CandidateGenerator(kb.index, 10, kb.names, kb.vectors).expand(spans, mentions, context.strings)
    return CandidateFeaturizer(kb.names).measure(candidates, [context]).matrices()


def around(context: TextContext) -> dict[str, np.ndarray]:
    """The columns of `surroundings`. *Shape:* (m,) each."""
    return dict(zip(SURROUNDINGS, surroundings([context]).T, strict=True))


def links(linked: LinkedText) -> list[tuple[int, int, int, float]]:
    return [(link.start, link.end, link.row, round(link.score, 5)) for link in linked.links]


class TestLinking:
    def test_a_mention_spelt_as_a_title_is_drawn_to_it(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        linker = Linker(toys.ranked(model, weighing(title=20.0)), kb, **OPTIONS)
        assert linker.mode == "probability"
        (link,) = linker(TEXT, spans=[(4, 10)]).links
        assert (link.title, link.score) == ("Oslo 7", pytest.approx(1, abs=1e-4))

    def test_a_misspelt_name_is_found_by_its_letters(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        (link,) = Linker(toys.ranked(model, weighing(dice=40.0)), kb, **OPTIONS)("mount elbruss 6", spans=[(0, 15)]).links
        assert link.title == "Mount Elbrus 6"

    def test_off_is_the_bi_encoder_bit_for_bit(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        off, plain = Linker(toys.ranked(model, weighing(title=9.0)), kb, rank=False, **OPTIONS), Linker(model, kb, **OPTIONS)
        assert off.mode == plain.mode == "joint"
        assert off(TEXT) == plain(TEXT)
        (one,), (other,) = off.analyze([TEXT]), plain.analyze([TEXT])
        assert np.array_equal(joint_scores(one.spans), joint_scores(other.spans))

    @settings(max_examples=25, deadline=None)
    @given(
        text=ANY_TEXT,
        title=st.sampled_from([0.0, 4.0]),
        mention=st.sampled_from([0.0, 0.5]),
        threshold=st.sampled_from([0.0, 0.4]),
    )
    def test_links_are_those_of_a_reading(
        self, text: str, title: float, mention: float, threshold: float, model: BiEncoder, kb: KnowledgeBase
    ) -> None:
        linker = Linker(toys.ranked(model, weighing(-1.0, title=title, mention=mention)), kb, threshold=threshold, **OPTIONS)
        text = f"oslo 7 {text} Java 8"
        (reading,) = linker.analyze([text])
        linked = linker(text)
        assert links(linked) == links(linker.decode(reading))
        assert all(threshold < link.score <= 1 and link.mention == text[link.start : link.end] for link in linked.links)

    def test_texts_do_not_depend_on_their_company(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        linker = Linker(toys.ranked(model, weighing(-1.0, title=3.0, logit=0.1)), kb, threshold=0.01, **OPTIONS)
        texts = [TEXT, "Georgia 0", "the lake garda 4 was calm " * 12, ""]
        alone = [links(linker(text)) for text in texts]
        for size in (1, 3):
            assert [links(x) for x in linker.link(texts, batch_size=size)] == alone

    def test_spans_below_the_floor_are_not_ranked(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        some = Linker(toys.ranked(model, weighing(min_mention_log_prob=-0.5)), kb, threshold=-1.0, **OPTIONS)
        every = Linker(toys.ranked(model, weighing()), kb, threshold=-1.0, **OPTIONS)
        (few,), (all_,) = some.analyze([TEXT]), every.analyze([TEXT])
        assert 0 < len(few.spans) < len(all_.spans)

    def test_evidence_that_is_left_out_counts_as_average(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        without = Linker(toys.ranked(model, weighing(title=20.0, alias=1.0)), kb, without=["names"], **OPTIONS)
        never = Linker(toys.ranked(model, weighing()), kb, **OPTIONS)
        (one,), (other,) = without.analyze([TEXT]), never.analyze([TEXT])
        assert np.array_equal(one.spans.entity_logits, other.spans.entity_logits)
        with pytest.raises(SettingsError, match="no feature group 'smell'; allowed are context, topic"):
            Linker(toys.ranked(model, weighing()), kb, without=["smell"], **OPTIONS)

    def test_probability_needs_a_ranker(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        with pytest.raises(SettingsError, match="needs a reranker"):
            Linker(model, kb, mode="probability", **OPTIONS)

    def test_a_ranker_of_other_evidence_is_refused(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        other = replace(weighing(), features=(*FEATURES[:-1], "smell"))
        with pytest.raises(MismatchError, match="fit it again"):
            Linker(toys.ranked(model, other), kb, **OPTIONS)


@pytest.mark.quick
class TestProbabilities:
    @given(logits=st.lists(st.floats(-40, 40), min_size=1, max_size=6))
    def test_they_and_nothing_add_up_to_one(self, logits: list[float]) -> None:
        ordered = np.sort(np.array([logits], dtype=np.float32))[:, ::-1]
        index = np.zeros(1, dtype=np.int64)
        spans = ScoredSpans(index, index, np.zeros(1, np.float32), np.zeros_like(ordered, dtype=np.int64), ordered)
        p = link_probabilities(spans)
        assert float(p.sum()) + 1 / (1 + np.exp(ordered.astype(float)).sum()) == pytest.approx(1, abs=1e-5)
        assert (np.diff(p) <= 0).all()

    def test_no_entity_has_no_probability(self) -> None:
        none = ScoredSpans.none(3)
        assert link_probabilities(none).shape == (0, 3)


class TestEvidence:
    def test_what_is_measured(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        assert kb.names is not None
        assert kb.vectors is not None
        (reading,) = Linker(model, kb, **OPTIONS).analyze([TEXT], spans=[[(4, 10), (19, 31), (0, 3)]])
        spans = replace(reading.spans, mention_logits=np.array([1.0, 2.0, -20.0], dtype=np.float32))
        features = measure(
            kb, spans, np.ones((3, toys.HIDDEN), np.float32), context_of("Oslo 7", "java the 8th", "see", is_cased=True)
        )
        column = {name: features.values[..., i] for i, name in enumerate(FEATURES)}
        oslo = features.spans.rows[0].tolist().index(7)
        assert [column[n][0, oslo] for n in ("alias", "bare_title", "title", "is_unambiguous", "in_alias_table", "dice")] == [
            1
        ] * 6
        assert column["is_lowercase"][:, 0].tolist() == [0, 1, 1]
        assert column["mention"][:, 0].tolist() == [1, 2, -12]
        assert np.isfinite(features.values).all()
        assert features.values.shape[2] == sum(map(len, FEATURE_GROUPS.values()))

    def test_overlapping_spans_know_each_other(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        assert kb.names is not None
        assert kb.vectors is not None
        bounds = np.array([1, 1, 6]), np.array([2, 1, 6])
        spans = ScoredSpans(*bounds, np.array([3, 1, 0], np.float32), np.zeros((3, 1), np.int64), np.ones((3, 1), np.float32))
        features = measure(kb, spans, np.ones((3, toys.HIDDEN), np.float32), context_of("oslo 7", "oslo", "x", is_cased=False))
        column = {name: features.values[:, 0, i].tolist() for i, name in enumerate(FEATURES)}
        assert column["longer_name"] == [0, 1, 0]
        assert column["overlap_margin"] == [2, -2, 12]
        assert column["longer_mention"] == [12, -2, 12]

    def test_neighbours_with_capitals_show_a_longer_name(self) -> None:
        text = "Tim Cook met Ann. In Paris he saw Apple Park and NASA; then (Rome) at 7"
        spans = ("Cook", "Paris", "Apple", "Park", "NASA", "Rome", "Ann", "7")
        bounds = [(text.index(s), text.index(s) + len(s)) for s in spans]
        columns = around(TextContext(text, bounds, (0, len(text)), True))
        marked = {name: {s for s, v in zip(spans, column, strict=True) if v > 0} for name, column in columns.items()}
        assert marked["left_first_capital"] == {"Cook", "Paris"}
        assert marked["left_capital"] == {"Park"}
        assert marked["right_capital"] == {"Apple"}
        assert marked["is_first"] == set()
        assert marked["is_all_caps"] == {"NASA"}
        assert marked["capitals"] == set(spans) - {"7"}

    @pytest.mark.parametrize("text", ["Rome Rome Rome", "anti-Paris Rome", "Rome Berlin-based", "anti-Oslo Rome Paris-born"])
    def test_a_repeated_name_or_a_compound_is_no_longer_name(self, text: str) -> None:
        bounds = [m.span() for m in re.finditer("Rome", text)]
        columns = around(TextContext(text, bounds, (0, len(text)), True))
        assert not any(columns[name].any() for name in ("left_capital", "left_first_capital", "right_capital"))

    def test_the_first_word_of_a_sentence_is_known(self) -> None:
        text = 'Rome fell.\n"Oslo won," he said. Paris (Rome) lost'
        bounds = [m.span() for m in re.finditer(r"Rome|Oslo|Paris", text)]
        assert around(TextContext(text, bounds, (0, 9), True))["is_first"].tolist() == [1, 1, 1, 0]

    def test_what_another_window_reads_is_no_neighbour(self) -> None:
        text = "He sang for Tim Cook Apple Park opened"
        bounds = [(text.index(s), text.index(s) + len(s)) for s in ("Cook", "Apple")]
        whole = around(TextContext(text, bounds, (0, len(text)), True))
        assert whole["right_capital"].tolist() == [1, 1]
        assert whole["left_capital"].tolist() == [1, 1]
        assert not whole["is_first"].any()
        windows = [(0, bounds[0][1]), (bounds[1][0], len(text))]
        apart = [around(TextContext(text, [b], w, True)) for b, w in zip(bounds, windows, strict=True)]
        assert [c["right_capital"].item() for c in apart] == [0, 1]
        assert [c["left_capital"].item() for c in apart] == [1, 0]
        assert [c["is_first"].item() for c in apart] == [0, 1]

    @pytest.mark.parametrize(("text", "is_longer"), [("Rome Turn left here", 0), ("Rome Ann's cat", 0), ("Rome Hills Inn", 1)])
    def test_a_text_may_begin_behind_a_span_where_texts_are_joined(self, text: str, is_longer: int) -> None:
        one, joined = (TextContext(text, [(0, 4)], (0, len(text)), True, is_joined) for is_joined in (False, True))
        assert around(one)["right_capital"].item() == 1
        assert around(joined)["right_capital"].item() == is_longer

    @given(text=st.text(max_size=60), data=st.data())
    def test_any_span_of_any_text_hasaround(self, text: str, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(text)))
        bounds = [(start, data.draw(st.integers(start, len(text))))]
        for column in around(TextContext(text, bounds, (0, len(text)), any(map(str.isupper, text)))).values():
            assert column.shape == (1,)
            assert np.isfinite(column).all()


@pytest.mark.quick
class TestStored:
    def test_it_survives_being_stored(self, tmp_path: Path) -> None:
        network = weighing(title=2.0, min_mention_log_prob=-4.0).scaled(Scaling(1.5, -0.25))
        network.save(tmp_path)
        read = RerankerNetwork.load(tmp_path)
        assert read is not None
        x = np.random.default_rng(0).normal(size=(2, 3, len(FEATURES))).astype(np.float32)
        real = np.array([[True, True, False], [True, False, False]])
        assert np.array_equal(network.scores(x, real), read.scores(x, real))
        assert (read.min_mention_log_prob, read.scaling) == (-4.0, Scaling(1.5, -0.25))
        assert np.isneginf(read.scores(x, real)[~real]).all()

    def test_no_file_is_no_ranker(self, tmp_path: Path) -> None:
        assert RerankerNetwork.load(tmp_path) is None

    @pytest.mark.parametrize("keep", [0, 10, 200])
    def test_a_damaged_file_is_one_line(self, tmp_path: Path, keep: int) -> None:
        weighing().save(tmp_path)
        content = (tmp_path / RANKER_FILE).read_bytes()
        (tmp_path / RANKER_FILE).write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match="copy the model folder again"):
            RerankerNetwork.load(tmp_path)

    def test_layers_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        replace(weighing(), features=FEATURES[:-1]).save(tmp_path)
        with pytest.raises(CheckpointError, match="layers have shapes"):
            RerankerNetwork.load(tmp_path)

    @pytest.mark.parametrize("name", ["mean", "spread"])
    @pytest.mark.parametrize("shape", [(1,), (len(FEATURES) + 1,), (1, len(FEATURES))])
    def test_averages_that_do_not_fit_are_refused(self, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
        replace(weighing(), **{name: np.ones(shape, dtype=np.float32)}).save(tmp_path)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match=f"its {name} has shape"):
            RerankerNetwork.load(tmp_path)

    def test_a_saved_model_brings_its_own_or_none(self, tmp_path: Path) -> None:
        one = toys.model(3)
        one.reranker = weighing()
        one.save_pretrained(tmp_path)
        assert BiEncoder.from_pretrained(tmp_path).reranker is not None
        one.reranker = None
        one.save_pretrained(tmp_path)
        assert BiEncoder.from_pretrained(tmp_path).reranker is None


def separable(n: int = 400, seed: int = 0) -> LabelledSpans:
    """Spans whose right candidate has a title match; without one, none is right."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 4, len(FEATURES))).astype(np.float32)
    target = random.integers(-1, 4, n)
    title = FEATURES.index("title")
    features[..., title] = 0
    features[np.arange(n)[target >= 0], target[target >= 0], title] = 1
    return LabelledSpans(features, np.ones((n, 4), dtype=bool), target)


def probabilities(reranker: RerankerNetwork, spans: LabelledSpans) -> np.ndarray:
    """Of "nothing" and of each candidate."""
    scores = reranker.scores(spans.features, spans.real).astype(float)
    odds = np.exp(np.concatenate([np.zeros((len(spans), 1)), scores], axis=1))
    return np.asarray(odds / odds.sum(1, keepdims=True))


def cross_entropy(reranker: RerankerNetwork, spans: LabelledSpans) -> float:
    return float(-np.log(probabilities(reranker, spans)[np.arange(len(spans)), spans.target + 1]).mean())


@pytest.mark.quick
class TestFitting:
    settings = RankSettings(epochs=12, batch_size=32, left_out=0.0, members=1)

    def test_it_learns_what_decides(self) -> None:
        reranker = fit_reranker(separable(), self.settings)
        test = separable(seed=1)
        scores = reranker.scores(test.features, test.real)
        best = np.where(scores.max(1) > 0, scores.argmax(1), -1)
        assert (best == test.target).mean() > 0.97

    def test_the_same_seed_fits_the_same(self) -> None:
        torch.manual_seed(1)
        one = fit_reranker(separable(), self.settings)
        torch.manual_seed(2)
        two = fit_reranker(separable(), self.settings)
        assert all(np.array_equal(a, b) for x, y in zip(one.layers, two.layers, strict=True) for a, b in zip(x, y, strict=True))

    def test_members_are_averaged(self) -> None:
        random = np.random.default_rng(3)
        shapes = ((8, len(FEATURES)), (8, 8), (1, 8))
        members = [
            [(random.normal(size=s).astype(np.float32), random.normal(size=s[0]).astype(np.float32)) for s in shapes]
            for _ in range(3)
        ]
        data = separable(50)
        alone = [replace(weighing(), layers=tuple(member)).scores(data.features, data.real) for member in members]
        merged = replace(weighing(), layers=_merged(members)).scores(data.features, data.real)
        assert np.allclose(merged, np.mean(alone, axis=0), atol=1e-4)
        assert not np.allclose(merged, alone[0], atol=1)

    def test_spans_that_are_repeated_count_more(self) -> None:
        data = separable(40)
        contrary = replace(data, target=np.where(data.target >= 0, -1, 0))
        for times in ((9, 1), (1, 9)):
            both = LabelledSpans.concatenate([data.repeated(times[0]), contrary.repeated(times[1])])
            reranker = fit_reranker(both, self.settings)
            preferred, other = (data, contrary) if times[0] > times[1] else (contrary, data)
            assert cross_entropy(reranker, preferred) < cross_entropy(reranker, other)

    def test_as_many_members_are_fitted_as_were_asked_for(self) -> None:
        reranker = fit_reranker(separable(50), self.settings.replace({"epochs": 1, "hidden": 8, "members": 2}))
        first, second = np.split(reranker.layers[0][0], 2)
        assert first.shape == second.shape == (8, len(FEATURES))
        assert not np.allclose(first, second, atol=0.01)

    def test_it_is_the_network_that_was_fitted(self) -> None:
        losses: list[float] = []
        reranker = fit_reranker(separable(), self.settings.replace({"dropout": 0.0, "epochs": 8}), losses.append)
        data = separable()
        assert cross_entropy(reranker, data) == pytest.approx(losses[-1], rel=0.2)

    def test_scaling_recovers_what_was_done_to_scores(self) -> None:
        reranker, data = weighing(-1.0, title=2.0, dice=1.0), separable(4000, seed=2)
        right = probabilities(reranker, data)
        # Targets are drawn by the reranker's own probabilities.
        drawn = (np.random.default_rng(5).random((len(data), 1)) > right.cumsum(1)).sum(1).clip(max=right.shape[1] - 1)
        data = replace(data, target=drawn - 1)
        weight, bias = reranker.layers[-1]
        distorted = replace(reranker, layers=(*reranker.layers[:-1], (weight * 3, bias * 3 + 2)))
        fitted = fit_scaling(distorted, data)
        assert fitted.scale == pytest.approx(1 / 3, rel=0.1)
        assert fitted.shift == pytest.approx(-2 / 3, abs=0.1)
        restored = distorted.scaled(fitted)
        assert np.allclose(probabilities(restored, data), right, atol=0.03)
        assert cross_entropy(restored, data) < 0.9 * cross_entropy(distorted, data)
        assert cross_entropy(restored, data) <= cross_entropy(reranker, data) + 1e-4
        assert fit_scaling(restored, data) == fitted  # it is of the raw scores, whatever they were scaled by before

    def test_a_reranker_of_fewer_features_is_scaled_alike(self) -> None:
        whole, data = weighing(-1.0, title=2.0, dice=1.0), separable(400, seed=3)
        weight = np.array([[1.0, 0.0, 2.0]], dtype=np.float32)
        ones = np.ones(3, dtype=np.float32)
        layers = ((weight, np.array([-1.0], dtype=np.float32)),)
        earlier = RerankerNetwork(("dice", "is_cased", "title"), 0 * ones, ones, layers, whole.min_mention_log_prob)
        a, b = fit_scaling(earlier, data), fit_scaling(whole, data)
        assert (a.scale, a.shift) == pytest.approx((b.scale, b.shift), rel=1e-3)

    def test_texts_without_capitals_have_a_shift_of_their_own(self, tmp_path: Path) -> None:
        reranker, data = weighing(-1.0, title=2.0, dice=1.0), separable(4000, seed=2)
        cased = np.random.default_rng(3).random(len(data)) < 0.5
        data.features[..., FEATURES.index("is_cased")] = cased[:, None]
        right = probabilities(reranker.scaled(Scaling(1.0, 0.0, 1.5)), data)
        drawn = (np.random.default_rng(5).random((len(data), 1)) > right.cumsum(1)).sum(1).clip(max=right.shape[1] - 1)
        fitted = fit_scaling(reranker, replace(data, target=drawn - 1))
        assert fitted.uncased_shift == pytest.approx(1.5, abs=0.2)
        scaled = reranker.scaled(fitted)
        plain = scaled.scaled(replace(fitted, uncased_shift=0.0))
        difference = scaled.scores(data.features, data.real) - plain.scores(data.features, data.real)
        assert np.allclose(
            difference[data.real], np.where(cased, 0.0, fitted.uncased_shift).repeat(data.real.sum(1)), atol=1e-4
        )
        scaled.save(tmp_path)
        read = RerankerNetwork.load(tmp_path)
        assert read is not None
        assert read.scaling == fitted

    def test_narrow_and_wide_spans_go_together(self) -> None:
        wide = separable(10)
        narrow = LabelledSpans(wide.features[:, :2], wide.real[:, :2], np.minimum(wide.target, 1))
        both = LabelledSpans.concatenate([wide, narrow])
        assert both.features.shape == (20, 4, len(FEATURES))
        assert not both.real[10:, 2:].any()
        with pytest.raises(DataError, match="propose no span"):
            LabelledSpans.concatenate([])

    @pytest.mark.parametrize("changes", [{"epochs": 0}, {"dropout": 1.0}, {"absent": -0.1}])
    def test_settings_out_of_range_are_refused(self, changes: dict[str, float]) -> None:
        with pytest.raises(SettingsError, match=next(iter(changes))):
            RankSettings(**changes)  # type: ignore[arg-type]

    @given(n_folds=st.integers(1, 5), name=st.text(max_size=10))
    def test_every_text_is_in_one_fold(self, n_folds: int, name: str) -> None:
        assert sum(name in Fold(i, n_folds) for i in range(n_folds)) == 1


def sample(i: int, text: str, *mentions: tuple[int, int, int], partial: bool = False) -> Sample:
    return Sample(f"s{i}", text, tuple(Mention(*m) for m in mentions), partial=partial)


class TestOnTexts:
    def test_labels_are_those_of_the_gold(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        texts = [
            sample(0, "oslo 7 is old", (0, 6, 7)),
            sample(1, "java the 8th", (0, 12, -1)),
        ]
        spans = [labelled_spans(model, kb, [t], min_mention_log_prob=float("-inf")) for t in texts]
        assert (spans[0].target >= 0).sum() == 1
        index = int(np.flatnonzero(spans[0].target >= 0)[0])
        assert spans[0].features[index, spans[0].target[index], FEATURES.index("title")] == 1
        assert (spans[1].target == -1).all()

    def test_spans_that_may_be_mentions_without_a_label_are_left_out(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        text = "oslo 7 saw rome 2"  # words of one token: a span is a pair of first and last word
        whole = sample(0, text, (0, 6, 7))
        (analysis,) = Linker(model, kb, rank=False, **OPTIONS).analyze([text], keep=("features",))
        bounds = analysis.span_characters()

        def overlapping(start: int, end: int) -> int:
            return sum(a < end and start < b for a, b in bounds)

        assert len(label_spans(whole, analysis)) == len(bounds)
        partial = label_spans(replace(whole, partial=True), analysis)
        assert len(partial) == overlapping(0, 6) < len(bounds)
        assert (partial.target >= 0).sum() == 1
        unlabelled = label_spans(replace(whole, unlabelled=((11, 17),)), analysis)
        assert len(unlabelled) == len(bounds) - overlapping(11, 17)
        of_gold = label_spans(replace(whole, unlabelled=((0, 6),)), analysis)  # gold counts all the same
        assert len(of_gold) == len(bounds) - overlapping(0, 6) + 1
        assert (of_gold.target >= 0).sum() == 1

    def test_texts_of_several_windows_and_none_are_labelled(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        words = "word " * 100
        text = f"oslo 7 {words}atlanta 2 {words}"
        long = sample(1, text, (0, 6, 7), (text.index("atlanta"), text.index("atlanta") + 9, 2))
        room = model.config.max_context_length - 2
        assert len(split_into_windows(len(model.tokenizer.tokenize([text])[0].ids), room, 10)) > 1
        assert len(labelled_spans(model, kb, [sample(0, ""), long], min_mention_log_prob=float("-inf"))) > 50
        (analysis,) = Linker(model, kb, rank=False, mentions=5000, **OPTIONS).analyze([text], keep=("features",))
        spans = label_spans(long, analysis)
        title = spans.features[np.arange(len(spans)), spans.target, FEATURES.index("title")]
        assert title[spans.target >= 0].tolist() == [1, 1]

    def test_a_mention_outside_the_knowledge_base_names_nothing(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        reduced = subset(kb, [7])
        labelled = reduced.relabel(sample(0, "oslo 7 is old", (0, 6, 7)))
        spans = labelled_spans(model, reduced.base, [labelled], min_mention_log_prob=float("-inf"))
        assert (spans.target == -1).all()
        assert not spans.features[..., FEATURES.index("title")][spans.real].any()

    @pytest.mark.parametrize("share", [0.0, 0.4])
    def test_a_share_of_the_entities_is_absent(self, share: float, model: BiEncoder, kb: KnowledgeBase, tmp_path: Path) -> None:
        model.save_pretrained(tmp_path)
        names = [f"{toys.NAMES[i % 10]} {i}" for i in range(20)]
        texts = [sample(i, f"see {name}", (4, 4 + len(name), i)) for i, name in enumerate(names)]
        settings = RankSettings(absent=share, min_mention_log_prob=-1e9)

        def targets(draw: int) -> list[int]:
            extractor = SpanExtractor(tmp_path, settings, "fp32", draw=draw)
            (spans,) = extractor.extract([TextSource(kb, None)], [LabelledTexts(texts, 2)], {"questions": 3.0})
            assert spans.repeats is not None
            assert set(spans.repeats.tolist()) == {6}
            return list((spans.target >= 0).tolist())

        first = targets(0)
        assert first == targets(0)
        assert sum(first) == 20 if share == 0 else 5 <= sum(first) < 20
        assert share == 0 or first != targets(1)

    def test_a_floor_above_every_span_is_said_to_be(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        with pytest.raises(DataError, match=r"propose no span.*--min-mention-log-prob"):
            labelled_spans(model, kb, [sample(0, "oslo 7"), sample(1, "java 8")], min_mention_log_prob=0.0)

    def test_calibrating_stores_a_cut_off(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        texts = [
            sample(i, f"where is {toys.NAMES[i % 10]} {i % 20}", (9, 9 + len(f"{toys.NAMES[i % 10]} {i % 20}"), i % 20))
            for i in range(40)
        ]
        biencoder = toys.ranked(model, weighing(-2.0, title=6.0))
        calibration = calibrate(biencoder, [DevSet(kb, texts)], precision="fp32")
        assert biencoder.config.cutoff == calibration.point.threshold
        assert biencoder.reranker is not None
        assert biencoder.reranker.scaling == calibration.scaling
        assert calibration.point.f1 > 0.95
        assert 0 <= calibration.held_out.ece <= 1
        with pytest.raises(SettingsError, match="has no reranker"):
            calibrate(toys.ranked(model, None), [DevSet(kb, texts)])

    def test_calibrating_reads_once_what_each_scaling_would_have_read(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        titles = [f"{toys.NAMES[i % 10]} {i % 20}" for i in range(30)]
        # The gold of every third text is wrong, so that probabilities are far from 0 and 1.
        texts = [
            sample(i, f"where is {title}?", (9, 9 + len(title), (i + (i % 3 == 0)) % 20)) for i, title in enumerate(titles)
        ]
        reranker = weighing(-3.0, title=4.0, dice=1.0)
        steps: list[int] = []
        calibration = calibrate(toys.ranked(model, reranker), [DevSet(kb, texts)], precision="fp32", progress=steps.append)
        assert sum(steps) == len(texts)

        def fitted(samples: list[Sample]) -> BiEncoder:
            spans = labelled_spans(model, kb, samples, min_mention_log_prob=reranker.min_mention_log_prob, precision="fp32")
            return toys.ranked(model, reranker.scaled(fit_scaling(reranker, spans)))

        halves = [[s for s in texts if s.id in Fold(i, 2)] for i in (0, 1)]
        scores: list[float] = []
        right: list[bool] = []
        for half, other in (halves, halves[::-1]):
            linker = Linker(fitted(half), kb, **OPTIONS)
            more, hits = link_outcomes(
                linker.decoder, list(linker.analyze([s.text for s in other])), other, Thresholds(0.0), "strong"
            )
            scores, right = scores + more, right + hits
        slow = calibration_of(scores, right)
        assert (calibration.held_out.count, calibration.held_out.ece) == (slow.count, pytest.approx(slow.ece, abs=1e-6))
        assert calibration.held_out.brier == pytest.approx(slow.brier, abs=1e-6)
        assert 0.02 < slow.brier < 0.5
        network = fitted(texts).reranker
        assert network is not None
        assert calibration.scaling.scale == pytest.approx(network.scaling.scale, rel=1e-5)
        assert calibration.scaling.shift == pytest.approx(network.scaling.shift, abs=1e-5)


def test_the_ranker_of_an_earlier_version_selects_its_features_by_name(model: BiEncoder, kb: KnowledgeBase) -> None:
    network = weighing(-3.0, title=4.0, dice=1.0, mention=0.1)
    of_all = [FEATURES.index(name) for name in ("dice", "title", "mention")]
    (weight, bias), names = network.layers[0], tuple(FEATURES[i] for i in of_all)
    earlier = replace(
        network, features=names, mean=network.mean[of_all], spread=network.spread[of_all], layers=((weight[:, of_all], bias),)
    )
    texts = [f"who left {name} {i}?" for i, name in enumerate(toys.NAMES)]
    now, then = (list(Linker(toys.ranked(model, n), kb, without=["topic"], **OPTIONS).link(texts)) for n in (network, earlier))
    assert sum(len(text.links) for text in now) > 5
    for a, b in zip(now, then, strict=True):
        assert [(x.start, x.end, x.row) for x in a.links] == [(x.start, x.end, x.row) for x in b.links]
        assert [x.score for x in a.links] == pytest.approx([x.score for x in b.links], abs=1e-6)
    without = Linker(toys.ranked(model, earlier), kb, without=["surroundings", "spelling"], **OPTIONS)
    assert without.stages.reranker is not None
    assert without.stages.reranker.network.off == {"dice"}
