"""Seeds that follow from what they are for, so that a resumed run draws what an undisturbed one draws."""

from __future__ import annotations

import hashlib

import torch

SEED_STRIDE = 1_000_003
"""Between the seeds of one run and the next: runs whose seeds are neighbours draw nothing alike."""
PROCESS_STRIDE = 7_919_000_003


def seed_for(*purpose: int | str) -> int:
    """A seed that follows from its arguments, such as run, purpose and step; neighbouring ones have unrelated seeds."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def step_seed(seed: int, number: int, process: int = 0) -> int:
    """The seed of a step or epoch of a run, in one of its processes."""
    return seed * SEED_STRIDE + number + process * PROCESS_STRIDE


def generator_for(*purpose: int | str) -> torch.Generator:
    """A random generator on the CPU with the seed of `seed_for`."""
    return torch.Generator().manual_seed(seed_for(*purpose))
