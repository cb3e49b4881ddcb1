"""The shell: what it shows, its commands, and the conversation on a terminal and through a pipe."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import ColorDepth, DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output

from blink.apps import shell
from blink.apps.shell import PLAIN_DIALOGUE, Cancelled, Fragments, Leave, LineConsole, Session, TerminalConsole
from blink.data.records import Candidate, Entity, Link, LinkedText
from blink.errors import DataError, SettingsError
from blink.linking.linker import Linker, Reading
from blink.linking.scoring import ScoredSpans, Thresholds

quick = pytest.mark.quick

ENTITIES = [
    Entity(0, "Paris", "Capital of France on the Seine.", "Q90", aliases=("City of Light",)),
    Entity(1, "Paris, Texas", "City in Lamar County.", "Q830149"),
    Entity(2, "Georgia (country)", "Country in the Caucasus.", "Q230", aliases=("Sakartvelo",)),
    Entity(3, "Georgia (U.S. state)", "State in the south of the USA.", "Q1428"),
    Entity(4, "Nameless", "", None),
]
KNOWN = {  # words -> mention score, rows, inner products
    "Paris": (2.0, (0, 1, 4), (9.0, 7.0, 1.0)),
    "Paris, Texas": (0.5, (1, 0, 4), (8.0, 7.0, 1.0)),
    "Georgia": (1.0, (2, 3, 0), (8.0, 7.5, 2.0)),
    "it": (-4.0, (4, 0, 1), (3.0, 2.9, 2.8)),
}


class ToyCatalogue(list):  # type: ignore[type-arg]
    skipped = 0


class ToyLinker(Linker):
    """The real linker, but for the model: it knows the words of `KNOWN`, and counts how often it reads."""

    def __init__(self, threshold: float = -2.0, mode: str = "joint", mention_threshold: float | None = None) -> None:
        self.kb = SimpleNamespace(catalogue=ToyCatalogue(ENTITIES))  # type: ignore[assignment]
        self.options = SimpleNamespace(entities=3)  # type: ignore[assignment]
        self.mode = mode
        self.cut = Thresholds(threshold, mention_threshold)
        self.texts: list[str] = []
        self.before_reading: Callable[[], None] = lambda: None

    def read(self, texts, *, batch_size=64, spans=None, floor=float("-inf")):  # type: ignore[no-untyped-def]
        for text in texts:
            self.before_reading()
            self.texts.append(text)
            offsets = np.array([m.span() for m in re.finditer(r"\w+|[^\w\s]", text)], dtype=np.int64).reshape(-1, 2)
            found = []
            for words, (mention, rows, logits) in KNOWN.items():
                for match in re.finditer(rf"\b{re.escape(words)}\b", text):
                    first, last = np.flatnonzero((offsets[:, 0] >= match.start()) & (offsets[:, 1] <= match.end()))[[0, -1]]
                    found.append((first, last, mention, rows, logits))
            parts = [np.array([f[i] for f in found]) for i in range(5)]
            scored = ScoredSpans(*parts) if found else ScoredSpans.none(3)
            yield Reading(text, offsets, scored)


class Script:
    """A console that plays lines and keeps what it is shown; exceptions among the lines are raised."""

    def __init__(self, *lines: str | BaseException, width: int = 80, colour: bool = False) -> None:
        self.lines = list(lines)
        self.width, self.colour = width, colour
        self.prompts: list[str] = []
        self.shown: list[str] = []

    def ask(self, prompt: str, hint: str | None = None) -> str:
        self.prompts.append(prompt)
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    def show(self, fragments: Fragments) -> None:
        self.shown.append(plain(fragments))


def plain(fragments: Fragments) -> str:
    return "".join(text for _, text in fragments)


def play(*lines: str | BaseException, linker: ToyLinker | None = None) -> tuple[Session, list[str]]:
    console = Script(*lines)
    session = Session(linker or ToyLinker(), console)
    session.run()
    return session, console.shown


def link(start: int, end: int, score: float, text: str) -> Link:
    return Link(start, end, text[start:end], 0, "Q1", "One", score, (Candidate(0, "Q1", "One", score),))


# --- what is shown --------------------------------------------------------------------------------------------------


@quick
@given(st.data())
def test_segments_cut_the_whole_text_into_pieces_owned_by_the_best_link(data: st.DataObject) -> None:
    text = data.draw(st.text(min_size=1, max_size=20))
    bounds = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))).filter(lambda b: b[0] < b[1])
    scored = data.draw(st.lists(st.tuples(bounds, st.floats(-9, 0)), max_size=5))
    links = tuple(link(start, end, score, text) for (start, end), score in scored)
    pieces = list(shell.segments(LinkedText(text, links)))
    assert [p[0] for p in pieces] == [0, *(p[1] for p in pieces[:-1])]
    assert pieces[-1][1] == len(text)
    for start, end, owner in pieces:
        for at in range(start, end):
            over = [one.score for one in links if one.start <= at < one.end]
            assert (owner is None) == (not over)
            assert owner is None or links[owner].score == max(over)


@quick
def test_mentions_take_colours_by_rank_of_score_and_the_seventh_the_first_again() -> None:
    text = "abcdefg"
    links = tuple(link(i, i + 1, -float(7 - i), text) for i in range(7))
    styles = [style for style, piece in shell.marked_text(LinkedText(text, links), colour=True) if piece != "\n"]
    assert styles == [f"class:mention{rank}" for rank in (0, 5, 4, 3, 2, 1, 0)]
    assert {style.removeprefix("class:") for style in styles} <= set(shell.STYLE)


@quick
def test_without_colours_mentions_stand_in_brackets() -> None:
    linked = LinkedText("see Paris\r\nnow", (link(4, 9, -1, "see Paris"),))
    assert shell.marked_text(linked, colour=False)[0] == ("", "see ")
    assert plain(shell.marked_text(linked, colour=False)) == "see [Paris] \nnow\n"


@quick
def test_a_long_stretch_without_mentions_is_shortened() -> None:
    text = "x" * 1_000_000 + "Paris"
    shown = plain(shell.marked_text(LinkedText(text, (link(1_000_000, 1_000_005, -1, text),)), colour=False))
    assert len(shown) < 3000
    assert shown.endswith("x[Paris]\n")
    assert "998,000 characters" in shown


@quick
@given(st.text(st.characters(categories=("Cc", "Cs", "L", "Zs")), max_size=30))
def test_nothing_shown_can_move_the_cursor(text: str) -> None:
    shown = shell.printable(text)
    assert len(shown) == len(text)
    assert all(c in "\n\t" or c.isprintable() or c.isspace() for c in shown)
    assert "\x1b" not in shown
    shown.encode()


@quick
@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(20, 80), st.integers(0, 6))
def test_wrapped_text_keeps_the_width_the_indent_and_the_number_of_lines(text: str, width: int, indent: int) -> None:
    lines = shell.wrapped(text, width, indent, 2).splitlines()
    assert len(lines) <= 2
    assert all(line.startswith(" " * indent) for line in lines)
    assert all(len(line) <= width for line in lines)


@quick
def test_wide_characters_count_twice() -> None:
    lines = shell.wrapped("東京都は日本の首都である" * 5, 40, 0).splitlines()
    assert all(2 * len(line) <= 40 for line in lines)


@quick
def test_the_description_is_cut_and_the_runners_up_follow_k() -> None:
    one = Candidate(0, "Q1", "One", -0.5)
    long = Link(0, 5, "Paris", 0, "Q1", "One", -0.5, (one, Candidate(1, None, "Two", -2), Candidate(2, "Q3", "Three", -3)))
    entity = Entity(0, "One", "words " * 100, "Q1")
    card = [plain(shell.compact_card(1, long, 0, entity, (0, 0, 1), shell.View(60, False, k))).splitlines() for k in (1, 2, 3)]
    assert card[0][0] == " 1  [Paris] → One  Q1  -0.500"
    assert [len(lines) for lines in card] == [3, 4, 4]
    assert card[0][-1].endswith("…")
    assert card[2][-1] == "    or Two -2.000 · Three -3.000"


@quick
def test_an_entity_without_id_is_named_by_its_row() -> None:
    assert shell.name_of(None, 7) == "row 7"
    assert shell.name_of("Q5", 7) == "Q5"


# --- commands -------------------------------------------------------------------------------------------------------


@quick
def test_an_answer_shows_the_marked_text_and_a_card_per_link_by_position() -> None:
    _, shown = play("Is Georgia far from Paris?")
    lines = shown[0].splitlines()
    assert lines[0] == "Is [Georgia] far from [Paris]?"
    heads = [line for line in lines if re.match(r" \d", line)]
    assert [re.split(r"\s{2,}", head.strip())[1:3] for head in heads] == [
        ["[Georgia] → Georgia (country)", "Q230"],
        ["[Paris] → Paris", "Q90"],
    ]
    assert "    Country in the Caucasus." in lines


@quick
def test_c_filters_again_and_the_model_runs_once() -> None:
    linker = ToyLinker()
    session, shown = play("Paris in Georgia", "c", "", "much", "-0.5", "c", "0.0", "n", linker=linker)
    assert linker.texts == ["Paris in Georgia"]
    assert shown[0].startswith("[Paris] in [Georgia]")
    assert shown[1] == "the threshold is -2\n"
    assert [s.count("is not a number") for s in shown[2:4]] == [1, 1]
    assert shown[4].startswith("[Paris] in Georgia")
    assert shown[6].startswith("Paris in Georgia\n")
    assert session.threshold == 0
    assert linker.cut == Thresholds(-2.0)


@quick
def test_colon_threshold_filters_again_too_and_prompts_follow_the_answer() -> None:
    linker = ToyLinker()
    console = Script("Paris in Georgia", ":threshold -0.5", ":t −9", "n", ":threshold", "c", "-inf")
    Session(linker, console).run()
    assert linker.texts == ["Paris in Georgia"]
    first, after = shell.SHELL.first, shell.SHELL.after
    assert console.prompts == [first, after, after, after, first, first, "new threshold: ", first]
    assert console.shown[2].startswith("[Paris] in [Georgia]")
    assert console.shown[-1] == "the threshold is now -inf\n"


@quick
def test_when_nothing_is_linked_the_best_guess_and_the_way_to_it_are_named() -> None:
    _, shown = play("it rains", "c", "-7.1", "", "....")
    assert "no links above -2" in shown[0]
    assert "“it” → Nameless  row 4" in shown[0]
    lower = re.search(r"type c and then (\S+)", shown[0])
    assert lower is not None
    assert shown[2].startswith("[it] rains")
    assert "no links: the text holds nothing" in shown[-1]
    _, shown = play("it rains", "c", lower[1])
    assert shown[2].startswith("[it] rains")


@quick
def test_k_changes_what_is_listed_and_no_score() -> None:
    session, shown = play("Paris", ":k 1", ":k 3", ":k")
    heads = {s.splitlines()[2] for s in shown[:3]}
    assert len(heads) == 1
    assert [s.count("    or ") for s in shown] == [1, 0, 1, 0]
    assert session.k == 3
    assert "3 of 3 candidates" in shown[-1]


@quick
def test_explain_splits_the_score_and_names_what_lost() -> None:
    _, shown = play("Paris, Texas", ":explain 1")
    told = shown[1]
    figures = {name: float(value) for name, value in re.findall(r"^ {4}(mention|entity|score) +(\S+)", told, re.M)}
    assert figures["score"] == pytest.approx(figures["mention"] + figures["entity"], abs=2e-3)
    assert figures["mention"] == pytest.approx(-np.log1p(np.exp(-2.0)), abs=1e-3)
    assert "the first behind by 2.000" in told
    assert re.search(r"-2\.\d+  Paris, Texas  Q830149", told)
    assert re.search(r"-0\.\d+  “Paris, Texas” → Paris, Texas  Q830149", told)
    assert "Capital of France on the Seine." in told


@quick
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


@quick
def test_commands_by_their_beginning_and_unknown_ones() -> None:
    assert shell.command_named("e") is shell.COMMANDS["explain"]
    assert shell.command_named("k") is shell.COMMANDS["k"]
    for name in ("foo", "", "explain\udcff"):
        with pytest.raises(SettingsError, match=":threshold, :k, :explain, :help, :quit") as caught:
            shell.command_named(name)
        str(caught.value).encode()


@quick
def test_help_names_every_command_and_keeps_the_width() -> None:
    text = plain(shell.help_text(10, 60))
    assert all(f":{name}" in text for name in shell.COMMANDS)
    assert max(map(len, text.splitlines())) <= 60
    assert "the 10 candidates" in text
    assert "it changes no score" in " ".join(text.split())


@quick
@pytest.mark.parametrize("bad", ["nul \0 here", "half \udcff", ":foo", ":k 99", ":threshold nan", ":explain", ":k x"])
def test_bad_input_is_one_line_and_the_shell_goes_on(bad: str) -> None:
    _, shown = play(bad, "Paris")
    assert len(shown) == 2
    assert shown[0].count("\n") <= 2
    shown[0].encode()
    assert shown[1].startswith("[Paris]\n")


@quick
def test_a_failed_reading_leaves_no_old_answer_behind() -> None:
    linker = ToyLinker()
    session, _ = play(linker=linker)
    session.handle("Paris")
    linker.before_reading = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        session.handle("Georgia")
    assert session.linked is None
    assert session.prompt == shell.SHELL.first


@quick
def test_modes_have_their_own_threshold() -> None:
    linker = ToyLinker(mode="top_entity_by_mention", mention_threshold=0.0)
    session, _ = play(linker=linker)
    assert plain(session.handle("Paris it")).startswith("[Paris] it")
    assert plain(session.handle(":threshold -9")).startswith("[Paris] [it]")
    assert session.cut == Thresholds(-2.0, -9.0)
    assert "inner product" in plain(session.handle(":explain 1"))
    session, _ = play(linker=ToyLinker(mode="top_joint_by_mention"))
    for line in ("c", ":threshold 1", ":threshold"):
        with pytest.raises(SettingsError, match="it has no threshold"):
            session.handle(line)
    assert "threshold none" in plain(session.toolbar())


@quick
def test_the_toolbar_tells_threshold_k_and_entities() -> None:
    session, _ = play(":k 2", ":threshold -1.5")
    assert "threshold -1.5 · k 2 · 5 entities" in plain(session.toolbar())


# --- the conversation -----------------------------------------------------------------------------------------------


@quick
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


@quick
def test_one_cancelled_line_stays_and_two_in_a_row_leave() -> None:
    linker = ToyLinker()
    play(Cancelled("half"), "Paris", Cancelled("other"), Cancelled(""), "Georgia", linker=linker)
    assert linker.texts == ["Paris"]
    linker = ToyLinker()
    _, shown = play("Paris", "c", Cancelled(""), "Georgia", linker=linker)
    assert linker.texts == ["Paris", "Georgia"]
    assert "the threshold stays at -2\n" in shown


@quick
def test_stopping_the_model_returns_to_the_prompt() -> None:
    linker = ToyLinker()
    stops = iter([KeyboardInterrupt()])

    def stop_once() -> None:
        for stop in stops:
            raise stop

    linker.before_reading = stop_once
    _, shown = play("Georgia", "Paris", linker=linker)
    assert linker.texts == ["Paris"]
    assert shown[0] == "\nstopped\n"


@quick
def test_a_second_ctrl_c_that_comes_between_two_prompts_leaves_too() -> None:
    linker = ToyLinker()
    play("Paris", Cancelled("half"), KeyboardInterrupt(), "Georgia", linker=linker)
    assert linker.texts == ["Paris"]


@quick
def test_the_dialogue_through_a_pipe_prints_prompts_and_labelled_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = b"Is it Paris?\nc\n-9\nn\n\xff\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said)))
    linker = ToyLinker()
    shell.run_dialogue(linker)
    out = capsys.readouterr().out
    assert linker.texts == ["Is it Paris?"]
    assert out.startswith(
        "insert text: Is it Paris?\nIs it [Paris]?\n\nParis\n  Wikidata ID: Q90\n  Title: Paris\n  Score: -0.2"
    )
    assert "  Triple: ('0', 2, 3)\n  Text: Capital of France on the Seine.\n" in out
    assert "Next question [n] / change threshold [c]: c\nthe threshold is -2\nnew threshold: -9\nIs [it] [Paris]?\n" in out
    assert "Next question [n] / change threshold [c]: n\ninsert text: " in out
    assert "it\n  Title: Nameless\n" in out
    assert out.count("not UTF-8") == 1
    assert out.endswith("insert text: \n")


@quick
def test_the_dialogue_takes_lines_from_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_dialogue(ToyLinker(), lines=["Paris", "Georgia", ":quit"])
    out = capsys.readouterr().out
    assert out.count("Next question [n] / change threshold [c]: ") == 2


@quick
def test_plain_output_survives_an_encoding_that_lacks_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Session(ToyLinker(), LineConsole(["Café Paris", "it"]), PLAIN_DIALOGUE).run()
    assert b"Caf? [Paris]" in raw.getvalue()


# --- JSON through a pipe --------------------------------------------------------------------------------------------


@quick
def test_a_pipe_gets_a_json_object_per_line_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    shell.link_stream(ToyLinker(), io.BytesIO(b"\xef\xbb\xbfParis\r\n\nno\nGeorgia"))  # type: ignore[arg-type]
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["Paris", "", "no", "Georgia"]
    assert rows[1] == {"text": "", "links": []}
    assert rows[0]["links"][0]["kb_id"] == "Q90"
    assert list(rows[0]["links"][0]) == ["start", "end", "mention", "row", "kb_id", "title", "score", "candidates"]


@quick
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r\ufeff"), max_size=8), min_size=1), st.data())
def test_lines_do_not_depend_on_how_they_arrive(lines: list[str], data: st.DataObject) -> None:
    content = "\n".join(lines).encode() + b"\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content)), max_size=5)) | {0, len(content)})
    parts = [content[a:b] for a, b in pairwise(cuts)] + [b""]
    stream = SimpleNamespace(read1=lambda size: parts.pop(0))
    assert [line.decode() for block in shell._line_blocks(stream) for line in block] == lines  # type: ignore[arg-type]


@quick
def test_a_program_may_wait_for_the_answer_before_it_writes_on(capsys: pytest.CaptureFixture[str]) -> None:
    answered = []

    class Partner:
        said = iter([b"Paris\n", b"Georgia\nit", b"\n", b""])

        def read1(self, size: int) -> bytes:
            answered.append(capsys.readouterr().out.count("\n"))
            return next(self.said)

    shell.link_stream(ToyLinker(), Partner())  # type: ignore[arg-type]
    assert answered == [0, 1, 1, 1]


@quick
def test_a_bad_line_is_named_after_those_before_it_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for bad in (b"a\0b", b"\xff", b"\xed\xa0\x80"):
        with pytest.raises(DataError, match="standard input, line 2"):
            shell.link_stream(ToyLinker(), io.BytesIO(b"Paris\n" + bad + b"\nit\n"))  # type: ignore[arg-type]
        assert len(capsys.readouterr().out.splitlines()) == 1
    with pytest.raises(DataError, match="is empty"):
        shell.link_stream(ToyLinker(), io.BytesIO(b""))  # type: ignore[arg-type]


@quick
def test_run_shell_reads_the_pipe_and_prints_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Paris\n")))
    monkeypatch.setattr(shell, "open_linker", lambda *args, **options: ToyLinker())
    shell.run_shell(None, None, None, 64, precision="auto", device=None)
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["Paris"]


# --- completion and history -----------------------------------------------------------------------------------------

NAMES = shell.names_of(ENTITIES)


@quick
def test_completion_offers_commands_after_a_colon() -> None:
    assert [text for _, text, _ in shell.completions(":", NAMES)] == [f":{name}" for name in shell.COMMANDS]
    assert [text for _, text, _ in shell.completions(":ex", NAMES)] == [":explain"]
    assert shell.completions(":explain ", NAMES) == []


@quick
def test_completion_offers_names_for_the_end_of_a_text_the_longest_first() -> None:
    assert shell.completions("to the city of l", NAMES) == [("city of l", "City of Light", "Paris")]
    assert shell.completions("in geor", NAMES) == [("geor", "Georgia", "Georgia (U.S. state)")]
    assert [text for _, text, _ in shell.completions("par", NAMES)] == ["Paris", "Paris, Texas"]
    assert shell.completions("p", NAMES) == []


@quick
def test_large_catalogues_complete_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "MOST_TITLES", 4)
    session, _ = play()
    assert session.names == []


def test_history_is_private_keeps_texts_and_survives_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    history = shell.open_history(path)
    for line in ("Paris", "n", "c", " ", "x" * 20_000, "half \udcff"):
        history.append_string(line)
    assert path.stat().st_mode & 0o077 == 0
    kept = list(shell.open_history(path).load_history_strings())
    assert kept[-1] == "Paris"
    assert len(kept) <= 2
    path.unlink()
    path.mkdir()
    history.append_string("Rome")  # no error
    assert "Rome" in history.get_strings()
    assert type(shell.open_history(path)).__name__ == "InMemoryHistory"
    assert type(shell.open_history(None)).__name__ == "InMemoryHistory"


def test_the_history_lies_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert shell.history_file() == tmp_path / "blink" / "history"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shell.history_file() == tmp_path / ".local" / "state" / "blink" / "history"


# --- on a terminal --------------------------------------------------------------------------------------------------


@contextmanager
def terminal(keys: str, depth: ColorDepth | None = None) -> Iterator[io.StringIO]:
    """A terminal where ``keys`` are typed, with a pause at each ``|``; what appears on it, if a colour depth is given."""
    screen = io.StringIO()
    output = DummyOutput() if depth is None else Vt100_Output(screen, lambda: Size(40, 100), default_color_depth=depth)
    with create_pipe_input() as typed, create_app_session(input=typed, output=output):
        typist = threading.Thread(target=type_slowly, args=(keys, typed.send_text))
        typist.start()
        yield screen
        typist.join()


def type_slowly(keys: str, send: Callable[[str], None]) -> None:
    for number, part in enumerate(keys.split("|")):
        time.sleep(0.5 if number else 0)
        send(part)


def converse(linker: ToyLinker, tmp_path: Path) -> None:
    console = TerminalConsole(tmp_path / "history")
    session = Session(linker, console)
    console.attach(session)
    session.run()


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        ("Paris\r\x04", ["Paris"]),
        ("Paris\rc\rx\r-0.1\rn\rGeorgia\r:quit\r", ["Paris", "Georgia"]),
        ("half\x03Paris\r\x03\x03", ["Paris"]),
        ("\x03\x03Paris\r", []),
        ("Paris\rc\r\x04Georgia\r", ["Paris"]),
        ("Paris\rc\r\x03Georgia\r\x04", ["Paris", "Georgia"]),
        ("Paris\r|\x1b[A|\r\x04", ["Paris", "Paris"]),  # up: the earlier text
        ("City of L\t|?\r\x04", ["City of Light?"]),
        (":qu\t|\r", []),
        ("\x1b[200~Paris\nin Georgia\x1b[201~\r\x04", ["Paris\nin Georgia"]),  # pasted
    ],
)
def test_keys_typed_at_a_terminal(keys: str, texts: list[str], tmp_path: Path) -> None:
    linker = ToyLinker()
    with terminal(keys):
        converse(linker, tmp_path)
    assert linker.texts == texts


def test_colours_appear_and_no_color_turns_them_into_brackets(tmp_path: Path) -> None:
    with terminal("Paris\r\x04", ColorDepth.DEPTH_24_BIT) as screen:
        converse(ToyLinker(), tmp_path)
    assert "48;2;255;215;95mParis" in screen.getvalue()
    assert "[Paris]" not in screen.getvalue()
    with terminal("Paris\r\x04", ColorDepth.DEPTH_1_BIT) as screen:
        converse(ToyLinker(), tmp_path)
    assert "[Paris]" in screen.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*[34]8;", screen.getvalue())


def test_the_dialogue_on_a_terminal_has_the_prompts_of_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with terminal("Paris\rn\r\x04", ColorDepth.DEPTH_1_BIT) as screen:
        shell.run_dialogue(ToyLinker())
    assert "insert text: " in screen.getvalue()
    assert "Next question [n] / change threshold [c]: " in screen.getvalue()


class Tmux:
    """A tmux server of its own with one window."""

    def __init__(self, folder: Path, command: list[str], **environment: str) -> None:
        self._base = ["tmux", "-S", str(folder / "socket"), "-f", os.devnull]
        variables = [f"{name}={value}" for name, value in environment.items()]
        line = shlex.join(["env", "-u", "NO_COLOR", *variables, *command]) + "; echo status $?; exec sleep 600"
        self._run("new-session", "-d", "-x", "90", "-y", "40", line)

    def _run(self, *arguments: str) -> str:
        return subprocess.run([*self._base, *arguments], check=True, capture_output=True, text=True, timeout=20).stdout

    def type(self, text: str, *keys: str) -> None:
        self._run("send-keys", "-l", "--", text) if text else None
        for key in keys:
            self._run("send-keys", key)

    def wait_for(self, pattern: str, timeout_s: float = 60, colours: bool = False) -> str:
        end = time.monotonic() + timeout_s
        while True:
            screen = self._run("capture-pane", "-p", *(["-e"] if colours else []))
            if re.search(pattern, screen, re.M):
                return screen
            assert time.monotonic() < end, f"{pattern!r} did not appear on:\n{screen}"
            time.sleep(0.1)

    def close(self) -> None:
        self._run("kill-server")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_a_conversation_in_tmux(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "blink.apps.cli", "shell"]
    window = Tmux(tmp_path, ["env", "-C", str(root), *command], XDG_STATE_HOME=str(tmp_path), OMP_NUM_THREADS="1")
    try:
        window.wait_for(r"^text>", timeout_s=200)
        window.type("Does the Nile flow through Egypt?", "Enter")
        window.wait_for(r"^ \d  Egypt → Egypt  Q79  -\d\.\d{3}$")
        assert re.search(r"\x1b\[[0-9;]*48;[0-9;]*mEgypt", window.wait_for("^Does the ", colours=True))
        window.type(":explain 1", "Enter")
        window.wait_for(r"^    losing candidates, the first behind by")
        window.type("c", "Enter")
        window.wait_for(r"^new threshold:")
        window.type("-0.001", "Enter")
        window.wait_for(r"no links above -0.001; the best guess")
        window.type("half a text", "C-c")
        window.wait_for(r"^Ctrl-C once more")
        window.type(":wrong", "Enter")
        window.wait_for(r"^there is no command ':wrong'")
        window.type("", "C-c")
        window.wait_for(r"':wrong'(.|\n)*^Ctrl-C once more.*\n.*text>")
        window.type("", "C-c")
        screen = window.wait_for(r"^status 0$")
        assert "Traceback" not in screen
    finally:
        window.close()
    assert "Nile" in (tmp_path / "blink" / "history").read_text()
