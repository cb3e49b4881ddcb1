"""What a run reports while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Progress:
    """Hooks for a progress bar and messages; the defaults do nothing.

    Attributes:
        start: gets the steps of the whole run and those already done.
        step: gets what to show after each step, such as ``{"loss": 0.31}``.
        validated: gets the row of each validation, as the trace holds it.
        say: gets a line of text for the user.
    """

    start: Callable[[int, int], None] = lambda total, done: None
    step: Callable[[Mapping[str, float]], None] = lambda shown: None
    validated: Callable[[Mapping[str, Any]], None] = lambda row: None
    say: Callable[[str], None] = lambda line: None
