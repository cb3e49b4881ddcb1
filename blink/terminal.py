"""What reaches a terminal: no character of data that would change it, reorder its line or hide there."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
from typing import TextIO

_CODE_POINTS = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"  # C0 without tab and line end, DEL, C1
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # marks, embeddings, overrides and isolates of direction
    "\\u180e\\u200b\\u2028\\u2029\\u2060-\\u2065\\u206a-\\u206f\\ufeff\\ufff9-\\ufffb"  # separators and other invisible formats
    "\\ud800-\\udfff\\U000e0000-\\U000e00ff"  # lone surrogates, tags
)
HOSTILE = re.compile(f"[{_CODE_POINTS}]")
"""A code point that data may not send to a terminal; joiners (U+200C, U+200D) stay, since names of many scripts need them."""
_HOSTILE_IN_LINES = re.compile(f"(?!\r\n)[{_CODE_POINTS}]")
_LINE_ENDS = re.compile(r"\s*[\t\n\v\f\r\x85\u2028\u2029]\s*")
_MOVES = re.compile(r"\n*(?:\x1b\[A)*")
_ERRORS = "blink.escaped"


class TerminalCodes(str):
    """Text with codes of our own for a terminal, which `TerminalStream` writes as it is."""

    __slots__ = ()


def escaped(text: str) -> str:
    r"""``text`` with hostile code points as escapes of JSON, such as ``\u001b``, so that JSON stays the same JSON."""
    return HOSTILE.sub(_escape, text)


def escaped_line(text: str) -> str:
    """``text`` on one line, with hostile code points as escapes; blanks between words stay as they are."""
    return escaped(_LINE_ENDS.sub(" ", text).strip())


def shortened(line: str, longest: int = 1500) -> str:
    """A line without its middle where it is too long: messages quote what they found, which may be megabytes."""
    head = longest * 2 // 3
    return line if len(line) <= longest else f"{line[:head]} … {line[head - longest :]}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_escape(match) for match in re.finditer("(?s).", error.object[error.start : error.end])), error.end


codecs.register_error(_ERRORS, _escape_unencodable)


class TerminalStream(io.TextIOWrapper):
    """A text stream on a terminal that writes hostile code points as escapes.

    Args:
        of: the stream whose buffer it writes to.
        bars: let through how progress bars of libraries move: a return at the start of a write, and writes of moves alone.
    """

    def __init__(self, of: io.TextIOWrapper, *, bars: bool) -> None:
        super().__init__(of.buffer, encoding=of.encoding, errors=_ERRORS, line_buffering=True, write_through=of.write_through)
        self._bars, self._of = bars, of  # whose end would close the buffer

    def write(self, text: str, /) -> int:
        """Write ``text``; returns its length."""
        if isinstance(text, TerminalCodes):
            super().write(text)
        elif self._bars and text.startswith("\r"):
            super().write("\r" + _HOSTILE_IN_LINES.sub(_escape, text[1:]))
        elif self._bars and _MOVES.fullmatch(text):
            super().write(text)
        else:
            super().write(_HOSTILE_IN_LINES.sub(_escape, text))
        return len(text)


def protect_streams() -> None:
    """Make standard streams safe for any text, for the whole process.

    Closed ones (``<&-``) become usable. Terminals get no hostile code point. What an encoding lacks, which
    lone surrogates of file names are everywhere, is written as an escape of JSON.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - for the whole process
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:  # ours already, or that of a test
            continue
        stream.reconfigure(errors=_ERRORS)
        if is_terminal(stream):
            setattr(sys, name, TerminalStream(stream, bars=name == "stderr"))
        elif name == "stdout" and isinstance(raw := stream.buffer, io.RawIOBase):
            # Of PYTHONUNBUFFERED: it loses the rest of what a signal interrupts.
            sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, _ERRORS, line_buffering=True)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream ends on a terminal; false where it is closed."""
    with contextlib.suppress(ValueError, OSError):
        return stream.isatty()
    return False
