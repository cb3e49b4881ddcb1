"""What worker processes run in tests of the supervisor: without libraries, so that they start at once."""

from __future__ import annotations

import os
import signal
import socket
import threading

from blink.errors import BlinkError


def answer_pids(listener: socket.socket, is_first: bool) -> None:
    """A worker that answers each connection with its process id, until a signal ends it."""
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    listener.settimeout(0.05)
    while not is_over.is_set():
        try:
            connection, _ = listener.accept()
        except (TimeoutError, BlockingIOError):
            continue
        with connection:
            connection.setblocking(True)
            connection.recv(10)
            connection.sendall(f"{os.getpid()} {is_first}".encode())


def fail_to_open(listener: socket.socket, is_first: bool) -> None:
    """A worker whose linker cannot be opened."""
    raise BlinkError("there is no such model; name another")
