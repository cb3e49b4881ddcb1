"""Tests on the Slurm that ``scripts/slurm_here.sh`` starts; without it they are skipped: no other cluster gets their jobs."""

from __future__ import annotations

import re

import pytest
from real_slurm import Slurm, ask


@pytest.fixture(scope="session")
def slurm() -> Slurm:
    """The Slurm of this machine."""
    ours = re.search(r"^ClusterName\s*=\s*here$", ask("scontrol", "show", "config"), re.MULTILINE)
    if ours is None or "learnfair" not in ask("sinfo", "--noheader", "--format=%R"):
        pytest.skip("needs the Slurm that scripts/slurm_here.sh starts")
    return Slurm()
