"""Draw docs/shell.svg: the real shell, driven in a terminal of tmux, as a picture for the README."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from blink.files import atomic_open

ROOT = Path(__file__).resolve().parents[1]
TEXT = "Freddie Mercury sang for Queen, and the Nile flows through Egypt."
PROMPT = "text>"
START_TIMEOUT_S = 120


def tmux(*arguments: str) -> str:
    """Standard output of a tmux command."""
    return subprocess.run(["tmux", *arguments], capture_output=True, text=True, check=True).stdout


def wait_for_prompts(session: str, count: int) -> None:
    """Wait until the screen shows the prompt this often.

    Raises:
        TimeoutError: the shell did not answer in `START_TIMEOUT_S` seconds.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while tmux("capture-pane", "-t", session, "-p", "-S", "-").count(PROMPT) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the shell showed no prompt in {START_TIMEOUT_S} s")
        time.sleep(0.2)


def capture(lines: list[str], columns: int, rows: int) -> str:
    """The screen, with its escape sequences, after each line was typed and answered."""
    session = "blink-picture"
    command = f"cd {shlex.quote(str(ROOT))} && {shlex.quote(sys.executable)} -m blink.apps.cli shell"
    tmux("new-session", "-d", "-s", session, "-x", str(columns), "-y", str(rows), command)
    try:
        wait_for_prompts(session, 1)
        for answered, line in enumerate(lines, 2):
            tmux("send-keys", "-t", session, "-l", line)
            tmux("send-keys", "-t", session, "Enter")
            wait_for_prompts(session, answered)
        return tmux("capture-pane", "-t", session, "-e", "-p")
    finally:
        tmux("kill-session", "-t", session)


def to_svg(screen: str, columns: int) -> str:
    """The screen as SVG. Its font is the reader's own monospace: a picture must not load anything."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen.rstrip()), soft_wrap=True)
    svg = console.export_svg(title="blink shell", unique_id="shell")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.replace("Fira Code", "ui-monospace").splitlines()) + "\n"


@click.command()
@click.option("--out", default="docs/shell.svg", show_default=True, help="The picture.")
@click.option("--columns", default=92, show_default=True, help="Width of the terminal, in characters.")
@click.option("--rows", default=24, show_default=True, help="Height of the terminal, in lines.")
@click.argument("lines", nargs=-1)
def main(out: str, columns: int, rows: int, lines: tuple[str, ...]) -> None:
    """Type LINES into the shell and draw its screen (needs tmux)."""
    screen = capture(list(lines) or [TEXT], columns, rows)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(out) as f:
        f.write(to_svg(screen, columns))
    click.echo(out)


if __name__ == "__main__":
    main()
