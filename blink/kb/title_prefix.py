"""Entities whose title begins with what people type, looked up in the stored titles without an index of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.popularity import POPULARITY
from blink.kb.title_table import TextColumn

_LOWER: npt.NDArray[np.uint8] = np.frombuffer(bytes(range(256)).lower(), np.uint8)


def rows_with_prefix(kb: KnowledgeBase, prefix: str, limit: int) -> list[int]:
    """Rows of entities whose title begins with a prefix, whatever its case, the most popular first.

    The first bytes of all titles are compared, then the second of those that agree: nothing is kept in memory.

    Args:
        kb: the knowledge base; one of an earlier format, whose titles are not stored apart, has no such rows.
        prefix: what titles begin with; blanks around it do not count.
        limit: most rows.
    """
    prefix, view = prefix.strip(), kb.view
    table, changed = view.base.title_table, view.changes.entities
    if not prefix or limit < 1:
        return []
    rows = np.empty(0, np.int64)
    if table is not None:
        forms = dict.fromkeys((prefix, prefix.lower(), prefix.upper(), prefix.title(), prefix[:1].upper() + prefix[1:]))
        of_forms = [_rows_of(table.title_column, form.encode("utf-8", "replace")) for form in forms]
        rows = np.unique(np.concatenate(of_forms))
        rows = rows[~np.isin(rows, np.fromiter(changed, np.int64, len(changed)))]
    folded = prefix.casefold()
    edited = [row for row, entity in changed.items() if entity is not None and entity.title.casefold().startswith(folded)]
    matching = np.concatenate([rows, np.array(edited, np.int64)])
    if kb.names is None or not len(matching):
        return [int(row) for row in matching[:limit]]
    order = np.lexsort((matching, -kb.names.popularity[matching][:, POPULARITY]))
    return [int(row) for row in matching[order][:limit]]


def _rows_of(titles: TextColumn, prefix: bytes) -> npt.NDArray[np.int64]:
    """Rows of the titles that begin with bytes, without difference of ASCII case."""
    starts, ends = titles.at[:-1], titles.at[1:]
    rows: npt.NDArray[np.int64] = np.flatnonzero(ends - starts >= len(prefix))
    for i, byte in enumerate(prefix.lower()):
        rows = rows[_LOWER[titles.text[starts[rows] + i]] == byte]
        if not len(rows):
            break
    return rows
