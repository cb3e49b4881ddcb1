"""Arrays in ``.npy`` files: written atomically, whole or in blocks, memory-mapped, never unpickled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt

from blink.errors import MismatchError
from blink.files import atomic_open, require_file

_LARGEST_INT32 = np.iinfo(np.int32).max
SPOOLED_BYTES = 1 << 20
"""Size above which what is written temporarily goes to the disk."""
_COPIED = 1 << 20
"""Offsets that are copied at a time."""


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


def map_array(path: str | Path, remedy: str, *, damaged: str | None = None) -> np.ndarray:
    """Memory-map an array.

    Args:
        path: the file.
        remedy: how to create the file, for messages.
        damaged: remedy for a damaged file, if it differs.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: it is not a numeric array, or is truncated.
    """
    path = require_file(path, remedy)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, SyntaxError, TokenError) as error:  # the last two of a header that is no Python literal
        raise MismatchError(f"{path} is damaged ({error}); {damaged or remedy}") from error
