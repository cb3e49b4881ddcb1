"""Worker processes that listen on one socket: one that ends is replaced, and a signal ends all of them in order."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from types import FrameType
from typing import Any

from blink.errors import BlinkError
from blink.stopping import handled
from blink.terminal import protect_streams
from blink.workers import OF_TERMINALS

FAILED = 3
"""Exit status of a worker that could not open its linker: another would fail alike."""
SHORT_LIFE_S, LONGEST_PAUSE_S = 10.0, 30.0
"""A worker that lived shorter is replaced after a pause, which doubles each time up to the longest."""
END_S = 5.0
"""Seconds to end in, after the time for requests is over."""


@dataclass
class _Worker:
    process: Any
    begin: float


class Supervisor:
    """Keeps a number of workers running.

    Args:
        target: what a worker runs, with the socket, and whether to answer while it loads: only the first worker does, so that a
            request reaches another that is ready; pickled.
        n_workers: processes.
        listener: the socket that all of them accept connections from.
        drain_s: seconds for the requests that are accepted when a signal ends the workers.
        say: called with a line for each worker that ended.
    """

    def __init__(
        self,
        target: Callable[[socket.socket, bool], None],
        n_workers: int,
        listener: socket.socket,
        drain_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._target, self._listener = target, listener
        self._drain_s, self._say = drain_s, say
        self._context = get_context("spawn")
        self._workers: list[_Worker] = []
        self._stop_reader, self._stop_writer = self._context.Pipe(duplex=False)
        self._fault_reader, self._fault_writer = self._context.Pipe(duplex=False)
        self._starts = [0.0] * n_workers
        self._pause_s, self._is_first = 0.0, True

    def run(self) -> None:
        """Run the workers until a signal ends them.

        Raises:
            BlinkError: a worker could not open its linker.
        """
        with handled(self._signalled):
            try:
                while not self._stop_reader.poll():
                    self._start_due()
                    self._wait()
            finally:
                self._end()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._stop_writer.send_bytes(b"stop")

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [start for start in self._starts if start <= now]
        self._starts = [start for start in self._starts if start > now]
        for _ in due:
            arguments = (self._target, self._listener, self._is_first, self._fault_writer)
            process = self._context.Process(target=_work, args=arguments)
            process.start()
            self._is_first = False
            self._workers.append(_Worker(process, now))

    def _wait(self) -> None:
        """Wait for a signal, the end of a worker, or the time to start another."""
        pause = max(0.0, min(self._starts) - time.monotonic()) if self._starts else None
        connection.wait([self._stop_reader, *(worker.process.sentinel for worker in self._workers)], pause)
        for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
            self._workers.remove(worker)
            self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        status, pid, now = worker.process.exitcode, worker.process.pid, time.monotonic()
        _forget_metrics(pid)
        if status == FAILED:
            raise BlinkError(self._fault_reader.recv() if self._fault_reader.poll() else f"worker {pid} cannot start")
        short = now - worker.begin < SHORT_LIFE_S
        self._pause_s = min(LONGEST_PAUSE_S, max(1.0, 2 * self._pause_s)) if short and self._pause_s else float(short)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        self._say(f"blink: worker {pid} {how}; another is started{f' in {self._pause_s:g} s' if self._pause_s else ''}")
        self._starts.append(now + self._pause_s)

    def _end(self) -> None:
        """Let the workers answer what they accepted, and end those that take too long."""
        self._listener.close()  # that of this process: the socket is closed with the last worker's
        for worker in self._workers:
            worker.process.terminate()
        end = time.monotonic() + self._drain_s + END_S
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _work(
    target: Callable[[socket.socket, bool], None], listener: socket.socket, is_first: bool, faults: connection.Connection
) -> None:
    """What a worker process runs. ``faults``: takes the message of an error."""
    protect_streams()
    for number in OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        target(listener, is_first)
    except BlinkError as error:
        faults.send(str(error))
        sys.exit(FAILED)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _forget_metrics(pid: int) -> None:
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]
