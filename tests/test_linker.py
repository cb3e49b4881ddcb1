"""The linker on a toy model: offsets of the caller's string, results that do not depend on batches or neighbours, long
texts, given spans, thresholds, and pairs that do not belong together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Link, LinkedText
from blink.errors import CheckpointError, DataError, MismatchError, MissingFileError, SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking import linker as module
from blink.linking import windows as windows_module
from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker
from blink.linking.mention_detector import DetectorOptions
from blink.model.biencoder import BiEncoder
from tests import toys

SEED = 6
"""Seed of a toy model that links to many rows."""

TEXTS = [
    "Who governed Georgia before Atlanta burned?",
    "the ohio river, the lake garda and mount elbrus",
    "",
    "Turing!",
    "Java or Mercury? Oslo. " * 30,
    "   \n\t ",
    "Tbilisi is in Georgia, Atlanta is in Georgia",
    "x " * 200,
]
"""Among them empty ones and ones that need several windows."""


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model(SEED)


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


@pytest.fixture(scope="module")
def linker(model: BiEncoder, kb: KnowledgeBase) -> Linker:
    """Links nearly everything: the threshold is low."""
    return Linker(model, kb, threshold=-12.0, precision="fp32", device="cpu")


def link_spans(linked: LinkedText) -> list[tuple[int, int, int]]:
    return [(link.start, link.end, link.row) for link in linked.links]


def assert_same(one: LinkedText, other: LinkedText) -> None:
    """The same links with the same candidates; scores as exact as sums in single precision are."""
    assert one.text == other.text
    assert link_spans(one) == link_spans(other)
    for a, b in zip(one.links, other.links, strict=True):
        assert [c.score for c in a.candidates] == pytest.approx([c.score for c in b.candidates], abs=1e-4)


def assert_sound(linked: LinkedText, kb: KnowledgeBase) -> None:
    """What holds of any links found in any text."""
    end = 0
    for link in linked.links:
        assert end <= link.start < link.end <= len(linked.text)
        assert linked.text[link.start : link.end] == link.mention
        assert link.mention.strip()
        entity = kb.catalogue[link.row]
        assert (link.title, link.kb_id) == (entity.title, entity.kb_id)
        assert (link.candidates[0].row, link.candidates[0].score) == (link.row, link.score)
        assert [c.score for c in link.candidates] == sorted((c.score for c in link.candidates), reverse=True)
        assert len({c.row for c in link.candidates}) == len(link.candidates)
        end = link.end


# --- offsets --------------------------------------------------------------------------------------------------------

STRANGE = (
    "Georgia", "ohio river", " ", "\r\n", "\t", "é", "e\u0301", "\u0301", "中文", "한국어", "日本語テキスト", "🙂",
    "👩🏽\u200d🚀", "☀\ufe0f", "a\u20dd", "中\u20dd", "ﬁ", "İstanbul", "ß", "\u200b", "\xad", "\x00", "\x07", "\ufeff",
    "ا\u064eل", "½", ".", "'s", "－", "𝒳", "I'm",
)  # fmt: skip
FRAGMENTS = st.sampled_from(STRANGE)
ANY_TEXT = st.lists(FRAGMENTS | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=8).map("".join)


@settings(max_examples=150)
@given(text=ANY_TEXT)
def test_offsets_index_the_caller_s_string(text: str, linker: Linker) -> None:
    linked = linker(text)
    assert linked.text == text
    assert_sound(linked, linker.kb)


@settings(max_examples=60)
@given(text=ANY_TEXT)
def test_the_floor_never_changes_what_linking_finds(text: str, linker: Linker) -> None:
    # The floor only saves work: spans below the threshold can never be links.
    (reading,) = linker.analyze([text])
    for threshold in (-12.0, -4.0, -2.0, -0.5):
        strict = Linker(linker.model, linker.kb, threshold=threshold, precision="fp32", device="cpu")
        assert_same(strict(text), linker.decode(reading, Thresholds(threshold)))


def test_the_toy_model_links_something(linker: Linker) -> None:
    linked = list(linker.link(TEXTS))
    assert [bool(linked_text.links) for linked_text in linked] == [True, True, False, True, True, False, True, True]
    assert len({link.row for linked_text in linked for link in linked_text.links}) > 3


@pytest.mark.parametrize("text", ["", " ", "\r\n\t", "\x00\x07", "\u200b\u200d", "\u0301", "\ufeff"])
def test_texts_without_words_have_no_links(linker: Linker, text: str) -> None:
    assert linker(text) == LinkedText(text, ())
    assert linker.decode(next(linker.analyze([text]))).links == ()


def test_a_character_that_is_several_pieces_is_linked_once(linker: Linker) -> None:
    assert len(linker.model.tokenizer.tokenize(["한"])[0].ids) == 3
    linked = linker("한국어 한 국")
    assert linked.links
    assert_sound(linked, linker.kb)


def test_marks_that_combine_belong_to_the_mention(linker: Linker) -> None:
    text = "cafe\u0301 ☀\ufe0f"
    (linked,) = linker.link([text], spans=[[(0, 5), (6, 8)]])
    assert [link.mention for link in linked.links] == ["cafe\u0301", "☀\ufe0f"]
    for link in linker(text).links:
        assert link.end == len(text) or text[link.end] not in "\u0301\ufe0f"


@pytest.mark.parametrize("bad", ["a\ud800", "\udfff"])
def test_half_a_surrogate_pair_is_one_clear_error(linker: Linker, bad: str) -> None:
    with pytest.raises(DataError, match=r"text 2 holds a lone surrogate \(U\+D"):
        list(linker.link(["fine", bad]))


def test_what_is_no_text_is_one_clear_error(linker: Linker) -> None:
    with pytest.raises(DataError, match="text 2 is int, not a string"):
        list(linker.link(["fine", 3]))  # type: ignore[list-item]


# --- batches, order and streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_links_do_not_depend_on_the_batch_size(linker: Linker, batch_size: int) -> None:
    for one, other in zip(linker.link(TEXTS), linker.link(TEXTS, batch_size=batch_size), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_links_do_not_depend_on_the_neighbours(linker: Linker, seed: int) -> None:
    alone = [linker(text) for text in TEXTS]
    order = np.random.default_rng(seed).permutation(len(TEXTS) * 2) % len(TEXTS)
    for index, linked_text in zip(order, linker.link(TEXTS[i] for i in order), strict=True):
        assert_same(alone[index], linked_text)


def test_rounds_of_reading_ahead_leave_no_seam(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(linker.link(TEXTS))
    monkeypatch.setattr(module, "TEXTS_PER_ROUND", 3)
    for one, other in zip(expected, linker.link(TEXTS, batch_size=2), strict=True):
        assert_same(one, other)


def test_texts_are_read_as_they_are_needed(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXTS_PER_ROUND", 4)
    numbers_read: list[int] = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            numbers_read.append(number)
            yield f"georgia {number}"

    stream = linker.link(endless(), batch_size=2)
    assert numbers_read == []
    texts = [next(stream).text for _ in range(6)]
    assert texts == [f"georgia {number}" for number in range(6)]
    assert len(numbers_read) == 8


def test_progress_counts_every_text(linker: Linker) -> None:
    counts: list[int] = []
    list(linker.link(TEXTS, progress=counts.append))
    assert sum(counts) == len(TEXTS)


def test_no_texts_give_no_links(linker: Linker) -> None:
    assert list(linker.link([])) == []
    assert list(linker.link([], spans=[])) == []
    assert list(linker.link(["", " "], spans=[[], []])) == [LinkedText("", ()), LinkedText(" ", ())]


# --- long texts -----------------------------------------------------------------------------------------------------


def tokens(*words_at: tuple[int, str], n: int) -> str:
    """A text of ``n`` one-piece words with some of them replaced."""
    words = ["of"] * n
    for index, word in words_at:
        words[index] = word
    return " ".join(words)


def test_what_stands_far_away_changes_nothing(linker: Linker) -> None:
    head = tokens((3, "oslo"), (12, "java"), n=40)
    links = []
    for tail in (tokens((200, "mercury"), n=500), tokens((100, "turing"), n=500), "na " * 500):
        linked = linker(f"{head} {tail}")
        assert_sound(linked, linker.kb)
        # The first windows, 30 tokens each, end long before the texts differ.
        links.append(
            [(link.start, link.end, link.row, round(link.score, 3)) for link in linked.links if link.end < len(head) // 2]
        )
    assert links[0]
    assert links[0] == links[1] == links[2]


def test_every_part_of_a_long_text_is_read(linker: Linker) -> None:
    # A text that repeats itself with the step of the windows is read the same in every window but the first and last.
    step = linker.stages.windows.room - linker.stages.windows.overlap
    words = ["oslo", *["of"] * (step - 1)]
    text = " ".join(words * 12)
    linked = linker(text)
    assert_sound(linked, linker.kb)
    period = len(" ".join(words)) + 1
    outputs = [
        {(link.start % period, link.end - link.start, link.row) for link in linked.links if link.start // period == k}
        for k in range(12)
    ]
    assert outputs[3]
    assert all(output == outputs[3] for output in outputs[2:9])


def test_no_span_is_proposed_twice(linker: Linker) -> None:
    text = " ".join(itertools.islice(itertools.cycle(["oslo", "of", "java", "and", "mercury"]), 300))
    (reading,) = Linker(linker.model, linker.kb, mentions=1000, precision="fp32", device="cpu").analyze([text])
    spans = list(zip(reading.spans.start.tolist(), reading.spans.end.tolist(), strict=True))
    assert len(set(spans)) == len(spans)
    # And none is lost, across the borders of windows either.
    assert set(spans) == {(s, s + width) for s in range(300) for width in range(5) if s + width < 300}


def test_a_text_of_exactly_one_window_is_not_cut(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[int] = []
    original = windows_module.split_into_windows
    monkeypatch.setattr(windows_module, "split_into_windows", lambda *a: cuts.append(len(original(*a))) or original(*a))
    room = linker.stages.windows.room
    list(linker.link([tokens(n=room), tokens(n=room + 1)]))
    assert cuts == [1, 2]


@pytest.mark.parametrize("length", [3, 8, 20, 32, toys.POSITIONS])
def test_any_context_length_that_the_encoder_has_works(model: BiEncoder, kb: KnowledgeBase, length: int) -> None:
    linker = Linker(model, kb, threshold=-15.0, context_length=length, precision="fp32", device="cpu")
    for linked in linker.link(TEXTS):
        assert_sound(linked, kb)


@pytest.mark.parametrize("length", [-1, 0, 2, toys.POSITIONS + 1])
def test_other_context_lengths_are_refused(model: BiEncoder, kb: KnowledgeBase, length: int) -> None:
    with pytest.raises(SettingsError, match=f"context_length is {length}; this model reads 3 to 128"):
        Linker(model, kb, context_length=length)


def test_padding_never_exceeds_the_encoder_s_positions(tmp_path: Path) -> None:
    tokenizer = toys.tokenizer()
    config = toys.model(SEED).config.replace(max_context_length=29, candidate_fingerprint=None)
    biencoder = BiEncoder(config, tokenizer, context=toys.tower(1, positions=29), candidate=toys.tower(2))
    kb = toys.knowledge_base(tmp_path / "kb", biencoder, toys.rows(5))
    linked = Linker(biencoder, kb, threshold=-15.0, precision="fp32")(tokens((3, "oslo"), n=27))
    assert_sound(linked, kb)


# --- given spans ----------------------------------------------------------------------------------------------------


@st.composite
def text_with_spans(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    words = draw(st.lists(st.sampled_from(["Georgia", "ohio", "中", "한국", "e\u0301a", "🙂"]), min_size=1, max_size=60))
    text = " ".join(words)
    starts = list(itertools.accumulate((len(w) + 1 for w in words), initial=0))[:-1]
    draws = draw(st.lists(st.tuples(st.integers(0, len(words) - 1), st.integers(0, 45)), max_size=5))
    return text, [(starts[i], starts[j := min(i + n, len(words) - 1)] + len(words[j])) for i, n in draws]


@settings(max_examples=60)
@given(case=text_with_spans())
def test_given_spans_come_back_exactly(case: tuple[str, list[tuple[int, int]]], linker: Linker) -> None:
    text, spans = case
    linked = linker(text, spans=spans)
    assert [(link.start, link.end) for link in linked.links] == sorted(spans)
    for link in linked.links:
        assert link.mention == text[link.start : link.end]
        assert len(link.candidates) == 10
        assert sum(np.exp(c.score) for c in link.candidates) == pytest.approx(1, abs=1e-4)


def test_given_spans_may_overlap_and_repeat(linker: Linker) -> None:
    linked = linker("the ohio river", spans=[(4, 14), (9, 14), (4, 8), (4, 8)])
    assert [link.mention for link in linked.links] == ["ohio", "ohio", "ohio river", "river"]


def test_given_spans_are_linked_without_a_mention_head_and_whatever_the_threshold(
    model: BiEncoder, kb: KnowledgeBase, linker: Linker
) -> None:
    headless = BiEncoder(model.config.replace(mention_scorer="none"), model.tokenizer, context=model.context_encoder,
                         candidate=model.candidate_encoder).eval()  # fmt: skip
    strict = Linker(headless, kb, threshold=0.0, precision="fp32", device="cpu")
    assert_same(strict("who governed ohio", spans=[(13, 17)]), linker("who governed ohio", spans=[(13, 17)]))
    with pytest.raises(CheckpointError, match="no mention head"):
        strict("who governed ohio")


@pytest.mark.parametrize(
    ("neighbour", "in_context"), [(70, False), (84, False), (90, True), (99, True), (105, True), (120, False)]
)
def test_a_given_span_is_read_in_the_middle_of_its_context(linker: Linker, neighbour: int, in_context: bool) -> None:
    # A window holds 30 tokens: 14 or 15 on either side of the span.
    scores = []
    for text in (tokens((100, "oslo"), n=200), tokens((100, "oslo"), (neighbour, "mercury"), n=200)):
        offset = text.index("oslo")
        (link,) = linker(text, spans=[(offset, offset + 4)]).links
        scores.append([c.score for c in link.candidates])
    assert (scores[0] != pytest.approx(scores[1], abs=1e-5)) == in_context


def test_where_nothing_passes_the_floor_everything_is_kept_on_request(linker: Linker) -> None:
    detector = linker.stages.detector
    inputs = [[101, *linker.model.tokenizer.tokenize(["oslo and java"])[0].ids.tolist(), 102]]
    for keep, expected in ((False, 0), (True, 6)):
        (scored,) = detector.detect(inputs, options=DetectorOptions(min_mention_log_prob=0.0, keep_all_if_none=keep))
        assert len(scored) == expected
        assert np.isfinite(scored.logits).all()
    some = detector.detect(inputs, options=DetectorOptions())[0].logits
    minimum = float(-np.logaddexp(0, -np.sort(some)[-2:]).mean())  # between the best two
    (scored,) = detector.detect(inputs, options=DetectorOptions(min_mention_log_prob=minimum, keep_all_if_none=True))
    assert len(scored) == 1


@pytest.mark.parametrize("span", [(0, 5), (-1, 2), (2, 2), (3, 1), (4, 9)])
def test_spans_outside_the_text_are_refused(linker: Linker, span: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"span \[.*lies outside the text of 4 characters, or is empty"):
        linker("oslo", spans=[span])


def test_spans_of_nothing_are_refused(linker: Linker) -> None:
    with pytest.raises(DataError, match="holds nothing to read"):
        linker("oslo  java", spans=[(4, 6)])


def test_there_must_be_spans_for_every_text(linker: Linker) -> None:
    with pytest.raises(SettingsError, match="fewer lists of spans than texts"):
        list(linker.link(["a", "b"], spans=[[(0, 1)]]))


# --- thresholds and options -----------------------------------------------------------------------------------------


def test_the_model_s_own_threshold_is_the_default(model: BiEncoder, kb: KnowledgeBase) -> None:
    assert Linker(model, kb).thresholds.score == model.config.threshold
    assert Linker(model, kb, threshold=0.0).thresholds.score == 0.0


def test_links_score_above_the_threshold(model: BiEncoder, kb: KnowledgeBase, linker: Linker) -> None:
    scores = sorted(link.score for linked in linker.link(TEXTS) for link in linked.links)
    threshold = scores[len(scores) // 2]
    strict = Linker(model, kb, threshold=threshold, precision="fp32", device="cpu")
    link_scores = [link.score for linked in strict.link(TEXTS) for link in linked.links]
    assert link_scores
    assert min(link_scores) > threshold
    assert not [link for linked in Linker(model, kb, threshold=0.0, precision="fp32").link(TEXTS) for link in linked.links]


@pytest.mark.parametrize("entities", [1, 3, 20, 50])
def test_as_many_candidates_as_asked_for_or_as_there_are(model: BiEncoder, kb: KnowledgeBase, entities: int) -> None:
    linker = Linker(model, kb, threshold=-20.0, entities=entities, precision="fp32", device="cpu")
    links = [link for linked in linker.link(TEXTS) for link in linked.links]
    assert links
    assert {len(link.candidates) for link in links} == {min(entities, 20)}


def test_fewer_mentions_are_the_best_of_more(model: BiEncoder, kb: KnowledgeBase, linker: Linker) -> None:
    text = TEXTS[1]
    few = Linker(model, kb, mentions=3, precision="fp32", device="cpu")
    (some,), (reading,) = few.analyze([text]), linker.analyze([text])
    assert len(some.spans) == 3
    assert sorted(some.spans.mention_logits)[0] == pytest.approx(sorted(reading.spans.mention_logits)[-3], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mentions": 0}, "mentions is 0"),
        ({"entities": 0}, "entities is 0"),
        ({"mode": "all"}, "thresholding is 'all'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
    ],
)
def test_options_out_of_range_are_refused(model: BiEncoder, kb: KnowledgeBase, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Linker(model, kb, **options)


def test_a_batch_size_below_one_is_refused(linker: Linker) -> None:
    with pytest.raises(SettingsError, match="batch size is 0"):
        list(linker.link(["a"], batch_size=0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_clear_error(model: BiEncoder, kb: KnowledgeBase) -> None:
    with pytest.raises(SettingsError, match="no GPU"):
        Linker(model, kb, device="cuda")


def test_bf16_finds_much_the_same(kb: KnowledgeBase, linker: Linker) -> None:
    half = Linker(toys.model(SEED), kb, threshold=-12.0, precision="bf16", device="cpu")
    assert half.stages.detector.backend.precision == "bf16"
    for linked in half.link(TEXTS):
        assert_sound(linked, kb)
    (one,), (other,) = half.analyze(TEXTS[:1]), linker.analyze(TEXTS[:1])
    assert one.spans.mention_logits.dtype == np.float32
    shared = set(zip(one.spans.start, one.spans.end, strict=True)) & set(zip(other.spans.start, other.spans.end, strict=True))
    assert len(shared) > len(other.spans) / 2


def test_overlapping_links_only_where_the_mode_says_so(model: BiEncoder, kb: KnowledgeBase) -> None:
    every = Linker(model, kb, mode="top_entity_by_mention", mention_threshold=-100.0, precision="fp32", device="cpu")
    links = every(TEXTS[1]).links
    assert any(a.end > b.start for a, b in itertools.pairwise(links))
    assert all(link.mention == TEXTS[1][link.start : link.end] for link in links)
    with pytest.raises(SettingsError, match="needs a mention threshold"):
        Linker(model, kb, mode="top_entity_by_mention")(TEXTS[1])


# --- words ----------------------------------------------------------------------------------------------------------


def with_settings(model: BiEncoder, **changes: Any) -> BiEncoder:
    """The same weights under other settings."""
    biencoder = BiEncoder(model.config.replace(**changes), model.tokenizer, context=model.context_encoder,
                     candidate=model.candidate_encoder)  # fmt: skip
    biencoder.load_state_dict(model.state_dict())
    return biencoder.eval()


def test_whole_words_leaves_no_mention_that_begins_or_ends_inside_a_word(model: BiEncoder, kb: KnowledgeBase) -> None:
    text = "Tbilisians governed Elbrusland, antidisestablishmentarianly"
    assert any(link.end < len(text) and text[link.end].isalpha() for link in Linker(model, kb, threshold=-20.0)(text).links)
    linked = Linker(with_settings(model, whole_words=True), kb, threshold=-20.0, precision="fp32")(text)
    assert linked.links
    borders = {offset for link in linked.links for offset in (link.start, link.end)} - {0, len(text)}
    assert not [offset for offset in borders if text[offset - 1].isalpha() and text[offset].isalpha()]


# --- broken lines ---------------------------------------------------------------------------------------------------


def test_a_broken_line_of_the_catalogue_is_never_linked(model: BiEncoder, tmp_path: Path) -> None:
    lines: list[Any] = toys.rows(12)
    bad = {1, 4, 5, 9}
    for row in bad:
        lines[row] = "{" if row % 2 else ""
    kb = toys.knowledge_base(tmp_path / "kb", model, lines, skip_bad=True)
    linker = Linker(model, kb, threshold=-20.0, precision="fp32", device="cpu")
    links = [link for linked in linker.link(TEXTS) for link in linked.links]
    links += linker("who governed ohio", spans=[(13, 17), (0, 3)]).links
    assert links
    assert not {c.row for link in links for c in link.candidates} & bad
    assert all(link.title for link in links)


def test_a_given_span_with_nothing_but_broken_lines_has_no_link(model: BiEncoder, tmp_path: Path) -> None:
    kb = toys.knowledge_base(tmp_path / "kb", model, [*["{"] * 6, *[{"title": "Oslo"}] * 6], skip_bad=True)
    linker = Linker(model, kb, threshold=-20.0, entities=1, precision="fp32", device="cpu")
    links = [link for text in TEXTS[:2] for link in linker(text, spans=[(0, 3), (4, 8)]).links]
    assert all(link.row >= 6 for link in links)
    assert all(link.row >= 6 for linked in linker.link(TEXTS) for link in linked.links)


# --- pairs ----------------------------------------------------------------------------------------------------------


def test_a_saved_pair_opens_and_links_the_same(model: BiEncoder, kb: KnowledgeBase, linker: Linker, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    opened = Linker.from_pretrained(
        tmp_path / "model", kb.catalogue.path.parent, threshold=-12.0, precision="fp32", device="cpu"
    )
    for one, other in zip(linker.link(TEXTS), opened.link(TEXTS), strict=True):
        assert_same(one, other)
    with pytest.raises(MissingFileError, match="is not a knowledge base"):
        Linker.from_pretrained(tmp_path / "model", tmp_path / "no")
    with pytest.raises(MissingFileError):
        Linker.from_pretrained(tmp_path / "no", kb.catalogue.path.parent)


def test_vectors_of_another_model_are_refused(kb: KnowledgeBase, tmp_path: Path) -> None:
    toys.model(8).save_pretrained(tmp_path / "other")
    with pytest.raises(MismatchError, match="were made by another model than"):
        Linker.from_pretrained(tmp_path / "other", kb.catalogue.path.parent)


def test_vectors_of_another_size_are_refused(model: BiEncoder, tmp_path: Path) -> None:
    from blink.kb.building import build_knowledge_base

    source = toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows(4))
    build_knowledge_base(source, tmp_path / "kb", toys.letter_counts(5), model.candidate_fingerprint())
    with pytest.raises(MismatchError, match="vectors of 32 numbers, the knowledge base holds vectors of 5"):
        Linker(model, KnowledgeBase.open(tmp_path / "kb"))


@pytest.mark.parametrize("index", ["hnsw", "ivfflat"])
def test_approximate_indexes_find_the_same_in_a_small_catalogue(
    model: BiEncoder, linker: Linker, tmp_path: Path, index: str
) -> None:
    kb = toys.knowledge_base(tmp_path / "kb", model, toys.rows(20), index=index)
    other = Linker(model, kb, threshold=-12.0, precision="fp32", device="cpu")
    for one, approximate in zip(linker.link(TEXTS), other.link(TEXTS), strict=True):
        assert_same(one, approximate)


def test_links_are_what_the_json_says(linker: Linker) -> None:
    linked = linker(TEXTS[0])
    record = linked.to_json()
    assert record["text"] == TEXTS[0]
    assert [row["mention"] for row in record["links"]] == [link.mention for link in linked.links]
    assert isinstance(linked.links[0], Link)
    assert all(type(row["score"]) is float and type(row["start"]) is int and type(row["row"]) is int for row in record["links"])


def test_a_linker_leaves_the_caller_s_model_as_it_is(tmp_path: Path) -> None:
    biencoder = toys.model(SEED)
    before = {name: p.detach().clone() for name, p in biencoder.named_parameters()}
    kb = toys.knowledge_base(tmp_path / "kb", biencoder, toys.rows(5))
    rounded, exact = (Linker(biencoder, kb, threshold=-15.0, precision=p) for p in ("bf16", "fp32"))
    assert rounded("oslo").links
    assert exact("oslo").links
    for name, parameter in biencoder.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name]), name
