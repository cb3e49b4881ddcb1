"""A terminal as a console, by prompt_toolkit: history, completion, colours and a toolbar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.apps.common import one_line
from blink.apps.shell.complete import Ending, completions
from blink.apps.shell.console import Cancelled
from blink.apps.shell.session import COMMANDS, LEAVING, LONG_TEXT, Session
from blink.explaining.render import ESCAPE, STYLE, Fragments
from blink.terminal import HOSTILE

if TYPE_CHECKING:
    from prompt_toolkit.auto_suggest import AutoSuggest
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.output import Output


class TerminalConsole:
    """A terminal, by prompt_toolkit: history, suggestions from it, completion, and a toolbar."""

    def __init__(self, history: Path | None = None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.application import get_app_session
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import DummyHistory
        from prompt_toolkit.styles import Style

        self._output = get_app_session().output
        _protect(self._output)
        self._style = Style.from_dict(STYLE if self.colour else {"title": "bold", "key": "bold", "prompt": "bold"})
        self._suggest: AutoSuggest = AutoSuggestFromHistory()
        self._texts: PromptSession[str] = PromptSession(
            history=open_history(history or history_file()), search_ignore_case=True
        )
        self._answers: PromptSession[str] = PromptSession(history=DummyHistory())
        self._toolbar: Callable[[], Any] | None = None
        self._completer: Completer | None = None

    def attach(self, session: Session) -> None:
        """Take toolbar and completion from a session."""

        def complete(line: str) -> list[Ending]:
            return completions(line, [] if line.startswith(":") else session.names, COMMANDS)

        self._completer = _completer(complete)
        self._toolbar = session.toolbar

    @property
    def width(self) -> int:
        """Columns."""
        return self._output.get_size().columns

    @property
    def colour(self) -> bool:
        """Whether the terminal shows colours and the user wants them (``NO_COLOR``)."""
        from prompt_toolkit.output import ColorDepth

        return self._output.get_default_color_depth() != ColorDepth.DEPTH_1_BIT

    @property
    def hyperlinks(self) -> bool:
        """Whether the terminal takes escapes of the form of xterm; those that know no links show the title alone."""
        from prompt_toolkit.output.vt100 import Vt100_Output

        return isinstance(self._output, Vt100_Output) and self._output.term not in (None, "dumb", "linux", "unknown")

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """A line typed."""
        from prompt_toolkit.filters import Condition

        session = self._texts if hint is None else self._answers
        try:
            return session.prompt(
                [("class:prompt", prompt)],
                style=self._style,
                bottom_toolbar=self._toolbar if hint is None else f" {hint}",
                completer=self._completer if hint is None else None,
                complete_while_typing=Condition(lambda: session.default_buffer.text.startswith(":")),
                auto_suggest=self._suggest if hint is None else None,
                enable_suspend=True,
            )
        except KeyboardInterrupt as stop:
            raise Cancelled(session.default_buffer.text) from stop

    def show(self, fragments: Fragments) -> None:
        """Print the fragments in colour."""
        from prompt_toolkit import print_formatted_text
        from prompt_toolkit.formatted_text import FormattedText

        if fragments:
            shown = [(style, text if style == ESCAPE else text.replace("\r", " ")) for style, text in fragments]
            print_formatted_text(FormattedText(shown), style=self._style, output=self._output, end="")


def _protect(output: Output) -> None:
    """Have what is typed, completed and shown written without hostile characters; codes are written by other methods."""
    write = output.write
    safe = partial(HOSTILE.sub, lambda match: "\r" if match[0] == "\r" else "?")  # prompt_toolkit writes returns itself
    setattr(output, "write", lambda text: write(safe(text)))  # noqa: B010 - one output, not its class


def _completer(complete: Callable[[str], list[Ending]]) -> Completer:
    """prompt_toolkit's form of `completions`."""
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Endings(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            for replaced, text, note in complete(document.text_before_cursor):
                yield Completion(text, start_position=-len(replaced), display_meta=one_line(note, 60))

    return Endings()


def history_file() -> Path | None:
    """File of earlier texts, in the user's state folder; None without a home folder."""
    with suppress(RuntimeError):
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "blink" / "history"
    return None


def open_history(path: Path | None) -> History:
    """Earlier texts, kept in a file that only the user reads; in memory where it cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Texts(FileHistory):
        def append_string(self, string: str) -> None:
            if string.strip() not in ("n", "c", *LEAVING, "") and len(string) <= LONG_TEXT:
                super().append_string(string)

        def store_string(self, string: str) -> None:
            with suppress(OSError, UnicodeError):  # a full disk costs the history, not the answer
                super().store_string(string)

    try:
        if path is None:
            return InMemoryHistory()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return Texts(str(path))
