"""Worker processes that each open a linker once and link chunks; results come in the order of the chunks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any

from blink.bulk.rows import LinkedChunk
from blink.bulk.sources import Chunk
from blink.errors import BlinkError, SettingsError
from blink.machine import THREAD_VARIABLES, cores, free_bytes

ChunkLinker = Callable[[Chunk], LinkedChunk]
Opener = Callable[[Callable[[str], None]], ChunkLinker]
"""Opens a linker of chunks; its argument is called with warnings. It is pickled for worker processes."""

MAX_ATTEMPTS = 2
"""How often a chunk is tried whose worker was killed."""
AHEAD = 4
"""Chunks per worker that may be finished or in work before an earlier one."""
END_WAIT_S, POLL_S = 5.0, 0.5
AUTO, MAX_WORKERS = "auto", 1024
WORKER_BYTES = 1 << 30
"""Memory that a worker may take, for the number of workers of `AUTO`."""

_READY, _RESULT, _WARNING, _FAILURE = "ready", "result", "warning", "failure"


class WorkerError(BlinkError):
    """A worker process failed, or was killed repeatedly."""


@dataclass(frozen=True)
class Hooks:
    """What is called while chunks are linked.

    Attributes:
        warn: with each warning of a linker, once.
        begin: when the first linker is open.
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


class WorkerPool:
    """Links chunks in several processes.

    Args:
        opener: see `Opener`.
        count: number of processes.
        hooks: see `Hooks`.
    """

    def __init__(self, opener: Opener, count: int, hooks: Hooks) -> None:
        self._opener, self._count, self._hooks = opener, count, hooks
        self._threads = max(1, cores() // count)
        self._workers: list[_Worker] = []
        self._warnings: set[str] = set()
        self._failed_starts = 0

    def linked(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, LinkedChunk]]:
        """Link chunks; yields each with its rows, in their order.

        A chunk whose worker was killed is tried again in a new one.

        Raises:
            WorkerError: workers were killed `MAX_ATTEMPTS` times over the same chunk, or while they opened the linker.
            BlinkError: the linker cannot be opened.
        """
        try:
            self._workers = [self._start() for _ in range(self._count)]
            yield from self._in_order(chunks)
        finally:
            self._stop()

    def _in_order(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, LinkedChunk]]:
        source = _Source(chunks)
        results: dict[int, LinkedChunk] = {}
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

    def _hand_out(self, source: _Source, limit: int) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.number is None and (number := source.next_number(limit)) is not None:
                worker.number = number
                # A worker is sent a chunk only while it waits for one, so neither side waits for the other to read. One that
                # was killed meanwhile is noticed where its messages are received.
                with contextlib.suppress(OSError):
                    worker.connection.send(source.pending[number])

    def _receive(self, worker: _Worker, source: _Source, results: dict[int, LinkedChunk]) -> None:
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

    def _replace(self, worker: _Worker, source: _Source) -> None:
        """Start a worker for one that died, and give its chunk to the next."""
        worker.connection.close()
        worker.process.join(END_WAIT_S)
        code = worker.process.exitcode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        remedy = "out of memory, perhaps: give fewer --workers or a smaller --batch-size; the same command continues"
        if worker.number is None:
            self._failed_starts += 1
            if self._failed_starts > MAX_ATTEMPTS * self._count:
                raise WorkerError(f"worker processes are {how} before they link anything; {remedy}")
        elif source.failed(worker.number) >= MAX_ATTEMPTS:
            chunk = source.pending[worker.number]
            lines = f"lines {chunk.first_line:,} to {chunk.end.line:,}"
            raise WorkerError(f"the worker processes that linked {lines} were {how} {MAX_ATTEMPTS} times; {remedy}")
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


class _Source:
    """Chunks that are numbered, and remembered until their results are taken."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self.pending: dict[int, Chunk] = {}
        self.ended = False
        self.failure: BlinkError | None = None
        self._chunks, self._count = chunks, 0
        self._again: deque[int] = deque()
        self._failures: dict[int, int] = {}

    def next_number(self, limit: int) -> int | None:
        """Number of a chunk to link, below ``limit``; None where there is none now."""
        if self._again:
            return self._again.popleft()
        if self.ended or self._count >= limit:
            return None
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self.ended = True
            return None
        except BlinkError as error:  # what came before it is linked first
            self.ended, self.failure = True, error
            return None
        self._count += 1
        self.pending[self._count - 1] = chunk
        return self._count - 1

    def failed(self, number: int) -> int:
        """Note that the worker of a chunk died; returns how many did."""
        self._again.append(number)
        self._failures[number] = self._failures.get(number, 0) + 1
        return self._failures[number]


@contextlib.contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """What a process has from its beginning: its share of the threads, and that Ctrl-C is for its parent."""
    added = [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
        for name in added:
            del os.environ[name]


def _work(parent: connection.Connection, opener: Opener) -> None:
    """The main function of a worker. It ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        try:
            link = opener(lambda warning: parent.send((_WARNING, warning)))
            parent.send((_READY, None))
            while True:
                parent.send((_RESULT, link(parent.recv())))
        except (EOFError, BrokenPipeError, ConnectionError):
            raise
        except BlinkError as error:
            parent.send((_FAILURE, error))
        except Exception as error:
            parent.send((_FAILURE, WorkerError(f"a worker process failed: {type(error).__name__}: {error}")))


def linked_here(opener: Opener, chunks: Iterator[Chunk], hooks: Hooks) -> Iterator[tuple[Chunk, LinkedChunk]]:
    """Link chunks in this process; see `WorkerPool`."""
    link = opener(hooks.warn)
    hooks.begin()
    hooks.stop()
    for chunk in chunks:
        yield chunk, link(chunk)
