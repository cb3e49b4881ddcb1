"""The sbatch script of a job, a pure function of its description; tests compare scripts with golden files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blink.cluster.settings import SlurmSettings
from blink.errors import SettingsError

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
"""Setting -> environment variable of sbatch; there is none for CPUs."""


@dataclass(frozen=True)
class Job:
    """A job for the cluster.

    Attributes:
        name: name in the queue.
        folder: absolute path of the job's folder, which contains its logs.
        command: command of every task, on every node.
        array: numbers of its shards; empty for a job without shards.
        after: ids of jobs that must succeed before it starts.
        nodes: number of nodes per task.
        gpus: whether it uses GPUs.
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
        """Log file of a task, with Slurm's placeholders ``%A``, ``%a`` and ``%j``."""
        return self.folder / LOG_FOLDER / ("%A_%a.out" if self.array else "%j.out")


def sbatch_script(job: Job, slurm: SlurmSettings) -> str:
    """The sbatch script of a job."""
    lines = ["#!/bin/bash", *(f"#SBATCH --{option}" for option in _options(job, slurm)), ""]
    if slurm.setup:
        lines += [*slurm.setup.splitlines(), ""]
    # srun forwards signals to the command; a plain shell would not.
    lines += [shlex.join(["exec", *_srun(job, slurm), *job.command]), ""]
    return "\n".join(lines)


def _options(job: Job, slurm: SlurmSettings) -> Iterator[str]:
    yield f"job-name={shlex.quote(job.name)}"
    yield f"output={shlex.quote(_log_pattern(job))}"
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


def _log_pattern(job: Job) -> str:
    """The log as Slurm takes it: it replaces ``%`` in folders too, and nothing in a path with a backslash."""
    folder = str(job.log.parent)
    if any(c in "\\\n\r" or "\ud800" <= c <= "\udfff" for c in folder):
        fault = "has a backslash, a line end or bytes that are not UTF-8, with which Slurm writes no log"
        raise SettingsError(f"the folder {folder!r} {fault}; give another --out")
    return f"{folder.replace('%', '%%')}/{job.log.name}"


def _resources(slurm: SlurmSettings) -> Iterator[tuple[str, str]]:
    """Resources by setting, in Slurm's notation; unset ones have the default of the cluster."""
    units = {"gpus": "gpu:{}", "mem_gb": "{}G"}
    for name in OPTIONS:
        value = getattr(slurm, name)
        if value:
            yield name, units.get(name, "{}").format(value)


def sbatch_variables(slurm: SlurmSettings) -> dict[str, str]:
    """Environment variables with which sbatch uses the settings for scripts that are submitted manually."""
    return {VARIABLES[name]: text for name, text in _resources(slurm) if name in VARIABLES}


def _srun(job: Job, slurm: SlurmSettings) -> Iterator[str]:
    yield from ("srun", "--unbuffered")
    if slurm.cpus:
        yield f"--cpus-per-task={slurm.cpus}"  # since Slurm 22.05, srun does not inherit it from the job
    if job.nodes > 1:
        yield "--kill-on-bad-exit=1"  # the processes of a training wait for each other, so one that fails must end all


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in Slurm's notation, such as ``0-3,7``."""
    ranges_: list[list[int]] = []
    for number in sorted(numbers):
        if ranges_ and ranges_[-1][-1] == number - 1:
            ranges_[-1][1:] = [number]
        else:
            ranges_.append([number])
    return ",".join("-".join(map(str, bounds)) for bounds in ranges_)
