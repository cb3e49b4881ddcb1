"""What a file of entities is: JSON lines, other JSON, a table or Parquet, in which encoding; by its content, then its name."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blink.decompression import damage_named, decompressed
from blink.errors import DataError, SettingsError
from blink.input_files import open_file
from blink.kb.sources.sniffing import Dialect, sniff

LINES, JSON, TABLE, PARQUET = "JSON lines", "a JSON array or objects over several lines", "a table", "Parquet"
ALLOWED = "JSON lines, a JSON array, CSV, TSV and Parquet, compressed or not"
HEAD_BYTES = 1 << 20
"""What a format is recognised by."""
_TABLE_SUFFIXES = (".csv", ".tsv", ".tab")
_SAVE_AS_CSV = "save the sheet as CSV (UTF-8) and give that"
_FOREIGN = {
    b"PK\x03\x04": ("a spreadsheet or another ZIP file", _SAVE_AS_CSV),
    b"\xd0\xcf\x11\xe0": ("an old spreadsheet or office document", _SAVE_AS_CSV),
    b"ARROW1": ("an Arrow (Feather) file", "write it as Parquet"),
    b"SQLite format 3": ("a SQLite database", "export the table as CSV"),
    b"%PDF": ("a PDF", f"give {ALLOWED}"),
    b"\x80\x04": ("a Python pickle, which is never loaded", "write it as Parquet or CSV"),
}
"""First bytes -> what the file is, and the remedy."""
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class SourceFormat:
    """The format of a file.

    Attributes:
        kind: `LINES`, `JSON` (an array, or objects over several lines), `TABLE` or `PARQUET`.
        encoding: name of a text's encoding, as Python has it.
        compressed: whether the file is compressed.
        dialect: of a table.
        keys: of the first object of JSON lines; empty where none can be read.
    """

    kind: str
    encoding: str = "utf-8"
    compressed: bool = False
    dialect: Dialect | None = None
    keys: tuple[str, ...] = ()

    @property
    def is_catalogue(self) -> bool:
        """Whether it can be opened as a catalogue as it is."""
        return self.kind == LINES and not self.compressed and self.encoding in ("utf-8", "utf-8-sig")

    def __str__(self) -> str:
        """Such as ``a table (separator ';', utf-16)``."""
        notes = [f"separator {self.dialect.named}"] if self.dialect is not None else []
        notes += [self.encoding] if self.encoding not in ("utf-8", "utf-8-sig") else []
        notes += ["compressed"] if self.compressed else []
        return f"{self.kind} ({', '.join(notes)})" if notes else self.kind


def file_format(path: Path, encoding: str | None = None, title_column: str | None = None) -> SourceFormat:
    """The format of a file.

    Args:
        path: the file.
        encoding: of its text; None to recognise it.
        title_column: name of the column of titles, where the user said it.

    Raises:
        DataError: it is something else, such as a spreadsheet; the message has the remedy.
        SettingsError: Python has no such encoding.
    """
    with open_file(path) as raw, damage_named(path):
        stream = decompressed(raw, path)
        head = stream.read(HEAD_BYTES)
        compressed = stream is not raw
    return replace(format_of(head, path, encoding=encoding, title_column=title_column), compressed=compressed)


def format_of(head: bytes, path: Path, *, encoding: str | None = None, title_column: str | None = None) -> SourceFormat:
    """The format of a file by its first bytes (decompressed) and its name; arguments and errors as of `file_format`."""
    if head.startswith(b"PAR1"):
        return SourceFormat(PARQUET)
    if (first := _object_line(head)) is not None and not _is_json(head.decode("utf-8", "replace")):
        return SourceFormat(LINES, keys=tuple(first))
    for magic, (name, remedy) in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {name}; {remedy}")
    encoding = _encoding_of(head, path) if encoding is None else checked_encoding(encoding)
    try:
        text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    except UnicodeError:  # UTF-16 without its mark
        return SourceFormat(LINES)
    text = text.removeprefix("\ufeff")
    if _is_json(text):
        return SourceFormat(JSON, encoding)
    if text.lstrip()[:1] == "<":
        raise DataError(f"{path} is XML or HTML; give {ALLOWED}")
    if text.lstrip()[:1] in ("{", "[", ""):
        return SourceFormat(LINES, encoding, keys=tuple(_object_line(text.encode("utf-8", "replace")) or ()))
    is_named_table = _suffix(path) in _TABLE_SUFFIXES
    dialect = sniff(text, title_column, complete=len(head) < HEAD_BYTES, surely=is_named_table)
    return SourceFormat(LINES, encoding) if dialect is None else SourceFormat(TABLE, encoding, dialect=dialect)


def checked_encoding(name: str) -> str:
    """The name of an encoding, as Python has it.

    Raises:
        SettingsError: Python has no such encoding of text.
    """
    try:
        known = codecs.lookup(name).name
        "".encode(known)
    except (LookupError, UnicodeError) as error:
        raise SettingsError(f"no encoding is named {name!r}; allowed are such as utf-8, utf-16, cp1252 and latin-1") from error
    return known


def _object_line(head: bytes) -> dict[str, Any] | None:
    """The first line that is a JSON object of its own, as all lines of a catalogue should be; None for none."""
    for line in head.removeprefix(codecs.BOM_UTF8).split(b"\n"):
        if line.lstrip().startswith(b"{"):
            try:
                value = json.loads(line.decode())  # not bytes, in which UTF-16 would be read too
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                return value
    return None


def _is_json(text: str) -> bool:
    """Whether a text begins as an array of objects, or as an object over several lines that is no broken line."""
    text = text.lstrip("\ufeff \t\r\n")
    opening = re.match(r"\[\s*", text)
    begin = opening.end() if opening else 0
    if opening and text[begin : begin + 1] == "]":
        return not text[begin + 1 :].strip()
    if text[begin : begin + 1] != "{":
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError):
        end = -1
    following = text[end:].lstrip()[:1] if end > 0 else ""
    if opening and not following:  # broken or cut off; not an array if lines of it are objects
        return _object_line(text.encode("utf-8", "replace")) is None
    return following in (",", "]") if opening else "\n" in text[:end] and end > 0


def _encoding_of(head: bytes, path: Path) -> str:
    for bom, name in _BOMS.items():
        if head.startswith(bom):
            return name
    pairs = head[: len(head) // 2 * 2]
    low, high = pairs[::2].count(0), pairs[1::2].count(0)
    if max(low, high) > len(pairs) // 5 and min(low, high) <= len(pairs) // 100:  # the same zero byte in each ASCII character
        return "utf-16-be" if low > high else "utf-16-le"
    if b"\0" in head:
        problem = f"{path} is no text in UTF-8 or UTF-16 (byte {head.index(0) + 1} is zero)"
        raise DataError(f"{problem}; give {ALLOWED}, or name its encoding, such as --encoding utf-16-le")
    return "utf-8"


def _suffix(path: Path) -> str:
    """The end of a file's name, without that of its compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return next((s for s in reversed(suffixes) if s not in (".gz", ".zst", ".bz2", ".xz")), "")
