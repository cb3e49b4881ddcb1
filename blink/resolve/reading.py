"""Records from files: JSON lines, JSON arrays, CSV, TSV and Parquet."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blink.data.text_lines import decode_line
from blink.decompression import decompressed, lines_of
from blink.files import parse_json_line, read_json_lines
from blink.kb.sources.reading import entity_lines
from blink.resolve.records import Record, records_from

STANDARD_INPUT = "-"
_LINES = (".jsonl", ".ndjson")
_KEYS = {"title": "name", "text": "description", "kb_idx": "id"}
"""Key of a catalogue's line -> key of a record."""


def read_records(source: str, columns: Mapping[str, str] | None = None) -> Iterator[Record]:
    """The records of a file.

    Args:
        source: a file of JSON lines, a JSON array, CSV, TSV or Parquet; ``-`` for JSON lines, or a name a line, on standard
            input.
        columns: of a table, as of `blink.kb.sources.reading.entity_lines`.

    Raises:
        MissingFileError: there is no such file.
        DataError: a line is no record; the message names it.
    """
    if source == STANDARD_INPUT:
        yield from _numbered(_standard_input(), "standard input")
    elif Path(source).suffix in _LINES:
        yield from _numbered(read_json_lines(source, "give a file of records, a line of JSON each"), source)
    else:
        for number, line in enumerate(entity_lines(source, columns), 1):
            yield from records_from(
                [{_KEYS.get(key, key): value for key, value in line.items()}], f"{source}, record {number}:"
            )


def _numbered(values: Iterator[tuple[int, Any]], where: str) -> Iterator[Record]:
    for number, value in values:
        yield from records_from([value], f"{where}, line {number}: record")


def _standard_input() -> Iterator[tuple[int, Any]]:
    for number, raw in enumerate(lines_of(decompressed(sys.stdin.buffer, "standard input"), "standard input"), 1):
        if not raw.strip():
            continue
        is_json = raw.lstrip()[:1] in (b"{", b'"', b"[")
        yield (
            number,
            (
                parse_json_line(raw, Path("standard input"), number)
                if is_json
                else decode_line(raw, number, "standard input").strip()
            ),
        )
