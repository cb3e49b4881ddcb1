"""Another index for a knowledge base, without encoding its entities again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from blink.errors import SettingsError
from blink.files import locked, require_file, sample_hash, sha256, write_json
from blink.kb.index import save_index
from blink.kb.index.budget import MemoryPlan, StoredVectors, plan_memory
from blink.kb.index.kinds import AUTO, resolved_kind
from blink.kb.index.qdrant_index import QDRANT
from blink.kb.knowledge_base import INDEX_FILE, MANIFEST_FILE, VECTORS_FILE, Manifest, read_manifest
from blink.kb.vectors import load_vectors

_NEW = ".new"


def stored_vectors(manifest: Manifest) -> StoredVectors:
    """Sizes of the vectors of a knowledge base."""
    return StoredVectors(manifest.entities, manifest.dim, 2 if manifest.dtype == "fp16" else 4)


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
        vectors = load_vectors(require_file(folder / VECTORS_FILE, "build the knowledge base again"))
        path, new = folder / INDEX_FILE, folder / (INDEX_FILE + _NEW)
        save_index(vectors, kind, new, advance)
        samples, hashes = dict(old.samples), dict(old.sha256)
        samples.pop(INDEX_FILE, None)
        hashes.pop(INDEX_FILE, None)
        if new.is_file():
            samples[INDEX_FILE] = sample_hash(new)
            hashes |= {INDEX_FILE: sha256(new)} if hashes else {}
        manifest = replace(old, index=kind.name, samples=samples, sha256=hashes)
        if new.is_file():
            # A kill between the two leaves an index that the old manifest does not know, which opening refuses.
            new.replace(path)
        write_json(folder / MANIFEST_FILE, asdict(manifest))
        if kind.new is None:
            path.unlink(missing_ok=True)
    return manifest, plan
