"""Outputs of a bulk run: JSON Lines, plain or compressed in members that are appended, or tables made of them at the end."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.bulk.tables import as_text, table_lines
from blink.decompression import decompressed, require_zstandard
from blink.errors import SettingsError
from blink.extras import require_extra
from blink.files import atomic_open
from blink.progress import Bars, no_bars

ROWS_PER_GROUP, BYTES_PER_GROUP = 8192, 1 << 24
"""Rows of a row group of Parquet, and bytes of JSON: what is in memory while it is made."""


def _plain(content: bytes) -> bytes:
    return content


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)


def _zstd(content: bytes) -> bytes:
    return bytes(require_zstandard().ZstdCompressor(level=3).compress(content))


Member = Callable[[bytes], bytes]


Conversion = Callable[[Sequence[Path], Path, Bars], None]
"""Writes the rows of files of JSON Lines in another form."""


@dataclass(frozen=True)
class OutputFormat:
    """How rows are stored.

    Attributes:
        member: makes the bytes that are appended of lines of JSON.
        ending: of the name of files of these bytes.
        conversion: what the finished lines become; None where they stay as they are.
    """

    member: Member
    ending: str
    conversion: Conversion | None = None


def output_format(out: Path) -> OutputFormat:
    """The format that a name asks for.

    Raises:
        SettingsError: no such format is written, or its library is not installed.
    """
    matching = [form for ending, form in FORMATS.items() if out.name.endswith(ending)]
    if not matching and out.suffix in _COMPRESSED:
        raise SettingsError(f"{out.name} would be {out.suffix}; the output is one of {', '.join(FORMATS)}")
    form = matching[-1] if matching else FORMATS[".jsonl"]
    if form.member is _zstd:
        require_zstandard()
    if form.conversion is write_parquet:
        _require_pyarrow()
    return form


def merge_outputs(files: Sequence[Path], out: Path) -> None:
    """Write the rows of several finished files as one: the same bytes as if one run had written them."""
    if (conversion := output_format(out).conversion) is not None:
        conversion(files, out, no_bars)
        return
    with atomic_open(out, "wb") as merged:
        for file in files:
            with file.open("rb") as f:
                shutil.copyfileobj(f, merged, 1 << 20)


def write_table(delimiter: str, files: Sequence[Path], out: Path, bars: Bars = no_bars) -> None:
    """Write the rows of files of JSON Lines as a table, see `blink.bulk.tables`."""
    with atomic_open(out) as f, bars("writing the table", None, "row") as progress:

        def rows() -> Iterator[dict[str, Any]]:
            for line in _lines(files):
                progress.advance(1)
                yield json.loads(line)

        f.writelines(table_lines(rows(), delimiter))


def write_parquet(files: Sequence[Path], out: Path, bars: Bars = no_bars) -> None:
    """Write the rows of files of JSON Lines as Parquet, in memory that does not depend on their number.

    Ids and ``fields`` are columns of JSON text, because their types may differ from record to record; an id that is a string
    stays as it is.
    """
    pq = _require_pyarrow()
    schema = _schema()
    with (
        atomic_open(out, "wb") as f,
        pq.ParquetWriter(f, schema, compression="zstd") as writer,
        bars("writing Parquet", None, "row") as progress,
    ):
        for group in _groups(files):
            writer.write_table(_table(group, schema))
            progress.advance(len(group))


def _groups(files: Sequence[Path]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    n_bytes = 0
    for line in _lines(files):
        group.append(json.loads(line))
        n_bytes += len(line)
        if len(group) == ROWS_PER_GROUP or n_bytes >= BYTES_PER_GROUP:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _lines(files: Sequence[Path]) -> Iterator[bytes]:
    for file in files:
        with file.open("rb") as raw:
            stream = decompressed(raw, file)
            while line := stream.readline():
                yield line


def _table(rows: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    for row in rows:
        for name in ("id", "fields"):
            if name in row:
                row[name] = as_text(row[name])
    return pa.Table.from_pylist(rows, schema=schema)


def _schema() -> Any:
    import pyarrow as pa

    candidate = [("row", pa.int64()), ("kb_id", pa.string()), ("title", pa.string()), ("score", pa.float64())]
    link = [("start", pa.int64()), ("end", pa.int64()), ("mention", pa.string()), *candidate]
    link += [("description", pa.string()), ("url", pa.string()), ("types", pa.list_(pa.string()))]
    link.append(("candidates", pa.list_(pa.struct(candidate))))
    names = ("id", "file", "line", "text", "fields")
    columns = [(name, pa.int64() if name == "line" else pa.string()) for name in names]
    return pa.schema([*columns, ("links", pa.list_(pa.struct(link))), ("error", pa.string())])


def _require_pyarrow() -> Any:
    return require_extra("pyarrow.parquet", "files of Parquet", "bulk")


FORMATS = {
    ".jsonl": OutputFormat(_plain, ".jsonl"),
    ".jsonl.gz": OutputFormat(_gzip, ".jsonl.gz"),
    ".jsonl.zst": OutputFormat(_zstd, ".jsonl.zst"),
    ".parquet": OutputFormat(_zstd, ".jsonl.zst", write_parquet),
    ".csv": OutputFormat(_gzip, ".jsonl.gz", functools.partial(write_table, ",")),
    ".tsv": OutputFormat(_gzip, ".jsonl.gz", functools.partial(write_table, "\t")),
}
"""Ending of the file's name -> format. Names with other endings are plain JSON Lines, unless they name a compression."""
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip")
