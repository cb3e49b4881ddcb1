"""Opens any source of entities as a catalogue: what is none is converted into one, with counts of what was left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blink.decompression import open_stream
from blink.errors import DataError
from blink.files import atomic_open
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from blink.kb.sources.columns import ColumnMap
from blink.kb.sources.formats import ALLOWED, LINES, SourceFormat, file_format
from blink.kb.sources.reading import encoded_rows, open_rows
from blink.kb.sources.rows import RowSource, text_lines

_REPORTED_ROWS = 1000
_BLOCK_BYTES = 1 << 20
_SKIP_BAD = "pass --skip-bad to leave such rows out"


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        columns: key of a catalogue's line -> column that holds it; columns of known names are mapped without it.
        encoding: of a text; recognised by default.
        skip_bad: leave out what is no entity.
        allow_empty: accept a source without entities.
    """

    columns: Mapping[str, str] | None = None
    encoding: str | None = None
    skip_bad: bool = False
    allow_empty: bool = False


@dataclass
class Conversion:
    """What became of the rows of a source.

    Attributes:
        entities: rows that are entities.
        empty: empty rows.
        broken: rows that are no entities.
        lines: lines of the file with content.
        broken_lines: lines of broken rows.
        first_fault: of the first broken row, with where it is.
        columns: which column holds what.
    """

    entities: int = 0
    empty: int = 0
    broken: int = 0
    lines: int = 0
    broken_lines: int = 0
    first_fault: str = ""
    columns: ColumnMap | None = None

    def __str__(self) -> str:
        """Such as ``50 entities of title=name, text=description; 2 empty rows; columns that are not used: price``."""
        notes = [f"{self.entities:,} entities" + (f" of {self.columns}" if self.columns else "")]
        notes += [f"{self.empty:,} empty rows"] if self.empty else []
        notes += [f"{self.broken:,} rows left out, the first: {self.first_fault}"] if self.broken else []
        if self.columns is not None and self.columns.unused:
            notes.append(f"columns that are not used: {', '.join(self.columns.unused[:8])}")
        if self.columns is not None and "text" not in self.columns.of_key:
            notes.append("no column is a description, which links are better with: --columns text=NAME")
        return "; ".join(notes)


def open_source(
    source: Path | RowSource,
    catalogue: Path,
    options: SourceOptions,
    *,
    sidecar: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Catalogue:
    """Open the catalogue of a source.

    A file that is a catalogue already is opened as it is; any other source is converted.

    Args:
        source: a file, see `blink.kb.sources.reading.entity_lines`, or rows of Python objects.
        catalogue: where the converted catalogue goes.
        options: how to read it.
        sidecar: of the catalogue, converted or not; next to the converted one by default.
        note: called with a line about what was converted.
        advance: called with the number of newly converted rows.

    Raises:
        DataError: the source is of another format, has no entities, or rows that are none; with ``skip_bad`` it is still an
            error if most of it is no entity.
    """
    sidecar = sidecar or catalogue.with_name(catalogue.name + SIDECAR_SUFFIX)
    if isinstance(source, Path):
        written = file_format(source, options.encoding, (options.columns or {}).get("title"))
        if written.kind == LINES and not options.columns and ("title" in written.keys or not written.keys):
            opened = _open_lines(source, written, catalogue, sidecar, options.skip_bad)
            _require_entities(opened, source, options)
            return opened
        name, rows = str(source), open_rows(source, written, options.columns)
    else:
        name, rows, written = "the records", source, None
    converted = convert(rows, catalogue, name, options, advance)
    note(f"{name}{f' is {written}' if written else ''}: {converted}")
    opened = Catalogue.open(catalogue, skip_bad=True, sidecar=sidecar, warn=False)
    if opened.repeated_ids:
        message = _repeated_id(opened, rows, name)
        if not options.skip_bad:
            opened.close()
            raise DataError(message)
        note(message)
    return opened


def convert(
    rows: RowSource, target: Path, name: str, options: SourceOptions, advance: Callable[[int], None] = lambda rows: None
) -> Conversion:
    """Write the entities of a source as a catalogue. Arguments and errors as of `open_source`; ``name`` is for messages."""
    result, pending = Conversion(), 0
    with atomic_open(target, "wb") as f:
        for row, line in encoded_rows(rows):
            if line is not None:
                f.write(line)
            result.entities += line is not None
            result.broken += row.fault is not None
            result.broken_lines += row.lines if row.fault is not None else 0
            result.empty += line is None and row.fault is None
            result.lines += row.lines if line is not None or row.fault is not None else 0
            if row.fault is not None and not result.first_fault:
                result.first_fault = f"{row.where}: {row.fault}"
            pending += 1
            if pending == _REPORTED_ROWS:
                advance(pending)
                pending = 0
        result.columns = rows.columns
        _require_rows(result, name, options)
    advance(pending)
    return result


def _require_rows(result: Conversion, name: str, options: SourceOptions) -> None:
    if not result.entities and not result.broken:
        if not options.allow_empty:
            raise DataError(f"{name} has no entities; give {ALLOWED}, with a title for each entity")
    elif 2 * result.broken_lines > result.lines:
        counted = f"{result.broken:,} of {result.broken + result.entities:,} rows are no entities"
        raise DataError(f"{name}, {result.first_fault}; {counted}; correct it, or the way it is read (--columns, --encoding)")
    elif result.broken and not options.skip_bad:
        more = f" ({result.broken - 1:,} more rows have faults)" if result.broken > 1 else ""
        raise DataError(f"{name}, {result.first_fault}{more}; correct it, or {_SKIP_BAD}")


def _open_lines(source: Path, written: SourceFormat, catalogue: Path, sidecar: Path, skip_bad: bool) -> Catalogue:
    if written.is_catalogue:
        return Catalogue.open(source, skip_bad=skip_bad, sidecar=sidecar)
    with open_stream(source) as stream, atomic_open(catalogue, "wb") as f:
        if written.encoding in ("utf-8", "utf-8-sig"):  # broken lines stay what they are
            while block := stream.read(_BLOCK_BYTES):
                f.write(block)
        else:
            f.writelines(line.encode() for line in text_lines(stream, written.encoding, source))
    return Catalogue.open(catalogue, skip_bad=skip_bad, sidecar=sidecar, name=str(source))


def _require_entities(opened: Catalogue, source: Path, options: SourceOptions) -> None:
    if len(opened) and 2 * opened.skipped <= len(opened):
        return
    if not len(opened) and options.allow_empty:
        return
    with opened:
        if not len(opened):
            raise DataError(f"{source} has no entities; give {ALLOWED}, with a title for each entity")
        fault = (opened.problem or "").rpartition("; ")[0]
        counted = f"{opened.skipped:,} of {len(opened):,} lines of {source} are no entities ({fault})"
        raise DataError(f"{counted}; correct them, or give {ALLOWED}")


def _repeated_id(opened: Catalogue, rows: RowSource, name: str) -> str:
    """The message about the first id that two rows have."""
    first = next(e for e in opened if e.kb_id and opened.row_of(e.kb_id) != e.row)
    assert first.kb_id is not None
    second = opened.row_of(first.kb_id)
    places = (row.where for row, line in encoded_rows(rows) if line is not None)
    where = {row: place for row, place in enumerate(places) if row in (first.row, second)}
    repeated = f"kb_idx {first.kb_id!r} already stands on {where.get(first.row, 'another row')}"
    more = f" ({opened.repeated_ids - 1:,} more are repeated)" if opened.repeated_ids > 1 else ""
    remedy = "keep one of them; with --skip-bad it is looked up on its last row"
    return f"{name}, {where.get(second or 0, 'a row')}: {repeated}{more}; {remedy}"
