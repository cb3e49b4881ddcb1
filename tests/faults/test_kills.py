"""Commands that are killed at random moments, and given again: they end in the same, and leave nothing over."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.kills import ROOT, run


def test_some_kills(tmp_path: Path) -> None:
    """In a process that is forked from this one, which has the libraries already."""

    def killed() -> None:
        rows = run(4, "kb build over")
        faults = [fault for row in rows for fault in row.faults]
        (tmp_path / "found").write_text(f"{sum(row.kills for row in rows)} kills: {faults}")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert (tmp_path / "found").read_text() == "4 kills: []"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills() -> None:
    command = [sys.executable, "-m", "tests.faults.kills", "--kills", "100"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
