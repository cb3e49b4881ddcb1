"""Worker processes that each prepare once and then work tasks off; results come in the order of the tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any, Generic, TypeAlias, TypeVar

from blink.errors import BlinkError, SettingsError
from blink.machine import THREAD_VARIABLES, cores, free_bytes
from blink.terminal import protect_streams

Task = TypeVar("Task")
Result = TypeVar("Result")
Opener: TypeAlias = Callable[[Callable[[str], None]], Callable[[Task], Result]]
"""Prepares a worker and returns what works a task off; its argument is called with warnings. It is pickled for processes."""

MAX_ATTEMPTS = 2
"""How often a task is tried whose worker was killed."""
AHEAD = 4
"""Tasks per worker that may be finished or in work before an earlier one."""
END_WAIT_S, POLL_S = 5.0, 0.5
AUTO, MAX_WORKERS = "auto", 1024
WORKER_BYTES = 1 << 30
"""Memory that a worker may take, for the number of workers of `AUTO`."""

OF_TERMINALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
"""Signals that a terminal sends to all its processes; the parent then ends the others."""

_READY, _RESULT, _WARNING, _FAILURE = "ready", "result", "warning", "failure"


class WorkerError(BlinkError):
    """A worker process failed, or was killed repeatedly."""


@dataclass(frozen=True)
class Hooks:
    """What is called while tasks are worked off.

    Attributes:
        warn: with each warning of a worker, once.
        begin: when the first worker is ready.
        stop: again and again; it raises an error to stop.
    """

    warn: Callable[[str], None]
    begin: Callable[[], None]
    stop: Callable[[], None]


@dataclass
class _Worker:
    """A worker process, as its parent sees it."""

    process: Any
    connection: connection.Connection
    is_ready: bool = False
    number: int | None = None


def worker_count(workers: str, device: str | None = None) -> int:
    """The number of processes that an option asks for.

    Args:
        workers: a number, or ``auto``: a process for each core as far as memory goes, and one on a GPU.
        device: where the model runs.

    Raises:
        SettingsError: it is neither.
    """
    if workers == AUTO:
        if device not in (None, "cpu"):
            return 1
        free = free_bytes()
        return cores() if free is None else max(1, min(cores(), free // WORKER_BYTES))
    if not workers.isdecimal() or not 1 <= int(workers) <= MAX_WORKERS:
        raise SettingsError(f"--workers is {workers!r}; give a number from 1 to {MAX_WORKERS}, or {AUTO}")
    return int(workers)


class WorkerPool(Generic[Task, Result]):
    """Works tasks off in several processes.

    Args:
        opener: see `Opener`.
        count: number of processes.
        hooks: see `Hooks`.
        describe: what a worker did with a task, for messages, such as ``linked lines 1 to 9``.
        remedy: what to do when workers are killed repeatedly.
    """

    def __init__(
        self, opener: Opener[Task, Result], count: int, hooks: Hooks, describe: Callable[[Task], str], remedy: str
    ) -> None:
        self._opener, self._count, self._hooks = opener, count, hooks
        self._describe, self._remedy = describe, remedy
        self._threads = max(1, cores() // count)
        self._workers: list[_Worker] = []
        self._warnings: set[str] = set()
        self._failed_starts = 0

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """Work tasks off; yields each with its result, in their order.

        A task whose worker was killed is tried again in a new one.

        Raises:
            WorkerError: workers were killed `MAX_ATTEMPTS` times over the same task, or before they were ready.
            BlinkError: a worker cannot be prepared, or fails; or the tasks end in one, after those before it.
        """
        try:
            self._workers = [self._start() for _ in range(self._count)]
            yield from self._in_order(tasks)
        finally:
            self._stop()

    def _in_order(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        source = _Source(iter(tasks))
        results: dict[int, Result] = {}
        emitted = 0
        while True:
            self._hand_out(source, emitted + AHEAD * self._count)
            while emitted in results:
                yield source.pending.pop(emitted), results.pop(emitted)
                emitted += 1
                self._hand_out(source, emitted + AHEAD * self._count)
            if source.ended and not source.pending:
                break
            by_connection = {worker.connection: worker for worker in self._workers}
            self._hooks.stop()
            for ready in connection.wait(list(by_connection), POLL_S):
                assert isinstance(ready, connection.Connection)
                self._receive(by_connection[ready], source, results)
        if source.failure is not None:
            raise source.failure

    def _hand_out(self, source: _Source[Task], limit: int) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.number is None and (number := source.next_number(limit)) is not None:
                worker.number = number
                # A worker is sent a task only while it waits for one, so neither side waits for the other to read. One that
                # was killed meanwhile is noticed where its messages are received.
                with contextlib.suppress(OSError):
                    worker.connection.send(source.pending[number])

    def _receive(self, worker: _Worker, source: _Source[Task], results: dict[int, Result]) -> None:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, source)
            return
        if kind == _READY:
            if not any(other.is_ready for other in self._workers):
                self._hooks.begin()
            worker.is_ready = True
        elif kind == _RESULT:
            assert worker.number is not None
            results[worker.number], worker.number = content, None
        elif kind == _WARNING:
            if content not in self._warnings:
                self._warnings.add(content)
                self._hooks.warn(content)
        else:
            raise content

    def _replace(self, worker: _Worker, source: _Source[Task]) -> None:
        """Start a worker for one that died, and give its task to the next."""
        worker.connection.close()
        worker.process.join(END_WAIT_S)
        code = worker.process.exitcode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        if worker.number is None:
            self._failed_starts += 1
            if self._failed_starts > MAX_ATTEMPTS * self._count:
                raise WorkerError(f"worker processes are {how} before they do anything; {self._remedy}")
        elif source.failed(worker.number) >= MAX_ATTEMPTS:
            task = self._describe(source.pending[worker.number])
            raise WorkerError(f"the worker processes that {task} were {how} {MAX_ATTEMPTS} times; {self._remedy}")
        self._workers[self._workers.index(worker)] = self._start()

    def _start(self) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._opener), daemon=True)
        with _inherited(self._threads):
            process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        return _Worker(process, ours)

    def _stop(self) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(END_WAIT_S)
            worker.process.kill()
            worker.process.join()


class _Source(Generic[Task]):
    """Tasks that are numbered, and remembered until their results are taken."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self.pending: dict[int, Task] = {}
        self.ended = False
        self.failure: BlinkError | None = None
        self._tasks, self._count = tasks, 0
        self._again: deque[int] = deque()
        self._failures: dict[int, int] = {}

    def next_number(self, limit: int) -> int | None:
        """Number of a task to work off, below ``limit``; None where there is none now."""
        if self._again:
            return self._again.popleft()
        if self.ended or self._count >= limit:
            return None
        try:
            task = next(self._tasks)
        except StopIteration:
            self.ended = True
            return None
        except BlinkError as error:  # what came before it is done first
            self.ended, self.failure = True, error
            return None
        self._count += 1
        self.pending[self._count - 1] = task
        return self._count - 1

    def failed(self, number: int) -> int:
        """Note that the worker of a task died; returns how many did."""
        self._again.append(number)
        self._failures[number] = self._failures.get(number, 0) + 1
        return self._failures[number]


@contextlib.contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """What a process has from its beginning: its share of the threads, and that signals of the terminal are for its parent."""
    added = [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in OF_TERMINALS} if in_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for name in added:
            del os.environ[name]


def _work(parent: connection.Connection, opener: Opener[Any, Any]) -> None:
    """The main function of a worker. It ends with its parent."""
    protect_streams()
    for number in OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        try:
            work = opener(lambda warning: parent.send((_WARNING, warning)))
            parent.send((_READY, None))
            while True:
                parent.send((_RESULT, work(parent.recv())))
        except (EOFError, BrokenPipeError, ConnectionError):
            raise
        except BlinkError as error:
            parent.send((_FAILURE, error))
        except Exception as error:
            parent.send((_FAILURE, WorkerError(f"a worker process failed: {type(error).__name__}: {error}")))


def results_here(opener: Opener[Task, Result], tasks: Iterable[Task], hooks: Hooks) -> Iterator[tuple[Task, Result]]:
    """Work tasks off in this process; see `WorkerPool`."""
    work = opener(hooks.warn)
    hooks.begin()
    hooks.stop()
    for task in tasks:
        yield task, work(task)
