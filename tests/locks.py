"""Locks that somebody else holds, as another process does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from blink.files import locked


@contextlib.contextmanager
def locked_elsewhere(folder: Path) -> Iterator[None]:
    """Lock a folder from a thread, which shares no locks with this one."""
    is_locked, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(folder):
            is_locked.set()
            may_end.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_locked.wait(20)
    try:
        yield
    finally:
        may_end.set()
        thread.join()
