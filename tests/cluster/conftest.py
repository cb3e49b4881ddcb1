"""Fixtures of the tests of clusters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settings of whoever runs the tests, or of the cluster they run on, decide nothing."""
    for name in list(os.environ):
        if name.startswith(("BLINK_", "SLURM_", "SBATCH_")) and name != "BLINK_GOLDEN":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A Slurm that is none, first on the path."""
    return FakeSlurm(tmp_path / "fake", monkeypatch)
