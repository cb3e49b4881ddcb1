"""Signals that stop a run. The run finishes its step and saves its state before it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from blink.errors import BlinkError
from blink.stopping import handled

BEFORE_LIMIT = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))
"""The signal that Slurm sends before the time limit."""


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
    """Handle Ctrl-C, kill, the end of the terminal and Slurm's signal inside the block; no effect outside the main thread."""
    signals = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    with handled(signals.take, *BEFORE_LIMIT):
        yield signals
