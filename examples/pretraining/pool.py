"""Maps a function over jobs in several processes, with ordered results and bounded memory."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from blink.errors import SettingsError

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 2
"""Queued jobs per process."""


def spread(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    size: int,
    setup: Callable[..., None] | None = None,
    setup_arguments: Any = (),
) -> Iterator[Result]:
    """Yield ``work(job)`` for each job, in their order, from ``size`` processes; with one, from this process.

    Args:
        work: a module-level function, as processes are spawned.
        jobs: consumed lazily.
        size: number of processes.
        setup: called with ``setup_arguments`` once in each process, before its first job.
        setup_arguments: arguments of ``setup``.

    Raises:
        SettingsError: a process died, most often out of memory.
    """
    if size == 1:
        if setup is not None:
            setup(*setup_arguments)
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(size, multiprocessing.get_context("spawn"), setup, tuple(setup_arguments)) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) >= AHEAD * size:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise SettingsError("a process of the pool died, perhaps out of memory; lower --pool-size") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
