"""transformers without its bars and reports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from transformers.utils import logging as hf_logging


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """No progress bars and no load reports from transformers inside the block; what matters is checked by the caller."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)


def first_line(error: BaseException) -> str:
    """The head of an error's message, short enough to quote in another."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
