"""Corrections of links, kept as a mention file that evaluation, calibration, the reranker and training read as it is.

A corrected text is labelled in part: its corrected mentions are gold, and nothing is said about the rest of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from blink.data.mention_files import read_samples, row_of
from blink.data.records import NOT_IN_CATALOGUE, Entity, Mention, Sample
from blink.errors import DataError
from blink.files import atomic_open, locked
from blink.input_files import has_file


class Corrections:
    """What a user said about links: for a mention its entity, or that it names nothing in the knowledge base.

    Examples:
        >>> corrections = Corrections()
        >>> corrections.add("Java is an island.", 0, 4, Entity(7, "Java (island)", kb_id="Q3757"))
        >>> [sample.mentions[0].kb_id for sample in corrections]
        ['Q3757']
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._samples = {sample.text: sample for sample in samples}

    @classmethod
    def read(cls, path: str | Path) -> Corrections:
        """Read a file of corrections; there are none if it does not exist.

        Raises:
            DataError: it is no mention file.
        """
        return cls(read_samples(path)) if has_file(path) and Path(path).stat().st_size else cls()

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples.values())

    def add(self, text: str, start: int, end: int, entity: Entity | None) -> None:
        """Note what a mention names. It replaces what was noted before about characters that it overlaps.

        Args:
            text: the whole text.
            start: first character of the mention.
            end: character behind its last one.
            entity: what it names; None if nothing in the knowledge base.

        Raises:
            DataError: the mention lies outside the text, or is empty.
        """
        if not 0 <= start < end <= len(text):
            raise DataError(f"mention [{start}, {end}) lies outside the text of {len(text)} characters, or is empty")
        mention = Mention(start, end)
        if entity is not None:
            mention = Mention(start, end, entity.row, entity.kb_id, entity.title)
        sample = self._samples.get(text) or Sample(_id_of(text), text, (), partial=True)
        others = [m for m in sample.mentions or () if m.end <= start or end <= m.start]
        mentions = tuple(sorted([*others, mention], key=lambda m: m.start))
        self._samples[text] = replace(sample, mentions=mentions)

    def drop(self, text: str, start: int, end: int) -> None:
        """Forget what was noted about characters ``[start, end)`` of a text, if anything was."""
        sample = self._samples.get(text)
        if sample is None:
            return
        mentions = tuple(m for m in sample.mentions or () if m.end <= start or end <= m.start)
        if mentions:
            self._samples[text] = replace(sample, mentions=mentions)
        else:
            del self._samples[text]

    def save(self, path: str | Path) -> None:
        """Add the corrections to a file, which is written whole or not at all; they replace what it has there.

        Raises:
            DataError: the file that is there is no mention file.
        """
        with _rewritten(Path(path)) as merged:
            for sample in self:
                for m in sample.mentions or ():
                    is_nothing = m.row == NOT_IN_CATALOGUE and m.kb_id is None
                    entity = None if is_nothing else Entity(m.row, m.title or "", kb_id=m.kb_id)
                    merged.add(sample.text, m.start, m.end, entity)

    @staticmethod
    def forget(path: str | Path, text: str, start: int, end: int) -> None:
        """Drop from a file what it notes about characters ``[start, end)`` of a text, if anything.

        Raises:
            DataError: the file is no mention file.
        """
        with _rewritten(Path(path)) as corrections:
            corrections.drop(text, start, end)


@contextmanager
def _rewritten(path: Path) -> Iterator[Corrections]:
    """The corrections of a file, which is written again, whole or not at all, with what is changed of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent, wait=True):  # two shells may save into one file
        corrections = Corrections.read(path)
        yield corrections
        with atomic_open(path) as f:
            for sample in corrections:
                f.write(json.dumps(row_of(sample), ensure_ascii=False) + "\n")


def _id_of(text: str) -> str:
    return f"correction-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
