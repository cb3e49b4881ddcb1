"""Cases in processes of their own: forked from a server that has the libraries loaded, limited in time and memory."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CPU_S, WALL_S, IDLE_S = 30, 180, 20
"""Seconds of computing, in all, and without any computing, after which a case hangs."""
RSS_BYTES, ADDRESS_BYTES = 1 << 30, 6 << 30
"""Memory that a case may take, and address space, beyond what the server has."""
MODULES = "modules"
"""File of a process's imports."""
TRACEBACK = 99
"""Exit status of an exception that no command turned into a line."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: the exit status; negative for a signal.
        limit: "HANG" or "MEMORY" where a limit ended it.
        out: standard output.
        err: standard error.
        seconds: of computing.
        rss: most memory that was seen beyond the server's, in bytes.
    """

    status: int
    limit: str
    out: str
    err: str
    seconds: float
    rss: int


def run_limited(use: Callable[[Path], int | None], folder: Path, output: Path) -> Ended:
    """Run a function on a folder in a process of its own.

    Args:
        use: given the folder, which is the working folder too; its result is the exit status.
        folder: of the case.
        output: where standard output and error go: ``out`` and ``err`` in it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    start = _memory(os.getpid())
    (output / MODULES).unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        _child(use, folder, output)
    status, limit, rss, cpu = _watch(pid, start)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it left running
    texts = [(output / name).read_bytes().decode("utf-8", "replace") for name in ("out", "err")]
    return Ended(status, limit, *texts, cpu, rss)


def _child(use: Callable[[Path], int | None], folder: Path, output: Path) -> None:
    status, loaded = TRACEBACK, set(sys.modules)
    try:
        faulthandler.disable()  # it would write to the standard error of this process's parent
        os.setpgid(0, 0)
        for stream, name, flags in ((0, os.devnull, os.O_RDONLY), (1, output / "out", None), (2, output / "err", None)):
            handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if flags is None else flags, 0o644)
            os.dup2(handle, stream)
            os.close(handle)
        sys.stdout, sys.stderr = (open(i, "w", encoding="utf-8", closefd=False) for i in (1, 2))  # noqa: SIM115
        size = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        os.chdir(folder)
        status = use(folder) or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
            (output / MODULES).write_text("\n".join(name for name in sys.modules if name not in loaded))
        os._exit(status)


def load_modules(output: Path) -> None:
    """Load what the last process imported, so that those that are forked from here need not."""
    with contextlib.suppress(OSError):
        for name in (output / MODULES).read_text().split("\n"):
            with contextlib.suppress(Exception), contextlib.redirect_stderr(None):
                importlib.import_module(name)


def _memory(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / _TICKS
    except (OSError, IndexError):
        return 0.0


def _watch(pid: int, start: int) -> tuple[int, str, int, float]:
    started = busy = time.monotonic()
    used, rss, limit, pause = 0.0, 0, "", 0.001
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), limit, rss, usage.ru_utime + usage.ru_stime
        now, cpu = time.monotonic(), _cpu(pid)
        rss = max(rss, _memory(pid) - start)
        if cpu > used:
            used, busy = cpu, now
        if not limit and (cpu > CPU_S or now - started > WALL_S or now - busy > IDLE_S):
            limit = "HANG"
        if not limit and rss > RSS_BYTES:
            limit = "MEMORY"
        if limit:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


class Server:
    """A process with some modules loaded that runs cases, one after the other, each in a process forked from it.

    Args:
        modules: to be loaded; those that cannot be are passed over.
        case: runs a case: a JSON object to a JSON object.
    """

    def __init__(self, modules: Sequence[str], case: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        ask, self._ask = os.pipe()
        self._answers, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._ask)
            os.close(self._answers)
            _serve(modules, case, ask, answer)
        os.close(ask)
        os.close(answer)
        self._lines = os.fdopen(self._answers, encoding="utf-8")

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a case.

        Raises:
            EOFError: the server itself ended.
        """
        os.write(self._ask, json.dumps(request).encode() + b"\n")
        line = self._lines.readline()
        if not line:
            raise EOFError(f"the process for {request} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @staticmethod
    def close(servers: Sequence[Server]) -> None:
        """End processes, together: one that was forked later holds the pipes of those before it."""
        for server in servers:
            os.close(server._ask)
            server._lines.close()
        for server in servers:
            os.waitpid(server.pid, 0)


def _serve(modules: Sequence[str], case: Callable[[dict[str, Any]], dict[str, Any]], ask: int, answer: int) -> None:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name in modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        with os.fdopen(ask, encoding="utf-8") as requests:
            for line in requests:
                os.write(answer, json.dumps(case(json.loads(line))).encode() + b"\n")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
