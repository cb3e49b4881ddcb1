"""Scripts equal their golden files. After a change that is meant: BLINK_GOLDEN=write pytest tests/cluster/test_script.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.cluster.script import Job, ranges, sbatch_script, sbatch_variables
from blink.cluster.settings import SlurmSettings

pytestmark = pytest.mark.quick

GOLDEN = Path(__file__).parent / "golden"
SITE = SlurmSettings(
    partition="learnfair", account="nlp", qos="low", constraint="volta32gb", gpus=8, cpus=24, mem_gb=400, time_min=3000,
    parallel=4, setup="module load cuda\nsource ~/env/bin/activate",
)  # fmt: skip
RUN = ("python3", "-m", "blink.apps.cli", "slurm", "task")
CASES = {
    "nothing-set": (Job("blink-encode", Path("/kb/slurm"), (*RUN, "/kb/slurm"), array=(0, 1, 2)), SlurmSettings()),
    "array": (Job("blink-encode", Path("/kb/slurm"), (*RUN, "/kb/slurm"), array=(0, 2, 3, 4, 9)), SITE),
    "merge": (
        Job("blink-encode-merge", Path("/kb/slurm"), (*RUN, "/kb/slurm", "--merge"), after=("12", "15"), gpus=False),
        SITE,
    ),
    "nodes": (Job("blink-train", Path("/my runs/slurm"), (*RUN, "/my runs/slurm"), (0,), nodes=4), SITE),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    script, golden = sbatch_script(*CASES[name]), GOLDEN / f"{name}.sh"
    if os.environ.get("BLINK_GOLDEN") == "write":
        golden.write_text(script)
    assert script == golden.read_text()


@pytest.mark.parametrize("name", CASES)
def test_the_shell_reads_it(name: str) -> None:
    subprocess.run(["bash", "-n"], input=sbatch_script(*CASES[name]), text=True, check=True)


@given(st.sets(st.integers(0, 200), min_size=1))
def test_ranges_hold_every_number_once(numbers: set[int]) -> None:
    read = [
        n
        for bounds in ranges(sorted(numbers)).split(",")
        for n in range(int(bounds.split("-")[0]), int(bounds.split("-")[-1]) + 1)
    ]
    assert read == sorted(numbers)


def test_variables_say_the_same_as_the_script() -> None:
    variables = sbatch_variables(SITE)
    assert variables["SBATCH_GRES"] == "gpu:8"
    assert variables["SBATCH_MEM_PER_NODE"] == "400G"
    assert variables["SBATCH_TIMELIMIT"] == "3000"
    script = sbatch_script(CASES["array"][0], SITE)
    assert all(f"={value}\n" in script for value in variables.values())
    assert sbatch_variables(SlurmSettings()) == {}
