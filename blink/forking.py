"""What a forked process computes with: the threads of its parent did not come along, and whoever waits for them hangs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

Opened = TypeVar("Opened")

_OF_PARENTS: list[Any] = []
"""What processes opened that this one was forked from: closing it would wait for its threads."""


@cache
def one_thread_when_forked(module: str, setter: str) -> None:
    """Let a library of OpenMP compute with one thread in forked processes, which needs no team of threads.

    Args:
        module: name of the library, which is imported already.
        setter: its function that sets the number of threads.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: getattr(sys.modules[module], setter)(1))


class OpenedByProcess(Generic[Opened]):
    """Something with threads of its own, which a forked process opens again at its first use.

    Args:
        opens: opens it; its argument says whether this is a forked process. It is called at once, too.
    """

    def __init__(self, opens: Callable[[bool], Opened]) -> None:
        self._opens = opens
        self._opened, self._process = opens(False), os.getpid()

    def get(self) -> Opened:
        """What is open in this process."""
        if self._process != os.getpid():
            _OF_PARENTS.append(self._opened)
            self._opened, self._process = self._opens(True), os.getpid()
        return self._opened
