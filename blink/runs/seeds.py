"""Seeds that follow from what they are for, so that a resumed run draws what an undisturbed one draws."""

from __future__ import annotations

import hashlib

import torch


def seed_for(*purpose: int | str) -> int:
    """A seed that follows from its arguments, such as run, purpose and step; neighbouring ones have unrelated seeds."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*purpose: int | str) -> torch.Generator:
    """A random generator on the CPU with the seed of `seed_for`."""
    return torch.Generator().manual_seed(seed_for(*purpose))
