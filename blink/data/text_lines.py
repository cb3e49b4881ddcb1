"""Reads and checks texts from a file, one per line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

from blink.decompression import damage_named, decompressed, lines_of
from blink.errors import DataError
from blink.input_files import open_file

LONGEST_HELD = 1 << 20
"""Characters of a line that `in_whole_lines` waits for."""
_BROKEN = re.compile("[\0\ud800-\udfff]")


def read_lines(file: str) -> Iterator[str]:
    """Yield the lines of a text file, or of standard input for ``-``, without their line ends; both may be compressed.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is empty or damaged, or a line is not text; the message names the line.
    """
    name = "standard input" if file == "-" else file
    stream = sys.stdin.buffer if file == "-" else open_file(file, "give a file with one text per line", streams=True)
    count = 0
    try:
        with damage_named(name):
            for count, raw in enumerate(lines_of(decompressed(stream, name), name), 1):
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


def in_whole_lines(pieces: Iterable[str], longest: int = LONGEST_HELD) -> Iterator[str]:
    """Join the pieces of lines, so that each result ends with a line; of a line that is longer than ``longest`` it may not."""
    held: list[str] = []
    for piece in pieces:
        held.append(piece)
        if piece.endswith("\n") or sum(map(len, held)) >= longest:
            yield "".join(held)
            held.clear()
    if held:
        yield "".join(held)
