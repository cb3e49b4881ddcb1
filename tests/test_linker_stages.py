"""Each stage of the linker alone, left out and replaced; decoding an analysis is linking at those thresholds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from prior_toys import same, table, weights
from shell_toys import weighing

from blink.data.prior_file import Prior
from blink.errors import SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import KEEP, Analysis, TokenizedText
from blink.linking.decoder import Decoder, Thresholds
from blink.linking.features import FEATURES
from blink.linking.graph_prior import scorer_fingerprint
from blink.linking.linker import Linker
from blink.linking.mention_detector import DetectorOptions
from blink.linking.reranker import Reranker
from blink.linking.scoring import ScoredSpans, joint_scores, link_probabilities
from blink.model.biencoder import BiEncoder

OPTIONS = {"precision": "fp32", "device": "cpu"}
TEXTS = ["see Oslo 7 and the java the 8th", "", "Georgia 0, Atlanta 2 and Oslo 7; " * 12]
"""The last takes several windows."""


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(11, threshold=-9.0)
    biencoder.reranker = weighing(-3.0, alias=3.0, dice=4.0, logit=0.02)
    return biencoder


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


@pytest.fixture(scope="module")
def prior(model: BiEncoder, kb: KnowledgeBase) -> Prior:
    ids = [entity.kb_id for entity in kb.catalogue if entity.kb_id]
    scorers = [scorer_fingerprint(model, network) for network in (model.reranker, None)]
    prior_weights = [weights(s, text=toys.HIDDEN, vector=2.0, popularity=0.5, coherence=1.0, cutoff=-9.0) for s in scorers]
    return Prior(table(ids), tuple(prior_weights))


@pytest.fixture(scope="module")
def linker(model: BiEncoder, kb: KnowledgeBase, prior: Prior) -> Linker:
    return Linker(model, kb, prior=prior, **OPTIONS)


def test_each_stage_on_its_own_makes_what_the_linker_makes(linker: Linker) -> None:
    stages, text = linker.stages, TEXTS[0]
    (encoding,) = stages.tokenizer.tokenize([text])
    ((window,),) = stages.windows.inputs([TokenizedText(text, encoding)])
    (mentions,) = stages.detector.detect([window.ids], options=replace(stages.detector.options, topics=True))
    (dense,) = stages.candidates.retrieve([mentions])
    context = window.context(mentions)
    assert context.strings[0] == text[slice(*Analysis(text, encoding.offsets, dense.shift(-1)).characters(0, dense.end[0] - 1))]
    assert stages.featurizer is not None
    measured = stages.featurizer.measure(stages.candidates.expand(dense, mentions, context.strings), [context])
    features = measured.matrices()
    assert features.values.shape[2] == len(FEATURES)
    assert np.array_equal(features.spans.rows[:, :10], dense.rows)
    assert stages.reranker is not None
    reranked = stages.reranker.rerank(measured, [context], 10)
    assert stages.graph_prior is not None
    rescored = stages.graph_prior.rescore(reranked, mentions.vectors)
    assert stages.coherence is not None
    coherent = stages.coherence.rescore(rescored.shift(-1))
    (analysis,) = linker.analyze([text], keep=KEEP)
    assert same(analysis.spans, coherent)
    assert analysis.scores_before_prior is not None
    assert same(analysis.scores_before_prior, reranked.shift(-1))
    assert analysis.features is not None
    assert np.array_equal(analysis.features.values, features.values)
    assert np.array_equal(analysis.mention_vectors, mentions.vectors)  # type: ignore[arg-type]


def test_kept_outputs_are_aligned_with_the_spans_of_all_windows(linker: Linker) -> None:
    for analysis in linker.analyze(TEXTS, keep=KEEP):
        n = len(analysis.spans)
        assert analysis.mention_vectors is not None
        assert analysis.mention_vectors.shape == (n, toys.HIDDEN)
        for other in (analysis.features.spans if analysis.features else None, analysis.scores_before_prior):
            assert other is not None
            assert np.array_equal(other.start, analysis.spans.start)
            assert np.array_equal(other.end, analysis.spans.end)
    bare = next(linker.analyze(TEXTS[:1]))
    assert (bare.mention_vectors, bare.features, bare.scores_before_prior) == (None, None, None)


def test_stages_can_be_left_out(linker: Linker, model: BiEncoder, kb: KnowledgeBase, prior: Prior) -> None:
    plain = Linker(model, kb, **OPTIONS)
    without = Linker(model, kb, prior=prior, stages={"graph_prior": None, "coherence": None}, **OPTIONS)
    only_encoder = Linker(model, kb, stages={"reranker": None}, **OPTIONS)
    for texts in (TEXTS, TEXTS[::-1]):
        for one, other in zip(plain.analyze(texts), without.analyze(texts), strict=True):
            assert same(one.spans, other.spans)
        for one, other in zip(Linker(model, kb, rank=False, **OPTIONS).link(texts), only_encoder.link(texts), strict=True):
            assert one == other
    assert only_encoder.mode == "joint"


def test_stages_can_be_replaced(linker: Linker, model: BiEncoder, kb: KnowledgeBase) -> None:
    other = weighing(-1.0, title=20.0)
    replaced = Linker(model, kb, stages={"reranker": Reranker(other)}, **OPTIONS)
    (link,) = replaced("see Oslo 7", spans=[(4, 10)]).links
    assert (link.title, link.score) == ("Oslo 7", pytest.approx(1, abs=1e-4))
    assert linker.stages.reranker is not None
    assert linker.stages.reranker.network is not other
    with pytest.raises(SettingsError, match="there is no stage 'smell'; there are tokenizer, windows"):
        Linker(model, kb, stages={"smell": None}, **OPTIONS)


def test_what_cannot_be_kept_is_one_clear_line(linker: Linker, model: BiEncoder, kb: KnowledgeBase) -> None:
    with pytest.raises(SettingsError, match="cannot keep 'smell'; allowed are mention_vectors, features"):
        next(linker.analyze(TEXTS, keep=("smell",)))
    nameless = Linker(model, KnowledgeBase(kb.catalogue, kb.index), rank=False, **OPTIONS)
    with pytest.raises(SettingsError, match="needs the names of a knowledge base"):
        next(nameless.analyze(TEXTS, keep=("features",)))


def test_features_are_kept_without_a_reranker_and_change_nothing(model: BiEncoder, kb: KnowledgeBase) -> None:
    plain = Linker(model, kb, rank=False, **OPTIONS)
    for one, other in zip(plain.analyze(TEXTS), plain.analyze(TEXTS, keep=("features",)), strict=True):
        assert same(one.spans, other.spans)
        assert other.features is not None


def test_an_explanation_is_one_analysis(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    run = linker.stages.detector._run
    monkeypatch.setattr(linker.stages.detector, "_run", lambda *a: passes.append(1) or run(*a))
    linked, analysis = linker.explain(TEXTS[0])
    assert passes == [1]
    assert linked == linker.decode(analysis) == linker(TEXTS[0])
    assert analysis.features is not None


@settings(max_examples=20)
@given(
    text=st.lists(st.sampled_from(["Oslo 7", "java", "Georgia", "the", "8th", "中", ","]), max_size=12).map(" ".join),
    threshold=st.sampled_from([-9.0, -6.0, -4.0, -2.0]),
    rank=st.booleans(),
)
def test_decoding_an_analysis_is_linking_at_those_thresholds(
    text: str, threshold: float, rank: bool, model: BiEncoder, kb: KnowledgeBase, prior: Prior
) -> None:
    score = threshold if not rank else float(np.exp(threshold))
    any_threshold = Linker(model, kb, rank=rank, **OPTIONS)
    exact = Linker(model, kb, rank=rank, threshold=score, **OPTIONS)
    (analysis,) = any_threshold.analyze([text])
    decoded, linked = any_threshold.decode(analysis, Thresholds(score)), exact(text)
    assert [(x.start, x.end, x.row) for x in decoded.links] == [(x.start, x.end, x.row) for x in linked.links]
    assert [x.score for x in decoded.links] == pytest.approx([x.score for x in linked.links], abs=1e-4)


@st.composite
def analyses(draw: st.DrawFn) -> Analysis:
    m, random = draw(st.integers(0, 6)), np.random.default_rng(draw(st.integers(0, 10_000)))
    start = np.sort(random.integers(0, 10, m))
    end = np.minimum(start + random.integers(0, 3, m), 11)
    logits = -np.sort(-random.normal(size=(m, 3)).astype(np.float32) * 3, axis=1)
    spans = ScoredSpans(start, end, random.normal(size=m).astype(np.float32) * 2, random.integers(0, 9, (m, 3)), logits)
    offsets = np.array([[2 * i, 2 * i + 1] for i in range(12)])
    return Analysis("a b c d e f g h i j k l", offsets, spans)


@pytest.mark.quick
@given(analysis=analyses(), mode=st.sampled_from(["probability", "joint"]), low=st.floats(-6, 1), more=st.floats(0, 3))
def test_decoded_spans(analysis: Analysis, mode: str, low: float, more: float) -> None:
    decoder = Decoder(mode, Thresholds(low))
    few, many = decoder.decode(analysis, Thresholds(low + more)), decoder.decode(analysis)
    assert [d for d in many if d.score > low + more] == few  # a higher threshold only removes links
    assert all(a.end <= b.start for a, b in pairwise(many))
    scores = (link_probabilities if mode == "probability" else joint_scores)(analysis.spans)
    for d in many:
        assert d.score == float(scores[d.span, 0]) > low
        assert d.row == analysis.spans.rows[d.span, 0]
        assert (d.start, d.end) == analysis.characters(analysis.spans.start[d.span], analysis.spans.end[d.span])
    covered = {position for d in many for position in range(d.start, d.end)}
    for i in np.flatnonzero(scores[:, 0] > low).tolist() if len(analysis.spans) else []:
        assert covered & set(range(*analysis.characters(analysis.spans.start[i], analysis.spans.end[i])))  # it lost to another


def test_detector_options_of_a_call_hold_for_it_alone(linker: Linker) -> None:
    (encoding,) = linker.stages.tokenizer.tokenize([TEXTS[0]])
    ids = [linker.stages.tokenizer.cls_id, *encoding.ids.tolist(), linker.stages.tokenizer.sep_id]
    before = linker.stages.detector.options
    (few,) = linker.stages.detector.detect([ids], options=replace(before, mentions=2))
    (every,) = linker.stages.detector.detect([ids], options=DetectorOptions(mentions=1000))
    assert len(few) == 2 < len(every)
    assert linker.stages.detector.options is before
