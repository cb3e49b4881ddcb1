"""Why words are not linked: the shell's ``:explain NAME``, and ``blink link --explain``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell_toys import Script, ToyLinker, plain, play

import blink as package
from blink.apps.shell.session import Session
from blink.data.occurrences import occurrences
from blink.data.records import LinkedText
from blink.errors import SettingsError
from blink.explaining.explanation import explain_text
from blink.explaining.render import View, hyperlinked
from blink.explaining.unlinked import is_words, mention_probability
from blink.linking.linker import Linker

Run = Callable[..., tuple[int, str, str]]
TEXT = "Marie Curie was born in Warsaw. Curie moved to Paris, Texas near Georgia."


@pytest.fixture(scope="module")
def everyday(starter: Path) -> Linker:
    return package.load()


def shell(linker: Linker, *lines: str) -> list[str]:
    console = Script(*lines, width=120)
    Session(linker, console).run()
    return [" ".join(output.split()) for output in console.output[1:]]


def test_every_reason_has_its_words(everyday: Linker) -> None:
    lost, below, repeated = shell(everyday, TEXT, ":explain Paris, Texas", ":explain curie", ":explain moved to")
    assert re.search(r"“Paris, Texas” characters 47 to 59 not linked: “Paris” \(47-52, 0\.9\d+\) overlaps it", lost)
    assert re.search(r"prior [+-]0\.\d+ what the graph prior changes", lost)
    assert re.search(r"best score (0\.\d+) is (0\.\d+) below the threshold 0\.48; “Marie Curie” \(0-11", below)
    assert "3 [Curie] → Marie Curie Q7186" in below  # the second occurrence is a link
    assert "is not proposed as a mention: the mention detector gives it 0.0" in repeated
    assert "as a mention it would name" in repeated
    assert "no entity of the knowledge base has this name" in repeated


def test_a_filter_is_named(starter: Path) -> None:
    (output,) = shell(package.load(where="type=person"), TEXT, ":explain Warsaw")
    assert "left out by the filter: Warsaw (Q270)" in output


def test_words_longer_than_a_mention_and_words_without_letters(everyday: Linker) -> None:
    text = f"Oslo {'very ' * 14}nice !!!"
    long, nothing = shell(everyday, text, f":explain {'very ' * 12}", ":explain !!!")
    assert "mentions are whole words, of at most" in long
    assert "not linked: " in nothing


def test_the_probability_is_that_of_the_explanation(everyday: Linker) -> None:
    for mention in explain_text(everyday, TEXT).mentions:
        probability = mention_probability(everyday, TEXT, mention.start, mention.end)
        assert probability == pytest.approx(mention.detector, abs=1e-4)


def test_losers_below_a_hundredth_are_hidden_and_counted(everyday: Linker) -> None:
    answer, explained = Script(TEXT, ":k 10", ":explain 4", width=120), ""
    Session(everyday, answer).run()
    losers = [float(x) for line in re.findall(r"^ {4}or (.*)$", answer.output[1], re.M) for x in re.findall(r"\d\.\d{3}", line)]
    assert losers
    assert min(losers) >= 0.01
    explained = answer.output[2]
    link = everyday(TEXT).links[3]
    hidden = sum(c.score < 0.01 for c in link.candidates[1:])
    assert hidden > 0
    assert f"{hidden} {'more ' if hidden < len(link.candidates) - 1 else ''}below 0.01" in explained


def test_numbers_are_links_unless_the_text_has_them_alone() -> None:
    linked = ToyLinker()("Paris in 1900")
    assert [is_words(a, linked) for a in ("1", "1900", "7", "Paris", "")] == [False, True, False, True, False]
    assert is_words("1", LinkedText("1"))


def test_what_is_not_in_the_text_is_said() -> None:
    session, _ = play("Paris in Georgia")
    with pytest.raises(
        SettingsError, match=r"'Oslo' is not in the text; give words of it, or the number of a link from 1 to 2"
    ):
        session.handle(":explain Oslo")
    assert "losing spans" in plain(play("Paris, Texas")[0].handle(":explain Paris"))
    assert "overlaps it" in plain(play("Paris, Texas")[0].handle(":explain paris,  texas"))
    below = " ".join(plain(play("it rains")[0].handle(":explain it")).split())
    assert re.search(r"its best score -5\.\d+ is 3\.\d+ below the threshold -2", below)


@given(st.text(max_size=20), st.text(max_size=6))
def test_occurrences_are_in_the_text(text: str, words: str) -> None:
    for start, end in occurrences(text, words):
        assert 0 <= start < end <= len(text)
        assert " ".join(text[start:end].split()).casefold() == " ".join(words.split()).casefold() or not text.isascii()


@pytest.mark.parametrize(
    ("text", "words", "anywhere", "whole"),
    [
        ("Ann met Anna and Ann", "Ann", [(0, 3), (17, 20)], [(0, 3), (17, 20)]),
        ("Anna", "Ann", [(0, 3)], []),
        ("Annanna in ANN", "ann", [(3, 6)], [(11, 14)]),
        ("New\n York", "new  york", [(0, 9)], [(0, 9)]),
        ("anything", " ", [], []),
    ],
)
def test_words_are_preferred_to_parts_of_words(
    text: str, words: str, anywhere: list[tuple[int, int]], whole: list[tuple[int, int]]
) -> None:
    assert occurrences(text, words) == anywhere
    assert occurrences(text, words, whole_words=True) == whole


def test_the_answer_as_json() -> None:
    session, output = play("Paris in Georgia", ":json")
    assert json.loads(output[1]) == session.linked.to_json()  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match="type a text first"):
        play()[0].handle(":json")


@given(st.text() | st.just("https://x.org/\x1b\\\x07;évil %20"))
def test_no_address_ends_the_escape(address: str) -> None:
    for url in (address, f"https://{address}"):
        fragments = hyperlinked(("class:title", "Oslo"), url, View(hyperlinks=True))
        assert fragments[len(fragments) // 2] == ("class:title", "Oslo")
        if len(fragments) > 1:
            before, _, after = fragments
            assert re.fullmatch(r"\x1b]8;;https?://[!-~]*\x1b\\", before[1], re.IGNORECASE)
            assert after[1] == "\x1b]8;;\x1b\\"
            assert "ZeroWidth" in before[0]
    assert len(hyperlinked(("", "x"), "https://x.org", View())) == 1
    assert len(hyperlinked(("", "x"), "javascript:alert(1)", View(hyperlinks=True))) == 1


def test_the_command_explains_for_people_and_programs(blink: Run, starter: Path, everyday: Linker) -> None:
    status, out, _ = blink("link", TEXT, "nothing", "--explain")
    assert status == 0
    assert re.search(
        r"^  47-52  Paris -> Paris \(Q90\)  0\.9\d\d\n {6}mention 0\.\d+, entity 0\.\d+, without 0\.\d+, prior \+0", out, re.M
    )
    assert re.search(r"^    47-59  Paris, Texas -> Paris, Texas \(Q830149\)  0\.\d+; “Paris” \(47-52", out, re.M)
    assert out.endswith("nothing\n  no links\n")
    status, out, _ = blink("link", TEXT, "--explain", "--json", "--candidates", "2")
    value = json.loads(out)
    assert [link["title"] for link in value["links"]] == [link.title for link in everyday(TEXT).links]
    assert {m["status"] for m in value["mentions"]} == {"linked", "overlapped", "below_threshold"}
    assert max(len(m["candidates"]) for m in value["mentions"]) == 2
    status, out, _ = blink("link", TEXT, "--explain", "--json", "--digits", "2")
    assert {len(str(m["score"])) for m in json.loads(out)["mentions"]} <= {3, 4}
    status, _, err = blink("link", TEXT, "--explain", "--html")
    assert (status, err.count("\n")) == (1, 1)
    assert "--explain prints text, json, jsonl" in err
