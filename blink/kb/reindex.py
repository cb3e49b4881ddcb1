"""Another index for a knowledge base, without encoding its entities again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from blink.errors import SettingsError
from blink.files import locked, require_file, sample_hash, sha256
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from blink.kb.index import save_index
from blink.kb.index.budget import MemoryPlan, StoredVectors, plan_memory
from blink.kb.index.kinds import AUTO, resolved_kind
from blink.kb.index.qdrant_index import QDRANT
from blink.kb.live.carrying import remove_stale
from blink.kb.live.journal import JOURNAL_FILE
from blink.kb.live.state import HISTORY_FILE
from blink.kb.manifest import CATALOGUE_FILE, INDEX_FILE, VECTORS_FILE, Manifest, read_manifest
from blink.kb.replacing import replace_files
from blink.kb.vectors import load_vectors

_NEW = ".new"


def stored_vectors(manifest: Manifest) -> StoredVectors:
    """Sizes of the vectors of a knowledge base."""
    return StoredVectors(manifest.entities, manifest.dim, 2 if manifest.dtype == "fp16" else 4)


def _stored_names(manifest: Manifest) -> set[str]:
    """Names of all files that a knowledge base may have besides its manifest."""
    return {CATALOGUE_FILE, CATALOGUE_FILE + SIDECAR_SUFFIX, HISTORY_FILE, JOURNAL_FILE, *manifest.samples}


def reindex(
    folder: str | Path, index: str = AUTO, max_ram: int | None = None, advance: Callable[[int], None] = lambda rows: None
) -> tuple[Manifest, MemoryPlan | None]:
    """Replace the index of a knowledge base. The old one stays in use until the new one is complete.

    Args:
        folder: of the knowledge base.
        index: kind of the index, one of `blink.kb.index.CHOICES`.
        max_ram: bytes of memory that linking may take; None for no limit.
        advance: called with newly indexed rows.

    Returns:
        the new manifest, and what it needs if there is a limit.

    Raises:
        SettingsError: no index fits into the limit, or another process writes into the folder.
        BlinkError: it is no knowledge base, or is damaged.
    """
    folder = Path(folder)
    old = read_manifest(folder)
    if old.index == QDRANT:
        raise SettingsError(f"the vectors of {folder} are searched by a service; build it again with the index you want")
    resolved_kind(index, 0)
    plan = None if max_ram is None else plan_memory(stored_vectors(old), max_ram, index)
    kind = resolved_kind(index, old.entities) if plan is None else plan.kind
    with locked(folder):
        old = read_manifest(folder)  # a compaction may just have ended
        remove_stale(folder, old)
        files = folder / old.folder
        vectors = load_vectors(require_file(files / VECTORS_FILE, "build the knowledge base again"))
        new = folder / (INDEX_FILE + _NEW)
        save_index(vectors, kind, new, advance)
        samples, hashes = dict(old.samples), dict(old.sha256)
        samples.pop(INDEX_FILE, None)
        hashes.pop(INDEX_FILE, None)
        if new.is_file():
            samples[INDEX_FILE] = sample_hash(new)
            hashes |= {INDEX_FILE: sha256(new)} if VECTORS_FILE in hashes else {}
        manifest = replace(old, index=kind.name, samples=samples, sha256=hashes)
        stored = {file.name: file for file in files.iterdir() if file.name in _stored_names(manifest)}
        if new.is_file():
            stored[INDEX_FILE] = new
        try:
            manifest = replace_files(folder, old, manifest, stored)
        finally:
            new.unlink(missing_ok=True)
    return manifest, plan
