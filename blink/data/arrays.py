"""Arrays on disk, one a ``.npy`` file: written whole or not at all, mapped rather than read, never unpickled."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from blink.errors import MismatchError
from blink.files import atomic_open, require_file


def save_array(path: str | Path, values: np.ndarray) -> None:
    """Write an array of numbers, of any shape, atomically.

    Raises:
        ValueError: it holds Python objects.
    """
    with atomic_open(path, "wb") as f:
        np.save(f, values, allow_pickle=False)


def map_array(path: str | Path, remedy: str, *, damaged: str | None = None) -> np.ndarray:
    """Map an array, in the shape and the kind of numbers that it was saved in.

    Args:
        path: the file.
        remedy: what makes the file, for messages.
        damaged: what to do about a damaged file, where that is something else.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: it is no array of numbers, or is cut short.
    """
    path = require_file(path, remedy)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, SyntaxError, TokenError) as error:  # the last two of a header that is no Python literal
        raise MismatchError(f"{path} is damaged ({error}); {damaged or remedy}") from error
