"""Chunks of lines to rows of the output: the texts are linked, an error is recorded in its record's place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from blink.bulk.records import NOT_JSON, NOT_LINKED, Record, RecordLayout, parse_record
from blink.data.records import LinkedText
from blink.errors import DataError
from blink.runs.signals import Interrupted

SYSTEMATIC = 16
"""Texts of a chunk that all fail, from which on the run ends instead of recording them."""


class TextLinker(Protocol):
    """What a bulk run needs of a linker."""

    def link(self, texts: Iterable[str], *, batch_size: int = 64) -> Iterator[LinkedText]:
        """The links of texts, in their order."""


@dataclass(frozen=True)
class Counts:
    """What rows were written.

    Attributes:
        records: all rows.
        links: links in them.
        errors: number of rows with an error, by kind.
        first_error: where the first error is, and which.
    """

    records: int = 0
    links: int = 0
    errors: tuple[tuple[str, int], ...] = ()
    first_error: str = ""

    @property
    def n_errors(self) -> int:
        """All rows with an error."""
        return sum(n for _, n in self.errors)

    def __add__(self, other: Counts) -> Counts:
        errors = dict(self.errors)
        for kind, n in other.errors:
            errors[kind] = errors.get(kind, 0) + n
        return Counts(
            self.records + other.records,
            self.links + other.links,
            tuple(errors.items()),
            self.first_error or other.first_error,
        )

    def describe(self) -> str:
        """One line about the errors."""
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in self.errors)
        share = f"{self.n_errors:,} of {self.records:,} records"
        return f"{share} have an error instead of links ({kinds}); first: {self.first_error}"


@dataclass(frozen=True)
class LinkedChunk:
    """The rows of a chunk, each a line of JSON in UTF-8."""

    content: bytes
    counts: Counts


def link_chunk(
    lines: Sequence[bytes | None],
    first_line: int,
    linker: TextLinker,
    layout: RecordLayout,
    *,
    name: str,
    file: str | None = None,
    batch_size: int = 64,
) -> LinkedChunk:
    """Link the lines of a chunk.

    Args:
        lines: the lines; None for one that is too long.
        first_line: number of the first, from 1.
        linker: links the texts.
        layout: of lines and rows.
        name: of the input, for the first error.
        file: what a row repeats as its file; None for no such key.
        batch_size: texts per forward pass.
    """
    parsed = (parse_record(raw, line, layout) for line, raw in enumerate(lines, first_line))
    records = [record for record in parsed if record is not None]
    links = _links(records, linker, batch_size)
    errors: dict[str, int] = {}
    first_error, n_links, rows = "", 0, []
    for record in records:
        linked = links.get(record.line) if record.error is None else None
        if isinstance(linked, str):
            record, linked = replace(record, error=linked, kind=NOT_LINKED), None
        try:
            rows.append(_row(record, linked, layout, file))
        except RecursionError:
            fault = "its id or a carried field is nested too deep"
            record, linked = replace(record, id=None, fields={}, error=fault, kind=NOT_JSON), None
            rows.append(_row(record, linked, layout, file))
        n_links += 0 if linked is None else len(linked.links)
        if record.error is not None:
            errors[record.kind] = errors.get(record.kind, 0) + 1
            first_error = first_error or f"{name}, line {record.line}: {record.error}"
    return LinkedChunk(b"".join(rows), Counts(len(records), n_links, tuple(errors.items()), first_error))


def _links(records: Sequence[Record], linker: TextLinker, batch_size: int) -> dict[int, LinkedText | str]:
    """Links by line; where a text cannot be linked, what went wrong.

    Raises:
        DataError: none of many texts can be linked, so that something else is to blame.
    """
    sound = [record for record in records if record.error is None]
    try:
        linked = linker.link([record.text for record in sound], batch_size=batch_size)
        return {record.line: of_text for record, of_text in zip(sound, linked, strict=True)}
    except (Interrupted, OSError):
        raise
    except Exception as error:
        if len(sound) > 1:
            return _links_one_by_one(sound, linker, batch_size, error)
        return {sound[0].line: _fault(error)}


def _links_one_by_one(
    records: Sequence[Record], linker: TextLinker, batch_size: int, failure: Exception
) -> dict[int, LinkedText | str]:
    links: dict[int, LinkedText | str] = {}
    for record in records:
        try:
            (links[record.line],) = linker.link([record.text], batch_size=batch_size)
        except (Interrupted, OSError):
            raise
        except Exception as error:
            links[record.line] = _fault(error)
    if len(links) >= SYSTEMATIC and all(isinstance(of_text, str) for of_text in links.values()):
        lines = f"none of the {len(links)} texts from line {records[0].line:,} to {records[-1].line:,} can be linked"
        raise DataError(f"{lines} ({type(failure).__name__}: {failure}); what was linked before is kept") from failure
    return links


def _fault(error: Exception) -> str:
    return f"the text could not be linked ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


def _row(record: Record, linked: LinkedText | None, layout: RecordLayout, file: str | None) -> bytes:
    row: dict[str, Any] = {} if record.id is None else {"id": record.id}
    if file is not None:
        row["file"] = file
    if record.error is not None:
        row["line"] = record.line
    elif layout.keep_text:
        row["text"] = record.text
    if record.fields:
        row["fields"] = record.fields
    if linked is None:
        row["error"] = record.error
    else:
        left_out = {
            "candidates": not layout.candidates,
            "description": not layout.descriptions,
            "types": not layout.descriptions,
        }
        row["links"] = [{k: v for k, v in link.to_json().items() if not left_out.get(k)} for link in linked.links]
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a field with a lone surrogate, which JSON may hold as an escape alone
        return json.dumps(row).encode() + b"\n"
