"""How a process ends when a signal tells it to: quietly, after whole lines, with the status that the convention gives it.

A command ends in three ways. While its program is imported, at once (`program`); then by an exception, so that files that are
being written are removed and locks are released (`signals_raise`); in the midst of a line that it prints, after that line
(`whole_output`). What saves its state first, such as training, handles signals itself, see `blink.runs.signals`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

TYPE_CHECKING = False  # of `typing`: until this module is imported, Ctrl-C is a traceback
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

ENDINGS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
"""Signals that end a process, and how it then ended. Not all systems have all of them."""
BROKEN_PIPE = 128 + 13
"""Exit status of a process whose reader went away: that of SIGPIPE."""
OUTPUT_WAIT_S = 1.0
"""Seconds for which a signal waits for the reader of a line that is half written."""
_IMPORTER = "<frozen importlib._bootstrap>"


class StoppedBySignal(BaseException):
    """A signal stops work at once. It is no `Exception`, so that nothing takes it for a failure of the work.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.signal = number


class _Process:
    """What a signal needs to know of this process."""

    name = "blink"
    writes = False
    """Whether a line is being printed."""
    postponed = 0
    """The signal that came meanwhile."""


def how_ended(number: int) -> str:
    """How a process ended that a signal stopped, such as ``interrupted``."""
    return ENDINGS.get(signal.Signals(number).name, f"stopped by signal {number}")


def program(name: str, target: str) -> Callable[..., Any]:
    """Import what a program runs. Until that handles signals itself, Ctrl-C ends the process with a line.

    Args:
        name: of the program, for that line.
        target: ``module:function``.
    """
    _Process.name = name
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background of a script
        signal.signal(signal.SIGINT, _end)
    from importlib import import_module

    module, _, function = target.partition(":")
    imported: Callable[..., Any] = getattr(import_module(module), function)
    return imported


@contextlib.contextmanager
def signals_raise(*, program: str | None = None, keyboard: bool = False) -> Iterator[None]:
    """Let the signals of `ENDINGS` that are not ignored raise `StoppedBySignal` inside the block.

    During an import, which would take an exception for a failure of its own, the process ends at once. No effect outside the
    main thread, which alone has signals.

    Args:
        program: its name, for the line that ends it.
        keyboard: let Ctrl-C raise `KeyboardInterrupt`, as it does in Python.
    """
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Process.name = program or _Process.name

    def take(number: int, frame: FrameType | None) -> None:
        if _Process.writes and not _Process.postponed and _has_reader():
            _Process.postponed = number
            return
        if _is_importing(frame):
            _end(number, frame)
        raise KeyboardInterrupt if keyboard and number == signal.SIGINT else StoppedBySignal(number)

    with handled(take):
        yield


@contextlib.contextmanager
def handled(take: Callable[[int, FrameType | None], Any], *more: int) -> Iterator[None]:
    """Call ``take`` inside the block for the signals of `ENDINGS` and ``more``, as far as they are not ignored.

    A process that ``nohup`` started lives on when its terminal is gone, because it ignores SIGHUP.
    """
    numbers = (*(getattr(signal, name) for name in ENDINGS if hasattr(signal, name)), *more)
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, take)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def whole_output() -> Iterator[None]:
    """Let a signal take effect at the end of the block, which prints: what it writes on standard output is written whole.

    A reader that does not read for `OUTPUT_WAIT_S` is not waited for.
    """
    _Process.writes = True
    try:
        yield
    finally:
        _Process.writes = False
        number, _Process.postponed = _Process.postponed, 0
        if number:
            signal.raise_signal(number)


@contextlib.contextmanager
def flushed_output() -> Iterator[None]:
    """Flush standard output at the end of the block, also where it ends the process: Python prints errors of its own flush."""
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def flush_or_discard() -> None:
    """Flush standard output after a signal, or discard what its reader does not take, for which Python would wait for ever."""
    with contextlib.suppress(OSError, ValueError):
        if _has_reader():
            sys.stdout.flush()
            return
    without_reader(flush=False)


def without_reader(*, flush: bool = True) -> int:
    """Discard what is still printed, since the reader of the output is gone; returns the exit status of that.

    Args:
        flush: only for streams that cannot be written to.
    """
    for stream in (sys.stdout, sys.stderr) if flush else (sys.stdout,):
        with contextlib.suppress(AttributeError, ValueError):  # closed, or none
            try:
                if flush:
                    stream.flush()
                    continue
            except OSError:
                pass
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return BROKEN_PIPE


def _has_reader() -> bool:
    """Whether standard output takes what is written, now or soon."""
    import select

    try:
        return bool(select.select([], [sys.stdout.fileno()], [], OUTPUT_WAIT_S)[1])
    except (OSError, ValueError):  # no file, or one of a system that waits for none
        return True


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER:
            return True
        frame = frame.f_back
    return False


def _end(number: int, frame: FrameType | None) -> None:
    """End the process at once: no exception is raised, which an import may swallow or print."""
    with contextlib.suppress(Exception):  # it may be in use
        if _has_reader():
            sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{_Process.name}: {how_ended(number)}\n".encode())
    os._exit(128 + number)
