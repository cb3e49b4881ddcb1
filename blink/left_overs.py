"""Temporary files and folders beside what they replace, and the removal of those that killed processes left.

A temporary of ``NAME`` is ``.NAME.XXXXXXXX.part``, which nobody can guess. Whoever writes one holds a lock on it, which the
system releases however the process ends: what is not locked, was left. The first writer of ``NAME`` in a process removes it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

SUFFIX = ".part"
TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part", re.DOTALL)
"""Names of temporaries, as `tempfile` makes them."""
_SETTLED_S = 1.0
"""Seconds for which a temporary must not have changed: libraries put another file in the place of a locked one."""
_HAS_LOCKS = importlib.util.find_spec("fcntl") is not None
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def prefix_of(target: Path) -> str:
    """How the names of temporaries of a file or folder begin."""
    return f".{target.name}."


def hold(descriptor: int) -> None:
    """Keep a temporary from being taken for one that was left, while the descriptor is open."""
    if _HAS_LOCKS:
        import fcntl

        with contextlib.suppress(OSError):  # a file system without locks, where nothing is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def held(path: str | Path) -> Iterator[None]:
    """Hold a temporary by its name in the block."""
    if not _HAS_LOCKS:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW)
    try:
        hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def remove_left_overs(target: Path) -> None:
    """Remove the temporaries of a file or folder that killed processes left beside it; what cannot be removed stays."""
    of_folder = _temporaries(str(target.parent), os.getpid())
    for name in of_folder.pop(target.name, ()):
        with contextlib.suppress(OSError):
            _remove_left(target.parent / name)


@lru_cache(64)
def _temporaries(folder: str, process: int) -> dict[str, list[str]]:
    """Names of temporaries in a folder by what they replace, as they were when the process first wrote there."""
    names: dict[str, list[str]] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := TEMPORARY.fullmatch(entry.name)) is not None and not entry.is_symlink():
                names.setdefault(match[1], []).append(entry.name)
    return names


def _remove_left(path: Path) -> None:
    """Remove a temporary, if it is a file or folder of this user that no process holds."""
    if not _HAS_LOCKS:
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        if status.st_uid != os.geteuid() or not (is_folder or stat.S_ISREG(status.st_mode)):
            return
        if abs(time.time() - status.st_mtime) < _SETTLED_S:
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error where its process lives
        if os.path.samestat(status, path.lstat()):
            shutil.rmtree(path) if is_folder else path.unlink()
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, in which what is to replace it is written; removed at the end if it is still there.

    Raises:
        OSError: it cannot be made.
    """
    remove_left_overs(target)
    path = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix_of(target), suffix=SUFFIX))
    try:
        with held(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """A new empty file beside ``target``, removed at the end if it is still there. Errors as of `temporary_folder`."""
    remove_left_overs(target)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix_of(target), suffix=SUFFIX)
    try:
        hold(descriptor)
        yield Path(name)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(name)


def resolved(path: str | Path) -> Path:
    """Where a file is written: what a link leads to.

    Raises:
        OSError: a link leads back to itself.
    """
    try:
        return Path(path).resolve()
    except RuntimeError as error:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
