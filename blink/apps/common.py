"""What all commands share: one clear line for every error, and progress bars."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click

from blink.data.display import one_line as one_line
from blink.data.display import printable as printable
from blink.errors import BlinkError
from blink.progress import ProgressLines, TerminalBar, ending

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def guarded(command: Callable[[], Any], name: str) -> int:
    """Run a command; mistakes and failures of the machine become one line on standard error and an exit status."""
    _mend_streams()
    try:
        command()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _say(name, f"{error.format_message()}{_hint(error)}", USAGE)
    except BlinkError as error:
        return _say(name, str(error), FAILED)
    except (KeyboardInterrupt, click.Abort):
        return _say(name, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away; nothing more can be written, not even when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(name, f"{where}{error.strerror or error}; check the path, its permissions and the free disk space", FAILED)
    except MemoryError:
        return _say(name, "out of memory; use a smaller --batch-size, or less memory for the index", FAILED)
    return 0


def _mend_streams() -> None:
    """Make standard streams usable that were closed (``<&-``), and printable what their encoding lacks."""
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - for the whole process
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper) and output.errors == "strict":
            output.reconfigure(errors="replace")


def _say(name: str, message: str, status: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"{name}: {line}\n")
    return status


def _hint(error: click.ClickException) -> str:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f" (see: {error.ctx.command_path} --help)"
    return ""


class Bar:
    """Progress on standard error with rate and time left: a bar on a terminal, elsewhere the lines of `ProgressLines`."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        terminal = sys.stderr.isatty()
        self._stage = TerminalBar(name, total, unit, sys.stderr) if terminal else ProgressLines(name, total, unit, say)
        self.advance, self.reuse, self.note = self._stage.advance, self._stage.reuse, self._stage.note

    def close(self, *, completed: bool = True) -> None:
        """Finish the bar; ``completed`` is false where an error ends the stage."""
        self._stage.close(completed=completed)


def bar(name: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
    """A `Bar` that is closed at the end of the block."""
    return ending(Bar(name, total, unit))


def say(text: str) -> None:
    """A line about the work, on standard error, so that results on standard output stay clean."""
    sys.stderr.write(text + "\n")
