"""Reads and checks texts from a file, one per line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from blink.errors import DataError, MissingFileError

_BROKEN = re.compile("[\0\ud800-\udfff]")


def read_lines(file: str) -> Iterator[str]:
    """Yield the lines of a text file, or of standard input for ``-``, without their line ends.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is empty, or a line is not text; the message names the line.
    """
    if file != "-" and (not Path(file).exists() or Path(file).is_dir()):  # a device or a pipe will do
        fault = "is a folder, not a file" if Path(file).is_dir() else "does not exist"
        raise MissingFileError(f"{file} {fault}; give a file with one text per line")
    name = "standard input" if file == "-" else file
    stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed below
    count = 0
    try:
        for count, raw in enumerate(stream, 1):
            yield decode_line(raw, count, name)
    finally:
        if file != "-":
            stream.close()
    if not count:
        raise DataError(f"{name} is empty; give one text per line")


def decode_line(raw: bytes, number: int, name: str) -> str:
    """The text of line ``number`` (from 1) of ``name``, without its line end.

    Raises:
        DataError: it is not text.
    """
    try:
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}, line {number}: not UTF-8 (byte {error.start}); save the texts as UTF-8") from error
    return check_text(line.rstrip("\r\n"), f"{name}, line {number}")


def check_text(text: str, where: str) -> str:
    """Return ``text`` if it can be linked.

    Raises:
        DataError: it contains a NUL or a lone surrogate.
    """
    fault = text_fault(text)
    if fault is not None:
        raise DataError(f"{where}: {fault}; give well-formed text")
    return text


def text_fault(text: str) -> str | None:
    """What is wrong with a text that cannot be linked, a NUL or a lone surrogate, and at which character; None for others."""
    broken = _BROKEN.search(text)
    if broken is None:
        return None
    fault = "a NUL" if broken[0] == "\0" else "a byte that is not UTF-8, or a lone surrogate,"
    return f"{fault} at character {broken.start()}"
