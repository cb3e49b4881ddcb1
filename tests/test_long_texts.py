"""Long texts in windows of whole sentences: joined texts link as they do one by one, whatever the lengths of windows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_linker import TEXTS, assert_same, assert_sound, link_spans

from blink.data.records import LinkedText
from blink.errors import SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from tests import toys

OPTIONS = {"precision": "fp32", "device": "cpu"}
SENTENCES = (
    "Who governed Georgia before Atlanta burned?",
    "Turing saw the Ohio River, Lake Garda and Mount Elbrus.",
    "Oslo!",
    "Mercury and Java are far from Tbilisi.",
    "It was.",
)


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model(6, window_length=16)


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


@pytest.fixture(scope="module")
def linker(model: BiEncoder, kb: KnowledgeBase) -> Linker:
    """Links nearly everything: the threshold is low."""
    return Linker(model, kb, threshold=-12.0, **OPTIONS)


def shifted(linked: list[LinkedText], gap: int) -> list[tuple[int, int, int]]:
    """The links of texts as those of one text, in which ``gap`` characters separate them."""
    spans, at = [], 0
    for one in linked:
        spans += [(start + at, end + at, row) for start, end, row in link_spans(one)]
        at += len(one.text) + gap
    return spans


@settings(max_examples=30)
@given(paragraphs=st.lists(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=5).map(" ".join), max_size=5))
def test_paragraphs_link_as_they_do_one_by_one(paragraphs: list[str], linker: Linker) -> None:
    together = linker("\n\n".join(paragraphs))
    assert_sound(together, linker.kb)
    assert link_spans(together) == shifted(list(linker.link(paragraphs)), 2)


def test_sentences_longer_than_half_a_window_link_as_they_do_one_by_one(linker: Linker) -> None:
    sentences = [SENTENCES[1], SENTENCES[3]] * 20  # 14 and 8 tokens: no window holds two
    assert len(linker(" ".join(sentences)).links) > 40
    assert link_spans(linker(" ".join(sentences))) == shifted(list(linker.link(sentences)), 1)


def test_texts_of_one_window_link_the_same_in_windows_of_any_kind(model: BiEncoder, kb: KnowledgeBase, linker: Linker) -> None:
    fixed = Linker(model, kb, threshold=-12.0, window_length=0, **OPTIONS)
    assert fixed.stages.windows.target is None
    short = ["Who governed Georgia before Atlanta burned?", "", " \n ", "Oslo", "It was. It is."]
    for one, other in zip(linker.link(short), fixed.link(short), strict=True):
        assert_same(one, other)
    assert link_spans(linker(TEXTS[4])) != link_spans(fixed(TEXTS[4]))


@pytest.mark.parametrize("context_length", [3, 8, 20, toys.POSITIONS])
@pytest.mark.parametrize("window_length", [3, 8, 500])
def test_any_lengths_work(model: BiEncoder, kb: KnowledgeBase, context_length: int, window_length: int) -> None:
    lengths = {"context_length": context_length, "window_length": window_length}
    linker = Linker(model, kb, threshold=-15.0, **lengths, **OPTIONS)
    texts = [*TEXTS, "\n\n".join(SENTENCES), "a\nb;\n" * 60, "\n" * 50, "\r\n Oslo \r\n \r\n"]
    for linked, one_by_one in zip(linker.link(texts, batch_size=3), map(linker, texts), strict=True):
        assert_sound(linked, kb)
        assert_same(linked, one_by_one)


@pytest.mark.parametrize("length", [-1, 1, 2])
def test_windows_without_room_are_refused(model: BiEncoder, kb: KnowledgeBase, length: int) -> None:
    with pytest.raises(SettingsError, match=f"window_length is {length}; it must be at least 3"):
        Linker(model, kb, window_length=length)
    with pytest.raises(SettingsError, match=f"window_length is {length}; it must be at least 3"):
        ModelConfig(window_length=length)


def test_models_of_earlier_versions_have_windows_of_a_fixed_length(model: BiEncoder) -> None:
    assert ModelConfig.from_dict({"max_context_length": 32}).window_length == 0
    assert ModelConfig.from_dict(model.config.to_dict()).window_length == 16
