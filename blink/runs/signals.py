"""Signals that ask a run to stop: it finishes its step and saves, then ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from blink.errors import BlinkError

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, kill, and what Slurm sends before the time limit."""


class Interrupted(BlinkError):
    """A signal ended a run, which has saved its state.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class StopSignals:
    """What was asked for.

    Attributes:
        received: number of the signal that came; 0 while none has.
        urgent: whether a signal ends the work at once, by `Interrupted`: where all is saved already.
    """

    def __init__(self) -> None:
        self.received = 0
        self.urgent = False

    def take(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a second Ctrl-C ends the process without waiting for the step."""
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if self.urgent:
            raise Interrupted("interrupted", number)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Listen to `STOPPING` inside the block; outside the main thread, where Python takes no signals, to nothing."""
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
