"""Commands that are killed at random moments, and given again: they end in the same, and leave nothing over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def kill(kills: int, *more: str) -> None:
    """Run them in a process of its own, from which all are forked."""
    command = [sys.executable, "-m", "tests.faults.kills", "--kills", str(kills), *more]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_some_kills() -> None:
    kill(6, "--only", "kb build")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills() -> None:
    kill(100)
