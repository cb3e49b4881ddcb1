"""Opens what is read: a pipe, a device, a socket, a folder or a broken link where a file belongs is one line, never a wait."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from blink.errors import DataError, MissingFileError, SettingsError
from blink.limits import exceeded, limit

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, ""),
    (stat.S_ISDIR, "is a folder, not a file"),
    (stat.S_ISFIFO, "is a pipe, not a file that can be read more than once"),
    (stat.S_ISSOCK, "is a socket, not a file"),
    (lambda mode: True, "is a device, not a file"),
)
"""What a path may be, and what is wrong with it as a file."""
WRITER_WAIT_S = 10.0
"""How long a named pipe is read that no process writes to."""
_RETRY_S = 0.05
_SAFELY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags with which opening neither waits for the other end of a pipe nor changes a terminal."""


class Readable(Protocol):
    """What bytes are read of."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""


def file_fault(path: str | Path) -> str | None:
    """What is wrong with a path where a regular file belongs, as the end of a sentence; None for a regular file."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        return _missing(Path(path), error)
    return _kind_fault(mode)


def utf8_path(path: str | Path) -> str:
    """A path as libraries that are not written in Python take it.

    Raises:
        SettingsError: its bytes are not UTF-8.
    """
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"the name of {path} is not UTF-8, as the library that reads it needs; rename it") from error


def has_file(path: str | Path, remedy: str = "check the path") -> bool:
    """Whether a file that may be missing is there.

    Raises:
        MissingFileError: what is there is no file, or is a link that leads nowhere.
    """
    return bool(os.path.lexists(path) and require_file(path, remedy))


def require_file(path: str | Path, remedy: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        MissingFileError: it is not; ``remedy`` is the command or step that gets it.
    """
    fault = file_fault(path)
    if fault is not None:
        raise MissingFileError(f"{path} {fault}; {remedy}")
    return Path(path)


def open_file(path: str | Path, remedy: str = "check the path", *, streams: bool = False, buffering: int = -1) -> BinaryIO:
    """Open a file to read its bytes; every reader of files that users name opens them by this.

    Args:
        path: the file.
        remedy: the command or step that gets it, for the message.
        streams: take a pipe, a terminal or the null device too, for readers that need one pass. A named pipe to which nothing
            writes is waited for `WRITER_WAIT_S` seconds.
        buffering: as of `open`.

    Raises:
        MissingFileError: it is no file.
        OSError: it cannot be read.
    """
    if not streams:
        require_file(path, remedy)  # before opening, which on a device may have effects
    elif (fault := stream_fault(path)) is not None:
        raise MissingFileError(f"{path} {fault}; {remedy}")
    handle = os.open(path, os.O_RDONLY | _SAFELY)
    try:
        mode = os.fstat(handle).st_mode
        if not streams and (fault := _kind_fault(mode)):  # replaced in this moment
            raise MissingFileError(f"{path} {fault}; {remedy}")
        if stat.S_ISFIFO(mode):
            _await_writer(handle, path)
        if _SAFELY & getattr(os, "O_NONBLOCK", 0):
            os.set_blocking(handle, True)
        return open(handle, "rb", buffering)  # noqa: PTH123 - an open descriptor
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(handle)
        raise


def open_to_write(path: Path) -> int:
    """A descriptor of a device or a pipe to write to; a pipe that nothing reads is waited for `WRITER_WAIT_S` seconds.

    Raises:
        OSError: nothing reads it, or it cannot be written.
    """
    end = time.monotonic() + WRITER_WAIT_S
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | _SAFELY)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end or not stat.S_ISFIFO(path.stat().st_mode):
                raise
        time.sleep(_RETRY_S)
    if _SAFELY & getattr(os, "O_NONBLOCK", 0):
        os.set_blocking(handle, True)
    return handle


def stream_fault(path: str | Path) -> str | None:
    """What is wrong with a path where a file or a stream belongs; None for a file, a pipe, a terminal and the null device."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        return _missing(Path(path), error)
    mode = status.st_mode
    if stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and _is_stream(path, status.st_rdev)):
        return None
    return _kind_fault(mode)


def read_bytes(path: str | Path, remedy: str = "check the path") -> bytes:
    """The bytes of a file.

    Raises:
        MissingFileError: it is no file.
        DataError: it is larger than the limit ``document``.
    """
    with open_file(path, remedy) as f:
        return read_all(f, path)


def read_all(stream: Readable, name: str | Path, kind: str = "document") -> bytes:
    """The rest of a stream.

    Raises:
        DataError: it is longer than the limit of this name; of a file that is, nothing is read.
    """
    most = limit(kind)
    content = stream.read(most + 1) if _rest(stream) <= most else None
    if content is None or len(content) > most:
        raise DataError(f"{name}: {exceeded(kind)}")
    return content


def _rest(stream: Readable) -> int:
    """Bytes that are left of a regular file; 0 where nobody knows."""
    try:
        status = os.fstat(stream.fileno())  # type: ignore[attr-defined]
        return status.st_size - int(stream.tell()) if stat.S_ISREG(status.st_mode) else 0  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return 0


def read_text(path: str | Path, remedy: str = "check the path", *, kind: str = "document") -> str:
    """The text of a file of UTF-8, without a byte order mark and with line ends as they are.

    Args:
        path: the file.
        remedy: the command or step that gets it, for the message.
        kind: the limit of its size, a name in `blink.limits.LIMITS`.

    Raises:
        MissingFileError: it is no file.
        DataError: it is no text of UTF-8, or too large; the message names the line.
    """
    with open_file(path, remedy) as f:
        return decode(read_all(f, path, kind), path)


def decode(content: bytes, name: str | Path) -> str:
    """The text that bytes of UTF-8 hold, without a byte order mark.

    Raises:
        DataError: they are not UTF-8, or hold a NUL; the message names the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = content.rfind(b"\n", 0, error.start) + 1
        where = f"{name}, line {content.count(10, 0, error.start) + 1}"
        raise DataError(f"{where}: not UTF-8 (byte {error.start - start + 1}); save the file as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{name}, line {line}: a NUL, which no text has; save the file as UTF-8")
    return text


def read_lines_of(path: str | Path, remedy: str = "check the path") -> list[str]:
    """The lines of a file of UTF-8 without their ends. Errors as of `read_text`."""
    text = read_text(path, remedy).replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def _kind_fault(mode: int) -> str | None:
    return next(fault for is_kind, fault in _KINDS if is_kind(mode)) or None


def _is_stream(path: str | Path, device: int) -> bool:
    """Whether a character device is a terminal or the null device: others may have no end."""
    if device == Path(os.devnull).stat().st_rdev:
        return True
    handle = os.open(path, os.O_RDONLY | _SAFELY)
    try:
        return os.isatty(handle)
    finally:
        os.close(handle)


def _missing(path: Path, error: Exception) -> str:
    """Why a path cannot be looked at."""
    if isinstance(error, PermissionError):
        return f"cannot be read ({error.strerror})"
    if isinstance(error, ValueError):  # a NUL in the name
        return "is no path"
    blocking = next((parent for parent in path.parents if os.path.lexists(parent) and not parent.is_dir()), None)
    if blocking is not None and not path.is_symlink():
        return f"does not exist, since {blocking} is a {'broken link' if blocking.is_symlink() else 'file'}, not a folder"
    if not path.is_symlink():
        return "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
    target = path.readlink()
    return f"is a link to {target}, which does not exist" if isinstance(error, FileNotFoundError) else "is a link to itself"


def _await_writer(handle: int, path: str | Path) -> None:
    """Wait until somebody writes to a pipe, or has it open to write.

    Raises:
        MissingFileError: nobody does.
    """
    try:
        named = stat.S_ISFIFO(os.lstat(os.path.realpath(path)).st_mode)
    except OSError:  # of a pipe without a name, which has its writer
        return
    ready = select.poll()
    ready.register(handle, select.POLLIN)
    if not named or ready.poll(WRITER_WAIT_S * 1000):
        return
    try:
        silent = os.read(handle, 1) == b""
    except BlockingIOError:  # there is a writer, which has written nothing so far
        return
    fault = f"{path} is a pipe that {'nothing writes to' if silent else 'was written to too late'}"
    raise MissingFileError(f"{fault} ({WRITER_WAIT_S:g} s); start its writer first")
