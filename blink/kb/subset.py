"""A knowledge base without some of its entities, from the vectors of the whole: nothing is encoded again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blink.data.arrays import save_array
from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.errors import DataError
from blink.files import atomic_open, locked
from blink.kb.attribute_table import AttributeTable
from blink.kb.building import build_folder, file_samples, install
from blink.kb.catalogue import Catalogue
from blink.kb.index import build_index, resolved_kind, save_index
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.carrying import refuse_edits
from blink.kb.manifest import CATALOGUE_FILE, FORMAT, INDEX_FILE, VECTORS_FILE, Manifest
from blink.kb.name_index import NameIndex
from blink.kb.name_tables import build_name_tables
from blink.kb.title_table import TitleTable


@dataclass(frozen=True)
class Subset:
    """A knowledge base without some entities of another.

    Attributes:
        base: the remaining entities, in the same order, with rows from 0.
        row_of: new row of each row of the whole, or -1 if it was removed. *Shape:* (entities of the whole,), int64.
    """

    base: KnowledgeBase
    row_of: npt.NDArray[np.int64]

    def relabel(self, sample: Sample) -> Sample:
        """The sample, bound to the whole, with gold rows of the subset; removed entities become `NOT_IN_CATALOGUE`."""

        def row(old: int) -> int:
            return NOT_IN_CATALOGUE if old == NOT_IN_CATALOGUE else int(self.row_of[old])

        mentions = None if sample.mentions is None else tuple(replace(m, row=row(m.row)) for m in sample.mentions)
        tokens = sample.token_mentions
        tokens = None if tokens is None else tuple(replace(m, row=row(m.row)) for m in tokens)
        return replace(sample, mentions=mentions, token_mentions=tokens)


def subset(base: KnowledgeBase, rows_removed: Iterable[int], out: str | Path | None = None) -> Subset:
    """Remove entities from a knowledge base.

    The result gives the same links as a knowledge base built from the catalogue without these lines. Vectors are
    slices of those of the whole, tables of names are built; rows of broken lines are removed too. Without ``out`` the result is
    in memory and temporary files without a name, and it cannot be pickled.

    Args:
        base: the whole, with stored vectors.
        rows_removed: rows without which the result is; repeated ones are allowed.
        out: folder to save the subset to; it then opens as any other knowledge base does.

    Raises:
        DataError: a row does not exist, no entity remains, or the whole has no stored vectors (or, with ``out``, no manifest).
    """
    if base.vectors is None or base.names is None:
        fault = "the knowledge base has no stored vectors or names"
        raise DataError(f"{fault}; build it again: blink kb build ENTITY.jsonl --out DIR")
    row_of = _new_rows(base.catalogue, rows_removed)
    rows = np.flatnonzero(row_of >= 0)
    vectors = np.array(base.vectors[rows])
    if out is not None:
        return Subset(_saved(base, rows, vectors, Path(out)), row_of)
    with tempfile.TemporaryDirectory() as folder:  # open files outlive their folder
        catalogue = _write_catalogue(base.catalogue, rows, Path(folder) / CATALOGUE_FILE)
        build_name_tables(catalogue, len(catalogue), folder)
        names, titles = NameIndex.open(folder, len(catalogue)), TitleTable.open(folder, len(catalogue))
        attributes = AttributeTable.open(folder)
    kind = "flat" if base.manifest is None else base.manifest.local_index
    manifest = None if base.manifest is None else _manifest(base.manifest, catalogue)
    index = build_index(vectors, kind)
    return Subset(KnowledgeBase(catalogue, index, manifest, vectors, names, titles, attributes), row_of)


def _new_rows(catalogue: Catalogue, rows_removed: Iterable[int]) -> npt.NDArray[np.int64]:
    removed = np.fromiter(rows_removed, dtype=np.int64)
    n = len(catalogue)
    outside = removed[(removed < 0) | (removed >= n)]
    if len(outside):
        raise DataError(f"row {outside[0]} cannot be removed: {catalogue.path} has rows 0 to {n - 1}")
    kept = np.ones(n, dtype=bool)
    kept[removed] = False
    kept[catalogue.bad_rows] = False
    if not kept.any():
        raise DataError(f"all {n} entities of {catalogue.path} would be removed; leave at least one")
    return np.where(kept, np.cumsum(kept) - 1, NOT_IN_CATALOGUE).astype(np.int64)


def _write_catalogue(whole: Catalogue, rows: npt.NDArray[np.int64], path: Path) -> Catalogue:
    with atomic_open(path, "wb") as f:
        for row in rows.tolist():
            f.write(whole.line(row) + b"\n")
    return Catalogue.open(path, skip_bad=True)  # ids may be repeated


def _manifest(whole: Manifest, catalogue: Catalogue) -> Manifest:
    digest, repeated = catalogue.sha256, catalogue.repeated_ids
    kind = resolved_kind(whole.local_index, len(catalogue)).name
    smaller = replace(whole, format=FORMAT, entities=len(catalogue), index=kind, folder="", edits=0, built_from="")
    return replace(smaller, catalogue_sha256=digest, samples={}, skipped=repeated)


def _saved(base: KnowledgeBase, rows: npt.NDArray[np.int64], vectors: np.ndarray, out: Path) -> KnowledgeBase:
    if base.manifest is None:
        raise DataError("only a knowledge base that was read from a folder can be saved as a subset; leave out the folder")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        refuse_edits(out)
        work = build_folder(out)
        with _write_catalogue(base.catalogue, rows, work / CATALOGUE_FILE) as catalogue:
            manifest = _manifest(base.manifest, catalogue)
            build_name_tables(catalogue, len(catalogue), work)
        save_array(work / VECTORS_FILE, vectors)
        save_index(vectors, resolved_kind(base.manifest.local_index, len(vectors)), work / INDEX_FILE)
        install(work, out, replace(manifest, samples=file_samples(work)))
    return KnowledgeBase.open(out)
