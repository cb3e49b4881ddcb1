"""Sentence boundaries: marks that end a sentence against abbreviations, lines and paragraphs; windows of whole sentences."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.sentences import LINE, PARAGRAPH, SENTENCE, TEXT, WEAK, boundaries, split_into_sections
from blink.data.windows import Window, WindowSizes, owning_windows, pack_sentences

pytestmark = pytest.mark.quick


def split(text: str, least: int = SENTENCE) -> list[str]:
    bounds = [0, *(b.at for b in boundaries(text) if b.rank >= least), len(text)]
    return [sentence for a, b in pairwise(bounds) if (sentence := text[a:b].strip())]


# --- boundaries -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentences",
    [
        ["Gandhi studied law in London.", "Later he led the marches."],
        ["Did she leave?", "Yes!", "No..."],
        ["He said: “No.”", "She left."],
        ['"Is it far?"', '"Not very."', "They walked."],
        ["The rest is known [1].", "It began in 1999.", "It ended (in Rome).", "2,000 came."],
        ["See the notes.[2]", "They are short."],
        ["Привет, мир.", "Как дела?", "Хорошо."],
        ["¿Dónde está?", "¡Aquí!", "Él se fue."],
        ["picasso was born in spain.", "he lived in france.", "who knew?"],
    ],
)
def test_sentences_end_at_their_marks(sentences: list[str]) -> None:
    assert split(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "Tolkien and C. S. Lewis met in Oxford.",
        "Dr. King met Mr. and Mrs. Smith in St. Louis.",
        "U.S. Steel, a U.K. Bank and the E.U. Commission agreed.",
        "At 5 p.m. Paris time, i.e. At noon.",
        "Am 3. Oktober war es so weit.",
        "See Fig. 3 and No. 10 Downing Street.",
        "The site example.com Has 3.5 Million users.",
        "He asked... but nobody knew.",
    ],
)
def test_abbreviations_end_no_sentence(sentence: str) -> None:
    assert split(sentence) == [sentence]


def test_scripts_without_blanks_between_sentences() -> None:
    assert split("北京很大。上海也很大！東京は？「はい。」そうです。") == [
        "北京很大。",
        "上海也很大！",
        "東京は？",
        "「はい。」",
        "そうです。",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028"])
def test_an_empty_line_ends_a_paragraph(end: str) -> None:
    text = f"A list{end}of things{end}{end}Next{end} \t{end}Last"
    assert split(text, PARAGRAPH) == [f"A list{end}of things", "Next", "Last"]
    assert split(text, SENTENCE) == ["A list", "of things", "Next", "Last"]


WRAPPED = (
    "Some of the houses on the hill were older than the town\n"
    "itself, and nobody knew who had built them. From there one\n"
    "saw the old harbour and the bridge that leads into New\n"
    "York, where the ships used to wait for the tide."
)


def test_lines_that_are_wrapped_are_no_texts() -> None:
    ranks = [b.rank for b in boundaries(WRAPPED)]
    assert ranks == [WEAK, SENTENCE, WEAK, WEAK]
    # Two lines say less about their width.
    assert LINE not in [
        b.rank for b in boundaries("They were older than the town, and nobody of those who lived in it or in New\nYork knew.")
    ]


def test_lines_that_are_texts() -> None:
    lines = [
        "population of lagos 2023",
        "was churchill a good painter",
        "Did he win?",
        "We got tickets for it! Great",
        "UK and us",
    ]
    assert split("\n".join(lines), LINE) == lines
    assert split("\n\n".join(["\n".join(lines), WRAPPED, "\n".join(lines)]), LINE) == [*lines, WRAPPED, *lines]


@pytest.mark.parametrize("before", ["A title", "A title\nof two lines", "A title\n\nAnd another"])
def test_paragraphs_of_one_line_may_precede_others(before: str) -> None:
    assert split(f"{before}\n\n{WRAPPED}\n\nLast", LINE) == [*before.split("\n\n"), WRAPPED, "Last"]


@given(st.lists(st.sampled_from(["aB", "a b c", "\n", "\n\n", " ", "."]), max_size=20))
def test_any_lines_have_boundaries(words: list[str]) -> None:
    assert all(WEAK <= b.rank <= PARAGRAPH for b in boundaries("".join(words)))


def test_lines_of_few_words_share_a_window() -> None:
    assert {b.rank for b in boundaries("Vienna\nNew York\nMozart\nParis\n- Oslo")} == {SENTENCE}


@given(st.text(st.sampled_from("aB1 .!?;。\n\r\"')[]“”"), max_size=60))
def test_boundaries_ascend_inside_of_the_text_and_split_no_word(text: str) -> None:
    found = list(boundaries(text))
    assert [b.at for b in found] == sorted(b.at for b in found)
    for b in found:
        assert 0 < b.at < len(text.rstrip())
        assert not (text[b.at - 1].isalnum() and text[b.at].isalnum())


@pytest.mark.parametrize(
    "unit",
    [
        " ",
        ".",
        "\n",
        '."',
        "\n ",
        "a\nb c d\n",
        ".[1]",
        "。",
        ").",
        "a. b",
        " we A",
        ". a b c d E",
        "😱 a",
        " The a",
        "a a a a The a. ",
    ],
)
def test_the_time_is_linear_in_the_text(unit: str) -> None:
    began = time.process_time()
    assert sum(1 for _ in boundaries("A" + unit * 40_000 + "b")) <= 80_000
    assert time.process_time() - began < 10  # many minutes, where each run of marks is tried from each of its characters


# --- sections ---------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["One.", " Two", "\n\n", "\n", ";", " ", "long" * 9, "。"]), max_size=60).map("".join),
    st.integers(2, 40),
)
def test_sections_cover_a_text_and_end_at_its_best_boundary(text: str, size: int) -> None:
    sections = list(split_into_sections(text, size))
    assert "".join(text[a:b] for a, b in sections) == text
    assert all(a < b for a, b in sections[1:])
    assert all(b - a <= size for a, b in sections)
    for start, end in sections[:-1]:
        # Of several boundaries at one character, the highest rank counts.
        rank = {b.at: b.rank for b in sorted(boundaries(text[start : start + size]), key=lambda b: b.rank)}
        best = max((r for at, r in rank.items() if at > size // 2), default=0)
        assert rank.get(end - start, 0) == best
        blanks = [i for i in range(start + size // 2 + 1, start + size) if text[i].isspace()]
        assert best or not blanks or end == blanks[-1]


def test_a_short_text_is_one_section() -> None:
    assert list(split_into_sections("", 10)) == [(0, 0)]
    assert list(split_into_sections("One. Two.\n\n", 11)) == [(0, 11)]


# --- windows of whole sentences ---------------------------------------------------------------------------------------------


@st.composite
def packings(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray, WindowSizes]:
    """Tokens of a text, its boundaries with their ranks, and sizes of windows."""
    n, room = draw(st.integers(0, 150)), draw(st.integers(1, 30))
    bounds = sorted(draw(st.sets(st.integers(1, max(n - 1, 1)), max_size=30))) if n > 1 else []
    ranks = [draw(st.sampled_from([WEAK, SENTENCE, SENTENCE, LINE, TEXT, PARAGRAPH])) for _ in bounds]
    sizes = WindowSizes(room, draw(st.integers(1, room)), draw(st.integers(0, room - 1)))
    return n, np.array(bounds, dtype=np.int64), np.array(ranks, dtype=np.int64), sizes


@given(packings())
def test_packed_windows_cover_the_text_in_order(case: tuple[int, np.ndarray, np.ndarray, WindowSizes]) -> None:
    n, bounds, ranks, sizes = case
    windows = pack_sentences(n, bounds, ranks, sizes)
    assert {t for w in windows for t in range(w.start, w.end)} == set(range(n))
    assert all(0 < w.end - w.start <= sizes.room for w in windows)
    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(windows))


@given(packings())
def test_windows_meet_at_boundaries_and_only_long_sentences_overlap(
    case: tuple[int, np.ndarray, np.ndarray, WindowSizes],
) -> None:
    n, bounds, ranks, sizes = case
    for a, b in pairwise(pack_sentences(n, bounds, ranks, sizes)):
        if a.end == b.start and a.end in bounds:
            continue
        # A piece of something without a boundary within the room.
        assert a.end - b.start >= sizes.overlap
        assert not [x for x in bounds if a.start < x < a.end]


@given(packings())
def test_windows_do_not_run_over_paragraphs(case: tuple[int, np.ndarray, np.ndarray, WindowSizes]) -> None:
    n, bounds, ranks, sizes = case
    ends = bounds[ranks == PARAGRAPH]
    assert all(not (w.start < end < w.end) for w in pack_sentences(n, bounds, ranks, sizes) for end in ends)


@given(packings())
def test_a_window_ends_inside_a_sentence_only_where_it_must(case: tuple[int, np.ndarray, np.ndarray, WindowSizes]) -> None:
    n, bounds, ranks, sizes = case
    sentences = [0, *bounds[ranks >= SENTENCE].tolist(), n]
    for start, end in pairwise(sentences):
        if 0 < end - start <= sizes.room:
            inside = [w for w in pack_sentences(n, bounds, ranks, sizes) if w.start <= start and end <= w.end]
            assert len(inside) == 1
    # And it is not longer than the target, unless it is one sentence.
    for w in pack_sentences(n, bounds, ranks, sizes):
        assert w.end - w.start <= sizes.target or not [s for s in sentences if w.start < s < w.end]


@given(packings())
def test_windows_run_over_lines_in_short_paragraphs_alone(case: tuple[int, np.ndarray, np.ndarray, WindowSizes]) -> None:
    n, bounds, ranks, sizes = case
    lines, paragraphs = bounds[ranks >= LINE].tolist(), [0, *bounds[ranks == PARAGRAPH].tolist(), n]
    for w in pack_sentences(n, bounds, ranks, sizes):
        if any(w.start < line < w.end for line in lines):
            assert (w.start, w.end) in set(pairwise(paragraphs))
            assert w.end - w.start <= sizes.target
            assert not [t for t in bounds[ranks == TEXT] if w.start < t < w.end]


@given(packings(), st.data())
def test_what_precedes_a_paragraph_changes_none_of_its_windows(
    case: tuple[int, np.ndarray, np.ndarray, WindowSizes], data: st.DataObject
) -> None:
    n, bounds, ranks, sizes = case
    before, other_bounds, other_ranks, _ = data.draw(packings())
    alone = pack_sentences(n, bounds, ranks, sizes)
    together = pack_sentences(
        before + n,
        np.concatenate([other_bounds, np.array([before], np.int64), bounds + before]),
        np.concatenate([other_ranks, np.array([PARAGRAPH]), ranks]),
        sizes,
    )
    assert [Window(w.start - before, w.end - before) for w in together if w.start >= before] == alone


@given(packings(), st.data())
def test_a_span_within_a_sentence_lies_whole_in_its_owner(
    case: tuple[int, np.ndarray, np.ndarray, WindowSizes], data: st.DataObject
) -> None:
    n, bounds, ranks, sizes = case
    windows = pack_sentences(n, bounds, ranks, sizes)
    for start, end in pairwise([0, *bounds.tolist(), n]):
        for first in range(start, end):
            past = min(end, first + data.draw(st.integers(1, sizes.overlap + 1)))
            (owner,) = owning_windows(windows, np.array([first]), np.array([past]))
            assert windows[owner].start <= first
            assert past <= windows[owner].end


def test_packed_windows_by_hand() -> None:
    sizes = WindowSizes(10, 6, 2)

    def packed(n: int, *bounds: tuple[int, int]) -> list[tuple[int, int]]:
        at, ranks = (np.array([b[i] for b in bounds], dtype=np.int64) for i in (0, 1))
        return [(w.start, w.end) for w in pack_sentences(n, at, ranks, sizes)]

    assert packed(0) == []
    assert packed(6) == [(0, 6)]
    assert packed(6, (3, PARAGRAPH)) == [(0, 3), (3, 6)]
    assert packed(9, (2, SENTENCE), (4, SENTENCE), (7, SENTENCE)) == [(0, 4), (4, 9)]
    assert packed(10, (8, SENTENCE)) == [(0, 8), (8, 10)]  # longer than the target, within the room
    assert packed(10) == [(0, 10)]
    assert packed(14, (4, WEAK), (12, SENTENCE)) == [(0, 4), (4, 12), (12, 14)]
    assert packed(16, (14, SENTENCE)) == [(0, 10), (4, 14), (14, 16)]  # one that is longer than the room
