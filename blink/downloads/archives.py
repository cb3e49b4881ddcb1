"""Archives that were downloaded, unpacked into folders: regular files alone, inside the folder, within limits."""

from __future__ import annotations

import io
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from blink.downloads.folder import CHUNK, DownloadError, free_bytes, human_size, is_inside, on_disk, say, size_of

MAX_MEMBERS = 1_000_000
"""Most files and folders of an archive."""
MAX_RATIO, RATIO_FROM = 200, 1 << 30
"""An archive may have this many times its size unpacked, or `RATIO_FROM` bytes."""
MAX_LINKS = 20
"""Longest chain of links."""
MAX_READ = 16 << 20
"""Most bytes that are read of an archive at once: a longer header is none."""


class _Limited(io.RawIOBase):
    """The content of a compressed archive, up to the limits."""

    def __init__(self, stream: BinaryIO, packed: int) -> None:
        self._stream, self._most = stream, max(RATIO_FROM, packed * MAX_RATIO)

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if not 0 <= size <= MAX_READ:
            raise ValueError("it has a header that is too long")
        content = self._stream.read(size)
        if self._stream.tell() > self._most:
            raise ValueError(f"it holds more than {MAX_RATIO} times its size")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte."""
        if whence == 0 and offset > self._most:
            raise ValueError(f"it holds more than {MAX_RATIO} times its size")
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Bytes before the next one."""
        return self._stream.tell()


def unpack(path: Path, sha256: str) -> None:
    """Unpack NAME.tar.gz into the folder NAME next to it, all or nothing; a marker names the archive's hash."""
    stem = path.name[: -len(".tar.gz")]
    folder, temporary = path.with_name(stem), path.with_name(f"{stem}.unpack.part")
    marker = folder / ".unpacked"
    if marker.is_file() and marker.read_text(encoding="utf-8").strip() == sha256:
        return
    if folder.exists() or folder.is_symlink():
        raise DownloadError(f"{folder} is here but does not come from {path.name}; move it away, then run again")
    if temporary.is_symlink():
        raise DownloadError(f"{temporary} is a link; remove it, then run again")
    say(f"unpacking {path.name}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        extract(path, temporary, stem)
        (temporary / marker.name).write_text(sha256 + "\n", encoding="utf-8")
        for file in temporary.rglob("*"):
            on_disk(file)
        temporary.rename(folder)
    except (OSError, ValueError, KeyError, EOFError, RecursionError, OverflowError, zlib.error, tarfile.TarError) as error:
        fix = "the archive is kept, its partial output was removed; fix that, then run again"
        raise DownloadError(f"cannot unpack {path}: {error}; {fix}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def extract(path: Path, folder: Path, stem: str) -> None:
    """Extract an archive; a single top folder named like the archive is not doubled.

    Raises:
        ValueError: a member would be outside of the folder, is no file, or the archive exceeds a limit.
    """
    import gzip

    with gzip.open(path, "rb") as content:
        stream = cast(BinaryIO, _Limited(cast(BinaryIO, content), size_of(path)))
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            members = list(_checked(archive, folder))
            files = _files(members)
            size, room = sum(file.size for _, file in files), free_bytes(folder)
            if size > room:
                raise ValueError(f"it needs {human_size(size)} unpacked, {human_size(room)} are free")
            strip = int({PurePosixPath(member.name).parts[:1] for member in members} - {()} == {(stem,)})
            for member in members:
                if member.isdir():
                    _target(folder, member, strip).mkdir(parents=True, exist_ok=True)
            for member, file in files:
                target, source = _target(folder, member, strip), archive.extractfile(file)
                assert source is not None
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("xb") as sink:  # two members of one name are a mistake, or a trick
                    shutil.copyfileobj(source, sink, CHUNK)


def _target(folder: Path, member: tarfile.TarInfo, strip: int) -> Path:
    return folder.joinpath(*PurePosixPath(member.name).parts[strip:])


def _checked(archive: tarfile.TarFile, folder: Path) -> Iterator[tarfile.TarInfo]:
    for number, member in enumerate(archive):
        if number >= MAX_MEMBERS:
            raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
        if not is_inside(member.name):
            raise ValueError(f"its member '{member.name}' would be outside the folder")
        tarfile.data_filter(member, str(folder))  # raises at links that lead out and at what is no file
        yield member


def _files(members: list[tarfile.TarInfo]) -> list[tuple[tarfile.TarInfo, tarfile.TarInfo]]:
    """Members that become files, with the regular file each names: links become copies, so nothing leads out of the folder."""
    by_name = {posixpath.normpath(member.name): member for member in members}
    return [(member, _file_of(member, by_name)) for member in members if not member.isdir()]


def _file_of(member: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    file = member
    for _ in range(MAX_LINKS):
        if file.isreg():
            return file
        before = posixpath.dirname(file.name) if file.issym() else ""
        linked = by_name.get(posixpath.normpath(posixpath.join(before, file.linkname)))
        if linked is None or linked.isdir():
            raise ValueError(f"its link '{member.name}' does not name a file")
        file = linked
    raise ValueError(f"its link '{member.name}' leads through more than {MAX_LINKS} links, or back to itself")
