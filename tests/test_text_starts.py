"""Lines that join texts without a mark between them are split where the texts begin; other lines stay as they are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.sentences import PARAGRAPH, TEXT, boundaries
from blink.data.text_starts import CONTINUING, LEAST_WORDS, STARTING, text_starts

pytestmark = pytest.mark.quick

QUESTIONS = (
    "who was the mother of mozart",
    "how far is bonn from cologne",
    "cheap hotels in naples in may",
    "is oslo nice in winter",
)
SENTENCES = (
    "The harbour of Hamburg never sleeps.",
    "He met Ann in Rome; it rained.",
    "Where did they bury Bach?",
    "Which of them lives in Oslo?",
    "You can walk from Bonn to Cologne.",
)
CHATS = ("we are all so happy about the goal by Kane 🎉", "see you all at the Louvre tomorrow at noon 😀")
ONE_TEXT = (
    "Vienna is a city. It has two million people. Nobody knows them all, not even the mayor.",
    "He lives in the U.S. and works for Yahoo! They like it there.",
    "She said that the Who were better. Then she left with Tom.",
    "In World War I he served in France. King Charles I of Spain was older.",
    "ok so it turns out Anna bought the house and i missed the whole thing",
    "i think we should all go home now... Tom is asleep",
    "we saw them at the stadium in Turin!!! what a night it was for my brother Tom",
    "iPhone sales rose. eBay fell. van Gogh would not have cared.",
    "I ❤️ Rome. You do too.",
)


def texts_of(line: str) -> list[str]:
    bounds = [0, *(b.at for b in boundaries(line) if b.rank == TEXT), len(line)]
    return [line[a:b].strip() for a, b in pairwise(bounds)]


@pytest.mark.parametrize("line", ONE_TEXT)
def test_a_line_of_one_text_stays_whole(line: str) -> None:
    assert texts_of(line) == [line]


@pytest.mark.parametrize(
    "texts",
    [
        ["who was the mother of mozart", "The soup needs salt."],
        ["is oslo nice in winter", "Bach had many children.", "They sang."],
        ["Anna sleeps.", "who was the mother of mozart", "Bach had many children.", "The end."],
        ["Farmers block the road to Nancy over milk prices", "What did they want?", "Nobody knew."],
        ["Rain Delays Launch", "Did Hannibal win?", "He did."],
        ["Anna sleeps.", "It rains.", "cheap hotels in naples in may", "how far is bonn from cologne", "The end."],
        ["we are all so happy about the goal by Kane 🎉", "Anna sleeps.", "The end."],
        [
            "The end.",
            "see you all at the Louvre tomorrow at noon 😀",
            "so happy about the goal today",
            "Anna sleeps.",
            "The end.",
        ],
        ["is oslo nice in winter", "The Rolling Stones played.", "They were loud."],
    ],
)
def test_texts_are_split_where_they_begin(texts: list[str]) -> None:
    assert texts_of(" ".join(texts)) == texts


@given(st.lists(st.sampled_from((*QUESTIONS, *CHATS)), min_size=1, max_size=4), st.permutations(SENTENCES))
def test_joined_texts_end_where_they_did(unmarked: list[str], sentences: list[str]) -> None:
    # Two questions in a row may have nothing between them that tells.
    texts = [sentences[0], *(text for pair in zip(sentences[1:], unmarked, strict=False) for text in pair), "The end."]
    assert texts_of(" ".join(texts)) == texts


@given(st.lists(st.sampled_from((*QUESTIONS, *SENTENCES, *ONE_TEXT)), min_size=1, max_size=6))
def test_lines_do_not_depend_on_each_other(lines: list[str]) -> None:
    at, ranks = 0, {}
    for line in lines:
        ranks |= {at + b.at: b.rank for b in boundaries(line)} if any(map(str.isupper, line)) else {}
        at += len(line) + 2
        ranks[at - 2] = PARAGRAPH
    ranks.pop(at - 2)
    if any(map(str.isupper, "".join(lines))):
        assert {b.at: b.rank for b in boundaries("\n\n".join(lines))} == ranks


@given(
    st.lists(st.sampled_from(["we", "sing", "with", "Ann", "The", "cat", "I", "a", "2", "a.", "😀", "...", "c,"]), max_size=20)
)
def test_a_line_of_one_sentence_is_one_text(words: list[str]) -> None:
    line = " ".join(words)
    first = next((i for i, word in enumerate(words) if any(map(str.isupper, word))), 0)
    has_end = any(a in (".", "a.", "...", "😀") and b[0].isupper() for a, b in pairwise(words))
    if not has_end and TEXT in {b.rank for b in boundaries(line)}:
        assert first >= LEAST_WORDS
        assert words[first] in STARTING


@given(st.data())
def test_starts_ascend_and_hold_the_ends_of_sentences(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(["we", "sing", "with", "Ann.", "The", "cat", "I", "so.", "😀"]), max_size=30))
    line, at = " ".join(words), [i for i, c in enumerate(" ".join(words)) if c == " "]
    ends = [i for i in at if line[i - 1] == "." and line[i + 1].isupper()]
    stops = [i for i in at if line[i - 1] == "." and line[i + 1].islower()]
    starts = text_starts(line, ends, stops)
    assert starts == sorted(set(starts))
    assert not starts or set(ends) <= set(starts)
    assert all(line[i - 1] != " " and line[i] == " " for i in starts)


def test_words_that_seldom_end_a_text_have_small_letters_and_those_that_begin_one_capitals() -> None:
    assert all(word.islower() for word in CONTINUING)
    assert all(word.istitle() for word in STARTING)
    assert "I" not in STARTING
