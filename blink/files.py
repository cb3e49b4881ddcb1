"""Reading and writing files: atomic writes, JSON lines whose errors name file and line, content hashes."""

from __future__ import annotations

import ast
import codecs
import contextlib
import errno
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from blink.decompression import lines_of, open_stream
from blink.errors import BusyError, DataError, SettingsError
from blink.input_files import open_file, open_to_write, read_all, read_bytes
from blink.input_files import require_file as require_file
from blink.json_text import loads
from blink.left_overs import SUFFIX, held, prefix_of, remove_left_overs, resolved


def user_cache() -> Path:
    """BLINK's folder in the user's cache; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blink"


_synced: ContextVar[bool] = ContextVar("synced", default=True)


@contextlib.contextmanager
def for_this_process() -> Iterator[None]:
    """What is written in the block is read by this process alone: it need not be on the disk when `atomic_open` returns."""
    token = _synced.set(False)
    try:
        yield
    finally:
        _synced.reset(token)


@contextlib.contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary sibling of ``path`` for writing; it replaces ``path`` only if the block succeeds.

    A full disk or a kill leaves the old file untouched. ``mode`` is ``"w"`` (UTF-8) or ``"wb"``.
    What killed processes left beside it is removed, see `blink.left_overs`.
    A link keeps pointing where it does; a device or a pipe (``/dev/null``) is written to directly.
    """
    path = resolved(path)
    encoding = None if "b" in mode else "utf-8"
    if path.exists() and not path.is_file():
        with open(open_to_write(path), mode, encoding=encoding) as device:  # noqa: PTH123 - an open descriptor
            yield device
        return
    remove_left_overs(path)
    with _naming(path):
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, on both ways out
            mode, encoding=encoding, dir=path.parent, prefix=prefix_of(path), suffix=SUFFIX, delete=False
        )
    _name_errors(handle, path)
    try:
        try:
            with held(handle.name), disk_errors(path):
                yield handle
        except BaseException:
            with contextlib.suppress(OSError):  # of what is still in the buffer: the first error counts
                handle.close()
            raise
        with _naming(path), held(handle.name):  # safetensors puts a file of its own in its place
            with handle:
                handle.flush()
                if _synced.get():
                    _sync(handle.name)
            os.chmod(handle.name, 0o666 & ~umask())
            os.replace(handle.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(handle.name)
        raise


def _sync(path: str) -> None:
    """By name: safetensors puts a file of its own in the place of the opened one."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the disk name the file that is written, rather than none or a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def _name_errors(handle: Any, path: Path) -> None:
    """Let what writes to a handle name the file: its errors have no path of their own."""

    def named(call: Callable[..., Any]) -> Callable[..., Any]:
        def named_call(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except io.UnsupportedOperation:
                raise
            except OSError as error:
                raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error

        return named_call

    def write_lines(lines: Iterable[Any]) -> None:
        for line in lines:
            handle.write(line)

    for name in ("write", "flush", "seek", "truncate"):
        setattr(handle, name, named(getattr(handle, name)))
    handle.writelines = write_lines


_DISK_SIGNS = ("I/O error", "inline_container", "PytorchStreamWriter", "Failed to write", "serialization failed")
"""Parts of what safetensors, torch and ONNX Runtime say when a file cannot be written: they have no kind of error for that."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of torch and safetensors about the disk into Python's, which commands show as one line.

    Args:
        path: what is written, for the message.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    try:
        yield
    except Exception as error:
        theirs = isinstance(error, RuntimeError) or type(error).__name__ in ("SafetensorError", "Fail", "InvalidProtobuf")
        if not theirs or not any(sign in str(error) for sign in _DISK_SIGNS):
            raise
        hidden = error.__context__  # torch's error comes behind that of the disk
        named = re.search(r"os error (\d+)", str(error))  # safetensors names the number
        number = hidden.errno if isinstance(hidden, OSError) else int(named.group(1)) if named else None
        raise OSError(number or errno.EIO, os.strerror(number or errno.EIO), str(path)) from error


@contextlib.contextmanager
def disk_named(folder: Path) -> Iterator[None]:
    """Report an error of the disk with this folder where it names no file, as those of temporary files without a name.

    Raises:
        OSError: with the path of a file or of the folder.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error


@contextlib.contextmanager
def disk_full_named(folder: Path) -> Iterator[None]:
    """Report a full or broken disk with its path, which the error of a write does not have.

    Args:
        folder: what is written to, where the error names no file.

    Raises:
        SettingsError: the disk is full.
        OSError: it is broken.
    """
    try:
        with disk_named(folder):
            yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fault = f"the disk of {error.filename or folder} is full ({error.strerror})"
        raise SettingsError(f"{fault}; make room and give the same command again, what is done is kept") from error


def append_at(path: Path, end: int, content: bytes | bytearray) -> None:
    """Write content behind the first ``end`` bytes of a file that only grows; what followed them, left by a kill, is cut off.

    It is on the disk when this returns. If this raises, the file ends where it did, or the next call cuts off what was written.

    Raises:
        OSError: the disk is full or broken; it names the file.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _write_at(handle, end, memoryview(content))
        finally:
            os.close(handle)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_at(handle: int, end: int, content: memoryview) -> None:
    if os.fstat(handle).st_size != end:
        os.ftruncate(handle, end)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(handle, content[written:], end + written)
        os.fsync(handle)
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, end)
        raise


NO_SECOND_NAMES = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""Errors of file systems in which a file has one name."""


def second_name(source: Path, target: Path) -> None:
    """Give a file another name, or where it cannot have one, copy it.

    Raises:
        OSError: the disk is full or broken, or there is a file of the name.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_SECOND_NAMES:
            raise
        with source.open("rb") as stored, atomic_open(target, "wb") as copy:
            shutil.copyfileobj(stored, copy, 1 << 20)
        # The sidecar of a catalogue identifies it by size and time.
        about = source.stat()
        os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files to the disk: a file that was made or renamed outlives a loss of power after this.

    Raises:
        OSError: the disk is broken.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without this
            raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        os.close(handle)


def sync_files(folder: Path) -> None:
    """Bring all files of a folder, and of folders in it, to the disk, with their names.

    Raises:
        OSError: the disk is full or broken; it names a file or folder.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            sync_files(path)
        elif path.is_file():
            with _naming(path):
                _sync(str(path))
    sync_folder(folder)


_LOCK_RETRY_S = 0.01
_locks: ContextVar[frozenset[tuple[int, int]]] = ContextVar("locks", default=frozenset())
"""What the blocks around this one have locked: device and inode."""


@contextlib.contextmanager
def locked(folder: str | Path, *, wait: bool | float = False) -> Iterator[None]:
    """Keep other processes that lock the same folder out of the block.

    The system releases the lock however a process ends. It stops nothing else. A file system without locks has none. In
    a block that has locked the folder already, this does nothing.

    Args:
        folder: an existing folder, or file.
        wait: wait until another process is done, or for so many seconds, rather than fail.

    Raises:
        BusyError: another process has the folder, and ``wait`` is off or over.
    """
    if importlib.util.find_spec("fcntl") is None:  # not a POSIX system
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    status, around = os.fstat(handle), _locks.get()
    token = _locks.set(around | {(status.st_dev, status.st_ino)})
    try:
        with contextlib.suppress(OSError):
            try:
                if around != _locks.get():
                    _lock(handle, wait)
            except BlockingIOError as error:
                problem = f"another process is writing to {folder}"
                raise BusyError(f"{problem}; wait until it is done, or name another folder") from error
        yield
    finally:
        _locks.reset(token)
        os.close(handle)


def _lock(handle: int, wait: bool | float) -> None:
    import fcntl

    if wait is True:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return
    end = time.monotonic() + wait
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_LOCK_RETRY_S)


def umask() -> int:
    """The bits that new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_open(path) as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write("\n")


def write_json_lines(path: str | Path, rows: Iterable[Any]) -> None:
    """Write a line of JSON for each row, atomically."""
    with atomic_open(path) as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_json(path: str | Path, remedy: str = "check the path") -> Any:
    """Read a JSON file, compressed or not.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is not JSON, or damaged.
    """
    with open_stream(Path(path), remedy) as stream:
        content = read_all(stream, path)
    try:
        return loads(content)
    except ValueError as error:
        reason = str(error).removeprefix("not JSON (").removesuffix(")")
        raise DataError(f"{path} is not valid JSON ({reason}); {remedy}") from error


def read_mapping(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, or a Python dict of literals as the originals write settings; None if the file holds neither."""
    text = read_bytes(path).decode("utf-8", "replace").strip()
    for parse in (json.loads, ast.literal_eval):
        try:
            values = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(values, dict):
            return values
    return None


def read_json_lines(path: str | Path, remedy: str = "check the path") -> Iterator[tuple[int, Any]]:
    """Yield ``(line number from 1, value)`` for every non-blank line; a byte order mark at the beginning is no content.

    The file may be compressed, see `blink.decompression`.

    Raises:
        MissingFileError: there is no such file.
        DataError: a line is not UTF-8 or not JSON; the message names the line. Or the file is damaged.
    """
    path = Path(path)
    with open_stream(path, remedy) as stream:
        for number, line in enumerate(lines_of(stream, path), 1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if content.strip():
                yield number, parse_json_line(content, path, number)


def parse_json_line(line: bytes, path: Path, number: int) -> Any:
    """Decode one line of JSON.

    Raises:
        DataError: the line is not UTF-8 or not JSON; the message names file and line.
    """
    try:
        return loads(line)
    except ValueError as error:
        remedy = "save the file as UTF-8" if isinstance(error.__cause__, UnicodeDecodeError) else "fix or remove the line"
        raise DataError(f"{path}, line {number}: {error}; {remedy}") from error


def sample_hash(path: str | Path, blocks: int = 64, block_bytes: int = 4096) -> str:
    """Hash of a file's size and of blocks spread evenly over it: tells files apart without reading gigabytes."""
    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        last = max(size - block_bytes, 0)
        for position in sorted({last * i // (blocks - 1) for i in range(blocks)}):
            f.seek(position)
            digest.update(f.read(block_bytes))
    return digest.hexdigest()


def sha256(path: str | Path, advance: Callable[[int], None] = lambda size: None) -> str:
    """Hex SHA-256 of a file's bytes; ``advance`` is called with the size of each block."""
    digest = hashlib.sha256()
    with open_file(path) as f:
        while block := f.read(1 << 20):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
