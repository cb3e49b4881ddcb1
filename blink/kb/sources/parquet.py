"""Rows of Parquet files, with some of them in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blink.errors import DataError
from blink.extras import require_extra
from blink.kb.sources.columns import ColumnMap
from blink.kb.sources.formats import SourceFormat
from blink.kb.sources.rows import SourceRow

_ROWS = 4096


class ParquetRows:
    """The rows of a Parquet file."""

    def __init__(self, path: Path, written: SourceFormat, requested: Mapping[str, str] | None) -> None:
        if written.compressed:
            raise DataError(f"{path} is Parquet in a compressed file; decompress it first, Parquet is compressed itself")
        self._path, self._requested = path, requested
        self.columns: ColumnMap | None = None

    def __iter__(self) -> Iterator[SourceRow]:
        parquet, arrow = _libraries()
        try:
            with parquet.ParquetFile(self._path) as file:
                names = file.schema_arrow.names
                self.columns = columns = self._map(names)
                number = 0
                for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(columns.of_key.values()))):
                    for cells in batch.to_pylist():
                        number += 1
                        yield _row(number, columns, cells)
        except (arrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            raise DataError(f"{self._path} is damaged or cut off ({_one_line(error)}); get the file again") from error

    def _map(self, names: list[str]) -> ColumnMap:
        try:
            return ColumnMap.of(names, self._requested)
        except DataError as error:
            raise DataError(f"{self._path}, columns: {error}") from error


def _row(number: int, columns: ColumnMap, cells: Mapping[str, Any]) -> SourceRow:
    where = f"row {number:,}"
    if all(cell in (None, "", []) for cell in cells.values()):
        return SourceRow(where)
    try:
        return SourceRow(where, columns.line_of(cells))
    except ValueError as error:
        return SourceRow(where, fault=str(error))


def _libraries() -> tuple[Any, Any]:
    parquet, pyarrow = (require_extra(name, "files of Parquet", "bulk") for name in ("pyarrow.parquet", "pyarrow"))
    return parquet, pyarrow


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
