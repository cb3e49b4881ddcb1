"""Wikidata ids of pages, out of the table ``page_props`` of a dump (SQL, compressed or not)."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

from blink.decompression import DAMAGE, decompressed
from blink.errors import DataError
from blink.files import require_file
from blink.progress import Progress

_ITEM = re.compile(rb"\((\d+),'wikibase_item','Q(\d{1,15})'")
_BLOCK_BYTES, _LONGEST_ROW = 1 << 22, 1 << 10


class PageItems:
    """Numbers of Wikidata items by page.

    Args:
        pages: ids of pages, ascending. *Shape:* (n,), int64.
        items: numbers of their items. *Shape:* (n,), int64.
    """

    def __init__(self, pages: np.ndarray, items: np.ndarray) -> None:
        self._pages, self._items = pages, items

    @classmethod
    def none(cls) -> PageItems:
        """Of no page."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def read(cls, file: str | Path, progress: Progress) -> PageItems:
        """Read the table.

        Raises:
            MissingFileError: there is no such file.
            DataError: it is damaged, or names no item.
        """
        path = require_file(file, "give the table page_props of the same dump, such as enwiki-latest-page_props.sql.gz")
        blocks = []
        try:
            with path.open("rb", buffering=0) as raw:
                stream, rest = decompressed(io.BufferedReader(raw)), b""
                while block := stream.read(_BLOCK_BYTES):
                    rows = _ITEM.findall(text := rest + block)
                    # A row that the end of a block cuts is found with the next; one that is found twice counts once.
                    rest = text[-_LONGEST_ROW:]
                    blocks.append(np.array(rows, dtype=np.int64).reshape(-1, 2))
                    progress.advance(len(rows))
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            raise DataError(f"{path} is damaged or cut off ({error}); get the file again") from error
        table = np.concatenate(blocks) if blocks else np.empty((0, 2), np.int64)
        if not len(table):
            raise DataError(f"{path} names no item of Wikidata; give the table page_props of the same dump (SQL)")
        pages, first = np.unique(table[:, 0], return_index=True)
        return cls(pages, table[first, 1])

    def item(self, page: int) -> int | None:
        """The number of a page's item."""
        at = int(np.searchsorted(self._pages, page))
        return int(self._items[at]) if at < len(self._pages) and self._pages[at] == page else None
