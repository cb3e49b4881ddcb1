"""Files of labelled mentions in BLINK's layout: one mention a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blink.compat.blink_main_dense.inputs import TEXT_KEYS
from blink.errors import DataError
from blink.files import read_json_lines, require_file


def read_mentions(
    path: str, entities: str | None, title2id: Mapping[str, int], pages: Mapping[int | str, int]
) -> list[dict[str, Any]]:
    """Read mentions whose entity is in the catalogue; the others are passed over, as by the original.

    Args:
        path: JSON lines with `TEXT_KEYS` and ``label_id``.
        entities: JSON lines with ``entity_id`` and ``title``, which lead from labels to titles; without it labels are
            Wikipedia page ids.
        title2id: row by title.
        pages: row by page id.

    Returns:
        the mentions, in lower case, with ``label`` (the file's label, as text) and ``label_id`` (the row).

    Raises:
        MissingFileError: there is no such file.
        DataError: a line lacks a key, or no mention is left.
    """
    by_label: Mapping[str, int] = {str(page): row for page, row in pages.items()} if entities is None else {}
    if entities is not None:
        rows = _rows(entities, "args.test_entities", ("entity_id", "title"))
        by_label = {str(row["entity_id"]): title2id[row["title"]] for row in rows if row["title"] in title2id}
    mentions = []
    for row in _rows(path, "args.test_mentions", (*TEXT_KEYS, "label_id")):
        label = str(row["label_id"]).strip()
        if label in by_label:
            lowered = {key: str(row[key]).lower() for key in TEXT_KEYS}
            mentions.append({**row, **lowered, "label": label, "label_id": by_label[label]})
    if not mentions:
        raise DataError(f"{path} names no entity of the catalogue; give its labels' titles by args.test_entities")
    return mentions


def _rows(path: str, attribute: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    file = require_file(path, f"set {attribute} to a file of JSON lines with {', '.join(keys)}")
    rows = []
    for number, row in read_json_lines(file):
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise DataError(f"{path}, line {number}: a line needs {', '.join(keys)}; set {attribute} to such a file")
        rows.append(row)
    return rows
