"""Which records were resolved, and to what: so that a stream that is read again, or after a kill, adds nothing."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from blink.errors import DataError, first_line
from blink.files import append_at, sync_folder
from blink.input_files import read_bytes

LEDGER_FILE = "resolved.jsonl"
logger = logging.getLogger(__name__)


class Ledger:
    """Fingerprints of records and the ids of their entities, in a file that only grows.

    A line has all records that were added together, ``{"entities": {record: id}, "check": hash}``; its hash includes that of
    the line before, so that no line can be lost but at the end. Earlier versions had a line for each record, with ``record``
    and ``entity``. It is written before the entities it names: one that is not there was never acknowledged, or was undone, and
    counts for nothing. A last line that is not whole was being written when the process or the power ended; it is written over,
    which is said.

    Args:
        folder: of the knowledge base; None for one in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / LEDGER_FILE
        self._entities: dict[str, str] = {}
        self._end, self._checksum = 0, ""
        if self._path is not None and os.path.lexists(self._path):
            self._read(self._path)

    def __len__(self) -> int:
        return len(self._entities)

    def entity_of(self, fingerprint: str) -> str | None:
        """The id of the entity of a record; None if it is new."""
        return self._entities.get(fingerprint)

    def add(self, entities: Mapping[str, str]) -> None:
        """Add fingerprints with the ids of their entities; they are on the disk when this returns.

        Raises:
            OSError: the disk is full or broken.
        """
        new = {record: entity for record, entity in entities.items() if self._entities.get(record) != entity}
        if new and self._path is not None:
            is_first = not self._path.exists()
            checksum = _check(self._checksum, new)
            line = (json.dumps({"entities": new, "check": checksum}, ensure_ascii=False) + "\n").encode()
            append_at(self._path, self._end, line)
            if is_first:
                sync_folder(self._path.parent)
            self._end += len(line)
            self._checksum = checksum
        self._entities |= new

    def _read(self, path: Path) -> None:
        content = read_bytes(path)
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                entities, checksum = self._parsed(line)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                if number == len(lines) and _may_be_torn(line):
                    break
                remedy = "restore it from a copy, or move it away: its records are then resolved again"
                raise DataError(f"{path}, line {number}: damaged ({first_line(error)}); {remedy}") from error
            self._entities |= entities
            self._end, self._checksum = self._end + len(line), checksum
        if not content:
            logger.warning("%s is empty: nothing counts as resolved", path)
        elif len(content) > self._end:
            lost = len(content) - self._end
            logger.warning("%s: its last %d bytes were not written whole; their records are resolved again", path, lost)

    def _parsed(self, line: bytes) -> tuple[dict[str, str], str]:
        """The records of a line with their entities, and its checksum, which lines of earlier versions lack."""
        if not line.endswith(b"\n"):
            raise ValueError("it has no end")
        value = json.loads(line.decode("utf-8"))
        is_chained = "entities" in value
        entities = value["entities"] if is_chained else {value["record"]: value["entity"]}
        if not isinstance(entities, dict) or not all(isinstance(entity, str) for entity in entities.values()):
            raise ValueError("it holds no records with their entities")
        checksum = _check(self._checksum, entities) if is_chained else self._checksum
        if is_chained and value.get("check") != checksum:
            raise ValueError("its checksum differs, or a line before it is lost")
        return entities, checksum


def _may_be_torn(line: bytes) -> bool:
    """Whether a last line is one that was not written whole: it has no end, or zeros where bytes did not reach a disk."""
    return line[:1] in (b"{", b"\0") and (not line.endswith(b"\n") or b"\0" in line)


def _check(previous: str, entities: Mapping[str, str]) -> str:
    content = json.dumps([previous, entities], sort_keys=True).encode()
    return blake2b(content, digest_size=8).hexdigest()
