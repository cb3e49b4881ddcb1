"""A Slurm that is none: sbatch, squeue and the like as scripts on the path, which note what they were called with."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

SCRIPTS = {
    "sbatch": 'if [ -s refuse ]; then cat refuse >&2; exit 1; fi; n=$(($(ls scripts | wc -l) + 1)); cp "$1" scripts/$n; '
    'env > environment; echo "Submitted batch job $n"',
    "squeue": "if [ -s silent ]; then cat silent >&2; exit 1; fi; cat queue",
    "sinfo": "printf 'learnfair\\ndev\\nlearnfair\\n'",
    "scancel": ":",
    "scontrol": "if [ -s refuse ]; then cat refuse >&2; exit 1; fi",
}


class FakeSlurm:
    """The outside world of `blink.cluster.submit`, in a folder.

    Args:
        folder: where its scripts and what they were told lie.
        monkeypatch: puts them on the path.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "scripts").mkdir()
        for name in ("queue", "calls", "refuse", "silent"):
            (folder / name).touch()
        for name, body in SCRIPTS.items():
            script = folder / "bin" / name
            script.write_text(f'#!/bin/bash\nhere="$PWD"; cd "{folder}"\necho "{name} $*" >> calls\n{body}\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def calls(self, name: str) -> list[str]:
        """What a command was called with, each time."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.removeprefix(name).strip() for line in lines if line.split()[0] == name]

    def script(self, job: int) -> str:
        """What was submitted as a job."""
        return (self.folder / "scripts" / str(job)).read_text()

    def queue(self, *lines: str) -> None:
        """What squeue says from now on."""
        (self.folder / "queue").write_text("".join(line + "\n" for line in lines))

    def refuse(self, text: str) -> None:
        """What sbatch and scontrol say from now on, rather than do anything."""
        (self.folder / "refuse").write_text(text)

    def signal_twice(self) -> None:
        """Whoever asks for a new start gets the signal that made it ask once more."""
        (self.folder / "twice").touch()

    def fall_silent(self, text: str) -> None:
        """What squeue says from now on, rather than answer."""
        (self.folder / "silent").write_text(text)
