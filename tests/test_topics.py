"""Vectors of the text around mentions, and what the reranker reads of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.features import FEATURES
from blink.linking.linker import Linker
from blink.linking.mention_detector import DetectorOptions
from blink.linking.reranker import LEAST_DICE
from blink.model.biencoder import BiEncoder
from blink.model.config import FEATURE_GROUPS
from blink.model.heads import TOPIC_REACH, mean_around
from blink.model.reranker import RerankerNetwork

OPTIONS = {"precision": "fp32", "device": "cpu"}
TEXTS = ["see Oslo 7 and the java the 8th", "Oslo 7", "java the 8th or Oslo 9, " * 12]


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model(11)


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("topics"), model, toys.rows())


def network(**weights: float) -> RerankerNetwork:
    """A reranker without hidden layer: the score is the weighted sum of some features."""
    features = tuple(weights)
    weight = np.array([list(weights.values())], dtype=np.float32)
    ones = np.ones(len(features), dtype=np.float32)
    return RerankerNetwork(features, 0 * ones, ones, ((weight, np.zeros(1, dtype=np.float32)),), float("-inf"))


@pytest.mark.quick
class TestVectors:
    @settings(max_examples=25, deadline=None)
    @given(lengths=st.lists(st.integers(3, 60), min_size=1, max_size=4), data=st.data())
    def test_they_are_the_mean_of_the_tokens_around(self, lengths: list[int], data: st.DataObject) -> None:
        hidden = torch.randn(len(lengths), max(lengths), 16, generator=torch.Generator().manual_seed(len(lengths)))
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        text = data.draw(st.integers(0, len(lengths) - 1))
        start = data.draw(st.integers(1, lengths[text] - 2))
        end = data.draw(st.integers(start, lengths[text] - 2))
        (vector,) = mean_around(hidden, mask, *(torch.tensor([v]) for v in (text, start, end)))
        around = hidden[text, max(1, start - TOPIC_REACH) : min(lengths[text] - 1, end + TOPIC_REACH + 1)]
        assert torch.allclose(vector, around.mean(0), atol=1e-5)

    def test_batches_and_padding_change_nothing(self, model: BiEncoder) -> None:
        detector = toys.detector(model, DetectorOptions(topics=True))
        inputs = [[1, *e.ids.tolist()[:60], 2] for e in model.tokenizer.tokenize(TEXTS)]
        together, alone = detector.detect(inputs), [detector.detect([ids])[0] for ids in inputs]
        for a, b in zip(together, alone, strict=True):
            assert a.topics is not None
            assert b.topics is not None
            assert np.allclose(a.topics, b.topics, atol=1e-5)

    def test_requested_spans_have_those_of_proposed_ones(self, model: BiEncoder) -> None:
        detector = toys.detector(model, DetectorOptions(topics=True))
        ids = [1, *model.tokenizer.tokenize(TEXTS[:1])[0].ids.tolist(), 2]
        (proposed,) = detector.detect([ids])
        spans = list(zip(proposed.start.tolist(), proposed.end.tolist(), strict=True))
        (requested,) = detector.embed([ids], [spans])
        assert requested.topics is not None
        assert np.array_equal(requested.topics, proposed.topics)

    def test_they_cost_nothing_where_nobody_reads_them(self, model: BiEncoder) -> None:
        detector = toys.detector(model)
        (mentions,) = detector.detect([[1, *model.tokenizer.tokenize(TEXTS[:1])[0].ids.tolist(), 2]])
        assert mentions.topics is None

    def test_vectors_behind_a_layer_have_no_topics(self) -> None:
        model = toys.model(4, aggregation="all_avg_linear")
        detector = toys.detector(model, DetectorOptions(topics=True))
        (mentions,) = detector.detect([[1, *model.tokenizer.tokenize(TEXTS[:1])[0].ids.tolist(), 2]])
        assert not model.embeds_topics
        assert mentions.topics is None


class TestFeatures:
    def test_they_compare_the_text_with_each_candidate(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        assert kb.vectors is not None
        linker = Linker(model, kb, rank=False, **OPTIONS)
        (analysis,) = linker.analyze(TEXTS[:1], keep=("features",))
        assert analysis.features is not None
        column = {name: analysis.features.values[..., FEATURES.index(name)] for name in FEATURE_GROUPS["topic"]}
        real = analysis.features.spans.rows >= 0
        best = np.where(real, column["topic"], -np.inf).max(1, keepdims=True)
        behind = np.where(real, column["topic"] - best, 0).clip(-20)
        assert np.allclose(column["topic_behind_best"], behind, atol=1e-4)
        ahead = column["topic_ahead_of_next"]
        assert ((ahead > 0).sum(1) <= 1).all()
        # All spans of a short text have the same neighbours: all of its tokens.
        (ids,) = model.tokenizer.tokenize(TEXTS[:1])
        inputs = torch.tensor([[model.tokenizer.cls_id, *ids.ids.tolist(), model.tokenizer.sep_id]])
        with torch.inference_mode():
            topic = model.encode_context(inputs, torch.ones_like(inputs, dtype=torch.bool))[0, 1:-1].mean(0).numpy()
        expected = kb.vectors[analysis.features.spans.rows] @ topic
        assert np.allclose(np.where(real, column["topic"], 0), np.where(real, expected, 0), atol=1e-3)

    def test_a_reranker_decides_by_them_among_entities_of_like_names(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        linker = Linker(toys.ranked(model, network(topic=1.0)), kb, threshold=0.0, **OPTIONS)
        (analysis,) = linker.analyze(TEXTS[:1], keep=("features",))
        assert analysis.features is not None
        values = analysis.features.values
        column = {name: values[..., FEATURES.index(name)] for name in ("topic", "alias", "words_found", "initials", "dice")}
        like = sum(column[name] > 0 for name in ("alias", "words_found", "initials")) + (column["dice"] >= LEAST_DICE) > 0
        best = np.where((analysis.features.spans.rows >= 0) & like, column["topic"], -np.inf).max(1)
        assert np.isfinite(best).any()
        assert np.isneginf(best).any()
        assert np.allclose(analysis.spans.entity_logits[:, 0], best, atol=1e-4)

    def test_requested_mentions_may_be_of_any_name(self, model: BiEncoder, kb: KnowledgeBase) -> None:
        linker = Linker(toys.ranked(model, network(topic=1.0)), kb, **OPTIONS)
        assert [link.mention for link in linker("see Oslo 7", spans=[(0, 3)]).links] == ["see"]

    def test_without_the_group_no_vector_is_made(self, model: BiEncoder, kb: KnowledgeBase, tmp_path: Path) -> None:
        reads = Linker(toys.ranked(model, network(logit=1.0, topic=1.0)), kb, **OPTIONS)
        ignores = Linker(toys.ranked(model, network(logit=1.0, topic=1.0)), kb, without=["topic"], **OPTIONS)
        earlier = Linker(toys.ranked(model, network(logit=1.0)), kb, **OPTIONS)
        flags = [linker.stages.reranker.reads_topics for linker in (reads, ignores, earlier) if linker.stages.reranker]
        assert flags == [True, False, False]
        assert [x.links for x in ignores.link(TEXTS)] == [x.links for x in earlier.link(TEXTS)]
