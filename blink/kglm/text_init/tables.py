"""The tables whose texts are encoded: entities and relation types, as TSV with a header or as JSON.

Columns, ids and order are those of biomedgps-data's ``embeddings`` folder. Beside them, a catalogue (``entity.jsonl``) and a
JSON object of relations can be read.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blink.errors import DataError, SettingsError
from blink.files import read_json, read_json_lines, require_file

ENTITY_COLUMNS = ("id", "name", "label", "description", "resource", "taxid", "synonyms", "pmids", "xrefs")
RELATION_COLUMNS = ("relation_type", "description")
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>"})
"""What tables write for a description that is not there."""


@dataclass(frozen=True)
class TextRow:
    """A row of a table.

    Attributes:
        row: its number, from 1.
        id: an entity's id or a relation type.
        name: what a reader would call it; of a relation type, its readable form with its direction.
        kind: an entity's type, a relation type's source; may be empty.
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
    "name+aliases": lambda row: ", ".join(part for part in dict.fromkeys((row.name, *row.synonyms)) if part),
}
"""What is encoded of a row. ``description`` is what the original encodes."""


def compose(row: TextRow, text: str) -> str:
    """The text of a row; empty where there is none.

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
        node_ids: use the ids that a graph's nodes have elsewhere in that project, ``<label>::<id>``.

    Raises:
        MissingFileError: there is no such file.
        DataError: a column is missing, a row is malformed, or an id comes twice.
    """
    path = require_file(path, "give a TSV of entities with a header, or a catalogue (.jsonl)")
    rows = _catalogue(path) if path.suffix == ".jsonl" else _entity_rows(path)
    return _checked([replace(row, id=f"{row.kind}::{row.id}") if node_ids else row for row in rows], path)


def read_relation_types(path: str | Path) -> list[TextRow]:
    """Read ``relation_types.tsv``, or ``{id: {label, description}}`` if the name ends in ``.json``, in the order of the file.

    Raises:
        MissingFileError: there is no such file.
        DataError: a column is missing, a row is malformed, or a relation type comes twice.
    """
    path = require_file(path, "give a TSV of relation types with a header, or a JSON object of them")
    return _checked(list(_relation_object(path) if path.suffix == ".json" else _relation_rows(path)), path)


def only(rows: Sequence[TextRow], *paths: str | Path) -> list[TextRow]:
    """The rows whose ids files name: an id a line, or head, relation and tail separated by tabs.

    Raises:
        MissingFileError: there is no such file.
        DataError: one names none of the rows.
    """
    present, wanted = {row.id for row in rows}, set()
    for path in paths:
        own: set[str] = set()
        with require_file(path, "give a file of ids, or of triples").open(encoding="utf-8") as f:
            for line in f:
                fields = line.rstrip("\r\n").split("\t")
                own.update((fields[0], fields[2]) if len(fields) == 3 else fields[:1])
        if not own & present:
            raise DataError(f"{path} names none of the {len(rows):,} rows; give their ids, one a line, or a file of triples")
        wanted |= own
    return [row for row in rows if row.id in wanted]


def read_table(path: Path, required: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV with a header, as column -> text; fields may be quoted and then hold line ends.

    Raises:
        DataError: a required column is missing, or a row has another number of fields than the header.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", newline="") as f:
        reader = csv.reader(f, delimiter="\t")
        begun = 1
        try:
            header = next(reader, [])
            _require_columns(path, header, required)
            begun = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    found = f"{len(fields)} fields where the header has {len(header)}"
                    raise DataError(
                        f"{path}, line {begun}: {found}; mend the row (a lone quotation mark swallows what follows)"
                    )
                if fields:
                    yield dict(zip(header, fields, strict=True))
                begun = reader.line_num + 1
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {begun} or later: not UTF-8; save the file as UTF-8") from error
        except csv.Error as error:
            raise DataError(f"{path}, line {begun}: not a table ({error}); mend the row") from error


def _require_columns(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in header]:
        found = ", ".join(header[:12]) or "nothing"
        raise DataError(f"{path} lacks the column {', '.join(missing)}; its header has {found}; columns are separated by tabs")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path} has the column {twice[0]} twice; remove one")


def _entity_rows(path: Path) -> Iterator[TextRow]:
    for number, row in enumerate(read_table(path, ENTITY_COLUMNS), 1):
        synonyms = tuple(s.strip() for s in _present(row["synonyms"]).split("|") if s.strip())
        name, kind = row["name"].strip(), row["label"].strip()
        yield TextRow(number, row["id"].strip(), name, kind, _present(row["description"]), synonyms)


def _relation_rows(path: Path) -> Iterator[TextRow]:
    for number, row in enumerate(read_table(path, RELATION_COLUMNS), 1):
        kind = row["relation_type"].strip()
        yield TextRow(number, kind, readable_relation(kind), kind.split("::")[0], _present(row["description"]))


def readable_relation(relation_type: str) -> str:
    """The words of a relation type: of ``<resource>::<name>::<Source>:<Target>``, ``Source name Target``.

    So the direction is part of the text. Anything else is only freed of underscores.
    """
    parts = relation_type.split("::")
    ends = parts[2].split(":") if len(parts) == 3 else []
    words = f"{ends[0]} {parts[1]} {ends[1]}" if len(ends) == 2 else relation_type
    return " ".join(words.replace("_", " ").split())


def _catalogue(path: Path) -> Iterator[TextRow]:
    for number, (line, row) in enumerate(read_json_lines(path), 1):
        if not isinstance(row, dict) or not isinstance(row.get("title"), str):
            raise DataError(f'{path}, line {line}: no "title"; each line is an object with a title')
        text = row.get("text") or row.get("description") or ""
        names = tuple(str(a) for a in row.get("aliases") or ())
        own = row.get("kb_idx") or row["title"]  # without a public id, an entity goes by its title
        yield TextRow(number, str(own), row["title"].strip(), str(row.get("label") or ""), str(text), names)


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
            raise DataError(f"{path}, row {row.row}: the id {row.id!r} is empty or broken by a tab or line end; mend the row")
        if first.setdefault(row.id, row.row) != row.row:
            raise DataError(f"{path}: the id {row.id!r} is in row {first[row.id]} and in row {row.row}; remove one of them")
    return rows
