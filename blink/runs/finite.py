"""Losses that are not numbers end a run."""

from __future__ import annotations

import math

from blink.errors import BlinkError


class NotFinite(BlinkError):
    """A loss or score is infinite or not a number."""


def require_finite(loss: float, where: str, advice: str = "lower the learning rate, and begin a new run") -> None:
    """Stop a run whose loss is not a number.

    Args:
        loss: the loss.
        where: names the step.
        advice: what to do then.

    Raises:
        NotFinite: it is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is {loss} at {where}; {advice}")
