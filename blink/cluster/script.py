"""From the description of a job to its sbatch script: a pure function, which tests compare with golden files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blink.cluster.settings import SlurmSettings

LOG_FOLDER = "log"
OPTIONS = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "gpus": "gres",
    "cpus": "cpus-per-task", "mem_gb": "mem", "time_min": "time",
}  # fmt: skip
"""Setting -> option of sbatch."""
VARIABLES = {
    "partition": "SBATCH_PARTITION", "account": "SBATCH_ACCOUNT", "qos": "SBATCH_QOS", "constraint": "SBATCH_CONSTRAINT",
    "gpus": "SBATCH_GRES", "mem_gb": "SBATCH_MEM_PER_NODE", "time_min": "SBATCH_TIMELIMIT",
}  # fmt: skip
"""Setting -> the variable that says the same to any sbatch; there is none for CPUs."""


@dataclass(frozen=True)
class Job:
    """What is to run on the cluster.

    Attributes:
        name: as queues show it.
        folder: absolute folder of the job, where its logs go.
        command: that every task runs, on every node.
        array: numbers of its shards; nothing for a job that has none.
        after: ids of jobs that must have succeeded before it begins.
        nodes: that it runs on, at once.
        gpus: whether it has use for GPUs.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    array: tuple[int, ...] = ()
    after: tuple[str, ...] = ()
    nodes: int = 1
    gpus: bool = True

    @property
    def log(self) -> Path:
        """The log of a task; ``%A``, ``%a`` and ``%j`` stand for what Slurm puts there."""
        return self.folder / LOG_FOLDER / ("%A_%a.out" if self.array else "%j.out")


def sbatch_script(job: Job, slurm: SlurmSettings) -> str:
    """The script that makes Slurm run a job."""
    lines = ["#!/bin/bash", *(f"#SBATCH --{option}" for option in _options(job, slurm)), ""]
    if slurm.setup:
        lines += [*slurm.setup.splitlines(), ""]
    # srun hands signals to the command, which a plain shell would not.
    lines += [shlex.join(["exec", *_srun(job, slurm), *job.command]), ""]
    return "\n".join(lines)


def _options(job: Job, slurm: SlurmSettings) -> Iterator[str]:
    yield f"job-name={shlex.quote(job.name)}"
    yield f"output={shlex.quote(str(job.log))}"
    yield "open-mode=append"  # a requeued job appends to the same log
    yield "requeue"
    yield f"signal=USR1@{slurm.signal_lead_s}"
    yield f"nodes={job.nodes}"
    yield "ntasks-per-node=1"
    for name, text in _resources(slurm):
        if job.gpus or name != "gpus":
            yield f"{OPTIONS[name]}={shlex.quote(text)}"
    if job.array:
        yield f"array={ranges(job.array)}{f'%{slurm.parallel}' if slurm.parallel else ''}"
    if job.after:
        yield f"dependency=afterok:{':'.join(job.after)}"
        yield "kill-on-invalid-dep=yes"


def _resources(slurm: SlurmSettings) -> Iterator[tuple[str, str]]:
    """What is asked of the cluster, by setting, as Slurm writes it; what is not set is left to the cluster."""
    units = {"gpus": "gpu:{}", "mem_gb": "{}G"}
    for name in OPTIONS:
        value = getattr(slurm, name)
        if value:
            yield name, units.get(name, "{}").format(value)


def sbatch_variables(slurm: SlurmSettings) -> dict[str, str]:
    """Variables that make any sbatch obey the settings, for scripts that are submitted by hand."""
    return {VARIABLES[name]: text for name, text in _resources(slurm) if name in VARIABLES}


def _srun(job: Job, slurm: SlurmSettings) -> Iterator[str]:
    yield from ("srun", "--unbuffered")
    if slurm.cpus:
        yield f"--cpus-per-task={slurm.cpus}"  # since Slurm 22.05 it does not follow from the job's
    if job.nodes > 1:
        yield "--kill-on-bad-exit=1"  # the processes of a training wait for each other: one that failed ends all


def ranges(numbers: Sequence[int]) -> str:
    """Numbers as Slurm writes them: ``0-3,7``."""
    ranges_: list[list[int]] = []
    for number in sorted(numbers):
        if ranges_ and ranges_[-1][-1] == number - 1:
            ranges_[-1][1:] = [number]
        else:
            ranges_.append([number])
    return ",".join("-".join(map(str, bounds)) for bounds in ranges_)
