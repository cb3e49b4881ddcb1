"""``scripts/slurm_here.sh``: what it refuses. That it starts a Slurm is seen by the tests that are run on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "slurm_here.sh"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *words], capture_output=True, text=True, timeout=60, check=False)


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "stop [FOLDER]" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--now",), "unknown option --now (see: scripts/slurm_here.sh --help)"),
        (("halt",), "unknown word halt; give start or stop"),
        (("start", "/a", "/b"), "too many words; give start or stop, and one folder"),
    ],
)
def test_words_that_it_does_not_know(words: tuple[str, ...], message: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"slurm_here: {message}")
    assert done.stderr.count("\n") == 1


def test_the_configuration_of_another_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "slurm.conf"
    theirs.write_text("ClusterName=theirs\n")
    for action in ("start", "stop"):
        done = run(action, tmp_path)
        assert done.returncode == 1
        assert f"{theirs} is " in done.stderr
        assert "not of this script" in done.stderr
        assert done.stderr.count("\n") == 1
    assert theirs.read_text() == "ClusterName=theirs\n"


def test_there_is_nothing_to_stop(tmp_path: Path) -> None:
    done = run("stop", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"no Slurm of this script is configured in {tmp_path}\n")
