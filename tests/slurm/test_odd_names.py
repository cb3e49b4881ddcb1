"""A job whose folder and files have names that Slurm, its scripts or a shell would take for something else."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from real_slurm import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ['%j it\'s "q" é', "$(touch pwned) `touch pwned`;touch pwned & *?[x] ~ #h !x %A_%a"])
def test_odd_names_are_linked_and_keep_their_logs(name: str, slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}.txt").write_text("The Nile flows through Egypt.\nMozart met Beethoven.\n")
    arguments = ["slurm", "link", "--shards", "2", "--out", f"{name}.jsonl", "--", f"{name}.txt"]
    command = shlex.join([sys.executable, "-m", "blink.apps.cli", *arguments])
    done = slurm.run(f"cd {shlex.quote(str(folder))} && {command}", {**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["text"][:3] for line in (folder / f"{name}.jsonl").read_text().splitlines()] == ["The", "Moz"]
    assert len(list((folder / f"{name}.jsonl.slurm" / "log").glob("*.out"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not list(tmp_path.rglob("pwned"))
