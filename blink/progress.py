"""What long work reports to its caller, who may draw a bar of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias


class Progress(Protocol):
    """The progress of one stage."""

    def advance(self, count: int = 1) -> None:
        """``count`` more units are finished."""

    def note(self, text: str) -> None:
        """Replace the remark on the stage, such as a loss."""


Bars: TypeAlias = Callable[[str, "int | None", str], AbstractContextManager[Progress]]
"""Begins a stage: its name, its number of units or None, and the unit. The stage ends with the context."""


class _NoProgress:
    def advance(self, count: int = 1) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""


def no_bars(name: str, total: int | None, unit: str) -> AbstractContextManager[Progress]:
    """A stage whose progress nobody watches."""
    return contextlib.nullcontext(_NoProgress())
