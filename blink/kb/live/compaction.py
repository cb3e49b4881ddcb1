"""Compaction: the edits of a journal become part of the files of a knowledge base.

New files are made in a folder of their own; then one rename puts the manifest that names it in place of the old one. Whatever
happens before that leaves the knowledge base as it was, and whatever happens after it as it is to be.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blink.data.arrays import array_writer
from blink.errors import SettingsError
from blink.files import atomic_open, disk_full_named, disk_named, locked, sample_hash, sha256, sync_folder
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_line import REMOVED_LINE
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from blink.kb.index import resolved_kind, save_index
from blink.kb.index.qdrant_index import QDRANT
from blink.kb.live.carrying import PREFIX, compacted_folders, remove_stale
from blink.kb.live.editing import WAIT_S
from blink.kb.live.journal import JOURNAL_FILE, Header, write_history
from blink.kb.live.state import HISTORY_FILE, JournalState
from blink.kb.manifest import CATALOGUE_FILE, FORMAT, INDEX_FILE, VECTORS_FILE, Manifest, read_manifest, write_manifest
from blink.kb.name_tables import build_name_tables
from blink.kb.vectors import load_vectors
from blink.progress import Bars, no_bars

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase

_BLOCK_ROWS = 8192


def compact(kb: KnowledgeBase, bars: Bars = no_bars) -> int:
    """Make the edits of the journal part of the files. Nothing is encoded; rows, and the result of every search, stay.

    Args:
        kb: opened from a folder.
        bars: for progress.

    Returns:
        the number of transactions that became part of the files.

    Raises:
        SettingsError: another process writes to the folder, the disk is full, or the vectors are in a service.
    """
    root = kb.require_folder()
    with locked(root, wait=WAIT_S), disk_full_named(root):
        kb.refresh()
        state, old = kb.state, kb.manifest
        assert old is not None
        remove_stale(root, old)
        if not state.entries:
            return 0
        if old.index == QDRANT:
            raise SettingsError(f"the vectors of {root} are searched by a service; keep the journal, or build it again")
        folder = root / f"{PREFIX}{state.number}"
        try:
            manifest = _written(folder, state, old, bars)
            sync_folder(root)
            write_manifest(root, manifest)
        except BaseException:
            if read_manifest(root).folder != folder.name:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_folder(root)
        remove_files(root, old)
        folded = len(state.entries)
        kb.refresh()
        return folded


def remove_files(root: Path, old: Manifest) -> None:
    """Remove the files of a manifest that is no longer used.

    The catalogue beside the manifest stays: it may be the source of somebody.
    What cannot be removed is left behind: the knowledge base does not read it.
    """
    if old.folder:
        if root / old.folder in compacted_folders(root):
            shutil.rmtree(root / old.folder, ignore_errors=True)
        return
    files = {*old.samples, CATALOGUE_FILE + SIDECAR_SUFFIX, JOURNAL_FILE, HISTORY_FILE} - {CATALOGUE_FILE}
    for name in sorted(files):
        with contextlib.suppress(OSError):
            (root / name).unlink(missing_ok=True)


def _written(folder: Path, state: JournalState, old: Manifest, bars: Bars) -> Manifest:
    """Write the files of a state into a new folder, and bring them to the disk."""
    folder.mkdir()
    rows = state.rows
    with bars("writing the catalogue", rows, "entity") as progress, atomic_open(folder / CATALOGUE_FILE, "wb") as f:
        for row in range(rows):
            f.write(_line(state, row) + b"\n")
            progress.advance()
    with bars("writing vectors", rows, "vector") as progress:
        for block in _write_vectors(folder / VECTORS_FILE, state, rows):
            progress.advance(block)
    with Catalogue.open(folder / CATALOGUE_FILE, skip_bad=True) as catalogue:
        with bars("indexing names", rows, "entity") as progress:
            build_name_tables(catalogue, rows, folder, progress.advance)
        digest, skipped = catalogue.sha256, catalogue.skipped + catalogue.repeated_ids
    kind = resolved_kind(old.index, rows)
    with bars("indexing", rows if kind.new is not None else 0, "vector") as progress:
        save_index(load_vectors(folder / VECTORS_FILE), kind, folder / INDEX_FILE, progress.advance)
    header = Header(digest, old.model, rows, old.dim, state.number)
    write_history(folder / HISTORY_FILE, header, (state.record(entry) for entry in state.all_entries))
    names = sorted(file.name for file in folder.iterdir())
    with disk_named(folder):
        _sync(folder, names)
    listed = [name for name in names if name not in (CATALOGUE_FILE, CATALOGUE_FILE + SIDECAR_SUFFIX)]
    return replace(
        old,
        entities=rows,
        catalogue_sha256=digest,
        samples={name: sample_hash(folder / name) for name in (CATALOGUE_FILE, *listed)},
        sha256={name: sha256(folder / name) for name in listed},
        skipped=skipped,
        format=FORMAT,
        folder=folder.name,
        edits=state.number,
        built_from=old.source_sha256,
    )


def _line(state: JournalState, row: int) -> bytes:
    if not state.is_changed(row):
        return state.base_bytes(row)
    line = state.line(row)
    return REMOVED_LINE if line is None else json.dumps(line, ensure_ascii=False).encode()


def _write_vectors(path: Path, state: JournalState, rows: int) -> Iterator[int]:
    """Write the vectors of a state, those of removed rows as zeros; yields the size of each block."""
    changed = np.array(sorted(row for row, _ in state.changed), np.int64)
    with array_writer(path, state.dtype, state.journal.header.dim) as append:
        for start in range(0, rows, _BLOCK_ROWS):
            end = min(start + _BLOCK_ROWS, rows)
            block = np.zeros((end - start, state.journal.header.dim), state.dtype)
            of_files = state.base_vectors(start, end)
            block[: len(of_files)] = of_files
            for row in changed[np.searchsorted(changed, start) : np.searchsorted(changed, end)].tolist():
                block[row - start] = 0 if state.line(row) is None else state.vector(row)
            append(block)
            yield end - start


def _sync(folder: Path, names: list[str]) -> None:
    for name in names:
        handle = os.open(folder / name, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_folder(folder)
