"""Fixtures of the tests of the originals' commands."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settings of whoever runs the tests, or of the cluster they run on, decide nothing."""
    for name in list(os.environ):
        if name.startswith(("BLINK_", "SLURM_", "SBATCH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
