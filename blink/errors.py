"""The error family: every mistake a user can make ends in one of these, as one clear line.

A message says what was found, what is allowed and the next step. The command line prints it and exits with 1;
nothing below ``apps/`` prints or exits.
"""

from __future__ import annotations


class BlinkError(Exception):
    """Base of all errors that BLINK raises on purpose."""


class SettingsError(BlinkError):
    """An option or a combination of options is not allowed."""


class BusyError(SettingsError):
    """Another process is writing to the same folder; the same again may succeed later."""


class MissingFileError(BlinkError):
    """A file or folder that was asked for is not there."""


class DataError(BlinkError):
    """The content of an input file or text is malformed."""


class CheckpointError(BlinkError):
    """A model file cannot be read, or does not hold what the model needs."""


class MismatchError(BlinkError):
    """Artefacts that do not belong together were combined (catalogue, vectors, index, model)."""


class ShapeError(BlinkError):
    """Arrays or tensors disagree in shape."""


MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What values of JSON raise where they are of another type, or no number, than a reader expects: infinity is no `int`."""


def first_line(error: BaseException) -> str:
    """The head of an error's message, short enough to quote in another."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
