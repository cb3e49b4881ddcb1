"""Folders of unfinished work under names that a later call finds again: made by us, without links, and removed as a whole.

What a user names may be a link, and is written where it leads. Inside a folder of work nothing is a link: what somebody planted
there would have his files written or removed elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from blink.errors import SettingsError
from blink.files import sync_files, sync_folder, umask
from blink.left_overs import temporary_folder

MARKER = ".blink-work"
"""An empty file in the folders that `work_folder` made."""


def work_folder(path: Path, earlier: Iterable[str] = ()) -> Path:
    """Make a folder for unfinished work, or open the one of an earlier call.

    Args:
        path: the folder; its parents are made.
        earlier: files by which folders are known that earlier versions made, which have no marker; one is enough.

    Raises:
        SettingsError: it is a link, is no folder, was not made by BLINK, or there is a link in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    require_plain_folder(path)
    marker = path / MARKER
    if not marker.exists() and any(path.iterdir()) and not any((path / name).exists() for name in earlier):
        fault = f"{path} exists, holds {_first_name(path)}, and was not made for unfinished work of BLINK"
        raise SettingsError(f"{fault}; move it away, or remove it if nobody needs it")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666))
    return path


def remove_work_folder(path: Path) -> None:
    """Remove a folder of `work_folder` with all that is in it; a link, or a folder that is none, stays."""
    if is_plain_folder(path) and (path / MARKER).exists():
        shutil.rmtree(path, ignore_errors=True)


def is_plain_folder(path: Path) -> bool:
    """Whether a path is a folder, and no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def plain_folder(path: Path) -> Path:
    """Make a folder in which files under known names are written and removed, or open it: it and what it holds are no links.

    Raises:
        SettingsError: it is a link, is no folder, or there is a link in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    require_plain_folder(path)
    return path


def require_plain_folder(path: Path) -> None:
    """Require a folder that is no link, without links and special files in it, however deep.

    Raises:
        SettingsError: it is another.
    """
    if not is_plain_folder(path):
        raise SettingsError(f"{path} is {_kind(path)}; BLINK writes unfinished work into a folder of its own: {_REMEDY}")
    for entry in _entries(path):
        if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
            raise SettingsError(
                f"{entry.path} is {_kind(Path(entry.path))}, which unfinished work of BLINK never is: {_REMEDY}"
            )


def require_plain(*paths: Path) -> None:
    """Require that each of some files beside an output is a regular file, or is not there.

    Raises:
        SettingsError: one is a link, a folder or a special file.
    """
    for path in paths:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise SettingsError(f"{path} is {_kind(path)}, where BLINK keeps unfinished work: {_REMEDY}")


def own_files(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """The regular files of a folder whose whole names match; no links, and none of a folder that is a link itself."""
    if not is_plain_folder(folder):
        return []
    with os.scandir(folder) as entries:
        return [Path(e.path) for e in entries if names.fullmatch(e.name) and e.is_file(follow_symlinks=False)]


def replace_folder(work: Path, target: Path, ours: Iterable[str]) -> None:
    """Put a complete folder in the place of another that we made, or of an empty one; its files reach the disk first.

    Where the system can exchange two folders, ``target`` is at any time the old or the new one; ``work`` is the old one then.

    Args:
        work: the complete folder, on the same disk.
        target: its place.
        ours: files by which a folder is known as ours; one is enough.

    Raises:
        SettingsError: ``target`` is a link, is no folder, or holds other files.
    """
    if os.path.lexists(target):
        if not is_plain_folder(target):
            raise SettingsError(f"{target} is {_kind(target)}, and a folder is to be written there: {_REMEDY}")
        if any(target.iterdir()) and not any((target / name).is_file() for name in ours):
            raise SettingsError(f"{target} holds {_first_name(target)}, which would be removed; move the folder away")
    work.chmod(0o777 & ~umask())
    sync_files(work)
    if not os.path.lexists(target):
        work.rename(target)
    elif not _exchanged(work, target):
        with temporary_folder(target) as old:
            target.rename(old)  # an empty folder is replaced
            try:
                work.rename(target)
            except OSError:
                old.rename(target)
                raise
    sync_folder(target.parent)


_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders by one call of Linux; whether this system, and their file system, can."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    done: int = exchange(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if done and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    return done == 0


_REMEDY = "move it away, or remove it if nobody needs it"


def _first_name(folder: Path) -> str:
    return min(path.name for path in folder.iterdir())


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"a link to {path.readlink()}"
    return "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "a pipe, a socket or a device"
