"""Seeds derived from their purpose, so that a resumed run draws the same random numbers as an uninterrupted one."""

from __future__ import annotations

import hashlib

import torch

SEED_STRIDE = 1_000_003
"""Distance between the seed ranges of runs, so that runs with consecutive seeds share no random numbers."""
PROCESS_STRIDE = 7_919_000_003


def seed_for(*purpose: int | str) -> int:
    """A seed derived from its arguments, such as run, purpose and step, by a hash."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def step_seed(seed: int, number: int, process: int = 0) -> int:
    """The seed of a step or epoch of a run in one process."""
    return seed * SEED_STRIDE + number + process * PROCESS_STRIDE


def generator_for(*purpose: int | str) -> torch.Generator:
    """A random generator on the CPU with the seed of `seed_for`."""
    return torch.Generator().manual_seed(seed_for(*purpose))
