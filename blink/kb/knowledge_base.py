"""A knowledge base: a folder with catalogue, entity vectors, index and a manifest with their hashes and model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from blink.data.ranges import bounds_of
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import atomic_open, locked, read_json, require_file, sample_hash, sha256, write_json
from blink.kb.alias_table import AliasMatch, AliasTable
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from blink.kb.fuzzy_index import FuzzyIndex
from blink.kb.index import AUTO, KINDS, Index, open_index, resolved_kind, save_index
from blink.kb.index.budget import DEFAULT_BACKEND, MemoryPlan, StoredVectors, plan_memory, require_memory
from blink.kb.index.qdrant_index import ADDRESS_FILE, QDRANT, QdrantService, open_stored, store
from blink.kb.name_tables import FILES as NAME_FILES
from blink.kb.name_tables import build_name_tables
from blink.kb.popularity import POPULARITY, open_popularity
from blink.kb.title_table import Rows, TitleTable
from blink.kb.vectors import CHUNK_ROWS, DTYPES, Encoder, EncodingPlan, encode_chunks, load_vectors, merge_chunks, resumed_plan

MANIFEST_FILE = "manifest.json"
CATALOGUE_FILE = "entity.jsonl"
VECTORS_FILE = "vectors.npy"
INDEX_FILE = "index.faiss"
CHUNKS_FOLDER = "chunks"
WORK_FOLDER = ".build"
"""Subfolder for the files of a build until it is complete."""
FORMAT = 6
_OPENED_FORMATS = (5, 6)
"""Format 5 has no table of titles, and its fuzzy index has the lists of all trigrams."""
MAX_CANDIDATES_PER_ALIAS = 16
"""Most entities of one name that are candidates of a mention."""


@dataclass(frozen=True)
class Manifest:
    """Sizes, hashes and model of a knowledge base.

    Attributes:
        entities: number of rows of catalogue, vectors and index.
        dim: dimension of the vectors.
        catalogue_sha256: hash of ``entity.jsonl``.
        model: fingerprint of the candidate encoder of the vectors.
        index: kind of the index, one of `blink.kb.index.KINDS`, or ``qdrant``; ``flat`` searches the stored vectors and has no
            file.
        dtype: ``fp32`` or ``fp16``.
        samples: `sample_hash` of every other file, by name, since hashing them whole at each opening would be slow.
        skipped: number of broken lines of the catalogue; their rows are never linked.
        metric: of the vectors, always the inner product.
        format: version of this layout.
        sha256: hash of each of these files as a whole, for `blink.kb.health`; empty in earlier versions.
    """

    entities: int
    dim: int
    catalogue_sha256: str
    model: str
    index: str
    dtype: str
    samples: dict[str, str]
    skipped: int = 0
    metric: str = "inner product"
    format: int = FORMAT
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def local_index(self) -> str:
        """The kind of index for what is derived from the knowledge base: no other collection of a service is made."""
        return AUTO if self.index == QDRANT else self.index


@dataclass(frozen=True)
class NameIndex:
    """Entities by title and alias.

    Attributes:
        alias_table: look-up up to case, accents and punctuation.
        fuzzy_index: look-up of similar names.
        popularity: see `blink.kb.popularity`. *Shape:* (entities, 4), float32.
    """

    alias_table: AliasTable
    fuzzy_index: FuzzyIndex
    popularity: np.ndarray

    @classmethod
    def open(cls, folder: str | Path, rows: int) -> NameIndex:
        """Map the tables of a knowledge base of ``rows`` entities. Raises as opening each of them does."""
        return cls(AliasTable.open(folder), FuzzyIndex.open(folder), open_popularity(folder, rows))

    def candidates(self, text: str) -> list[AliasMatch]:
        """The entities named ``text``, else those with it as a variant; titles first, then by row.

        At most `MAX_CANDIDATES_PER_ALIAS` are returned, the most popular ones, titles before aliases.
        """
        matches = self.alias_table.lookup(text) or self.alias_table.lookup_variants(text)
        if len(matches) <= MAX_CANDIDATES_PER_ALIAS:
            return matches
        popularity = self.popularity[[m.row for m in matches], POPULARITY]
        most_popular = np.lexsort((-popularity, np.array([-m.kind for m in matches])))
        return [matches[i] for i in sorted(most_popular[:MAX_CANDIDATES_PER_ALIAS].tolist())]

    def candidates_all(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """`candidates` of several strings.

        Returns:
            the number of entities of each, and row * 4 + kind of all of them, in the same order. *Shape:* (texts,) and
            (matches,), int64.
        """
        counts, values = self.alias_table.lookup_all(texts)
        many = np.flatnonzero(counts > MAX_CANDIDATES_PER_ALIAS).tolist()
        if not many:
            return counts, values
        kept, bounds = np.ones(len(values), dtype=bool), bounds_of(counts).tolist()
        for i in many:
            of_text = values[bounds[i] : bounds[i + 1]]
            most_popular = np.lexsort((-self.popularity[of_text >> 2, POPULARITY], -(of_text & 3)))
            kept[bounds[i] + most_popular[MAX_CANDIDATES_PER_ALIAS:]] = False
            counts[i] = MAX_CANDIDATES_PER_ALIAS
        return counts, values[kept]


class KnowledgeBase:
    """A catalogue with an index over its entity vectors.

    Args:
        catalogue: the entities, row = id.
        index: of the entity vectors.
        manifest: of a knowledge base that was read from a folder.
        vectors: the entity vectors, if they are available apart from the index. *Shape:* (entities, dim).
        names: entities by title and alias, if they are indexed.
        title_table: titles and ids by row, if they are stored apart from the catalogue.

    Raises:
        MismatchError: catalogue and index differ in size.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        index: Index,
        manifest: Manifest | None = None,
        vectors: np.ndarray | None = None,
        names: NameIndex | None = None,
        title_table: TitleTable | None = None,
    ) -> None:
        if len(catalogue) != index.size:
            raise MismatchError(
                f"{catalogue.path} has {len(catalogue)} entities, the vectors or index {index.size}; "
                "give files that were made from one catalogue"
            )
        self.catalogue = catalogue
        self.index = index
        self.manifest = manifest
        self.vectors = vectors
        self.names = names
        self._title_table = title_table
        self._folder: Path | None = None
        self.memory: MemoryPlan | None = None
        """What it needs, where it was opened with a limit of memory."""

    def __repr__(self) -> str:
        return f"KnowledgeBase({str(self._folder or self.catalogue.path)!r}, {len(self.catalogue):,} entities)"

    def __reduce__(self) -> tuple[Callable[[Path], KnowledgeBase], tuple[Path]]:
        """Pickle and copy by folder, which is opened again, since memory maps cannot be pickled.

        Raises:
            DataError: it was not read from a folder.
        """
        if self._folder is None:
            raise DataError("this knowledge base is in memory alone and cannot be pickled or copied; build it into a folder")
        return KnowledgeBase.open, (self._folder,)

    @property
    def alias_table(self) -> AliasTable | None:
        """The alias table; None if names are not indexed."""
        return None if self.names is None else self.names.alias_table

    def titles(self, rows: Rows) -> list[str]:
        """Titles of rows (from 0), without parsing lines where they are stored apart; ``""`` of broken lines."""
        if self._title_table is None:
            return [self.catalogue.title(row) for row in rows]
        return self._title_table.titles(rows)

    def kb_ids(self, rows: Rows) -> list[str | None]:
        """Ids of rows (from 0), read as titles are; None where an entity has none."""
        if self._title_table is None:
            return [self.catalogue[row].kb_id for row in rows]
        return self._title_table.kb_ids(rows)

    def titles_and_ids(self, rows: Rows) -> list[tuple[str, str | None]]:
        """Titles and ids of rows, as of `titles` and `kb_ids`; a line is parsed once."""
        if self._title_table is None:
            return [(entity.title, entity.kb_id) for entity in (self.catalogue[row] for row in rows)]
        return list(zip(self._title_table.titles(rows), self._title_table.kb_ids(rows), strict=True))

    @classmethod
    def open(cls, folder: str | Path, max_ram: int | str | None = None, backend: str = DEFAULT_BACKEND) -> KnowledgeBase:
        """Open a knowledge base written by `build_knowledge_base`. Its files are memory-mapped.

        Args:
            folder: of the knowledge base.
            max_ram: memory that linking with it may take, in bytes or as a size such as ``4G``; None for no limit.
            backend: what runs the encoder, for the memory that it needs.

        Raises:
            MissingFileError: the folder, or a file in it, is missing.
            MismatchError: its files do not belong together; the message names the remedy.
            SettingsError: its index needs more memory.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        memory = None
        if max_ram is not None and manifest.index in KINDS:
            stored = StoredVectors(manifest.entities, manifest.dim, np.dtype(DTYPES[manifest.dtype]).itemsize)
            memory = require_memory(folder, manifest.index, stored, max_ram, backend)
        catalogue = Catalogue.open(folder / CATALOGUE_FILE, skip_bad=manifest.skipped > 0)
        rebuild = f"build it again: blink kb build ENTITY.jsonl --out {folder}"
        if catalogue.sha256 != manifest.catalogue_sha256:
            raise MismatchError(f"{catalogue.path} was changed after its vectors were made; {rebuild}")
        for name, digest in manifest.samples.items():
            if sample_hash(require_file(folder / name, rebuild)) != digest:
                raise MismatchError(f"{folder / name} was not made with the rest of its folder, or is damaged; {rebuild}")
        vectors = load_vectors(folder / VECTORS_FILE)
        index = _open_index(folder, manifest.index, vectors)
        if (index.size, index.dim) != (manifest.entities, manifest.dim):
            sizes = f"{index.size} vectors of dimension {index.dim}"
            raise MismatchError(f"{folder} holds {sizes}, its manifest says {manifest.entities} of {manifest.dim}; {rebuild}")
        names = NameIndex.open(folder, manifest.entities)
        titles = TitleTable.open(folder, manifest.entities) if manifest.format >= 6 else None
        base = cls(catalogue, index, manifest, vectors, names, titles)
        base._folder, base.memory = folder.resolve(), memory
        return base

    def require_model(self, fingerprint: str | None) -> None:
        """Check that the vectors are those of the candidate encoder with this fingerprint; None is not checked.

        Raises:
            MismatchError: they are those of another model.
        """
        if self.manifest is not None and fingerprint is not None and self.manifest.model != fingerprint:
            raise MismatchError(
                f"the vectors of {self.catalogue.path.parent} were made by another model than the one given; "
                "build the knowledge base again with it: blink kb build ENTITY.jsonl --model MODEL --out DIR"
            )


def _open_index(folder: Path, kind: str, vectors: np.ndarray) -> Index:
    return open_stored(folder / ADDRESS_FILE) if kind == QDRANT else open_index(folder / INDEX_FILE, KINDS[kind], vectors)


def read_manifest(folder: Path) -> Manifest:
    """Read a knowledge base's manifest.

    Raises:
        MissingFileError: there is no manifest.
        DataError: it is not a manifest of this format.
    """
    if not (folder / MANIFEST_FILE).is_file():
        raise MissingFileError(
            f"{folder} is not a knowledge base (no {MANIFEST_FILE}); make one: blink kb build ENTITY.jsonl --out {folder}"
        )
    values = read_json(folder / MANIFEST_FILE)
    try:
        manifest = Manifest(**values)
        if not all(isinstance(of, dict) for of in (manifest.samples, manifest.sha256)) or not isinstance(manifest.skipped, int):
            raise TypeError("'samples' and 'sha256' must be objects and 'skipped' a number")
    except TypeError as error:
        raise DataError(
            f"{folder / MANIFEST_FILE} is no manifest of this version ({error}); build the knowledge base again"
        ) from error
    if manifest.format not in _OPENED_FORMATS or manifest.index not in (*KINDS, QDRANT):
        raise DataError(f"{folder / MANIFEST_FILE} is of another version; build the knowledge base again")
    return manifest


@dataclass(frozen=True)
class BuildProgress:
    """Hooks of `build_knowledge_base`.

    Attributes:
        stage: called with name and rows of each stage, 0 where it does not count rows.
        advance: called with newly finished rows.
        reuse: called with the rows that an earlier build finished; ``advance`` by default.
    """

    stage: Callable[[str, int], None] = lambda name, total: None
    advance: Callable[[int], None] = lambda rows: None
    reuse: Callable[[int], None] | None = None


def build_knowledge_base(
    source: str | Path,
    out: str | Path,
    encode: Encoder,
    model: str,
    *,
    index: str = "auto",
    dtype: str = "fp32",
    chunk_rows: int | None = None,
    skip_bad: bool = False,
    service: QdrantService | None = None,
    max_ram: int | None = None,
    progress: BuildProgress | None = None,
) -> Manifest:
    """Build a knowledge base from a catalogue.

    A build that was killed resumes with the finished chunks of vectors. An earlier knowledge base in ``out`` stays in use until
    the new one is complete.

    Args:
        source: the ``entity.jsonl``.
        out: output folder.
        encode: candidate encoder.
        model: fingerprint of the encoder.
        index: kind of the index, one of `blink.kb.index.KINDS`; ``flat`` searches the stored vectors and has no file.
            ``qdrant`` is an index in ``service``.
        dtype: ``fp32`` or ``fp16`` for the stored vectors.
        chunk_rows: rows per chunk of vectors; None for those of the build that is continued, else 1000.
        skip_bad: skip broken lines of the catalogue, which keep their row and are never linked.
        service: where the vectors are searched, for index ``qdrant``.
        max_ram: bytes of memory that linking may take; the index fits into them. None for no limit.
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
    work = out / WORK_FOLDER
    source = require_file(source, "give a catalogue: one JSON object with a title a line")
    work.mkdir(parents=True, exist_ok=True)
    with locked(out):
        work.mkdir(exist_ok=True)  # a concurrent build may just have ended and removed it
        progress.stage("reading catalogue", 0)
        with _open_source(source, work, skip_bad) as catalogue:
            plan = EncodingPlan(
                len(catalogue), catalogue.sha256, model, dtype, CHUNK_ROWS if chunk_rows is None else chunk_rows
            )
            if chunk_rows is None:
                plan = resumed_plan(plan, work / CHUNKS_FOLDER)
            if max_ram is not None and service is None:
                dim = encode(list(catalogue.iter(0, 1))).shape[1]
                plan_memory(StoredVectors(len(catalogue), dim, np.dtype(DTYPES[dtype]).itemsize), max_ram, index)
            progress.stage("encoding", len(catalogue))
            encode_chunks(catalogue, encode, plan, work / CHUNKS_FOLDER, progress.advance, progress.reuse)
            progress.stage("indexing names", len(catalogue))
            build_name_tables(catalogue, len(catalogue), work, progress.advance)
            skipped = catalogue.skipped + catalogue.repeated_ids
        merge_chunks(work / CHUNKS_FOLDER, work / VECTORS_FILE)
        vectors = load_vectors(work / VECTORS_FILE)
        if service is None:
            kind = resolved_kind(index, len(vectors))
            if max_ram is not None:
                kind = plan_memory(StoredVectors(len(vectors), vectors.shape[1], vectors.itemsize), max_ram, index).kind
            index = kind.name
            progress.stage("indexing", 0 if kind.new is None else len(vectors))
            save_index(vectors, kind, work / INDEX_FILE, progress.advance)
        else:
            progress.stage(f"storing vectors in {service.url}", len(vectors))
            store(vectors, service, (plan.catalogue, model), work / ADDRESS_FILE, progress.advance)
        _copy(source, work / CATALOGUE_FILE)
        if sha256(work / CATALOGUE_FILE) != plan.catalogue:
            raise DataError(f"{source} changed while its entities were encoded; build again, which encodes what it holds now")
        samples = file_samples(work)
        manifest = Manifest(plan.rows, vectors.shape[1], plan.catalogue, model, index, dtype, samples, skipped)
        return install(work, out, manifest)


def finished_rows(out: str | Path) -> int:
    """Rows whose vectors a build into ``out`` that has not ended keeps."""
    bounds = (path.stem.split("_") for path in (Path(out) / WORK_FOLDER / CHUNKS_FOLDER).glob("[0-9]*_*.npy"))
    return sum(int(end) - int(start) for start, end in bounds)


def _open_source(source: Path, work: Path, skip_bad: bool) -> Catalogue:
    # The sidecar is not written next to the source, whose folder may belong to somebody else.
    catalogue = Catalogue.open(source, skip_bad=skip_bad, sidecar=work / (CATALOGUE_FILE + SIDECAR_SUFFIX))
    if not len(catalogue):
        catalogue.close()
        raise DataError(f"{source} has no entities; a catalogue has one JSON object with a title a line")
    return catalogue


def file_samples(folder: Path) -> dict[str, str]:
    """`sample_hash` of the files of a knowledge base except its catalogue, by name."""
    names = (VECTORS_FILE, INDEX_FILE, ADDRESS_FILE, *NAME_FILES)
    return {name: sample_hash(folder / name) for name in names if (folder / name).is_file()}


def install(work: Path, out: Path, manifest: Manifest) -> Manifest:
    """Move the complete files of a knowledge base from ``work`` to ``out``, write its manifest there and remove ``work``.

    Returns:
        the manifest with the hashes of the files.
    """
    manifest = replace(manifest, sha256={name: sha256(work / name) for name in manifest.samples})
    # Written before the renames below, which need no disk space and so cannot fail for lack of it.
    write_json(work / MANIFEST_FILE, asdict(manifest))
    # Without a manifest the folder is not a knowledge base: a kill between the renames cannot leave a mixture of two.
    (out / MANIFEST_FILE).unlink(missing_ok=True)
    for name in (CATALOGUE_FILE, CATALOGUE_FILE + SIDECAR_SUFFIX, VECTORS_FILE, INDEX_FILE, ADDRESS_FILE, *NAME_FILES):
        if (work / name).is_file():
            (work / name).replace(out / name)
        elif (out / name).is_file():
            (out / name).unlink()
    (work / MANIFEST_FILE).replace(out / MANIFEST_FILE)
    shutil.rmtree(work)
    return manifest


def _copy(source: Path, target: Path) -> None:
    # Copied, not linked: edits of the source must not change the knowledge base.
    with source.open("rb") as old, atomic_open(target, "wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
    # The sidecar identifies its file by size and modification time.
    stat = source.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
