"""Work in threads, one at a time, with a bounded line of those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from blink.serving.errors import OverloadedError, WaitedTooLongError

T = TypeVar("T")


class Turns:
    """Calls functions in a thread, one after the other.

    Args:
        purpose: what the functions do, for messages; a plural.
        max_waiting: calls that may wait.
        wait_s: seconds that a call waits at most.
    """

    def __init__(self, purpose: str, max_waiting: int, wait_s: float) -> None:
        self._purpose, self._max_waiting, self._wait_s = purpose, max_waiting, wait_s
        self._lock, self._n_waiting = asyncio.Lock(), 0

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function once all earlier calls are done.

        Raises:
            OverloadedError: too many wait already.
            WaitedTooLongError: the earlier ones took too long.
        """
        if self._n_waiting >= self._max_waiting:
            raise OverloadedError(f"{self._n_waiting} {self._purpose} wait already; try again in a second")
        self._n_waiting += 1
        try:
            await asyncio.wait_for(self._lock.acquire(), self._wait_s)
        except asyncio.TimeoutError:
            raise WaitedTooLongError(f"earlier {self._purpose} took longer than {self._wait_s:g} seconds; try again") from None
        finally:
            self._n_waiting -= 1
        try:
            return await run_in_threadpool(function)
        finally:
            self._lock.release()
