"""Long texts in windows of whole sentences: joined texts link as they do one by one, whatever the lengths of windows;
sections of long texts, which take constant memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_linker import TEXTS, assert_same, assert_sound, link_spans

from blink.data.records import LinkedText
from blink.errors import SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking import sections as module
from blink.linking.analysis import KEEP
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


@settings(max_examples=30)
@given(
    sentences=st.permutations(
        ("He saw Oslo.", "They met Turing in Java.", "Who governed Georgia?", "Is Mercury far from Tbilisi?")
    )
)
def test_texts_that_a_line_joins_link_as_they_do_one_by_one(sentences: list[str], linker: Linker) -> None:
    questions = ("who governed georgia before turing", "we were in oslo near the ohio river 😀")
    texts = [sentences[0], questions[0], sentences[1], questions[1], *sentences[2:]]
    assert link_spans(linker(" ".join(texts))) == shifted(list(linker.link(texts)), 1)


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


# --- sections ---------------------------------------------------------------------------------------------------------------

LONG = "\n\n".join(" ".join(SENTENCES[i % 5 :] + SENTENCES[: i % 3]) for i in range(24))


@pytest.mark.parametrize("size", [700, 1500])
def test_sections_change_no_link_of_a_text_with_paragraphs(linker: Linker, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    expected = linker(LONG)
    assert_sound(expected, linker.kb)
    monkeypatch.setattr(module, "SECTION_CHARACTERS", size)
    assert_same(linker(LONG), expected)
    sections = list(linker.stream([LONG, "Oslo", LONG], batch_size=3))
    assert len(sections) > 2 * len(LONG) // size > 2
    assert [s.text for s in sections if s.is_last] == [s.text for s in sections if s.is_first] == [LONG, "Oslo", LONG]
    links = [(x.start, x.end, x.row) for section in sections for x in section.links]
    assert links == link_spans(expected) + link_spans(linker("Oslo")) + link_spans(expected)


def test_sections_make_one_analysis(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = linker.analyze([LONG], keep=("mention_vectors",))
    monkeypatch.setattr(module, "SECTION_CHARACTERS", 700)
    (analysis,) = linker.analyze([LONG], keep=KEEP)
    assert analysis.text == LONG
    assert np.array_equal(analysis.offsets, expected.offsets)
    for name in ("start", "end", "rows"):
        assert np.array_equal(getattr(analysis.spans, name), getattr(expected.spans, name))
    assert analysis.mention_vectors == pytest.approx(expected.mention_vectors, abs=1e-4)
    assert analysis.features is not None
    assert analysis.scores_before_prior is not None
    assert np.array_equal(analysis.features.spans.start, expected.spans.start)
    assert np.array_equal(analysis.scores_before_prior.end, expected.spans.end)
    assert linker.decode(analysis) == linker(LONG)


def test_modes_that_compare_all_spans_of_a_text_see_all_of_it(
    model: BiEncoder, kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    linker = Linker(model, kb, mode="top_joint_by_mention", **OPTIONS)
    expected = linker(LONG)
    assert len({link.row for link in expected.links}) == len(expected.links) > 1
    monkeypatch.setattr(module, "SECTION_CHARACTERS", 200)
    assert_same(linker(LONG), expected)


def test_windows_of_a_fixed_length_are_not_split_into_sections(
    model: BiEncoder, kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = Linker(model, kb, threshold=-12.0, window_length=0, **OPTIONS)
    expected = fixed(LONG)
    monkeypatch.setattr(module, "SECTION_CHARACTERS", 200)
    assert fixed(LONG) == expected


@pytest.mark.parametrize("text", ["x" * 900, "oslo " * 300, "\n" * 900, "中" * 900, "a\u0301" * 400])
def test_long_texts_without_boundaries(linker: Linker, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(module, "SECTION_CHARACTERS", 200)
    assert_sound(linker(text), linker.kb)


def test_long_texts_end_a_round(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_CHARACTERS", 100)
    texts = iter([LONG, "Oslo", "Turing", LONG])
    assert next(linker.link(texts)).text == LONG
    assert len(list(texts)) == 3


def test_the_command_prints_sections_as_one_object(
    linker: Linker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from blink.apps.link import print_links
    from blink.data.link_formats import LinkFormat

    texts = [LONG, "", "Oslo", " ".join(SENTENCES)]
    expected = list(linker.link(texts))
    monkeypatch.setattr(module, "SECTION_CHARACTERS", 700)
    counts: list[int] = []
    print_links(linker.stream(texts), LinkFormat("json"), counts.append)
    assert sum(counts) == len(texts)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["text"] for r in records] == texts
    assert [[x["start"] for x in r["links"]] for r in records] == [[x.start for x in e.links] for e in expected]
    print_links(linker.stream(texts), LinkFormat())
    out = capsys.readouterr().out
    assert out.count(" -> ") == sum(len(e.links) for e in expected)
    assert out.count("no links") == sum(not e.links for e in expected)


@pytest.mark.slow
def test_a_line_of_many_megabytes_takes_constant_memory(model: BiEncoder, kb: KnowledgeBase, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    paragraph = " ".join(f"{s} Number {i}." for i, s in enumerate(SENTENCES)) + " "
    peaks = []
    for megabytes in (1, 6):
        file = tmp_path / f"{megabytes}.txt"
        file.write_text(paragraph * (megabytes * 1_000_000 // len(paragraph)) + "\n")
        arguments = ["link", "--file", str(file), "--json", "--model", str(tmp_path / "model"), "--precision", "fp32"]
        command = [
            sys.executable,
            "-m",
            "blink.apps.cli",
            *arguments,
            "--kb",
            str(kb.catalogue.path.parent),
            "--threshold",
            "-1",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1024)
    # The line as bytes, as a string and as JSON are 15 MB more; tokens and scores of all of it would be hundreds.
    assert peaks[1] - peaks[0] < 40
