"""Arrays in ``.npy`` files: written atomically, memory-mapped, never unpickled."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from blink.errors import MismatchError
from blink.files import atomic_open, require_file


def save_array(path: str | Path, values: np.ndarray) -> None:
    """Write a numeric array atomically.

    Raises:
        ValueError: it holds Python objects.
    """
    with atomic_open(path, "wb") as f:
        np.save(f, values, allow_pickle=False)


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
