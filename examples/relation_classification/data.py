"""Reads TACRED's JSON files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from examples.luke.reading import Row, data_file, read_rows

NO_RELATION = "no_relation"
REMEDY = "get TACRED as examples/relation_classification/README.md says"


@dataclass(frozen=True)
class RelationExample:
    """Two mentions in a sentence.

    Attributes:
        where: file and line.
        tokens: words of the sentence.
        subject, object: bounds in tokens, end exclusive.
        relation: gold, `NO_RELATION` for none.
    """

    where: str
    tokens: tuple[str, ...]
    subject: tuple[int, int]
    object: tuple[int, int]
    relation: str


def read_relations(folder: Path, split: str) -> list[RelationExample]:
    """The examples of ``train.json``, ``dev.json`` or ``test.json``; of their fields, those of `RelationExample` are needed.

    Raises:
        MissingFileError: the file is not there.
        DataError: a row is malformed; the message names file and line.
    """
    return [_example(row) for row in read_rows(data_file(folder, f"{split}.json", REMEDY))]


def _example(row: Row) -> RelationExample:
    tokens = tuple(row.texts("token"))
    subject, other = (row.span(f"{w}_start", f"{w}_end", len(tokens), "tokens", inclusive=True) for w in ("subj", "obj"))
    return RelationExample(row.where, tokens, subject, other, row.text("relation"))
