"""Input and output of the shell: the interface, and its plain form for pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Protocol

from blink.apps.common import printable
from blink.explaining.render import Fragments


class Console(Protocol):
    """Reads lines and prints fragments."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def colour(self) -> bool:
        """Whether colours are shown."""

    @property
    def hyperlinks(self) -> bool:
        """Whether it opens links, see `blink.explaining.render.hyperlinked`."""

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """A line from the user. With ``hint``, which the toolbar shows, the line is not added to the history.

        Raises:
            EOFError: there are no more.
            Cancelled: Ctrl-C.
        """

    def show(self, fragments: Fragments) -> None:
        """Print fragments, which include their line ends."""


class Cancelled(Exception):
    """Ctrl-C was pressed at a prompt; ``line`` is the typed text."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


class LineConsole:
    """Lines from an iterable, plain text to standard output; input is echoed, so that the output reads as a dialogue."""

    width = 10_000  # an error stays on one line
    colour = False
    hyperlinks = False

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """The next line."""
        _write(prompt)
        line = next(self._lines, None)
        _write((printable(line) if line is not None else "") + "\n")
        if line is None:
            raise EOFError
        return line

    def show(self, fragments: Fragments) -> None:
        """Write the text of the fragments."""
        _write("".join(text for _, text in fragments))


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def stdin_lines() -> Iterator[str]:
    """The lines of standard input; bytes that are not UTF-8 become lone surrogates, which the session refuses."""
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
