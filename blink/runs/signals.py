"""Signals that stop a run. The run finishes its step and saves its state before it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from blink.errors import BlinkError

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, kill, and the signal that Slurm sends before the time limit."""


class Interrupted(BlinkError):
    """A signal ended a run, which has saved its state.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class StopSignals:
    """The signal received so far.

    Attributes:
        received: number of the received signal; 0 before any.
        urgent: whether a signal raises `Interrupted` at once, because the state is saved already.
    """

    def __init__(self) -> None:
        self.received = 0
        self.urgent = False

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. A second Ctrl-C ends the process without waiting for the step."""
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if self.urgent:
            raise Interrupted("interrupted", number)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Handle the signals `STOPPING` inside the block; no effect outside the main thread, where Python receives no signals."""
    signals = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.take) for number in STOPPING}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StoppedBySignal(BaseException):
    """A signal stops work at once. It is no `Exception`, so that nothing takes it for a failure of the work.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.signal = number


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `StoppedBySignal` inside the block; no effect outside the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedBySignal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
