"""Hooks for the progress of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from blink.progress import Bars, no_bars


@dataclass
class Progress:
    """Hooks for a progress bar and messages; the defaults do nothing.

    Attributes:
        start: called with the steps of the whole run and those already done.
        step: called after each step with the values to display, such as ``{"loss": 0.31}``.
        validated: called with the row of each validation, as in the trace.
        say: called with a line of text for the user.
        bars: opens the progress of other stages than steps, such as reading.
    """

    start: Callable[[int, int], None] = lambda total, done: None
    step: Callable[[Mapping[str, float]], None] = lambda values: None
    validated: Callable[[Mapping[str, Any]], None] = lambda row: None
    say: Callable[[str], None] = lambda line: None
    bars: Bars = no_bars
