"""The list of published files, and the models folder with its record of downloads."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from blink.terminal import escaped

CHUNK = 1 << 20
RECORDS, PIDS = ".downloads.json", ".downloads.pids"
MAX_OWN_BYTES = 16 << 20
"""Largest list of files, record and note that this program reads."""
_OF_PATHS = "/%~!$&'()*+,;=:@"
ADDRESS_CHARACTERS = f"{_OF_PATHS}?#[]"
"""Characters that stay as they are; a percent sign is one of an address that is encoded already."""


class DownloadError(Exception):
    """The one line for stderr, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    """Print a line at once."""
    print(escaped(text), flush=True)


def human_size(size: float) -> str:
    """Bytes for readers, such as ``24.2 GB``."""
    units = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
    return next((f"{size / scale:.1f} {unit}" for unit, scale in units if size >= scale), f"{size:.0f} B")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 without one."""
    return path.stat().st_size if path.is_file() else 0


def sha256_of(path: Path) -> str:
    """Hash of a file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DownloadError(
            f"cannot read {path} ({error.strerror}); fix the disk or the permissions, then run again"
        ) from error
    return digest.hexdigest()


def read_small(path: Path) -> str:
    """The text of a file of this program's own.

    Raises:
        ValueError: it is no regular file, or too large for one of these.
    """
    if not path.is_file() or size_of(path) > MAX_OWN_BYTES:
        raise ValueError("not a file of this program")
    return path.read_text(encoding="utf-8")


def checked_records(content: Any) -> dict[str, dict[str, Any]]:
    """The content of `RECORDS`.

    Raises:
        ValueError: it is something else.
    """
    types = {"sha256": str, "bytes": int}
    if not isinstance(content, dict) or not all(
        isinstance(record, dict) and "mtime_ns" in record and all(isinstance(record.get(k), t) for k, t in types.items())
        for record in content.values()
    ):
        raise ValueError("not a record of downloads")
    return content


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that need not exist yet."""
    return shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())).free


def on_disk(path: Path) -> None:
    """Bring a file's bytes to the disk: what is recorded of them is true after a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str) -> None:
    """Write a small file through a temporary one."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        on_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        fix = "make room or fix the permissions, then run again: it resumes"
        raise DownloadError(f"cannot write {path} ({error.strerror}); {fix}") from error


# -- the list of files


@dataclass(frozen=True)
class PublishedFile:
    """An entry of the manifest: ``path`` is behind the base address, ``target`` in the models folder."""

    name: str
    path: str
    target: str
    groups: list[str]
    purpose: str
    bytes: int | None = None
    approx_bytes: int | None = None
    sha256: str | None = None
    unpack: bool = False

    def __post_init__(self) -> None:
        texts = (self.name, self.path, self.target, self.purpose, self.sha256 or "", *self.groups)
        sizes = (self.bytes or 0, self.approx_bytes or 0)
        if not (all(isinstance(t, str) for t in texts) and all(isinstance(n, int) and n >= 0 for n in sizes)):
            raise ValueError(f"entry {self.name!r} has a field of a wrong type")
        if not (self.name and self.path and self.groups and is_inside(self.target)):
            raise ValueError(f"entry {self.name!r} has an empty field or a target outside the models folder")


def is_inside(path: str) -> bool:
    """Whether a relative path stays in its folder."""
    return bool(path) and not path.startswith("/") and "\0" not in path and ".." not in PurePosixPath(path).parts


def read_manifest(path: Path) -> tuple[str, dict[str, str], list[PublishedFile]]:
    """The base address, what each group is for, and the files."""
    restore = "restore it with: git checkout models/MANIFEST.json"
    keys = {field.name for field in fields(PublishedFile)}
    try:
        content = json.loads(read_small(path) if path.exists() else path.read_text(encoding="utf-8"))
        files = [PublishedFile(**{key: value for key, value in entry.items() if key in keys}) for entry in content["files"]]
        return content["base_url"], content.get("groups", {}), files
    except OSError as error:
        raise DownloadError(f"cannot read the list of files {path}: {error.strerror}; {restore}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DownloadError(f"{path} is not a valid list of files ({error!r}); {restore}") from error


def select_files(files: Sequence[PublishedFile], names: Sequence[str], groups: Sequence[str]) -> list[PublishedFile]:
    """Files of these names or targets, and of these groups, in the manifest's order."""
    known_groups = [*sorted({group for file in files for group in file.groups}), "all"]
    known_names = {key for file in files for key in (file.name, file.target)}
    for name in sorted(set(names) - known_names):
        allowed = ", ".join(file.name for file in files)
        raise DownloadError(f"--only: unknown name '{name}'; allowed are: {allowed}; descriptions: --list", 2)
    for group in sorted(set(groups) - set(known_groups)):
        allowed = ", ".join(known_groups)
        raise DownloadError(f"--group: unknown group '{group}'; allowed are: {allowed}; descriptions: --list", 2)
    return [f for f in files if {f.name, f.target} & set(names) or {*f.groups, "all"} & set(groups)]


# -- the models folder


class FileState(NamedTuple):
    """Of a file in the models folder: absent, unrecorded, good, touched (right size, other time) or damaged."""

    kind: str
    sha256: str = ""
    problem: str = ""


class ModelsFolder:
    """Downloaded files under ``path``, published under ``base_url``, and the record of their hashes, sizes and times."""

    def __init__(self, path: Path, base_url: str) -> None:
        self.path, self.base_url = path, base_url
        self._records: dict[str, dict[str, Any]] = {}
        try:
            if (path / RECORDS).exists():
                self._records = checked_records(json.loads(read_small(path / RECORDS)))
        except (OSError, ValueError, RecursionError) as error:
            fix = "move it away, then run again: files that are here are recorded again"
            raise DownloadError(f"cannot read {path / RECORDS} ({error}); {fix}") from error

    def url(self, file: PublishedFile) -> str:
        """Address of a file; blanks and other characters that no address has are encoded."""
        return f"{quote(self.base_url, safe=ADDRESS_CHARACTERS)}/{quote(file.path, safe=_OF_PATHS)}"

    def recorded(self, file: PublishedFile) -> str | None:
        """The sha256 that a file had at its first download; None before."""
        record = self._records.get(file.target)
        return None if record is None else record["sha256"]

    def state(self, file: PublishedFile) -> FileState:
        """Compare a file with its record, without reading it."""
        path, record = self.path / file.target, self._records.get(file.target)
        if not path.exists():
            return FileState("absent")
        if not path.is_file():
            raise DownloadError(f"{path} is not a file; move it away, then run again")
        if record is None:
            return FileState("unrecorded")
        if file.sha256 not in (None, record["sha256"]):
            return FileState("damaged", problem="its sha256 is not the one in models/MANIFEST.json")
        if size_of(path) != record["bytes"]:
            return FileState("damaged", problem=f"it has {size_of(path)} bytes, {record['bytes']} were downloaded")
        return FileState("good" if path.stat().st_mtime_ns == record["mtime_ns"] else "touched", record["sha256"])

    def inspect(self, file: PublishedFile) -> FileState:
        """As `state`, and read a touched file."""
        state = self.state(file)
        if state.kind != "touched":
            return state
        say(f"{file.name}: its time has changed, checking its sha256")
        return self.compare(file, state.sha256)

    def compare(self, file: PublishedFile, expected: str) -> FileState:
        """Read a file; renew its record, or make the next run read it again."""
        sha256 = sha256_of(self.path / file.target)
        if sha256 == expected:
            self.record(file, sha256, self.path / file.target)
            return FileState("good", sha256)
        self._records[file.target]["mtime_ns"] = None
        write_whole(self.path / RECORDS, json.dumps(self._records, indent=2, sort_keys=True) + "\n")
        return FileState("damaged", problem=f"its sha256 is {sha256}, recorded is {expected}")

    def record(self, file: PublishedFile, sha256: str, path: Path) -> None:
        """Record a file, which may still have the name of its part: renaming changes neither size nor time."""
        status, now = path.stat(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        size = {"sha256": sha256, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        self._records[file.target] = {**size, "url": self.url(file), "recorded": now}
        write_whole(self.path / RECORDS, json.dumps(self._records, indent=2, sort_keys=True) + "\n")

    def adopt(self, file: PublishedFile, size: int | None) -> None:
        """Record a file that was not downloaded by this program, if it can be the published one."""
        path = self.path / file.target
        stranger = f"{path} was not put there by this script and has"
        if size not in (None, size_of(path)):
            raise DownloadError(
                f"{stranger} {size_of(path)} bytes, the published file has {size}; move it away, then run again"
            )
        sha256 = sha256_of(path)
        if file.sha256 not in (None, sha256):
            raise DownloadError(f"{stranger} sha256 {sha256}, the list says {file.sha256}; move it away, then run again")
        self.record(file, sha256, path)
        say(f"{file.name}: was here already, recorded its sha256{'' if size is None else ' (size as published)'}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and lock it for one run: two would write into the same part."""
    fix = "fix the permissions or set BLINK_MODELS_DIR"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"cannot create the folder {folder} ({error.strerror}); {fix}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DownloadError(f"cannot write to the folder {folder}; {fix}")
    pids, descriptor = folder / PIDS, os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = (pids.read_text(encoding="utf-8") if pids.is_file() else "").split(" ")[0].strip() or "unknown"
        advice = "wait until it ends or stop it, then run again"
        raise DownloadError(f"another run (process {holder}) is at work in {folder}; {advice}") from error
    except OSError:
        pass  # some network disks have no locks: continue without
    try:
        write_whole(pids, f"{os.getpid()}\n")
        yield
    finally:
        pids.unlink(missing_ok=True)
        os.close(descriptor)
