"""What the shell shows: marked texts, wrapped lines and cards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell_toys import link, plain

from blink.apps.common import printable
from blink.data.display import segments
from blink.data.link_formats import LinkFormat
from blink.data.records import Candidate, Entity, Link, LinkedSection, LinkedText
from blink.explaining.cards import compact_card
from blink.explaining.render import STYLE, View, marked_text, name_of, wrapped

pytestmark = pytest.mark.quick


@given(st.data())
def test_segments_cut_the_whole_text_into_pieces_owned_by_the_best_link(data: st.DataObject) -> None:
    text = data.draw(st.text(min_size=1, max_size=20))
    bounds = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))).filter(lambda b: b[0] < b[1])
    scored = data.draw(st.lists(st.tuples(bounds, st.floats(-9, 0)), max_size=5))
    links = tuple(link(start, end, score, text) for (start, end), score in scored)
    slices = list(segments(LinkedText(text, links)))
    assert [p[0] for p in slices] == [0, *(p[1] for p in slices[:-1])]
    assert slices[-1][1] == len(text)
    for start, end, owner in slices:
        for offset in range(start, end):
            over = [one.score for one in links if one.start <= offset < one.end]
            assert (owner is None) == (not over)
            assert owner is None or links[owner].score == max(over)


def test_mentions_take_colours_by_rank_of_score_and_the_seventh_the_first_again() -> None:
    text = "abcdefg"
    links = tuple(link(i, i + 1, -float(7 - i), text) for i in range(7))
    styles = [style for style, fragment in marked_text(LinkedText(text, links), colour=True) if fragment != "\n"]
    assert styles == [f"class:mention{rank}" for rank in (0, 5, 4, 3, 2, 1, 0)]
    assert {style.removeprefix("class:") for style in styles} <= set(STYLE)


def test_without_colours_mentions_stand_in_brackets() -> None:
    linked = LinkedText("see Paris\r\nnow", (link(4, 9, -1, "see Paris"),))
    assert marked_text(linked, colour=False)[0] == ("", "see ")
    assert plain(marked_text(linked, colour=False)) == "see [Paris] \nnow\n"


def test_a_long_stretch_without_mentions_is_shortened() -> None:
    text = "x" * 1_000_000 + "Paris"
    output = plain(marked_text(LinkedText(text, (link(1_000_000, 1_000_005, -1, text),)), colour=False))
    assert len(output) < 3000
    assert output.endswith("x[Paris]\n")
    assert "998,000 characters" in output


@given(st.text(st.characters(categories=("Cc", "Cs", "L", "Zs")), max_size=30))
def test_nothing_shown_can_move_the_cursor(text: str) -> None:
    output = printable(text)
    assert len(output) == len(text)
    assert all(c in "\n\t" or c.isprintable() or c.isspace() for c in output)
    assert "\x1b" not in output
    output.encode()


def test_blink_link_prints_nothing_that_changes_a_terminal() -> None:
    text = "see \x1b[31mParis\x9b2J\nnow"
    bad = Link(4, 16, text[4:16], 0, "Q1\x07", "Pa\x1b]0;ris\n", -1.0, (Candidate(0, "Q1\x07", "Pa\x1b]0;ris\n", -1.0),))
    printed = "".join(LinkFormat().pieces([LinkedSection(text, (bad,), True, True)]))
    lines = ["see \ufffd[31mParis\ufffd2J\nnow", "  4-16  \ufffd[31mParis\ufffd2 -> Pa\ufffd]0;ris (Q1\ufffd)  -1.000"]
    assert printed == "".join(f"{line}\n" for line in lines)
    card = plain(compact_card(1, bad, 0, Entity(0, "One", "\x1bx", "Q1"), (0, 0, 1), View(60)))
    assert not set(card) & set("\x1b\x07\x9b")


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(20, 80), st.integers(0, 6))
def test_wrapped_text_keeps_the_width_the_indent_and_the_number_of_lines(text: str, width: int, indent: int) -> None:
    lines = wrapped(text, width, indent, 2).splitlines()
    assert len(lines) <= 2
    assert all(line.startswith(" " * indent) for line in lines)
    assert all(len(line) <= width for line in lines)


def test_wide_characters_count_twice() -> None:
    lines = wrapped("東京都は日本の首都である" * 5, 40, 0).splitlines()
    assert all(2 * len(line) <= 40 for line in lines)


def test_the_description_is_cut_and_the_runners_up_follow_k() -> None:
    one = Candidate(0, "Q1", "One", -0.5)
    long = Link(0, 5, "Paris", 0, "Q1", "One", -0.5, (one, Candidate(1, None, "Two", -2), Candidate(2, "Q3", "Three", -3)))
    entity = Entity(0, "One", "words " * 100, "Q1")
    card = [plain(compact_card(1, long, 0, entity, (0, 0, 1), View(60, False, k))).splitlines() for k in (1, 2, 3)]
    assert card[0][0] == " 1  [Paris] → One  Q1  -0.500"
    assert [len(lines) for lines in card] == [3, 4, 4]
    assert card[0][-1].endswith("…")
    assert card[2][-1] == "    or Two -2.000 · Three -3.000"


def test_an_entity_without_id_is_named_by_its_row() -> None:
    assert name_of(None, 7) == "row 7"
    assert name_of("Q5", 7) == "Q5"
