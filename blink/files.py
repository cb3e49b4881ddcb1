"""Reading and writing files: atomic writes, JSON lines whose errors name file and line, content hashes."""

from __future__ import annotations

import ast
import codecs
import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from blink.errors import DataError, MissingFileError, SettingsError


def require_file(path: str | Path, remedy: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        MissingFileError: it is not; ``remedy`` is the command or step that gets it.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "is a device or a pipe, not a file"
        problem = problem if path.exists() else "does not exist"
        raise MissingFileError(f"{path} {problem}; {remedy}")
    return path


def user_cache() -> Path:
    """BLINK's folder in the user's cache; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blink"


@contextlib.contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary sibling of ``path`` for writing; it replaces ``path`` only if the block succeeds.

    A full disk or a kill leaves the old file untouched. ``mode`` is ``"w"`` (UTF-8) or ``"wb"``.
    A link keeps pointing where it does; a device or a pipe (``/dev/null``) is written to directly.
    """
    path = Path(path).resolve()
    encoding = None if "b" in mode else "utf-8"
    if path.exists() and not path.is_file():
        with path.open(mode, encoding=encoding) as device:
            yield device
        return
    handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, on both ways out
        mode, encoding=encoding, dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
    )
    try:
        with handle:
            with disk_errors(path):
                yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(handle.name, 0o666 & ~_umask())
        os.replace(handle.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(handle.name)
        raise


_DISK_SIGNS = ("I/O error", "inline_container", "PytorchStreamWriter")
"""Parts of what safetensors and torch say when a file cannot be written: they have no kind of error for that."""


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
        theirs = isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError"
        if not theirs or not any(sign in str(error) for sign in _DISK_SIGNS):
            raise
        hidden = error.__context__  # torch's error comes behind that of the disk
        named = re.search(r"os error (\d+)", str(error))  # safetensors names the number
        number = hidden.errno if isinstance(hidden, OSError) else int(named.group(1)) if named else None
        raise OSError(number or errno.EIO, os.strerror(number or errno.EIO), str(path)) from error


@contextlib.contextmanager
def disk_full_named(folder: Path) -> Iterator[None]:
    """Report a full disk with its path, which the error of a write does not have.

    Args:
        folder: what is written to, where the error names no file.

    Raises:
        SettingsError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fault = f"the disk of {error.filename or folder} is full ({error.strerror})"
        raise SettingsError(f"{fault}; make room and give the same command again, what is done is kept") from error


@contextlib.contextmanager
def locked(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes that lock the same folder out of the block.

    The system releases the lock however a process ends. It stops nothing else. A file system without locks has none.

    Args:
        folder: an existing folder.
        wait: wait until another process is done, rather than fail.

    Raises:
        SettingsError: another process has the folder, and ``wait`` is off.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                problem = f"another process is writing to {folder}"
                raise SettingsError(f"{problem}; wait until it is done, or name another folder") from error
        yield
    finally:
        os.close(handle)


def _umask() -> int:
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
    """Read a JSON file.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is not JSON.
    """
    path = require_file(path, remedy)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # among them brackets too deep, and numbers of thousands of digits
        raise DataError(f"{path} is not valid JSON ({error}); {remedy}") from error


def read_mapping(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, or a Python dict of literals as the originals write settings; None if the file holds neither."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
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

    Raises:
        MissingFileError: there is no such file.
        DataError: a line is not UTF-8 or not JSON; the message names the line.
    """
    path = require_file(path, remedy)
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if content.strip():
                yield number, parse_json_line(content, path, number)


def parse_json_line(line: bytes, path: Path, number: int) -> Any:
    """Decode one line of JSON.

    Raises:
        DataError: the line is not UTF-8 or not JSON; the message names file and line.
    """
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        problem = f"not JSON ({error.msg} at column {error.colno})"
        raise DataError(f"{path}, line {number}: {problem}; fix or remove the line") from error
    except (ValueError, RecursionError) as error:
        problem = "not JSON that can be read (nested too deep, or a number too long)"
        raise DataError(f"{path}, line {number}: {problem}; fix or remove the line") from error


def sample_hash(path: str | Path, blocks: int = 64, block_bytes: int = 4096) -> str:
    """Hash of a file's size and of blocks spread evenly over it: tells files apart without reading gigabytes."""
    size = Path(path).stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(size - block_bytes, 0)
    with Path(path).open("rb") as f:
        for position in sorted({last * i // (blocks - 1) for i in range(blocks)}):
            f.seek(position)
            digest.update(f.read(block_bytes))
    return digest.hexdigest()


def sha256(path: str | Path, advance: Callable[[int], None] = lambda size: None) -> str:
    """Hex SHA-256 of a file's bytes; ``advance`` is called with the size of each block."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
