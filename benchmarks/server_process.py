"""A server of the starter in a process of its own, for measurements of round trips."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_SECONDS = 300


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs.

    Attributes:
        url: its address.
        process: that was started.
        log: what it has said.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """Of the processes that link: its workers, or itself."""
        pid = self.process.pid
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        workers = [child for child in children if b"spawn_main" in _command(child)]
        return workers or [pid]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def running_server(url: str | None, options: Sequence[str] = ()) -> Iterator[str]:
    """The address of a server: the given one, or one that runs meanwhile with options of `blink serve`."""
    if url is not None:
        yield url.rstrip("/")
        return
    with server_process(options) as server:
        yield server.url


@contextmanager
def server_process(options: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """A server that runs meanwhile, with options of `blink serve`; its log is in a file, since nobody reads a pipe."""
    command = [sys.executable, "-m", "blink.apps.cli", "serve", "--port", "0", *options]
    with tempfile.TemporaryDirectory(prefix="blink-server-") as folder:
        log = Path(folder) / "log.txt"
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield ServerProcess(_address(process, log), process, log)
        finally:
            process.terminate()
            process.wait(timeout=120)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that a server says, when it is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        match = re.search(r"http://\S+:\d+", log.read_text(encoding="utf-8", errors="replace"))
        try:
            if match is not None and httpx.get(f"{match[0]}/readyz", timeout=5).status_code == 200:
                return match[0]
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the server did not start: " + log.read_text(encoding="utf-8", errors="replace"))
