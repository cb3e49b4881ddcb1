"""Tables of entities and relation types whose texts are encoded, as TSV with a header or as JSON.

Columns, ids and order are those of biomedgps-data's ``embeddings`` folder. A catalogue (``entity.jsonl``) and a JSON object of
relations are also supported.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blink.errors import DataError, SettingsError
from blink.files import read_json, read_json_lines, require_file
from blink.input_files import open_file, read_lines_of, read_text
from blink.limits import limit

ENTITY_COLUMNS = ("id", "name", "label", "description", "resource", "taxid", "synonyms", "pmids", "xrefs")
RELATION_COLUMNS = ("relation_type", "description")
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>"})
"""Values of a missing description."""


@dataclass(frozen=True)
class TextRow:
    """A row of a table.

    Attributes:
        row: row number, from 1.
        id: entity id or relation type.
        name: name; of a relation type, see `readable_relation`.
        kind: type of an entity, or source of a relation type; may be empty.
        description: may be empty.
        synonyms: other names.
    """

    row: int
    id: str
    name: str
    kind: str = ""
    description: str = ""
    synonyms: tuple[str, ...] = ()


def _named(row: TextRow) -> str:
    return f"{row.name}: {row.description}" if row.name and row.description else row.name or row.description


TEXTS: dict[str, Callable[[TextRow], str]] = {
    "name+description": _named,
    "description": lambda row: row.description or row.name,
    "name": lambda row: row.name,
    "name+aliases": lambda row: ", ".join(name for name in dict.fromkeys((row.name, *row.synonyms)) if name),
}
"""Text to encode of a row. The original encodes ``description``."""


def compose(row: TextRow, text: str) -> str:
    """The text of a row; may be empty.

    Raises:
        SettingsError: ``text`` is not one of `TEXTS`.
    """
    if text not in TEXTS:
        raise SettingsError(f"text is {text!r}; allowed are {', '.join(TEXTS)}")
    return " ".join(TEXTS[text](row).split())


def read_entities(path: str | Path, *, node_ids: bool = False) -> list[TextRow]:
    """Read ``entities.tsv``, or a catalogue if the name ends in ``.jsonl``, in the order of the file.

    Args:
        path: the file.
        node_ids: use the ids ``<label>::<id>`` of graph nodes in biomedgps-data.

    Raises:
        MissingFileError: the file does not exist.
        DataError: a column is missing, a row is malformed, or an id is duplicated.
    """
    path = require_file(path, "give a TSV of entities with a header, or a catalogue (.jsonl)")
    rows = _catalogue(path) if path.suffix == ".jsonl" else _entity_rows(path)
    return _checked([replace(row, id=f"{row.kind}::{row.id}") if node_ids else row for row in rows], path)


def read_relation_types(path: str | Path) -> list[TextRow]:
    """Read ``relation_types.tsv``, or ``{id: {label, description}}`` if the name ends in ``.json``, in the order of the file.

    Raises:
        MissingFileError: the file does not exist.
        DataError: a column is missing, a row is malformed, or a relation type is duplicated.
    """
    path = require_file(path, "give a TSV of relation types with a header, or a JSON object of them")
    return _checked(list(_relation_object(path) if path.suffix == ".json" else _relation_rows(path)), path)


def select_ids(rows: Sequence[TextRow], *paths: str | Path) -> list[TextRow]:
    """Select the rows whose ids are in the files: one id per line, or head, relation and tail separated by tabs.

    Raises:
        MissingFileError: a file does not exist.
        DataError: a file has no id of the rows.
    """
    present, selected = {row.id for row in rows}, set()
    for path in paths:
        ids: set[str] = set()
        for line in read_lines_of(path, "give a file of ids, or of triples"):
            fields = line.rstrip("\r").split("\t")
            ids.update((fields[0], fields[2]) if len(fields) == 3 else fields[:1])
        if not ids & present:
            raise DataError(f"{path} names none of the {len(rows):,} rows; give their ids, one a line, or a file of triples")
        selected |= ids
    return [row for row in rows if row.id in selected]


def read_table(path: Path, required: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV with a header, as column -> text; quoted fields may contain line ends.

    Raises:
        DataError: a required column is missing, or a row has another number of fields than the header.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with io.StringIO(read_text(path), newline="") as f:
        reader = csv.reader(f, delimiter="\t")
        first_line = 1
        try:
            header = next(reader, [])
            _require_columns(path, header, required)
            first_line = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    message = f"{len(fields)} fields where the header has {len(header)}"
                    raise DataError(f"{path}, line {first_line}: {message}; fix the row (or an unpaired quotation mark)")
                if fields:
                    yield dict(zip(header, fields, strict=True))
                first_line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}, line {first_line}: not a table ({error}); fix the row") from error


def first_columns(path: Path) -> list[str]:
    """Columns that a table has, if it is one: the fields of the first line of a file.

    Raises:
        MissingFileError: it is no file.
    """
    with open_file(path) as f:
        return f.readline(limit("line")).decode("utf-8-sig", "replace").rstrip("\r\n").split("\t")


def _require_columns(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in header]:
        columns = ", ".join(header[:12]) or "nothing"
        raise DataError(
            f"{path} lacks the column {', '.join(missing)}; its header has {columns}; columns are separated by tabs"
        )
    if duplicates := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path} has the column {duplicates[0]} twice; remove one")


def _entity_rows(path: Path) -> Iterator[TextRow]:
    for number, row in enumerate(read_table(path, ENTITY_COLUMNS), 1):
        synonyms = tuple(s.strip() for s in _present(row["synonyms"]).split("|") if s.strip())
        name, kind = row["name"].strip(), row["label"].strip()
        yield TextRow(number, row["id"].strip(), name, kind, _present(row["description"]), synonyms)


def _relation_rows(path: Path) -> Iterator[TextRow]:
    for number, row in enumerate(read_table(path, RELATION_COLUMNS), 1):
        kind, written = row["relation_type"].strip(), _present(row.get("formatted_relation_type", ""))
        name = readable_relation(written or kind)
        yield TextRow(number, kind, name, kind.split("::")[0], _present(row["description"]))


def readable_relation(relation_type: str) -> str:
    """Words of a relation type: ``Source name Target`` for ``<resource>::<name>::<Source>:<Target>``, which has its direction.

    In other formats, underscores become blanks.
    """
    fields = relation_type.split("::")
    ends = fields[2].split(":") if len(fields) == 3 else []
    words = f"{ends[0]} {fields[1]} {ends[1]}" if len(ends) == 2 else relation_type
    return " ".join(words.replace("_", " ").split())


def _catalogue(path: Path) -> Iterator[TextRow]:
    for number, (line, row) in enumerate(read_json_lines(path), 1):
        if not isinstance(row, dict) or not isinstance(row.get("title"), str):
            raise DataError(f'{path}, line {line}: no "title"; each line is an object with a title')
        text = row.get("text") or row.get("description") or ""
        names = tuple(str(a) for a in row.get("aliases") or ())
        id_ = row.get("kb_idx") or row["title"]  # without a public id, the title is the id
        yield TextRow(number, str(id_), row["title"].strip(), str(row.get("label") or ""), str(text), names)


def _relation_object(path: Path) -> Iterator[TextRow]:
    value: Any = read_json(path, "give an object {relation: {label, description}}")
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise DataError(f"{path} is not an object of objects; give {{relation: {{label, description}}}}")
    for number, (name, row) in enumerate(value.items(), 1):
        yield TextRow(number, name, str(row.get("label") or name), "", str(row.get("description") or ""))


def _present(field: str) -> str:
    return "" if field.strip() in MISSING else field.strip()


def _checked(rows: list[TextRow], path: Path) -> list[TextRow]:
    if not rows:
        raise DataError(f"{path} has no rows; give a table with a header and at least one row")
    first: dict[str, int] = {}
    for row in rows:
        if not row.id or set(row.id) & set("\t\r\n"):
            raise DataError(f"{path}, row {row.row}: the id {row.id!r} is empty or contains a tab or line end; fix the row")
        if first.setdefault(row.id, row.row) != row.row:
            raise DataError(f"{path}: the id {row.id!r} is in row {first[row.id]} and in row {row.row}; remove one of them")
    return rows
