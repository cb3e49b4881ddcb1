"""The manifest of a knowledge base's folder: its sizes, hashes and model, and the names of its files."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from blink.errors import DataError, MissingFileError
from blink.files import read_json, write_json
from blink.kb.index import AUTO, KINDS
from blink.kb.index.qdrant_index import QDRANT

MANIFEST_FILE = "manifest.json"
CATALOGUE_FILE = "entity.jsonl"
VECTORS_FILE = "vectors.npy"
INDEX_FILE = "index.faiss"
CHUNKS_FOLDER = "chunks"
WORK_FOLDER = ".build"
"""Subfolder for the files of a build until it is complete."""
_SUBFOLDER = re.compile(r"compacted-\d+")
"""Of the files where they are not beside the manifest; such folders are removed when others replace them."""
FORMAT = 7
_OPENED_FORMATS = (5, 6, 7)
"""Formats 5 and 6 have no table of types and tags. Format 5 has no table of titles either, and its fuzzy index has the lists of
all trigrams."""
_TYPES = {
    **dict.fromkeys(("entities", "dim", "skipped", "format", "edits"), int),
    **dict.fromkeys(("samples", "sha256"), dict),
    **dict.fromkeys(("catalogue_sha256", "model", "index", "dtype", "metric", "folder", "built_from"), str),
}


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
        samples: `sample_hash` of every file, by name, since hashing them whole at each opening would be slow. That of the
            catalogue is missing in earlier versions.
        skipped: number of broken lines of the catalogue; their rows are never linked.
        metric: of the vectors, always the inner product.
        format: version of this layout.
        sha256: hash of each of these files but the catalogue as a whole, for `blink.kb.verifying`; empty in earlier versions.
            That of ``manifest.json`` is of what it holds apart from this hash, see `content_hash`.
        folder: subfolder of the files; ``""`` where they are beside the manifest.
        edits: number of the last transaction that is part of the files; 0 for none.
        built_from: hash of the catalogue that it was built from, where transactions are part of the files; ``""`` where it is
            ``catalogue_sha256``.
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
    folder: str = ""
    edits: int = 0
    built_from: str = ""

    @property
    def local_index(self) -> str:
        """The kind of index for what is derived from the knowledge base: no other collection of a service is made."""
        return AUTO if self.index == QDRANT else self.index

    @property
    def source_sha256(self) -> str:
        """Hash of the catalogue that it was built from."""
        return self.built_from or self.catalogue_sha256

    def content_hash(self) -> str:
        """Hash of all values, without the hash of the manifest itself."""
        others = {name: digest for name, digest in self.sha256.items() if name != MANIFEST_FILE}
        return hashlib.sha256(json.dumps(asdict(replace(self, sha256=others)), sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write a knowledge base's manifest, atomically; returns it with the hash of itself."""
    manifest = replace(manifest, sha256={**manifest.sha256, MANIFEST_FILE: manifest.content_hash()})
    write_json(folder / MANIFEST_FILE, asdict(manifest))
    return manifest


def read_manifest(folder: Path, *, changed: bool = False) -> Manifest:
    """Read a knowledge base's manifest.

    Args:
        folder: of the knowledge base.
        changed: read one that was changed since it was written too.

    Raises:
        MissingFileError: there is no manifest.
        DataError: it is not a manifest of this format, or was changed.
    """
    if not (folder / MANIFEST_FILE).is_file():
        raise MissingFileError(
            f"{folder} is not a knowledge base (no {MANIFEST_FILE}); make one: blink kb build ENTITY.jsonl --out {folder}"
        )
    values = read_json(folder / MANIFEST_FILE)
    try:
        manifest = Manifest(**values)
        for name, kind in _TYPES.items():
            if not isinstance(value := getattr(manifest, name), kind) or isinstance(value, bool):
                raise TypeError(f"{name!r} is {value!r}")
        if not (_SUBFOLDER.fullmatch(manifest.folder) or not manifest.folder):
            raise TypeError("'folder' must be the name of a subfolder such as compacted-7")
        if any(Path(name).name != name for name in (*manifest.samples, *manifest.sha256)):
            raise TypeError("'samples' and 'sha256' must have names of files beside each other")
    except TypeError as error:
        raise DataError(
            f"{folder / MANIFEST_FILE} is no manifest of this version ({error}); build the knowledge base again"
        ) from error
    if manifest.format not in _OPENED_FORMATS or manifest.index not in (*KINDS, QDRANT):
        raise DataError(f"{folder / MANIFEST_FILE} is of another version; build the knowledge base again")
    if not changed and manifest.sha256.get(MANIFEST_FILE, digest := manifest.content_hash()) != digest:
        fault = f"{folder / MANIFEST_FILE} was changed after it was written, or is damaged"
        record = f"blink kb verify {folder} --record"
        raise DataError(f"{fault}; restore it from a copy, or accept it if its files are whole: {record}")
    return manifest
