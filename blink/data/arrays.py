"""Arrays in ``.npy`` files: written atomically, whole or in blocks, memory-mapped, never unpickled.

Archives of several arrays (``.npz``) are read only where each array is as large as its file says.
A stamped file ends with a hash of its bytes and of what they were made of: unfinished work that a later run takes over.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
import numpy.typing as npt

from blink.errors import BlinkError, DataError, MismatchError, first_line
from blink.files import atomic_open, require_file
from blink.input_files import open_file
from blink.limits import RATIO_FROM, exceeded, limit

_LARGEST_INT32 = np.iinfo(np.int32).max
SPOOLED_BYTES = 1 << 20
"""Size above which what is written temporarily goes to the disk."""
_COPIED = 1 << 20
"""Offsets that are copied at a time."""
_STAMP_BYTES = hashlib.sha256().digest_size


def save_array(path: str | Path, values: np.ndarray) -> None:
    """Write a numeric array atomically.

    Raises:
        ValueError: it holds Python objects.
    """
    with atomic_open(path, "wb") as f:
        np.save(f, values, allow_pickle=False)


@contextmanager
def array_writer(path: str | Path, dtype: npt.DTypeLike, columns: int | None = None) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an array block by block, atomically: yields a function that appends a block of rows.

    Args:
        path: the file.
        dtype: of the array; blocks are converted to it.
        columns: of a matrix; None for a vector.
    """
    rows, dtype, rest = 0, np.dtype(dtype), () if columns is None else (columns,)
    with atomic_open(path, "wb") as f:

        def header() -> None:
            np.lib.format.write_array_header_1_0(
                f, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *rest)}
            )

        def append(block: np.ndarray) -> None:
            nonlocal rows
            block = np.ascontiguousarray(block, dtype=dtype)
            assert block.shape[1:] == rest
            f.write(block.data)
            rows += len(block)

        header()
        begin = f.tell()
        yield append
        f.seek(0)
        header()  # numpy leaves room in it for any number of rows
        assert f.tell() == begin


@contextmanager
def offsets_writer(path: str | Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Write the bounds of consecutive ranges: yields a function that appends the sizes of more ranges.

    The file holds the start of each range, and the end of the last. *Shape:* (ranges + 1,), int32 or int64.
    """
    end = 0
    with tempfile.SpooledTemporaryFile(SPOOLED_BYTES, dir=str(Path(path).parent)) as stored:

        def append(sizes: np.ndarray) -> None:
            nonlocal end
            if len(sizes):
                ends = np.cumsum(sizes, dtype=np.int64) + end
                stored.write(ends.tobytes())
                end = int(ends[-1])

        stored.write(np.zeros(1, dtype=np.int64).tobytes())
        yield append
        stored.seek(0)
        with array_writer(path, np.int32 if end <= _LARGEST_INT32 else np.int64) as write:
            while block := stored.read(8 * _COPIED):
                write(np.frombuffer(block, dtype=np.int64))


def map_array(path: str | Path, remedy: str, *, damaged: str | None = None, kinds: str = "") -> np.ndarray:
    """Memory-map an array.

    Args:
        path: the file.
        remedy: how to create the file, for messages.
        damaged: remedy for a damaged file, if it differs.
        kinds: of NumPy's types that it may have, such as ``iu`` for whole numbers; empty for any.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: it is not a numeric array, is truncated, or is of another kind.
    """
    path = require_file(path, remedy)
    try:
        values = np.lib.format.open_memmap(path, mode="r")
    except DAMAGED_ARRAY as error:
        raise MismatchError(f"{path} is damaged ({error}); {damaged or remedy}") from error
    if kinds and (values.dtype.kind not in kinds or not values.ndim):
        raise MismatchError(f"{path} is damaged (it holds {values.dtype}, shape {values.shape}); {damaged or remedy}")
    return values


class _Hashed:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes], made_of: str) -> None:
        self._file, self.digest = file, hashlib.sha256(f"{made_of}\n".encode())

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)


def save_stamped(path: str | Path, values: np.ndarray, made_of: str) -> None:
    """Write a numeric array atomically, followed by a hash of it and of what it was made of, see `is_stamped`.

    Args:
        path: the file, which `map_array` opens as any other.
        values: the array.
        made_of: all that decides its values and which rows they are, as a text.

    Raises:
        ValueError: it holds Python objects.
    """
    with atomic_open(path, "wb") as f:
        hashed = _Hashed(f, made_of)
        np.save(hashed, values, allow_pickle=False)  # type: ignore[arg-type, unused-ignore]
        f.write(hashed.digest.digest())


def is_stamped(path: str | Path, made_of: str) -> bool:
    """Whether a file is one of `save_stamped`, made of the same, and unchanged. All of it is read."""
    digest = hashlib.sha256(f"{made_of}\n".encode())
    try:
        with open_file(path) as f:
            remaining = f.seek(0, 2) - _STAMP_BYTES
            f.seek(0)
            while remaining > 0 and (block := f.read(min(remaining, _COPIED))):
                digest.update(block)
                remaining -= len(block)
            return f.read() == digest.digest()
    except (BlinkError, OSError):
        return False


def hash_of(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, dtypes, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def read_archive(path: str | Path, remedy: str, what: str = "arrays") -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz`` file by name. Nothing is allocated that the file does not hold.

    Args:
        path: the file.
        remedy: the next step, for messages.
        what: what they are, for messages.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no such file, is damaged, holds Python objects, or far more than its size.
    """
    path = require_file(path, remedy)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > max(RATIO_FROM, path.stat().st_size * limit("ratio")):
                raise ValueError(exceeded("ratio"))
            arrays = {}
            for member in archive.infolist():
                with archive.open(member) as f:
                    arrays[member.filename.removesuffix(".npy")] = _member(f, member)
            return arrays
    except (*DAMAGED_ARRAY, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} holds no {what}, or is damaged ({first_line(error)}); {remedy}") from error


DAMAGED_ARRAY = (ValueError, EOFError, OSError, SyntaxError, TokenError, MemoryError, OverflowError)
"""What reading a damaged array raises: `SyntaxError` and `TokenError` of a header that is no Python literal."""


def _member(f: IO[bytes], member: zipfile.ZipInfo) -> np.ndarray:
    version = np.lib.format.read_magic(f)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(f)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds pickled objects, which are not opened")
    size = math.prod(shape) * dtype.itemsize
    content = f.read(size + 1) if size >= 0 else b""
    if len(content) != size:
        raise ValueError(
            f"{member.filename} has {'fewer' if len(content) < size else 'more'} bytes than {shape} of {dtype} need"
        )
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
