"""Reads data files, with errors that name file, line and the expected value."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blink.decompression import lines_of, open_stream
from blink.errors import DataError, MissingFileError
from blink.files import read_json, read_json_lines
from blink.input_files import read_text

NAMES = {str: "a text", int: "a whole number", list: "a list", dict: "an object", bool: "true or false", float: "a number"}
_SPACE = re.compile(r"[ \t\r\n]*")


class Row:
    """An object of a data file, with fields that are checked on access.

    Args:
        values: the object.
        where: file and line, for messages.
    """

    def __init__(self, values: Any, where: str) -> None:
        self.where = where
        if not isinstance(values, Mapping):
            raise self.error(f"found {shortened(values)}; an object in braces is expected")
        self._values = values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        """A field that is a text."""
        return writable(self._typed(key, str))

    def number(self, key: str) -> int:
        """A field that is a whole number."""
        return self._typed(key, int)

    def flag(self, key: str, default: bool) -> bool:
        """An optional field that is true or false."""
        return self._typed(key, bool) if key in self._values else default

    def texts(self, key: str) -> list[str]:
        """A field that is a list of texts; a single text is refused, as it would be split into characters."""
        items = self._typed(key, list)
        wrong = next((item for item in items if not isinstance(item, str)), None)
        if wrong is not None:
            raise self.error(f"{key!r} holds {shortened(wrong)}; texts are expected")
        return [writable(item) for item in items]

    def rows(self, key: str, name: str) -> list[Row]:
        """A field that is a list of objects; each is called ``name`` and its number in messages."""
        return [Row(item, f"{self.where}, {name} {n}") for n, item in enumerate(self._typed(key, list), 1)]

    def row(self, key: str) -> Row:
        """A field that is an object."""
        return Row(self._typed(key, dict), f"{self.where}, {key!r}")

    def span(self, start_key: str, end_key: str, length: int, unit: str, *, inclusive: bool = False) -> tuple[int, int]:
        """Two fields with the bounds of a span in a text of ``length`` units.

        Args:
            start_key: name of the first field.
            end_key: name of the second.
            length: number of units.
            unit: what is counted, in the plural.
            inclusive: whether the second field is the last unit rather than the one after it.

        Returns:
            first unit, and the one after the last.
        """
        start, end = self.number(start_key), self.number(end_key) + int(inclusive)
        if not 0 <= start < end <= length:
            last = "inclusive" if inclusive else "not included"
            problem = f"{start_key!r} is {start} and {end_key!r} is {end - int(inclusive)} ({last})"
            raise self.error(f"{problem}; they must enclose some of the {length} {unit}")
        return start, end

    def error(self, message: str) -> DataError:
        """An error about this object."""
        return DataError(f"{self.where}: {message}")

    def _typed(self, key: str, kind: type) -> Any:
        if key not in self._values:
            raise self.error(f"{key!r} is missing; there are {', '.join(map(repr, self._values)) or 'no fields'}")
        value = self._values[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"{key!r} is {shortened(value)}; {NAMES[kind]} is expected")
        return value


def writable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON may contain and files may not, by question marks of the same length."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def shortened(value: Any) -> str:
    """A value as JSON, truncated for messages."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:39] + "…"


def data_file(folder: Path, name: str, remedy: str) -> Path:
    """A file of a data folder.

    Raises:
        MissingFileError: folder or file does not exist.
    """
    if not folder.is_dir():
        raise MissingFileError(f"the data folder {folder} does not exist; give another by --data-dir, or {remedy}")
    if not (folder / name).is_file():
        raise MissingFileError(f"{folder} holds no {name}; {remedy}")
    return folder / name


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a file: a JSON array, or an object on each line.

    Raises:
        DataError: the file is neither, or is empty; the message names the line.
    """
    count = 0
    for count, (where, values) in enumerate(_array(path) if _first_sign(path) == "[" else _lines(path), 1):  # noqa: B007
        yield Row(values, where)
    if not count:
        raise DataError(f"{path} holds no examples; look at the file")


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def read_object(path: Path) -> Row:
    """A file that is one object."""
    return Row(read_json(path), str(path))


def _first_sign(path: Path) -> str:
    with open_stream(path) as f:
        lines = (line.strip(codecs.BOM_UTF8 + b" \t\r\n") for line in lines_of(f, path))
        return next((line[:1].decode("ascii", "replace") for line in lines if line), "")


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    return ((f"{path}, line {number}", value) for number, value in read_json_lines(path))


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    """Items of an array with their lines."""
    text = read_text(path)
    decoder = json.JSONDecoder()
    position, number, line, counted = text.index("[") + 1, 0, 1, 0
    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if text[position : position + 1] == "]":
            return
        line, counted = line + text.count("\n", counted, position), position
        where = f"{path}, line {line} (item {(number := number + 1)})"
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep, or a number too long"
            raise DataError(f"{where}: not JSON ({problem}); fix or remove the item") from error
        yield where, value
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if text[position : position + 1] not in (",", "]"):
            raise DataError(f"{where}: the item is followed by neither ',' nor ']'; the file may be truncated")
        position += text[position] == ","
