"""Stops a run whose loss is NaN or infinite."""

from __future__ import annotations

import math

from blink.errors import BlinkError


class NotFinite(BlinkError):
    """A loss or score is NaN or infinite."""


def require_finite(loss: float, where: str, advice: str = "lower the learning rate, and start a new run") -> None:
    """Check a loss.

    Args:
        loss: the loss.
        where: name of the step, for the message.
        advice: next step for the user, for the message.

    Raises:
        NotFinite: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is {loss} at {where}; {advice}")
