"""Vectors of an earlier knowledge base for entities of which the encoder reads the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blink.data.records import Entity
from blink.errors import BlinkError, MismatchError
from blink.files import sample_hash
from blink.kb.catalogue import Catalogue
from blink.kb.live.changes import Changes
from blink.kb.live.state import JournalState
from blink.kb.manifest import CATALOGUE_FILE, MANIFEST_FILE, VECTORS_FILE, Manifest, read_manifest
from blink.kb.vectors import CandidateEncoder, Encoder, load_vectors

_NONE = -1
_HASHED = np.dtype([("key", np.uint64), ("check", np.uint64)])
Reads = Callable[[Entity], tuple[object, ...]]


@dataclass(frozen=True)
class EarlierVectors:
    """Vectors of an earlier knowledge base.

    Attributes:
        folder: of the knowledge base.
        catalogue: its entities, without edits.
        vectors: their vectors. *Shape:* (rows, d).
        changes: its edits.
    """

    folder: Path
    catalogue: Catalogue
    vectors: np.ndarray
    changes: Changes

    @classmethod
    def open(cls, folder: Path, encoder: CandidateEncoder, dtype: str) -> EarlierVectors:
        """Open the vectors of a knowledge base.

        Raises:
            MismatchError: they are of another model or dtype, or of another catalogue than the one there.
            BlinkError: there is no knowledge base, or it is damaged.
        """
        manifest = read_manifest(folder)
        if manifest.model != encoder.fingerprint or manifest.dtype != dtype:
            other = f"another model, or {manifest.dtype} where {dtype} is built"
            raise MismatchError(f"the vectors of {folder} are of {other}; build without --reuse, or with its model and --dtype")
        files = folder / manifest.folder
        catalogue = Catalogue.open(files / CATALOGUE_FILE, skip_bad=manifest.skipped > 0, warn=False)
        vectors = load_vectors(files / VECTORS_FILE)
        if not _belong_together(manifest, files, catalogue, vectors):
            raise MismatchError(f"{files / VECTORS_FILE} does not belong to the entities of its folder; build without --reuse")
        return cls(folder, catalogue, vectors, JournalState(files, manifest, catalogue, vectors).changes)

    def entities(self) -> Iterator[Entity | None]:
        """The entity of every vector, in the order of `take`; None where an edit replaced it."""
        for entity in self.catalogue:
            yield None if entity.row in self.changes.entities else entity
        for row in self.changes.vector_rows.tolist():
            yield self.changes.entities[row]

    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Vectors by position among `entities`; zeros for -1. *Shape:* (positions, d)."""
        n = len(self.catalogue)
        taken = np.zeros((len(positions), self.vectors.shape[1]), np.float32)
        stored, changed = (positions >= 0) & (positions < n), positions >= n
        taken[stored] = self.vectors[positions[stored]]
        taken[changed] = self.changes.vectors[positions[changed] - n]
        return taken


def _belong_together(manifest: Manifest, files: Path, catalogue: Catalogue, vectors: np.ndarray) -> bool:
    return (
        catalogue.sha256 == manifest.catalogue_sha256
        and vectors.shape == (manifest.entities, manifest.dim)
        and sample_hash(files / VECTORS_FILE) == manifest.samples.get(VECTORS_FILE)
    )


@dataclass(frozen=True)
class ReusedVectors:
    """Which vectors of an earlier knowledge base the rows of a catalogue take over.

    Attributes:
        earlier: the vectors.
        positions: of each row's vector among them; -1 where there is none. *Shape:* (rows,), int64.
    """

    earlier: EarlierVectors
    positions: npt.NDArray[np.int64]

    @classmethod
    def of(cls, catalogue: Catalogue, earlier: EarlierVectors, reads: Reads) -> ReusedVectors:
        """Look up the entities of a catalogue by a hash of what the encoder reads of them."""
        known, wanted = _hashes(earlier.entities(), reads), _hashes(catalogue, reads)
        if not len(known):
            return cls(earlier, np.full(len(wanted), _NONE, np.int64))
        order = np.argsort(known["key"], kind="stable")
        at = np.minimum(np.searchsorted(known["key"][order], wanted["key"]), len(known) - 1)
        positions = order[at]
        same_row = np.arange(min(len(known), len(wanted)))  # first, so that rows which are alike keep their own vectors
        positions[same_row] = np.where(known[same_row] == wanted[same_row], same_row, positions[same_row])
        return cls(earlier, np.where(known[positions] == wanted, positions, _NONE).astype(np.int64))

    @property
    def taken(self) -> int:
        """Rows that take over a vector."""
        return len(self.positions) - self.missing

    @property
    def missing(self) -> int:
        """Rows that are to be encoded."""
        return int((self.positions == _NONE).sum())

    def encoder(self, encode: Encoder) -> Encoder:
        """An encoder of the catalogue's entities that encodes only those whose vectors are missing."""

        def encode_missing(entities: Sequence[Entity]) -> np.ndarray:
            positions = self.positions[[entity.row for entity in entities]]
            vectors = self.earlier.take(positions)
            if missing := np.flatnonzero(positions == _NONE).tolist():
                vectors[missing] = encode([entities[i] for i in missing])
            return vectors

        return encode_missing

    def __str__(self) -> str:
        """Such as ``97,080 of 97,081 vectors are taken over from KB, where the encoder reads the same; 1 is encoded``."""
        taken = f"{self.taken:,} of {len(self.positions):,} vectors are taken over from {self.earlier.folder}"
        return f"{taken}, where the encoder reads the same; {self.missing:,} to encode"


def reused_vectors(
    catalogue: Catalogue, out: Path, reuse: Path | None, encoder: CandidateEncoder, dtype: str
) -> ReusedVectors | None:
    """The vectors that a build takes over; None where there are none.

    Args:
        catalogue: what is built.
        out: where it is built: its vectors are taken over if they are of the same model.
        reuse: the knowledge base to take vectors from instead.
        encoder: the candidate encoder.
        dtype: of the vectors.

    Raises:
        BlinkError: ``reuse`` is given, and its vectors cannot be taken over.
    """
    if reuse is None and not (out / MANIFEST_FILE).is_file():
        return None
    try:
        return ReusedVectors.of(catalogue, EarlierVectors.open(reuse or out, encoder, dtype), encoder.reads)
    except BlinkError:
        if reuse is not None:
            raise
        return None  # of another model or version, or damaged: it is about to be replaced


def _hashes(entities: Iterable[Entity | None], reads: Reads) -> np.ndarray:
    """128 bits of a hash of what is read of each entity; of None the hash of nothing that is read. *Shape:* (entities,)."""
    content = bytearray()
    for entity in entities:
        read = b"" if entity is None else repr(reads(entity)).encode("utf-8", "surrogatepass")
        content += hashlib.blake2b(read, digest_size=_HASHED.itemsize).digest()
    return np.frombuffer(bytes(content), _HASHED)
