"""Builds a knowledge base into its folder: encodes a catalogue, indexes names and vectors, writes the manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blink.data.records import Entity
from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import atomic_open, locked, require_file, sample_hash, sha256, sync_folder
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from blink.kb.index import resolved_kind, save_index
from blink.kb.index.budget import StoredVectors, plan_memory
from blink.kb.index.qdrant_index import ADDRESS_FILE, QDRANT, QdrantService, store
from blink.kb.live.carrying import KEEP, REFUSE, carry, former_edits, refuse_edits, remove_stale
from blink.kb.live.journal import JOURNAL_FILE
from blink.kb.live.state import HISTORY_FILE, JournalState
from blink.kb.manifest import (
    CATALOGUE_FILE,
    CHUNKS_FOLDER,
    INDEX_FILE,
    MANIFEST_FILE,
    VECTORS_FILE,
    WORK_FOLDER,
    Manifest,
    read_manifest,
    write_manifest,
)
from blink.kb.name_tables import FILES as NAME_FILES
from blink.kb.name_tables import build_name_tables
from blink.kb.replacing import replace_files
from blink.kb.reuse import reused_vectors
from blink.kb.sources.conversion import SourceOptions, open_source
from blink.kb.sources.formats import ALLOWED
from blink.kb.sources.rows import RowSource
from blink.kb.vectors import (
    CHUNK_ROWS,
    DTYPES,
    PLAN_FILE,
    CandidateEncoder,
    Encoder,
    EncodingPlan,
    encode_chunks,
    load_vectors,
    merge_chunks,
    resumed_plan,
)
from blink.work_folders import remove_work_folder, work_folder


@dataclass(frozen=True)
class BuildProgress:
    """Hooks of `build_knowledge_base`.

    Attributes:
        stage: called with name and rows of each stage, 0 where it does not count rows.
        advance: called with newly finished rows.
        reuse: called with the rows that an earlier build finished; ``advance`` by default.
        note: called with a line about what was read.
    """

    stage: Callable[[str, int], None] = lambda name, total: None
    advance: Callable[[int], None] = lambda rows: None
    reuse: Callable[[int], None] | None = None
    note: Callable[[str], None] = lambda text: None


def build_knowledge_base(
    source: str | Path | RowSource,
    out: str | Path,
    encode: Encoder | CandidateEncoder,
    model: str = "",
    *,
    index: str = "auto",
    dtype: str = "fp32",
    chunk_rows: int | None = None,
    skip_bad: bool = False,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    allow_empty: bool = False,
    service: QdrantService | None = None,
    max_ram: int | None = None,
    reuse: str | Path | None = None,
    edits: str = REFUSE,
    progress: BuildProgress | None = None,
) -> Manifest:
    """Build a knowledge base from a catalogue, or from entities in another form.

    A build that was killed resumes with the finished chunks of vectors. An earlier knowledge base in ``out`` stays in use until
    the new one is complete.

    Args:
        source: the ``entity.jsonl``; or a JSON array, CSV, TSV or Parquet, compressed or not; or rows of Python objects.
        out: output folder.
        encode: candidate encoder.
        model: fingerprint of the encoder, where ``encode`` does not say it.
        index: kind of the index, one of `blink.kb.index.KINDS`; ``flat`` searches the stored vectors and has no file.
            ``qdrant`` is an index in ``service``.
        dtype: ``fp32`` or ``fp16`` for the stored vectors.
        chunk_rows: rows per chunk of vectors; None for those of the build that is continued, else 1000.
        skip_bad: skip broken lines of the catalogue, which keep their row and are never linked, and broken rows of other files.
        columns: key of a catalogue's line -> column that holds it; columns of known names need no mention.
        encoding: of a text; recognised by default.
        allow_empty: build a knowledge base without entities, if there are none.
        service: where the vectors are searched, for index ``qdrant``.
        max_ram: bytes of memory that linking may take; the index fits into them. None for no limit.
        reuse: a knowledge base from which the vectors of entities of which the encoder reads the same are taken over; by
            default ``out``, if its vectors are of the same model and dtype.
        edits: what to do with those of an earlier knowledge base in ``out``: ``refuse`` to build, ``keep`` them, which makes
            them again, or ``discard`` them.
        progress: hooks for a progress bar.

    Raises:
        BlinkError: the catalogue or an option is invalid.
    """
    # What is wrong is refused before hours of encoding.
    if (index == QDRANT) != (service is not None):
        raise SettingsError(f"index {QDRANT} and the URL of its service belong together; give both, or none")
    if service is None:
        resolved_kind(index, 0)
    else:
        service.ping()
    out, progress = Path(out), progress or BuildProgress()
    encoder = encode if isinstance(encode, CandidateEncoder) else CandidateEncoder(encode, model)
    work = out / WORK_FOLDER
    if isinstance(source, (str, Path)):
        source = require_file(source, f"give entities: {ALLOWED}")
    how = SourceOptions(columns, encoding, skip_bad, allow_empty)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        build_folder(out)
        if edits == REFUSE:
            refuse_edits(out)
        progress.stage("reading catalogue", 0)
        # The sidecar is not written next to the source, whose folder may belong to somebody else.
        with open_source(source, work / CATALOGUE_FILE, how, note=progress.note, advance=progress.advance) as catalogue:
            opened = catalogue.path
            rows = CHUNK_ROWS if chunk_rows is None else chunk_rows
            plan = EncodingPlan(len(catalogue), catalogue.sha256, encoder.fingerprint, dtype, rows)
            if chunk_rows is None:
                plan = resumed_plan(plan, work / CHUNKS_FOLDER)
            run = _encoder_of_rows(catalogue, encoder, plan, out, reuse, progress)
            index = index if len(catalogue) or service is not None else "flat"  # which needs no vectors
            dim = encoder.encode([Entity(0, "a")]).shape[1] if max_ram is not None or not len(catalogue) else None
            if max_ram is not None and service is None and dim is not None:
                plan_memory(StoredVectors(len(catalogue), dim, np.dtype(DTYPES[dtype]).itemsize), max_ram, index)
            progress.stage("encoding", len(catalogue))
            encode_chunks(catalogue, run, plan, work / CHUNKS_FOLDER, progress.advance, progress.reuse, progress.note)
            progress.stage("indexing names", len(catalogue))
            build_name_tables(catalogue, len(catalogue), work, progress.advance)
            skipped = catalogue.skipped + catalogue.repeated_ids
        merge_chunks(work / CHUNKS_FOLDER, work / VECTORS_FILE, dim)
        vectors = load_vectors(work / VECTORS_FILE)
        if service is None:
            index = _write_index(vectors, index, max_ram, work, progress)
        else:
            progress.stage(f"storing vectors in {service.url}", len(vectors))
            store(vectors, service, (plan.catalogue, plan.model), work / ADDRESS_FILE, progress.advance)
        if opened != work / CATALOGUE_FILE:
            _copy(opened, work / CATALOGUE_FILE)
        if sha256(work / CATALOGUE_FILE) != plan.catalogue:
            raise DataError(f"{opened} changed while its entities were encoded; build again, which encodes what it holds now")
        samples = file_samples(work)
        manifest = Manifest(plan.rows, vectors.shape[1], plan.catalogue, plan.model, index, dtype, samples, skipped)
        (work / JOURNAL_FILE).unlink(missing_ok=True)  # of a build that was killed
        if edits == KEEP:
            _carry(work, out, manifest, encoder.encode, progress)
        return install(work, out, manifest)


def build_folder(out: Path) -> Path:
    """The folder of an unfinished build into ``out``, made or of an earlier call.

    Raises:
        SettingsError: it was not made by a build, or there is a link in it.
    """
    return work_folder(out / WORK_FOLDER, (f"{CHUNKS_FOLDER}/{PLAN_FILE}", CATALOGUE_FILE + SIDECAR_SUFFIX))


def _encoder_of_rows(
    catalogue: Catalogue,
    encoder: CandidateEncoder,
    plan: EncodingPlan,
    out: Path,
    reuse: str | Path | None,
    progress: BuildProgress,
) -> Encoder:
    """The encoder of a catalogue's rows, which takes over the vectors of an earlier knowledge base."""
    reused = reused_vectors(catalogue, out, None if reuse is None else Path(reuse), encoder, plan.dtype)
    if reused is not None and (reused.taken or reuse is not None):
        progress.note(str(reused))
    missing = len(catalogue) if reused is None else reused.missing
    encode = encoder.encode if encoder.for_rows is None else encoder.for_rows(missing)
    return encode if reused is None else reused.encoder(encode)


def _write_index(vectors: np.ndarray, index: str, max_ram: int | None, work: Path, progress: BuildProgress) -> str:
    """Write the index of vectors, and return the name of its kind."""
    kind = resolved_kind(index, len(vectors))
    if max_ram is not None:
        kind = plan_memory(StoredVectors(len(vectors), vectors.shape[1], vectors.itemsize), max_ram, index).kind
    progress.stage("indexing", 0 if kind.new is None else len(vectors))
    save_index(vectors, kind, work / INDEX_FILE, progress.advance)
    return kind.name


def _carry(work: Path, out: Path, manifest: Manifest, encode: Encoder, progress: BuildProgress) -> None:
    """Write a journal with the edits of the earlier knowledge base in ``out``."""
    former = former_edits(out)
    if not former:
        return
    progress.stage("making edits again", 0)
    with Catalogue.open(work / CATALOGUE_FILE, skip_bad=True) as catalogue:
        state = JournalState(work, manifest, catalogue, load_vectors(work / VECTORS_FILE))
        lost = carry(former, state, encode)
    made = f"{out}: {len(former) - lost:,} edited entities are as they were"
    progress.note(made + (f"; {lost:,} are not, since the new catalogue lacks them or their ids are taken" if lost else ""))


def finished_rows(out: str | Path) -> int:
    """Rows whose vectors a build into ``out`` that has not ended keeps."""
    bounds = (path.stem.split("_") for path in (Path(out) / WORK_FOLDER / CHUNKS_FOLDER).glob("[0-9]*_*.npy"))
    return sum(int(end) - int(start) for start, end in bounds)


def file_samples(folder: Path) -> dict[str, str]:
    """`sample_hash` of the files of a knowledge base, by name."""
    names = (CATALOGUE_FILE, VECTORS_FILE, INDEX_FILE, ADDRESS_FILE, *NAME_FILES)
    return {name: sample_hash(folder / name) for name in names if (folder / name).is_file()}


def install(work: Path, out: Path, manifest: Manifest) -> Manifest:
    """Move the complete files of a knowledge base from ``work`` to ``out``, write its manifest there and remove ``work``.

    Returns:
        the manifest with the hashes of the files.
    """
    hashes = {name: sha256(work / name) for name in manifest.samples if name != CATALOGUE_FILE}
    manifest = replace(manifest, sha256=hashes)
    built = (CATALOGUE_FILE, CATALOGUE_FILE + SIDECAR_SUFFIX, VECTORS_FILE, INDEX_FILE, ADDRESS_FILE, *NAME_FILES)
    files = {name: work / name for name in (*built, HISTORY_FILE, JOURNAL_FILE) if (work / name).is_file()}
    try:
        manifest = replace_files(out, read_manifest(out), manifest, files)
    except (MissingFileError, DataError):  # there is none, or none that can be opened
        manifest = _first_files(work, out, manifest, files)
    remove_work_folder(work)
    remove_stale(out, manifest)
    return manifest


def _first_files(work: Path, out: Path, manifest: Manifest, files: Mapping[str, Path]) -> Manifest:
    """Move files into a folder that is no knowledge base until its manifest is there."""
    # Written before the renames below, which need no disk space and so cannot fail for lack of it.
    manifest = write_manifest(work, manifest)
    (out / MANIFEST_FILE).unlink(missing_ok=True)
    for name in (INDEX_FILE, ADDRESS_FILE, HISTORY_FILE, JOURNAL_FILE):
        (out / name).unlink(missing_ok=True)
    for name, file in files.items():
        file.replace(out / name)
    sync_folder(out)
    (work / MANIFEST_FILE).replace(out / MANIFEST_FILE)
    sync_folder(out)
    return manifest


def _copy(source: Path, target: Path) -> None:
    # Copied, not linked: edits of the source must not change the knowledge base.
    with source.open("rb") as old, atomic_open(target, "wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
    # The sidecar identifies its file by size and modification time.
    stat = source.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
