"""The list of published files, the models folder with its record of downloads, and archives in it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

CHUNK = 1 << 20
RECORDS, PIDS = ".downloads.json", ".downloads.pids"


class DownloadError(Exception):
    """The one line for stderr, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


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


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that need not exist yet."""
    return shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())).free


def write_whole(path: Path, text: str) -> None:
    """Write a small file through a temporary one."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
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
        if not (self.name and self.path and self.groups and is_inside(self.target)):
            raise ValueError(f"entry {self.name!r} has an empty field or a target outside the models folder")


def is_inside(path: str) -> bool:
    """Whether a relative path stays in its folder."""
    return bool(path) and not path.startswith("/") and ".." not in PurePosixPath(path).parts


def read_manifest(path: Path) -> tuple[str, dict[str, str], list[PublishedFile]]:
    """The base address, what each group is for, and the files."""
    restore = "restore it with: git checkout models/MANIFEST.json"
    keys = {field.name for field in fields(PublishedFile)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = [PublishedFile(**{key: value for key, value in entry.items() if key in keys}) for entry in content["files"]]
        return content["base_url"], content.get("groups", {}), files
    except OSError as error:
        raise DownloadError(f"cannot read the list of files {path}: {error.strerror}; {restore}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._records = json.loads((path / RECORDS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            fix = "delete it, then run again: files that are here are recorded again"
            raise DownloadError(f"cannot read {path / RECORDS} ({error}); {fix}") from error

    def url(self, file: PublishedFile) -> str:
        """Address of a file."""
        return f"{self.base_url}/{file.path}"

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


# -- archives


def unpack(path: Path, sha256: str) -> None:
    """Unpack NAME.tar.gz into the folder NAME next to it, all or nothing; a marker names the archive's hash."""
    stem = path.name[: -len(".tar.gz")]
    folder, temporary = path.with_name(stem), path.with_name(f"{stem}.unpack.part")
    marker = folder / ".unpacked"
    if marker.is_file() and marker.read_text(encoding="utf-8").strip() == sha256:
        return
    if folder.exists():
        raise DownloadError(f"{folder} is here but does not come from {path.name}; move it away, then run again")
    say(f"unpacking {path.name}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        extract(path, temporary, stem)
        (temporary / marker.name).write_text(sha256 + "\n", encoding="utf-8")
        temporary.rename(folder)
    except (OSError, ValueError, KeyError, EOFError, zlib.error, tarfile.TarError) as error:
        fix = "the archive is kept, its partial output was removed; fix that, then run again"
        raise DownloadError(f"cannot unpack {path}: {error}; {fix}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def extract(path: Path, folder: Path, stem: str) -> None:
    """Extract an archive; a single top folder named like the archive is not doubled."""
    with tarfile.open(path, "r:gz") as archive:
        members = archive.getmembers()
        for member in members:
            if not is_inside(member.name):
                raise ValueError(f"its member '{member.name}' would be outside the folder")
            tarfile.data_filter(member, str(folder))  # raises at links that lead out and at what is no file
        size, room = sum(member.size for member in members), free_bytes(folder)
        if size > room:
            raise ValueError(f"it needs {human_size(size)} unpacked, {human_size(room)} are free")
        strip = int({PurePosixPath(member.name).parts[:1] for member in members} - {()} == {(stem,)})
        for member in members:
            target = folder.joinpath(*PurePosixPath(member.name).parts[strip:])
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            # Links become copies of what they name inside the archive, so nothing can lead out of the folder.
            source = archive.extractfile(member)
            if source is None:
                raise ValueError(f"its link '{member.name}' does not name a file")
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
