"""Ranking many windows at once: the same as one candidate at a time, whatever the order of the texts and the blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_ranking import measured
from shell_toys import weighing

from blink.data.ranges import Groups, expand
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking import ranking
from blink.linking.analysis import DetectedMentions
from blink.linking.features import FEATURES
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans
from blink.linking.surroundings import TextContext
from blink.model.biencoder import BiEncoder
from blink.model.config import FEATURE_GROUPS

OPTIONS = {"precision": "fp32", "device": "cpu"}
TEXTS = [
    "see Oslo 7 and the java the 8th",
    "",
    "where is lake garda 4",
    "Oslo 7: Georgia 0, atlanta 2 and OSLO 7; the Lake Garda 4 of Mount Elbruss 6.",
    "?!",
    "J. the 8th met georgia in Oslo. Java 8 (Java), Jaguar 3 and jaguars",
    "mount elbruss 6 mount elbrus",
]


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(11, threshold=-9.0)
    weights = {name: 0.3 for names in FEATURE_GROUPS.values() for name in names} | {"topic": 0.01, "logit": 0.02}
    biencoder.reranker = weighing(-3.0, **weights)
    return biencoder


@pytest.fixture(scope="module")
def linker(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> Linker:
    kb: KnowledgeBase = toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))
    return Linker(model, kb, threshold=0.01, **OPTIONS)


@st.composite
def windows(draw: st.DrawFn) -> tuple[ScoredSpans, DetectedMentions, TextContext]:
    """A window with spans anywhere in it, and dense candidates."""
    text = draw(st.sampled_from([text for text in TEXTS if text]))
    words = [0, *(i + 1 for i, c in enumerate(text) if c == " "), len(text) + 1]
    at = draw(st.lists(st.tuples(st.integers(0, len(words) - 2), st.integers(0, 3)), min_size=1, max_size=6, unique=True))
    tokens = sorted({(a, min(a + width, len(words) - 2)) for a, width in at})
    bounds = [(words[a], words[b + 1] - 1) for a, b in tokens]
    m, k = len(tokens), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    # Equal scores, and fewer dense candidates than columns, are cases of their own.
    rows = np.array([random.permutation(20)[:k] for _ in range(m)])
    logits = -np.sort(-random.integers(-4, 4, (m, k)).astype(np.float32), axis=1)
    missing = np.arange(k) >= random.integers(0, k + 1, m)[:, None]
    starts, ends = np.array(tokens).T
    mention_logits = random.integers(-9, 9, m).astype(np.float32)
    vectors, topics = random.normal(size=(2, m, toys.HIDDEN)).astype(np.float32)
    spans = ScoredSpans(
        starts, ends, mention_logits, np.where(missing, -1, rows), np.where(missing, -np.inf, logits).astype(np.float32)
    )
    cased = random.integers(0, 2, m).astype(bool) if any(map(str.isupper, text)) else False
    is_joined = draw(st.booleans())
    mentions = DetectedMentions(starts, ends, mention_logits, vectors, topics)
    return spans, mentions, TextContext(text, bounds, (0, len(text)), cased, is_joined)


@settings(max_examples=40, deadline=None)
@given(batch=st.lists(windows(), min_size=1, max_size=4), has_topics=st.booleans())
def test_candidates_and_features_are_those_of_one_window_at_a_time(
    batch: list[tuple[ScoredSpans, DetectedMentions, TextContext]], has_topics: bool, linker: Linker
) -> None:
    stages, names, vectors = linker.stages, linker.kb.names, linker.kb.vectors
    assert stages.featurizer is not None
    assert names is not None
    assert vectors is not None
    width = max(spans.rows.shape[1] for spans, _, _ in batch)
    some = [_widened(spans, width) for spans, _, _ in batch]
    mentions = [m if has_topics else replace(m, topics=None) for _, m, _ in batch]
    contexts = [context for _, _, context in batch]
    candidates = stages.candidates.expand(
        ScoredSpans.concatenate(some),
        DetectedMentions.concatenate(mentions),
        [string for context in contexts for string in context.strings],
    )
    features = stages.featurizer.measure(candidates, contexts)
    first = 0
    for spans, of_window, context in zip(some, mentions, contexts, strict=True):
        matrices = features.matrices(first, first + len(spans))
        first += len(spans)
        for i, expected in enumerate(measured(spans, of_window, context, names, vectors)):
            real = np.flatnonzero(matrices.spans.rows[i] >= 0)
            assert matrices.spans.rows[i, real].tolist() == [row for row, _ in expected]
            wanted = np.array([[of_row[name] for name in FEATURES] for _, of_row in expected]).reshape(-1, len(FEATURES))
            np.testing.assert_allclose(matrices.values[i, real], wanted, atol=2e-5)


def _widened(spans: ScoredSpans, width: int) -> ScoredSpans:
    added = ((0, 0), (0, width - spans.rows.shape[1]))
    rows, logits = np.pad(spans.rows, added, constant_values=-1), np.pad(spans.entity_logits, added, constant_values=-np.inf)
    return replace(spans, rows=rows, entity_logits=logits)


def test_links_do_not_depend_on_order_batches_and_blocks(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TEXTS, " ".join(TEXTS) * 12]
    alone = {text: _links(linker, [text], 64)[0] for text in texts}
    assert sum(map(len, alone.values())) > 20
    for order, size, spans_at_once in ((texts[::-1], 2, 1), (texts, 64, 3), (texts * 2, 5, 1 << 20)):
        monkeypatch.setattr(ranking, "SPANS_AT_ONCE", spans_at_once)
        assert _links(linker, order, size) == [alone[text] for text in order]


def _links(linker: Linker, texts: list[str], batch_size: int) -> list[list[tuple[int, int, int, float]]]:
    linked = linker.link(texts, batch_size=batch_size)
    return [[(x.start, x.end, x.row, round(x.score, 5)) for x in of_text.links] for of_text in linked]


@pytest.mark.quick
@given(groups=st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=6))
def test_groups_may_be_empty(groups: list[list[int]]) -> None:
    values = np.array([x for group in groups for x in group], dtype=np.float32)
    of = Groups(np.array([len(group) for group in groups], dtype=np.int64))
    assert of.max(values).tolist() == [max(group, default=-np.inf) for group in groups]
    assert of.sum(values).tolist() == [sum(group) for group in groups]
    assert of.owner.tolist() == [i for i, group in enumerate(groups) for _ in group]
    numbers, owner = expand(of.bounds[:-1] + 5, of.bounds[1:] + 5)
    assert (numbers - 5).tolist() == list(range(len(values)))
    assert np.array_equal(owner, of.owner)
