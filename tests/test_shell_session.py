"""The shell's commands, and the turns of its conversation."""

from __future__ import annotations

import re

import numpy as np
import pytest
from shell_toys import Script, ToyLinker, link, plain, play

from blink.apps.shell.commands import command_named, help_text
from blink.apps.shell.console import Cancelled
from blink.apps.shell.session import COMMANDS, Leave, Session
from blink.errors import SettingsError
from blink.explaining.cards import SHELL, no_links
from blink.linking.decoder import MODES, Thresholds
from blink.linking.scales import LOG_PROBABILITIES, PROBABILITIES, scale_of

pytestmark = pytest.mark.quick


def test_an_answer_shows_the_marked_text_and_a_card_per_link_by_position() -> None:
    _, output = play("Is Georgia far from Paris?")
    lines = output[0].splitlines()
    assert lines[0] == "Is [Georgia] far from [Paris]?"
    heads = [line for line in lines if re.match(r" \d", line)]
    assert [re.split(r"\s{2,}", head.strip())[1:3] for head in heads] == [
        ["[Georgia] → Georgia (country)", "Q230"],
        ["[Paris] → Paris", "Q90"],
    ]
    assert "    Country in the Caucasus." in lines


def test_c_filters_again_and_the_model_runs_once() -> None:
    linker = ToyLinker()
    session, output = play("Paris in Georgia", "c", "", "much", "-0.5", "c", "0.0", "n", linker=linker)
    assert linker.texts == ["Paris in Georgia"]
    assert output[0].startswith("[Paris] in [Georgia]")
    assert output[1] == "the threshold is -2\n"
    assert [s.count("is not a number") for s in output[2:4]] == [1, 1]
    assert output[4].startswith("[Paris] in Georgia")
    warning, answer = output[6].split("\n", 1)
    assert "no link is above it" in warning
    assert answer.startswith("Paris in Georgia\n")
    assert session.threshold == 0
    assert linker.thresholds == Thresholds(-2.0)


def test_colon_threshold_filters_again_too_and_prompts_follow_the_answer() -> None:
    linker = ToyLinker()
    console = Script("Paris in Georgia", ":threshold -0.5", ":t −9", "n", ":threshold", "c", "-inf")
    Session(linker, console).run()
    assert linker.texts == ["Paris in Georgia"]
    first, after = SHELL.first, SHELL.after
    assert console.prompts == [first, after, after, after, first, first, "new threshold: ", first]
    assert console.output[2].startswith("[Paris] in [Georgia]")
    assert console.output[-1] == "the threshold is now -inf\n"


def test_when_nothing_is_linked_the_best_guess_and_the_way_to_it_are_named() -> None:
    _, output = play("it rains", "c", "-7.1", "", "....")
    assert "no links above -2" in output[0]
    assert "“it” → Nameless  row 4" in output[0]
    lower = re.search(r"type c and then (\S+)", output[0])
    assert lower is not None
    assert output[2].startswith("[it] rains")
    assert "no links: the text holds nothing" in output[-1]
    _, output = play("it rains", "c", lower[1])
    assert output[2].startswith("[it] rains")


def test_k_changes_what_is_listed_and_no_score() -> None:
    session, output = play("Paris", ":k 1", ":k 3", ":k")
    heads = {s.splitlines()[2] for s in output[:3]}
    assert len(heads) == 1
    assert [s.count("    or ") for s in output] == [1, 0, 1, 0]
    assert session.k == 3
    assert "3 of 3 candidates" in output[-1]


def test_explain_splits_the_score_and_names_what_lost() -> None:
    _, output = play("Paris, Texas", ":explain 1")
    text = output[1]
    figures = {name: float(value) for name, value in re.findall(r"^ {4}(mention|entity|score) +(\S+)", text, re.M)}
    assert figures["score"] == pytest.approx(figures["mention"] + figures["entity"], abs=2e-3)
    assert figures["mention"] == pytest.approx(-np.log1p(np.exp(-2.0)), abs=1e-3)
    assert "the first behind by 2.000" in text
    assert re.search(r"-2\.\d+  Paris, Texas  Q830149", text)
    assert re.search(r"-0\.\d+  “Paris, Texas” → Paris, Texas  Q830149", text)
    assert "Capital of France on the Seine." in text


def test_explain_needs_a_link_that_is_there() -> None:
    session, _ = play()
    for line, message in [(":explain 1", "type a text first"), (":e", "type a text first")]:
        with pytest.raises(SettingsError, match=message):
            session.handle(line)
    session.handle("Paris in Georgia")
    for argument in ("", " 0", " 3", " x", " 1 2"):
        with pytest.raises(SettingsError, match="from 1 to 2"):
            session.handle(":explain" + argument)
    session.handle(":threshold 0")
    with pytest.raises(SettingsError, match="no links to explain"):
        session.handle(":explain 1")


def test_commands_by_their_beginning_and_unknown_ones() -> None:
    assert command_named("e", COMMANDS) is COMMANDS["explain"]
    assert command_named("k", COMMANDS) is COMMANDS["k"]
    for name in ("foo", "", "explain\udcff"):
        with pytest.raises(SettingsError, match=":undo, :right, :wrong, :save, :help, :quit") as caught:
            command_named(name, COMMANDS)
        str(caught.value).encode()


def test_help_names_every_command_and_keeps_the_width() -> None:
    text = plain(help_text(COMMANDS, 10, 60, LOG_PROBABILITIES))
    assert all(f":{name}" in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 60
    assert "the 10 candidates" in text
    assert "it changes no score" in " ".join(text.split())
    assert "from 0 to 1" not in text


class TestProbabilities:
    """What a linker with a reranker shows: its scores are probabilities."""

    @staticmethod
    def linker(threshold: float = 0.5) -> ToyLinker:
        return ToyLinker(threshold, mode="probability")

    def test_cards_toolbar_and_help_speak_of_them(self) -> None:
        session, output = play("Paris", linker=self.linker())
        assert re.search(r"\[Paris\] → Paris  Q90  0\.8\d\d$", output[0], re.M)
        assert "or Paris, Texas 0.1" in output[0]
        assert "threshold 0.5 · k" in plain(session.toolbar())
        text = " ".join(plain(session.handle(":help")).split())
        assert "probabilities that a link is right, from 0 to 1; what the 3 candidates" in text
        assert "log" not in text

    def test_explain_splits_them_into_a_product(self) -> None:
        _, output = play("Paris, Texas", ":explain 1", linker=self.linker())
        figures = {name: float(value) for name, value in re.findall(r"^ {4}(mention|entity|score) +(\S+)", output[1], re.M)}
        assert figures["score"] == pytest.approx(figures["mention"] * figures["entity"], abs=2e-3)
        assert all(0 < value <= 1 for value in figures.values())
        assert "%" not in output[1]
        assert re.search(r"0\.\d+  “Paris, Texas” → Paris, Texas  Q830149", output[1])
        assert "reasons" not in output[1]  # nothing was ranked

    def test_a_threshold_is_asked_for_in_their_terms(self) -> None:
        linker = self.linker(0.99)
        session, output = play("Georgia", "c", "much", "0.5", linker=linker)
        lower = re.search(r"no links above 0.99.*type c and then (0\.\d+) ", output[0], re.S)
        assert lower is not None
        assert output[1] == "the threshold is 0.99; scores are probabilities, from 0 to 1\n"
        assert "a number; give one such as 0.5, or 0 to see everything" in output[2]
        assert output[3].startswith("[Georgia]")
        assert plain(session.handle(f":threshold {lower[1]}")).startswith("[Georgia]")
        assert linker.texts == ["Georgia"]

    def test_one_that_is_none_is_taken_with_a_word_about_it(self) -> None:
        session, output = play(
            "Paris", ":threshold -2.5", ":threshold 3", "n", ":threshold 7", ":threshold -inf", linker=self.linker()
        )
        assert (
            output[1].splitlines()[0]
            == "scores are probabilities, from 0 to 1, and the threshold is -2.5: every link is above it"
        )
        assert output[1].splitlines()[1].startswith("[Paris]")
        assert output[2].splitlines()[0].endswith("the threshold is 3: no link is above it")
        assert output[2].splitlines()[1] == "Paris"
        assert output[4].splitlines()[1] == "the threshold is now 7"
        assert output[5] == "the threshold is now -inf\n"
        assert session.threshold == -np.inf

    @pytest.mark.parametrize("score", [0.5, 0.48, 0.003, 1.0, 1e-9])
    def test_the_way_to_the_best_guess_is_truly_below_it(self, score: float) -> None:
        text = plain(no_links(link(0, 5, score, "Paris"), 1.0))
        lower = re.search(r"type c and then (\S+)", text)
        assert lower is not None
        assert float(lower[1]) < score

    def test_every_mode_has_a_scale(self) -> None:
        assert [name for name in MODES if scale_of(name) is PROBABILITIES] == ["probability"]


@pytest.mark.parametrize("bad", ["nul \0 here", "half \udcff", ":foo", ":k 99", ":threshold nan", ":explain", ":k x"])
def test_bad_input_is_one_line_and_the_shell_goes_on(bad: str) -> None:
    _, output = play(bad, "Paris")
    assert len(output) == 2
    assert output[0].count("\n") <= 2
    output[0].encode()
    assert output[1].startswith("[Paris]\n")


def test_a_failed_reading_leaves_no_old_answer_behind() -> None:
    linker = ToyLinker()
    session, _ = play(linker=linker)
    session.handle("Paris")
    linker.before_reading = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        session.handle("Georgia")
    assert session.linked is None
    assert session.prompt == SHELL.first


def test_modes_have_their_own_threshold() -> None:
    linker = ToyLinker(mode="top_entity_by_mention", mention_threshold=0.0)
    session, _ = play(linker=linker)
    assert plain(session.handle("Paris it")).startswith("[Paris] it")
    assert plain(session.handle(":threshold -9")).startswith("[Paris] [it]")
    assert session.thresholds == Thresholds(-2.0, -9.0)
    assert "inner product" in plain(session.handle(":explain 1"))
    session, _ = play(linker=ToyLinker(mode="top_joint_by_mention"))
    for line in ("c", ":threshold 1", ":threshold"):
        with pytest.raises(SettingsError, match="it has no threshold"):
            session.handle(line)
    assert "threshold none" in plain(session.toolbar())


def test_the_toolbar_tells_threshold_k_and_entities() -> None:
    session, _ = play(":k 2", ":threshold -1.5")
    assert "threshold -1.5 · k 2 · 5 entities" in plain(session.toolbar())


def test_quit_and_the_end_of_input_leave() -> None:
    for last in (":quit", ":q", EOFError()):
        linker = ToyLinker()
        play("Paris", last, "Georgia", linker=linker)
        assert linker.texts == ["Paris"]
    linker = ToyLinker()
    play("c", EOFError(), "Georgia", linker=linker)
    assert linker.texts == []
    with pytest.raises(Leave):
        Session(linker, Script()).handle(":quit")


def test_one_cancelled_line_stays_and_two_in_a_row_leave() -> None:
    linker = ToyLinker()
    play(Cancelled("half"), "Paris", Cancelled("other"), Cancelled(""), "Georgia", linker=linker)
    assert linker.texts == ["Paris"]
    linker = ToyLinker()
    _, output = play("Paris", "c", Cancelled(""), "Georgia", linker=linker)
    assert linker.texts == ["Paris", "Georgia"]
    assert "the threshold stays at -2\n" in output


def test_stopping_the_model_returns_to_the_prompt() -> None:
    linker = ToyLinker()
    stops = iter([KeyboardInterrupt()])

    def stop_once() -> None:
        for stop in stops:
            raise stop

    linker.before_reading = stop_once
    _, output = play("Georgia", "Paris", linker=linker)
    assert linker.texts == ["Paris"]
    assert output[0] == "\nstopped\n"


def test_a_second_ctrl_c_that_comes_between_two_prompts_leaves_too() -> None:
    linker = ToyLinker()
    play("Paris", Cancelled("half"), KeyboardInterrupt(), "Georgia", linker=linker)
    assert linker.texts == ["Paris"]
