"""The shell on a terminal: keys, colours, history, and a conversation in tmux."""

from __future__ import annotations

import io
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
from pathlib import Path
from types import SimpleNamespace

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import ColorDepth, DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output
from shell_toys import ToyLinker

from blink.apps.shell.run import run_dialogue
from blink.apps.shell.session import Session
from blink.apps.shell.terminal import TerminalConsole, history_file, open_history


def test_history_is_private_keeps_texts_and_survives_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    history = open_history(path)
    for line in ("Paris", "n", "c", " ", "x" * 20_000, "half \udcff"):
        history.append_string(line)
    assert path.stat().st_mode & 0o077 == 0
    texts = list(open_history(path).load_history_strings())
    assert texts[-1] == "Paris"
    assert len(texts) <= 2
    path.unlink()
    path.mkdir()
    history.append_string("Rome")  # no error
    assert "Rome" in history.get_strings()
    assert type(open_history(path)).__name__ == "InMemoryHistory"
    assert type(open_history(None)).__name__ == "InMemoryHistory"


def test_the_history_lies_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "blink" / "history"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_file() == tmp_path / ".local" / "state" / "blink" / "history"


@contextmanager
def terminal(keys: str, depth: ColorDepth | None = None, term: str | None = None) -> Iterator[io.StringIO]:
    """A terminal where ``keys`` are typed, with a pause at each ``|``; what appears on it, if a colour depth is given."""
    screen = io.StringIO()
    output = DummyOutput() if depth is None else Vt100_Output(screen, lambda: Size(40, 100), term, depth)
    with create_pipe_input() as typed, create_app_session(input=typed, output=output):
        typist = threading.Thread(target=type_slowly, args=(keys, typed.send_text))
        typist.start()
        yield screen
        typist.join()


def type_slowly(keys: str, send: Callable[[str], None]) -> None:
    for number, chunk in enumerate(keys.split("|")):
        time.sleep(1.5 if number else 0)  # a busy machine loads the history late
        send(chunk)


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
        ("Paris\rquit\rGeorgia\r", ["Paris"]),
        ("q\rParis\r", []),
        (" exit\r\x04", [" exit"]),  # a text
        ("Paris in Georgia\rn\r|\x12pArIs IN|\r\r\x04", ["Paris in Georgia"] * 2),  # Ctrl-R, in another case
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


@pytest.mark.parametrize(("term", "opens"), [("xterm-256color", True), ("dumb", False), (None, False)])
def test_titles_open_addresses_where_the_terminal_can(term: str | None, opens: bool, tmp_path: Path) -> None:
    with terminal("Paris\r\x04", ColorDepth.DEPTH_24_BIT, term) as screen:
        converse(ToyLinker(), tmp_path)
    assert ("\x1b]8;;https://x.org/Paris\x1b\\" in screen.getvalue()) == opens
    assert screen.getvalue().count("\x1b]8;;\x1b\\") == screen.getvalue().count("\x1b]8;;http")


def test_the_dialogue_on_a_terminal_has_the_prompts_of_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    for leaving in ("\x04", "q\r", "quit\r", "exit \r"):
        with terminal(f"Paris\rn\r{leaving}", ColorDepth.DEPTH_1_BIT) as screen:
            run_dialogue(linker := ToyLinker())
        assert "insert text (q quits): " in screen.getvalue()
        assert "Next question [n] / change threshold [c] / quit [q]: " in screen.getvalue()
        assert linker.texts == ["Paris"]


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
        window.wait_for("^BLINK: opening the model", timeout_s=200)
        window.type("Does the Nile flow through Egypt?", "Enter")  # before there is a prompt
        window.wait_for(r"^ \d  Egypt → Egypt  Q79  -?\d\.\d{3}$", timeout_s=200)
        assert re.search(r"\x1b\[[0-9;]*48;[0-9;]*mEgypt", window.wait_for("^Does the ", colours=True))
        window.type(":explain 1", "Enter")
        window.wait_for(r"^    losing candidates, the first behind by")
        window.type("c", "Enter")
        window.wait_for(r"^new threshold:")
        window.type("1", "Enter")  # above any log-probability, and any probability
        window.wait_for(r"no links above 1; the best guess")
        window.type(":kb", "Enter")
        window.wait_for(r"^  knowledge base  .*starter-kb$")
        window.wait_for(r"^  prior .*prior.safetensors$")
        window.type("half a text", "C-c")
        window.wait_for(r"^Ctrl-C once more")
        window.type(":bogus", "Enter")
        window.wait_for(r"^there is no command ':bogus'")
        window.type("", "C-c")
        window.wait_for(r"':bogus'(.|\n)*^Ctrl-C once more.*\n.*text>")
        window.type("", "C-c")
        screen = window.wait_for(r"^status 0$")
        assert "Traceback" not in screen
    finally:
        window.close()
    assert "Nile" in (tmp_path / "blink" / "history").read_text()
