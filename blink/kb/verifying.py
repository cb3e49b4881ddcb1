"""Whether the files of a knowledge base are those that its manifest describes: by samples of them, or by all their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from blink.errors import MismatchError
from blink.files import sample_hash, sha256
from blink.kb.manifest import CATALOGUE_FILE, MANIFEST_FILE, Manifest

WHOLE_BYTES = 8 << 20
"""Bytes that are compared whole at each opening, of the smallest files: they take milliseconds."""
DAMAGED = "was changed after it was made, or is damaged"


def _ignore(size: int) -> None:
    pass


def whole_hashes(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of the files by name, the catalogue's among them."""
    of_files = {name: digest for name, digest in manifest.sha256.items() if name != MANIFEST_FILE}
    return {**of_files, CATALOGUE_FILE: manifest.catalogue_sha256}


def unverified_files(manifest: Manifest) -> list[str]:
    """Files of which the manifest, of an earlier version, knows no hash of all bytes."""
    return sorted(manifest.samples.keys() - whole_hashes(manifest).keys())


def file_faults(
    folder: Path, manifest: Manifest, *, whole: bool = False, advance: Callable[[int], None] = _ignore
) -> Iterator[tuple[str, str]]:
    """Files that are missing, or are not those of a manifest: name and fault.

    Args:
        folder: of the knowledge base.
        manifest: its manifest.
        whole: compare all bytes, where the manifest has a hash of them, not samples alone.
        advance: called with the size of each block that is hashed.

    Raises:
        OSError: a file cannot be read.
    """
    hashes = whole_hashes(manifest) if whole else {}
    for name in sorted({CATALOGUE_FILE, *manifest.samples, *hashes}):
        path = folder / manifest.folder / name
        if not path.is_file():
            yield name, f"{path} is missing"
        elif _is_other(path, manifest.samples.get(name), hashes.get(name), advance):
            yield name, f"{path} is not the file of the manifest: it {DAMAGED}"


def _is_other(path: Path, sample: str | None, digest: str | None, advance: Callable[[int], None]) -> bool:
    by_samples = sample is not None and sample_hash(path) != sample
    return by_samples or (digest is not None and sha256(path, advance) != digest)


def small_files(folder: Path, manifest: Manifest) -> Iterator[tuple[Path, str]]:
    """The smallest files, `WHOLE_BYTES` together, with the hashes that they should have."""
    hashes = whole_hashes(manifest)
    paths = [path for name in hashes if (path := folder / manifest.folder / name).is_file()]
    read = 0
    for path in sorted(paths, key=lambda path: (path.stat().st_size, path.name)):
        read += path.stat().st_size
        if read > WHOLE_BYTES:
            return
        yield path, hashes[path.name]


def require_verified(folder: Path, manifest: Manifest) -> None:
    """Read all bytes of the files of a knowledge base, and compare them with its manifest.

    Raises:
        MismatchError: a file is missing or damaged, or the manifest of an earlier version has no hashes of all bytes.
    """
    if unverified := unverified_files(manifest):
        of_version = f"the manifest of {folder}, of an earlier version, holds no hash of all bytes of {unverified[0]}"
        raise MismatchError(f"{of_version}: it cannot be verified; add the hashes: blink kb verify {folder} --record")
    for _name, fault in file_faults(folder, manifest, whole=True):
        raise MismatchError(f"{fault}; copy it again, or build it again: blink kb build ENTITY.jsonl --out {folder}")
