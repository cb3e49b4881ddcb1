"""Entry points: ``blink shell``, and the dialogue of the original's script."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from io import BufferedIOBase
from typing import Any, cast

from blink.apps.model_options import open_linker
from blink.apps.shell.bases import Bases
from blink.apps.shell.console import LineConsole, stdin_lines
from blink.apps.shell.session import Session
from blink.apps.shell.stream import link_stream
from blink.apps.shell.terminal import TerminalConsole
from blink.explaining.cards import DIALOGUE, PLAIN_DIALOGUE, SHELL, Look, banner
from blink.linking.linker import Linker


def run_shell(model: str | None, kb: str | None, threshold: float | None, batch_size: int, **options: Any) -> None:
    """Run ``blink shell``: a shell on a terminal; through a pipe, a JSON object per line of standard input.

    Args:
        model: model folder; by default the starter.
        kb: knowledge base folder; by default the starter's.
        threshold: score above which links are kept; by default the model's own.
        batch_size: texts (windows of long ones) that go through the model at once.
        options: those of `Linker`.

    Raises:
        BlinkError: the model cannot be opened, or a line of a pipe is no text.
    """
    if not sys.stdin.isatty():
        linker = open_linker(model, kb, threshold, **options)
        link_stream(linker, cast(BufferedIOBase, sys.stdin.buffer), batch_size)
        return
    linker = open_linker(model, kb, threshold, **options)
    bases = Bases(lambda folder: open_linker(model, folder, threshold, **options), model or "the starter")
    session = _on_terminal(linker, SHELL, batch_size, bases)
    example = "Did Mozart ever meet Beethoven in Vienna?" if model is None else None
    session.console.show(banner(len(linker.catalogue), example))
    session.run()


def run_dialogue(linker: Linker, *, lines: Iterable[str] | None = None) -> None:
    """Run the dialogue of ``main_dense_all_ents.py -i``: the shell on a terminal, else plain text from lines.

    Args:
        linker: links the texts.
        lines: what the user says; by default typed at the terminal, or the lines of standard input.
    """
    if lines is None and sys.stdin.isatty():
        _on_terminal(linker, DIALOGUE).run()
        return
    Session(linker, LineConsole(stdin_lines() if lines is None else lines), PLAIN_DIALOGUE).run()


def _on_terminal(linker: Linker, look: Look, batch_size: int = 64, bases: Bases | None = None) -> Session:
    console = TerminalConsole()
    session = Session(linker, console, look, batch_size=batch_size, bases=bases)
    console.attach(session)
    return session
