"""What is no file and stands where one belongs: made at a path, and a limit of time in which it must be noticed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "socket": _socket,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nothing-here"),
    "folder": os.mkdir,
}
"""Kind -> puts one at a path."""


def put(path: Path, kind: str) -> None:
    """Put one of a kind in the place of what is at a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    SPECIAL[kind](path)


class HungError(BaseException):
    """The time is over."""


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raise `HungError` in the block when the time is over: opening a pipe would wait for ever."""

    def over(number: int, frame: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
