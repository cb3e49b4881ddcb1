"""Hashes of graphs that depend neither on the order of lines nor on the numbers of ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

LANES = 2
"""Independent sums of 64 bits, which together make a hash."""


def splitmix(numbers: np.ndarray) -> np.ndarray:
    """Hashes of integers, by the finalizer of SplitMix64 (Steele et al. 2014). *Shapes:* any, uint64."""
    with np.errstate(over="ignore"):
        numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def content_digest(entities: Sequence[str], relations: Sequence[str], triples: np.ndarray) -> str:
    """Hash of a set of triples by the names in them: the sum of the hashes of all triples.

    Args:
        entities: ids by index.
        relations: ids by index.
        triples: without duplicates. *Shape:* (n, 3), int64.
    """
    names = [_name_hashes(ids) for ids in (entities, relations)]
    sums = []
    for lane in range(LANES):
        by_entity, by_relation = names[0][:, lane], names[1][:, lane]
        hashes = splitmix(by_entity[triples[:, 0]])
        hashes = splitmix(hashes ^ by_relation[triples[:, 1]])
        hashes = splitmix(hashes ^ by_entity[triples[:, 2]])
        sums.append(int(hashes.sum(dtype=np.uint64)))
    return "".join(f"{total:016x}" for total in sums)


def _name_hashes(names: Sequence[str]) -> np.ndarray:
    """*Shape:* (n, LANES), uint64."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8 * LANES).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64).reshape(-1, LANES)
