"""The real Slurm of one node that ``scripts/slurm_here.sh`` starts: shell lines for it, and what becomes of their jobs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def ask(*command: str) -> str:
    """Output of a Slurm command; empty where it fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


class Slurm:
    """Shell lines in the root of the project, and what becomes of the jobs they submit."""

    def start(self, line: str, environment: Mapping[str, str], **also: str) -> subprocess.Popen[str]:
        """Begin a line of bash."""
        # Jobs of this test must not take the variables of a job that the test itself may run in for their own.
        outside_variables = {k: v for k, v in {**environment, **also}.items() if not k.startswith("SLURM_")}
        return subprocess.Popen(
            ["bash", "-c", line], cwd=ROOT, env=outside_variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, line: str, environment: Mapping[str, str], **also: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash to its end."""
        process = self.start(line, environment, **also)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(line, process.returncode, out, err)

    def submit(self, line: str, environment: Mapping[str, str], **also: str) -> str:
        """Run a line that calls sbatch; returns the id of the job."""
        done = self.run(line, environment, **also)
        job = re.search(r"Submitted batch job (\d+)", done.stdout)
        assert job is not None, done.stderr
        return job[1]

    def show(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job, by key."""
        return dict(
            word.split("=", 1) for word in shlex.split(ask("scontrol", "show", "job", "--oneliner", job)) if "=" in word
        )

    def wait(self, job: str, *states: str, timeout_s: float = 600) -> str:
        """Wait until a job is in one of these states, or over; returns its state."""
        self.until(lambda: self.show(job)["JobState"] in {*states, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}, timeout_s)
        return self.show(job)["JobState"]

    def until(self, done: Callable[[], object], timeout_s: float = 600) -> None:
        """Wait until something is true."""
        last = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < last, f"nothing happened in {timeout_s} s\n{ask('squeue', '--long')}"
            time.sleep(0.2)
