"""Writers of knowledge bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from toys import letter_counts, rows, write_catalogue

from blink.kb.building import build_knowledge_base
from blink.kb.catalogue import Catalogue
from blink.kb.health import check_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.carrying import KEEP
from blink.kb.manifest import read_manifest
from blink.kb.reindex import reindex
from blink.kb.subset import subset
from tests.faults.trial import Work, Writer

ROWS = (12, 14)


def catalogues(work: Work) -> None:
    """Two catalogues."""
    for version, count in enumerate(ROWS):
        write_catalogue(work.inputs / f"{version}.jsonl", rows(count, seed=version))


def opened(folder: Path) -> KnowledgeBase:
    kb = KnowledgeBase.open(folder)
    kb.encode = letter_counts()
    return kb


def of_base(folder: Path) -> Any:
    """What a knowledge base holds, checked."""
    kb = KnowledgeBase.open(folder)
    problems = check_knowledge_base(folder, sample=50).problems
    if problems:
        raise ValueError("; ".join(problem.message for problem in problems))
    _, found = kb.index.search(np.eye(3, 6, dtype=np.float32), 5)
    manifest = kb.manifest
    assert manifest is not None
    return kb.digest(), manifest.index, kb.changes.number, found.tolist()


def build(work: Work, version: int, **options: Any) -> None:
    """A knowledge base of one of the catalogues."""
    source = work.inputs / f"{version}.jsonl"
    build_knowledge_base(source, work.root / "kb", letter_counts(), "letters", chunk_rows=5, **options)


def edited(work: Work, version: int) -> None:
    """A knowledge base with some edits; the new state has one more of each kind."""
    if not version:
        build(work, 0)
        base = opened(work.root / "kb")
        base.add({"title": "Zorblax", "text": "A moon.", "kb_idx": "X1"})
        return
    opened(work.root / "kb").update("X1", text="A large moon.")


def added(work: Work, version: int) -> None:
    if version:
        opened(work.root / "kb").add_all([{"title": f"Many {i}", "kb_idx": f"M{i}"} for i in range(3)])
    else:
        build(work, 0)


def compacted(work: Work, version: int) -> None:
    if version:
        opened(work.root / "kb").compact()
    else:
        edited(work, 0)


def kept(work: Work, version: int) -> None:
    if version:
        build(work, 1, edits=KEEP)
    else:
        edited(work, 0)


def reindexed(work: Work, version: int) -> None:
    if version:
        reindex(work.root / "kb", "sq8")
    else:
        build(work, 0)


def made_subset(work: Work, version: int) -> None:
    build(Work(work.inputs, work.inputs), 0) if not (work.inputs / "kb").exists() else None
    subset(opened(work.inputs / "kb"), range(version + 1), work.root / "kb")


def from_table(work: Work, version: int) -> None:
    file = work.inputs / "entities.csv"
    file.write_text("title,text,id\n" + "".join(f"Name {i},text {i},Q{i}\n" for i in range(9 + version)))
    build_knowledge_base(file, work.root / "kb", letter_counts(), "letters")


def of_sidecar(work: Work) -> Any:
    with Catalogue.open(work.root / "entity.jsonl") as catalogue:
        return [catalogue.title(row) for row in range(len(catalogue))]


def catalogue_opened(work: Work, version: int) -> None:
    """A catalogue that was changed, and is opened: the table of its lines is written beside it."""
    if not version:
        write_catalogue(work.root / "entity.jsonl", rows(12))
    Catalogue.open(work.root / "entity.jsonl").close()


def kb_of(work: Work) -> Any:
    return of_base(work.root / "kb")


def tables_of(work: Work) -> Any:
    """What is compared of a compaction, which changes the files and no entity."""
    manifest = read_manifest(work.root / "kb")
    return manifest.folder, manifest.edits, *kb_of(work)


WRITERS = (
    Writer("kb build", build, kb_of, catalogues, old=False),
    Writer("kb build over an older one", build, kb_of, catalogues),
    Writer("kb build of a table", from_table, kb_of),
    Writer("kb build that keeps edits", kept, kb_of, catalogues),
    Writer("kb index", reindexed, kb_of, catalogues),
    Writer("subset of a knowledge base", made_subset, kb_of, catalogues),
    Writer("kb update", edited, kb_of, catalogues, repeats=False),
    Writer("kb add", added, kb_of, catalogues, repeats=False),
    Writer("kb compact", compacted, tables_of, catalogues),
)
