"""Rows of JSON: an object a line, one array, or objects one after the other over several lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blink.decompression import open_stream
from blink.kb.catalogue_line import parse_object
from blink.kb.sources.formats import SourceFormat
from blink.kb.sources.rows import RecordMap, SourceRow, text_lines, text_pieces
from blink.limits import exceeded, limit

_BLANK = re.compile(r"[ \t\r\n]*")


class LineRows(RecordMap):
    """An object a line."""

    def __init__(self, path: Path, written: SourceFormat, requested: Mapping[str, str] | None) -> None:
        super().__init__(requested)
        self._path, self._written = path, written

    def __iter__(self) -> Iterator[SourceRow]:
        with open_stream(self._path) as stream:
            for number, line in enumerate(text_lines(stream, self._written.encoding, self._path), 1):
                where = f"line {number}"
                try:
                    yield SourceRow(where, self.line_of(parse_object(line.encode())) if line.strip() else None)
                except ValueError as error:
                    yield SourceRow(where, fault=str(error))


class JsonRows(RecordMap):
    """The objects of one array, or one after the other."""

    def __init__(self, path: Path, written: SourceFormat, requested: Mapping[str, str] | None) -> None:
        super().__init__(requested)
        self._path, self._written = path, written

    def __iter__(self) -> Iterator[SourceRow]:
        with open_stream(self._path) as stream:
            values = _Values(text_pieces(stream, self._written.encoding, self._path))
            for number, (line, value) in enumerate(values, 1):
                where = f"line {line} (object {number:,})"
                try:
                    yield SourceRow(where, self.line_of(value))
                except ValueError as error:
                    yield SourceRow(where, fault=str(error))
            if values.fault is not None:
                yield SourceRow(f"line {values.line}", fault=values.fault, lines=values.rest())


class _Values:
    """The values of a JSON text with the lines where they begin, up to the first fault; a piece in memory at a time."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces, self._text, self._at = pieces, "", 0
        self._most = limit("line")
        self._complete, self._column = False, 0  # characters of the line before the text
        self.line = 1
        self.fault: str | None = None

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        is_array = self._next() == "["
        if is_array:
            self._move(self._at + 1)
        separator = False
        while self.fault is None:
            following = self._next()
            if is_array and following == "]":
                self._end_of_array()
                return
            if not following:
                self.fault = "the array has no end" if is_array else None
                return
            if is_array and separator:
                if following != ",":
                    self.fault = f"expected a comma between two objects, found {following!r}"
                    return
                self._move(self._at + 1)
                self._next()
            line = self.line
            for value in self._value():
                yield line, value
            separator = True

    def rest(self) -> int:
        """Lines from here to the end of the text."""
        return self._text.count("\n", self._at) + sum(piece.count("\n") for piece in self._pieces) + 1

    def _end_of_array(self) -> None:
        self._move(self._at + 1)
        if self._next():
            self.fault = "text behind the end of the array"

    def _value(self) -> Iterator[Any]:
        """The value that begins here; none where it is broken."""
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > self._most:
                    self.fault = exceeded("line")
                    return
                if self._read():
                    continue
                self._move(error.pos)
                line_start = self._text.rfind("\n", 0, error.pos) + 1
                column = error.pos - line_start + 1 + (0 if line_start else self._column)
                self.fault = f"not JSON ({error.msg} at column {column})"
                return
            except (ValueError, RecursionError):
                self.fault = "not JSON that can be read (nested too deep, or a number too long)"
                return
            self._move(end)
            yield value
            return

    def _next(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            assert blank is not None
            self._move(blank.end())
            if self._at < len(self._text) or not self._read():
                return self._text[self._at : self._at + 1]

    def _move(self, at: int) -> None:
        self.line += self._text.count("\n", self._at, at)
        self._at = at

    def _read(self) -> bool:
        """Read as much again as there is, and a piece at least; whether there was more."""
        line_start = self._text.rfind("\n", 0, self._at) + 1
        self._column = self._at - line_start + (0 if line_start else self._column)
        rest, pieces, size = self._text[self._at :], [], 0
        while not self._complete and size <= len(rest):
            pieces.append(next(self._pieces, ""))
            self._complete = not pieces[-1]
            size += len(pieces[-1])
        self._text, self._at = "".join((rest, *pieces)), 0
        return size > 0
