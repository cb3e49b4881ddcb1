"""What all commands share: one clear line for every error, and progress bars."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click

from blink.data.display import one_line as one_line
from blink.data.display import printable as printable
from blink.errors import BlinkError
from blink.extras import missing_extra
from blink.progress import ProgressLines, TerminalBar, ending
from blink.stopping import StoppedBySignal, flush_or_discard, flushed_output, how_ended, signals_raise, without_reader
from blink.terminal import escaped, escaped_line, protect_streams, shortened

FAILED, USAGE, INTERRUPTED = 1, 2, 130
OPTIONS = "[OPTIONS]"
"""How click writes that a command takes options."""


def guarded(command: Callable[[], Any], name: str) -> int:
    """Run a command; mistakes and failures of the machine become one line on standard error and an exit status."""
    protect_streams()
    output = sys.stdout
    try:
        with signals_raise(program=name, keyboard=True), flushed_output():
            command()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            click.echo(error.format_message())  # a group without a command: its help, which is no mistake
            return 0
        return _say(name, f"{_mistake(error)}{_hint(error)}", USAGE)
    except click.ClickException as error:
        return _say(name, error.format_message(), USAGE)
    except BlinkError as error:
        return _say(name, str(error), FAILED)
    except (KeyboardInterrupt, click.Abort):
        flush_or_discard()
        return _say(name, "interrupted", INTERRUPTED)
    except StoppedBySignal as stopped:
        flush_or_discard()
        return _say(name, how_ended(stopped.signal), 128 + stopped.signal)
    except BrokenPipeError:
        return without_reader()
    except SystemExit:
        if sys.stdout is output:
            raise
        return without_reader()  # click put another stream there for this reason alone
    except OSError as error:
        flush_or_discard()  # a full disk would be said again at the end, by Python
        where = f"{error.filename}: " if error.filename else ""
        return _say(name, f"{where}{error.strerror or error}; check the path, its permissions and the free disk space", FAILED)
    except ImportError as error:
        missing = missing_extra(error)
        if missing is None:  # a damaged installation, or a mistake of ours
            raise
        return _say(name, missing, FAILED)
    except UnicodeEncodeError as error:  # a lone surrogate stands for a byte of a name that is not UTF-8
        around = error.object[max(error.start - 40, 0) : error.end + 20]
        return _say(name, f"a name with {around!r} is not UTF-8, which is written here; rename the file or folder", FAILED)
    except MemoryError:
        return _say(name, "out of memory; use a smaller --batch-size, or less memory for the index", FAILED)
    return 0


def _say(name: str, message: str, status: int) -> int:
    with contextlib.suppress(OSError):  # its reader went away too
        say(shortened(escaped_line(f"{name}: {message}")))
    return status


def _mistake(error: click.UsageError) -> str:
    """The message, and where something is missing or begins with a dash, how the command is called."""
    message = error.format_message()
    takes_arguments = error.ctx is not None and any(isinstance(p, click.Argument) for p in error.ctx.command.params)
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and takes_arguments and not error.possibilities:
        option = error.option_name  # of short ones in one word, such as -5d, the first that there is not
        given = next((a for a in sys.argv[1:] if a.startswith(option) or (a[:1] == "-" != a[1:2] and option[1:] in a)), option)
        return f"{message.rstrip('.')}; give what begins with a dash after --: {error.ctx.command_path} -- {shlex.quote(given)}"
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        return f"{message.rstrip('.')}; usage: {_usage(error.ctx)}"
    return message


def _usage(context: click.Context) -> str:
    """How a command is called: its arguments, and the options that it requires."""
    required = [p for p in context.command.get_params(context) if isinstance(p, click.Option) and p.required]
    arguments = [name for name in context.command.collect_usage_pieces(context) if name != OPTIONS]
    options = [max(p.opts, key=len) + ("" if p.is_flag else f" {p.metavar or p.type.name.upper()}") for p in required]
    return " ".join([context.command_path, *arguments, *options, OPTIONS])


def _hint(error: click.UsageError) -> str:
    return "" if error.ctx is None else f" (see: {error.ctx.command_path} --help)"


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
    sys.stderr.write(escaped(text) + "\n")
