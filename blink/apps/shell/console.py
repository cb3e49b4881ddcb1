"""Where lines come from and where answers go: the interface, and its plain form for pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Protocol

from blink.apps.common import printable
from blink.apps.shell.render import Fragments


class Console(Protocol):
    """Where lines come from and where fragments go."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def colour(self) -> bool:
        """Whether colours are shown."""

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """A line from the user. With ``hint``, which stands in the toolbar then, it does not go into the history.

        Raises:
            EOFError: there are no more.
            Cancelled: Ctrl-C.
        """

    def show(self, fragments: Fragments) -> None:
        """Bring fragments to the screen; they hold their line ends."""


class Cancelled(Exception):
    """Ctrl-C was pressed at a prompt; ``line`` is what stood there."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


class LineConsole:
    """Lines from an iterable, plain text to standard output; what was said is echoed, so that it reads as a dialogue."""

    width = 10_000  # an error stays on one line
    colour = False

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
    """The lines of standard input; bytes that are not UTF-8 become lone surrogates, which the session refuses politely."""
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
