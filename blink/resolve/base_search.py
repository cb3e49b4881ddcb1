"""Entities of a knowledge base that a record may be: by name, by similar names and by vector."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from blink.data.records import Entity
from blink.kb.catalogue_line import entity_from
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.vectors import Encoder
from blink.resolve.fitting import text_vectors
from blink.resolve.profiles import Profile
from blink.resolve.records import Record

SIMILAR, NEAREST, NAMESAKES = 6, 6, 16
"""Most entities with a similar name, by vector, and of the same name."""
COMPARED_TEXT = 300
"""Characters of a description that are compared."""
CACHED_PROFILES = 1 << 15


class BaseSearch:
    """Looks entities up, and prepares their profiles.

    Args:
        kb: the knowledge base.
        encode: its candidate encoder; None to compare names and words alone.
        nearest: entities by vector.
    """

    def __init__(self, kb: KnowledgeBase, encode: Encoder | None, nearest: int = NEAREST) -> None:
        self.kb, self._encode, self._nearest = kb, encode, nearest
        self._profiles: OrderedDict[int, tuple[Entity, Profile]] = OrderedDict()

    def rows(
        self,
        records: Sequence[Record],
        vectors: Sequence[npt.NDArray[np.float32] | None],
        selectors: Sequence[RowSelector | None] | None = None,
    ) -> list[list[int]]:
        """Rows of candidates of each record, those of its name first; with selectors, of the rows of its own.

        *Shape of each vector:* (d,).
        """
        if not len(self.kb.catalogue):
            return [[] for _ in records]
        selectors = selectors or [None] * len(records)
        nearest = self._by_vector(vectors, selectors)
        return [
            list(dict.fromkeys([*self._by_name(record, selector), *of_record]))
            for record, selector, of_record in zip(records, selectors, nearest, strict=True)
        ]

    def profiles(self, rows: Sequence[int]) -> dict[int, Profile]:
        """Profiles of rows; empty rows have none. Texts that were not compared before are encoded together."""
        bare = {row: profile for row in dict.fromkeys(rows) if (profile := self.bare_profile(row)) is not None}
        if self._encode is None:
            return bare
        new = [row for row, profile in bare.items() if profile.vector is None]
        for row, of_text in zip(new, text_vectors([bare[row].text for row in new], self._encode), strict=True):
            bare[row] = replace(bare[row], vector=self._vector(row), text_vector=of_text)
            self._profiles[row] = self._profiles[row][0], bare[row]
        while len(self._profiles) > max(CACHED_PROFILES, len(bare)):
            self._profiles.popitem(last=False)
        return bare

    def bare_profile(self, row: int) -> Profile | None:
        """The profile of a row, without vectors unless it has them already; None if the row is empty."""
        entity = self.entity(row)
        if entity is None:
            return None
        if row not in self._profiles or self._profiles[row][0] != entity:
            profile = Profile.of_entity(entity)
            self._profiles[row] = entity, replace(profile, text=profile.text[:COMPARED_TEXT])
        self._profiles.move_to_end(row)
        return self._profiles[row][1]

    def entity(self, row: int) -> Entity | None:
        """The entity of a row, edits included; None if the row is empty."""
        if self.kb.folder is None:
            entity = self.kb.catalogue[row]
            return entity if entity.title else None
        line = self.kb.state.line(row)
        return None if line is None else entity_from(row, dict(line))

    def row_of(self, kb_id: str) -> int | None:
        """The row of an id, edits included."""
        return self.kb.state.row_of(kb_id) if self.kb.folder is not None else self.kb.catalogue.row_of(kb_id)

    def _vector(self, row: int) -> npt.NDArray[np.float32] | None:
        if self.kb.folder is not None:
            return np.asarray(self.kb.state.vector(row), np.float32)
        return None if self.kb.vectors is None else np.asarray(self.kb.vectors[row], np.float32)

    def _by_name(self, record: Record, selector: RowSelector | None) -> list[int]:
        if self.kb.names is None:
            return []
        rows: list[int] = []
        for name in dict.fromkeys((record.name, *record.aliases)):
            matches = self.kb.names.candidates(name, selector)[:NAMESAKES]
            rows += [match.row for match in matches]
            rows += self.kb.names.fuzzy_index.similar(name, SIMILAR, selector)
        return rows

    def _by_vector(
        self, vectors: Sequence[npt.NDArray[np.float32] | None], selectors: Sequence[RowSelector | None]
    ) -> list[list[int]]:
        nearest = [list[int]() for _ in vectors]
        if not self._nearest:
            return nearest
        for selector in dict.fromkeys(selectors):
            numbers = [i for i, vector in enumerate(vectors) if vector is not None and selectors[i] == selector]
            queries = [vector for i in numbers if (vector := vectors[i]) is not None]
            if queries:
                most = min(self._nearest, len(self.kb.catalogue))
                _, rows = self.kb.index.search(np.stack(queries), most, selector)
                for i, of_query in zip(numbers, rows.tolist(), strict=True):
                    nearest[i] = [row for row in of_query if row >= 0]
        return nearest
