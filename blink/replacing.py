"""Files of a folder that are replaced together, with their checksums.

Other programs know the files by their names, so they must lie in the folder itself: the new ones are moved there one by one,
after a list of them is on the disk, and whoever reads first completes the moves. Files of a knowledge base are read by BLINK
alone, and by many processes at once, which may not write: there a manifest names the subfolder, see `blink.kb.replacing`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from blink.checksums import Checksums, FileChecksum, Pending, checksums_of, read_with_pending
from blink.errors import BusyError, DataError, MissingFileError
from blink.files import disk_named, locked, sync_folder

_WORK_PREFIX = ".blink-new-"
"""Of the names of subfolders of files that are to replace others."""
_MOVED_S = 30.0
"""Seconds to wait for another process that moves files."""


def current_checksums(folder: Path, remedy: str) -> Checksums | None:
    """Those that are stored in a folder; None where there are none. A replacement that was interrupted is completed first.

    Raises:
        DataError: they are damaged, or a replacement cannot be completed.
        MissingFileError: they are a link to a file that does not exist.
        BusyError: another process is replacing files.
    """
    stored, pending = read_with_pending(folder, remedy)
    if pending is None:
        return stored
    work, replaced = folder / pending.folder, pending.checksums
    try:
        with locked(work, wait=_MOVED_S) if work.is_dir() else contextlib.nullcontext():
            stored, pending = read_with_pending(folder, remedy)  # the process that moves them may have come to its end
            if pending is None:
                return stored
            _complete(folder, pending)
    except OSError as error:
        if any((work / name).is_file() for name in replaced.files):
            fault = f"{folder} was left by a process that was stopped while it replaced files"
            raise DataError(f"{fault} ({error.strerror}); open it once where it can be written to, or {remedy}") from error
    return replaced


def complete(folder: Path) -> None:
    """Complete a replacement that was interrupted, before anything is read of a folder. Damaged checksums are left to others.

    Raises:
        BusyError: another process is replacing files.
    """
    with contextlib.suppress(DataError, MissingFileError):
        current_checksums(folder, "store the files again")


@contextlib.contextmanager
def replacing(
    folder: Path,
    retained: Iterable[str] | None = None,
    removed: Iterable[str] = (),
    base: Mapping[str, FileChecksum] | None = None,
) -> Iterator[Path]:
    """Replace files of a folder together, with their checksums: yields a subfolder that the block writes the new ones into.

    A process that is stopped, or a loss of power, leaves the old files or the new ones, never some of both: `current_checksums`
    completes what was begun to be moved.

    Args:
        folder: made if it does not exist.
        retained: files that stay as they are, where they exist; None for all that have checksums. Others that have some are
            removed.
        removed: files without checksums that are removed, too.
        base: checksums of files of another folder that these need; None for those that are stored.

    Raises:
        OSError: a file cannot be written; the old ones stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        old = current_checksums(folder, "store the files again") or Checksums({})
    except (DataError, MissingFileError):  # what is replaced may be damaged
        old = Checksums({})
    _remove_unfinished(folder)
    work = Path(tempfile.mkdtemp(dir=folder, prefix=_WORK_PREFIX))
    committed = False
    try:
        with disk_named(folder), locked(work):
            yield work
            files = checksums_of(work, (path.name for path in work.iterdir()))
            stay = old.files if retained is None else retained
            for name in (name for name in stay if name not in files and (folder / name).is_file()):
                files[name] = old.files.get(name) or FileChecksum.of(folder / name)
            new = Checksums(dict(sorted(files.items())), old.base if base is None else base)
            gone = [] if retained is None else sorted((old.files.keys() | set(removed)) - files.keys())
            for path in work.iterdir():
                _sync(path)
            sync_folder(work)
            old.write(folder, pending := Pending(work.name, new, gone))
            committed = True
            sync_folder(folder)
            _complete(folder, pending)
    finally:
        if not committed:
            _remove_work(work)


def _complete(folder: Path, pending: Pending) -> None:
    """Move pending files, remove those that go, and store the new checksums alone."""
    work = folder / pending.folder
    for name in pending.checksums.files:
        if (work / name).is_file():
            os.replace(work / name, folder / name)
    for name in pending.removed:
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)
    pending.checksums.write(folder)
    _remove_work(work)
    sync_folder(folder)


def _remove_unfinished(folder: Path) -> None:
    """Remove what processes left that were stopped before their files were complete."""
    for work in folder.glob(f"{_WORK_PREFIX}*"):
        if work.is_dir() and not work.is_symlink():
            with contextlib.suppress(BusyError), locked(work):
                _remove_work(work)


def _remove_work(work: Path) -> None:
    """Remove a subfolder of new files; what lies deeper in it is not ours, and stays."""
    with contextlib.suppress(OSError):
        for path in work.iterdir():
            path.unlink()
        work.rmdir()


def _sync(path: Path) -> None:
    with path.open("rb") as f:
        os.fsync(f.fileno())
