"""A disk that fails at the call one names, and that writes down what is done to it.

`disk.c` sees every system call of a forked process that changes files of one folder, whoever makes it: Python, NumPy, torch,
FAISS, Rust or C's stdio. A call can be failed, and all calls can be recorded with their bytes, for `tests.faults.power`.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import pickle
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from blink.apps.common import guarded

SOURCE = Path(__file__).with_name("disk.c")


class Op(IntEnum):
    """Kinds of calls, as `disk.c` numbers them."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    LINK = 6
    SYMLINK = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10
    MAP = 11
    CLOSE = 12


_TAKES_SPACE = frozenset(Op) - {Op.UNLINK, Op.RMDIR, Op.CLOSE}
_INTERRUPTED = frozenset({Op.OPEN, Op.WRITE, Op.TRUNCATE, Op.SYNC})

FAULTS: dict[str, tuple[int, frozenset[Op]]] = {
    "disk full": (1, _TAKES_SPACE),
    "I/O error": (2, frozenset(Op)),
    "short write": (3, frozenset({Op.WRITE})),
    "interrupted": (4, _INTERRUPTED),
}
"""Faults by name: their number in `disk.c`, and the calls that can have them. A full disk stays full to the end of the command
(ENOSPC for all that takes space), the others are of one call: EIO, half of the bytes written, EINTR."""


@dataclass(frozen=True)
class Call:
    """A call as it was recorded.

    Attributes:
        op: its kind.
        result: what it returned; an errno below 0.
        path: of the file, or its old name.
        other: the new name of a file that is renamed or linked.
        inode: number of the file, that of the folder for folders.
        offset: where bytes were written.
        size: of a file after it was truncated; the number of the file that had the name before it was opened, 0 for none.
        flags: of opening, or of renaming.
        data: bytes that were written; or all that the file held when it was synchronized.
    """

    op: Op
    result: int
    path: str
    other: str
    inode: int
    offset: int
    size: int
    flags: int
    data: bytes


@dataclass(frozen=True)
class Ended:
    """How a forked process ended.

    Attributes:
        status: its exit status, negative for a signal, 99 for an exception that a command would show as a traceback.
        printed: standard output and standard error.
        calls: number of calls that changed files.
        value: what the function returned.
    """

    status: int
    printed: str
    calls: int = 0
    value: Any = None

    @property
    def error_lines(self) -> list[str]:
        """The lines by which commands report errors."""
        return [line for line in self.printed.splitlines() if line.startswith("blink: ")]


def library() -> ctypes.CDLL | None:
    """`disk.c`, compiled; None where it cannot be: it needs Linux on x86-64 and a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or platform.machine() != "x86_64" or compiler is None:
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"blink-faults-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"{digest}.so"
    if not file.is_file():
        made = file.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE)], check=True)
        made.replace(file)
    loaded = ctypes.CDLL(str(file))
    loaded.disk_watch.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
    loaded.disk_calls.restype = ctypes.c_long
    return loaded


@dataclass(frozen=True)
class Watch:
    """What to do with the calls of a forked process.

    Attributes:
        folder: whose files are watched.
        at: number of the call that fails, from 1; 0 for none.
        fault: one of `FAULTS`.
        record: file to record calls in; None for none.
    """

    folder: Path
    at: int = 0
    fault: str = "disk full"
    record: Path | None = None


def forked(act: Callable[[], Any], watch: Watch | None = None, *, within: float = 60.0) -> Ended:
    """Run a function in a forked process, as a command: errors become one line on standard error."""
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as returned:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _run(act, watch, printed.fileno(), returned.fileno(), within)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed.seek(0)
        returned.seek(0)
        text, answer = printed.read().decode("utf-8", "replace"), returned.read()
    value, calls = pickle.loads(answer) if answer else (None, 0)
    return Ended(status, text, calls, value)


def _run(act: Callable[[], Any], watch: Watch | None, printed: int, returned: int, within: float) -> None:
    status, value, loaded = 98, None, library() if watch else None
    try:
        for stream in (1, 2):
            os.dup2(printed, stream)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb"), encoding="utf-8", write_through=True)
        os.environ["PATH"] = "/nonexistent"  # a program that is started here would not survive the watch
        _end_after(within)

        def kept() -> None:
            nonlocal value
            value = act()

        if watch is not None and loaded is not None:
            fault, record = FAULTS[watch.fault][0], str(watch.record or "")
            if loaded.disk_watch(os.fsencode(watch.folder.resolve()), os.fsencode(record), watch.at, fault):
                raise RuntimeError("the calls of this process cannot be watched")
        status = guarded(kept, "blink")
    except BaseException:
        status = 99
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        calls = loaded.disk_calls() if loaded is not None else 0
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(BaseException):
            os.write(returned, pickle.dumps((value, calls)))
        os._exit(status)


def _end_after(seconds: float) -> None:
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


_HEAD = struct.Struct("=IIqqQQIIII")


def recorded(file: Path) -> list[Call]:
    """The calls of a record."""
    return list(_calls(file.read_bytes()))


def _calls(content: bytes) -> Iterator[Call]:
    at = 0
    while at < len(content):
        op, _, result, offset, inode, size, flags, *sizes = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        parts = []
        for length in sizes:
            parts.append(content[at : at + length])
            at += length
        yield Call(Op(op), result, os.fsdecode(parts[0]), os.fsdecode(parts[1]), inode, offset, size, flags, parts[2])
