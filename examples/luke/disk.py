"""Errors of the disk as what they are, whoever writes."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

SIGNS = ("I/O error", "inline_container", "PytorchStreamWriter")
"""Parts of what safetensors and torch say when a file cannot be written: they have no kind of error for that."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn errors of torch and safetensors about the disk into Python's, which commands show as one line.

    Args:
        place: what is written, for the message.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if not any(sign in str(error) for sign in SIGNS):
            raise
        hidden = error.__context__  # torch's error comes behind that of the disk
        named = re.search(r"os error (\d+)", str(error))  # safetensors names the number
        number = hidden.errno if isinstance(hidden, OSError) else int(named.group(1)) if named else None
        raise OSError(number or errno.EIO, os.strerror(number or errno.EIO), str(place)) from error
