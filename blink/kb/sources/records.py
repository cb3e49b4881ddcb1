"""Rows of Python objects: mappings, entities, titles, and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from blink.data.records import Entity
from blink.errors import DataError
from blink.kb.catalogue_line import line_of
from blink.kb.sources.rows import RecordMap, SourceRow

Records: TypeAlias = Iterable[Mapping[str, Any] | Entity | str] | Mapping[str, Any] | Any
"""Entities as Python objects: mappings with the keys of a catalogue's line or columns as of a table, `Entity` objects, titles,
a mapping from titles to descriptions, or a data frame of pandas."""


class RecordRows(RecordMap):
    """The rows of Python objects.

    Raises:
        DataError: they are no such objects.
    """

    def __init__(self, records: Records, requested: Mapping[str, str] | None = None) -> None:
        super().__init__(requested)
        self._records = records

    def __iter__(self) -> Iterator[SourceRow]:
        for number, record in enumerate(_records_in(self._records), 1):
            where = f"record {number:,}"
            try:
                yield SourceRow(where, line_of(record) if isinstance(record, Entity) else self.line_of(record))
            except ValueError as error:
                yield SourceRow(where, fault=str(error))


def _records_in(records: Any) -> Iterator[Any]:
    if hasattr(records, "itertuples"):  # a data frame of pandas, which need not be installed
        names = [str(name) for name in records.columns]
        for cells in records.itertuples(index=False, name=None):
            yield dict(zip(names, cells, strict=True))
    elif isinstance(records, Mapping):
        for title, text in records.items():
            yield {**text, "title": title} if isinstance(text, Mapping) else {"title": title, "text": text}
    elif isinstance(records, Iterable) and not isinstance(records, (str, bytes)):
        for record in records:
            yield {"title": record} if isinstance(record, str) else record
    else:
        problem = f"entities are given as a list, a mapping or a data frame, not as {type(records).__name__}"
        raise DataError(f"{problem}; a file is built by: blink kb build FILE --out DIR")
