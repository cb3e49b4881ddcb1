"""Submitting jobs to Slurm, through submitit's executor, or running them as local processes, a few at a time."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from blink.cluster.script import Job, sbatch_script
from blink.cluster.settings import SHARD_VARIABLE, ClusterSettings
from blink.errors import SettingsError

PENDING, RUNNING, ENDED = "pending", "running", "ended"
SUCCESS = "COMPLETED"
ALIVE = {
    "PENDING": PENDING, "CONFIGURING": PENDING, "REQUEUED": PENDING, "REQUEUE_HOLD": PENDING, "REQUEUE_FED": PENDING,
    "SPECIAL_EXIT": PENDING, "RESV_DEL_HOLD": PENDING, "RUNNING": RUNNING, "COMPLETING": RUNNING,
    "SUSPENDED": RUNNING, "STOPPED": RUNNING, "SIGNALING": RUNNING, "STAGE_OUT": RUNNING, "RESIZING": RUNNING,
}  # fmt: skip
"""Slurm's states of unfinished jobs -> our states."""
NEVER = "DependencyNeverSatisfied"
KILL_WAIT_S = 10.0

Task = tuple[str, int | None]
"""Id of a job, and the shard; None for a job that has none."""


@dataclass(frozen=True)
class State:
    """State of a task.

    Attributes:
        name: ``pending``, ``running`` or ``ended``.
        reason: the cluster's reason, such as ``Priority``, ``COMPLETED`` or ``TIMEOUT``.
    """

    name: str
    reason: str


class Submitter(Protocol):
    """Runs jobs."""

    poll_s: tuple[float, float]
    """Polling interval in seconds: initial, and maximum."""
    settle_s: float
    """Seconds until files of a task are visible on this machine and its state is final."""

    def submit(self, job: Job) -> str:
        """Submit a job; returns its id."""

    def states(self, ids: Sequence[str]) -> Mapping[Task, State]:
        """States of the tasks of jobs, without tasks that the cluster has forgotten."""

    def cancel(self, job: str) -> None:
        """Cancel a job."""

    def __enter__(self) -> Submitter:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop jobs that cannot outlive this process."""


def submitter(settings: ClusterSettings) -> Submitter:
    """The submitter of the settings.

    Raises:
        SettingsError: the settings require Slurm, which is not available.
    """
    submit, has_slurm = settings.slurm.submit, shutil.which("sbatch") is not None
    if submit == "slurm" and not has_slurm:
        raise SettingsError("submit is 'slurm', and this machine has no sbatch; log in to the cluster, or give --submit local")
    return Slurm(settings) if submit == "slurm" or (submit == "auto" and has_slurm) else Local(settings)


class Slurm:
    """A Slurm cluster.

    Args:
        settings: resources of jobs; messages name the origin of a refused setting.
    """

    poll_s = (1.0, 30.0)
    settle_s = 6.0

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings

    def submit(self, job: Job) -> str:
        """Submit a job.

        Raises:
            SettingsError: Slurm refuses the job, or does not answer.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        message, script = io.StringIO(), sbatch_script(job, self._settings.slurm)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        # submitit replaces %j in its folder, so it gets one of its own.
        with tempfile.TemporaryDirectory() as folder:
            try:
                with _surroundings(self._settings), contextlib.redirect_stderr(message):  # it also prints the error
                    name = str(_executor(Path(folder))._submit_command(script).job_id)
            except (FailedJobError, FailedSubmissionError) as error:
                raise SettingsError(_refusal(str(error), self._settings)) from error
        (job.log.parent / f"{name}_submission.sh").write_text(script, encoding="utf-8")
        return name

    def states(self, ids: Sequence[str]) -> Mapping[Task, State]:
        """See `Submitter`."""
        if not ids:
            return {}
        command = ["squeue", "--noheader", "--states=all", "--array", f"--jobs={','.join(ids)}", "--format=%i|%T|%r"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "Invalid job id" not in done.stderr:
            raise SettingsError(f"squeue does not answer ({_one_line(done.stderr)}); the jobs go on: look again later")
        return dict(_state(line) for line in done.stdout.splitlines() if line.count("|") == 2)

    def cancel(self, job: str) -> None:
        """See `Submitter`."""
        subprocess.run(["scancel", job], capture_output=True, check=False)

    def __enter__(self) -> Slurm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass  # jobs outlive this process


def _executor(folder: Path) -> Any:
    """A submitit executor for our own scripts: it runs sbatch, parses the id and stores the script with the logs.

    submitit's own scripts run pickled functions.
    """
    import submitit

    class ScriptExecutor(submitit.SlurmExecutor):
        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return command

        @classmethod
        def affinity(cls) -> int:
            return 2  # without Slurm, sbatch itself gives the error

    folder.mkdir(parents=True, exist_ok=True)
    return ScriptExecutor(folder=folder)


@contextlib.contextmanager
def _surroundings(settings: ClusterSettings) -> Iterator[None]:
    """Set the environment variables of a job in this process temporarily."""
    before = dict(os.environ)
    expected = _variables(settings)
    for name in before.keys() - expected.keys():
        del os.environ[name]
    os.environ.update(expected)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _variables(settings: ClusterSettings) -> dict[str, str]:
    """Environment of a job: the same settings, without variables of a job that this process may run in."""
    present = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SLURMD_", "SRUN_"))}
    return present | settings.to_environment()


def _state(line: str) -> tuple[Task, State]:
    """Parse a line of squeue, such as ``12_3|PENDING|Priority``."""
    name, raw, reason = line.split("|")
    job, _, shard = name.partition("_")
    what = ENDED if reason == NEVER else ALIVE.get(raw, ENDED)
    task = (job, int(shard) if shard.isdecimal() else None)
    return task, State(what, reason if what == PENDING else raw)


_CAUSES = (
    (re.compile("partition", re.I), "partition", "there are: {partitions}"),
    (re.compile("account", re.I), "account", "give one of yours (sacctmgr show associations user=$USER)"),
    (re.compile("qos", re.I), "qos", "give one that your account may use"),
    (re.compile("gres|generic resource", re.I), "gpus", "sinfo -o %G shows the GPUs of nodes"),
    (re.compile("memory", re.I), "mem_gb", "sinfo -o %m shows the megabytes of nodes"),
    (re.compile("feature|constraint", re.I), "constraint", "sinfo -o %f shows the features of nodes"),
    (re.compile("time limit", re.I), "time_min", "sinfo -o '%R %l' shows what partitions allow"),
    (re.compile("cpu", re.I), "cpus", "sinfo -o %c shows the CPUs of nodes"),
)
"""Pattern of Slurm's error -> the setting, and the next step."""


def _refusal(message: str, settings: ClusterSettings) -> str:
    """One-line message for an error of sbatch."""
    text = _one_line(message)
    if "array" in text:
        return f"Slurm refused the job: {text}; make fewer and larger shards (scontrol show config names MaxArraySize)"
    for pattern, name, remedy in _CAUSES:
        value = getattr(settings.slurm, name)
        if pattern.search(text) and value is not None:
            origin = settings.origin(f"slurm.{name}")
            remedy = remedy.format(partitions=", ".join(_partitions()) or "none")
            return f"Slurm refused the job: {text}; {name} is {value!r} (from {origin}), {remedy}"
    return f"Slurm refused the job: {text}; look at: blink slurm settings, or run it on this machine: --submit local"


def _one_line(message: str) -> str:
    lines = (re.sub(r"^(sbatch|squeue|slurm_load_jobs):?( error:)? ", "", line.strip()) for line in message.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "it said nothing"


def _partitions() -> list[str]:
    done = subprocess.run(["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, check=False)
    return sorted(set(done.stdout.split()))


@dataclass
class _Run:
    """A task of `Local`, with a process per node."""

    job: Job
    shard: int | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    state: State = State(PENDING, "waiting for its turn")


class Local:
    """Runs the tasks of jobs as processes of this machine, which end with the submitting process.

    Args:
        settings: with the number of parallel tasks.
    """

    poll_s = (0.05, 0.2)
    settle_s = 0.0

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings, self._runs, self._jobs = settings, dict[Task, _Run](), 0

    def submit(self, job: Job) -> str:
        """See `Submitter`; the job starts at the next call of `states`."""
        self._jobs += 1
        name = f"local-{os.getpid()}-{self._jobs}"
        job.log.parent.mkdir(parents=True, exist_ok=True)
        for shard in job.array or (None,):
            self._runs[name, shard] = _Run(job, shard)
        return name

    def states(self, ids: Sequence[str]) -> Mapping[Task, State]:
        """See `Submitter`."""
        for task, run in self._runs.items():
            if run.processes and run.state.name == RUNNING:
                run.state = _outcome(run)
            if run.state.name == PENDING:
                self._start_if_due(task, run)
        return {task: run.state for task, run in self._runs.items() if task[0] in ids}

    def cancel(self, job: str) -> None:
        """See `Submitter`."""
        for (name, _), run in self._runs.items():
            if name == job:
                _stop(run)
                run.state = State(ENDED, "CANCELLED")

    def __enter__(self) -> Local:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for run in self._runs.values():
            _stop(run)

    def _start_if_due(self, task: Task, run: _Run) -> None:
        before = [r.state for (name, _), r in self._runs.items() if name in run.job.after]
        if any(s.name == ENDED and s.reason != SUCCESS for s in before):
            run.state = State(ENDED, NEVER)
        elif all(s.name == ENDED for s in before) and self._busy() < max(1, self._settings.slurm.parallel):
            with _log(task, run).open("ab") as log:
                run.processes = [_start(run, _variables(self._settings) | node, log) for node in _nodes(run.job)]
            run.state = State(RUNNING, "RUNNING")

    def _busy(self) -> int:
        return sum(run.state.name == RUNNING for run in self._runs.values())


def _log(task: Task, run: _Run) -> Path:
    name = run.job.log.name.replace("%A", task[0]).replace("%a", str(run.shard)).replace("%j", task[0])
    return run.job.log.with_name(name)


def _nodes(job: Job) -> list[dict[str, str]]:
    """Environment variables of the nodes of a job, which are all this machine, with torchrun's names."""
    if job.nodes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_WORLD_SIZE": str(job.nodes)}
    return [{**common, "GROUP_RANK": str(node)} for node in range(job.nodes)]


def _start(run: _Run, environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    if run.shard is not None:
        environment = {**environment, SHARD_VARIABLE: str(run.shard)}
    return subprocess.Popen(run.job.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _outcome(run: _Run) -> State:
    statuses = [process.poll() for process in run.processes]
    failed = next((s for s in statuses if s), 0)
    if failed:
        _stop(run)
        reason = f"exit status {failed}" if failed > 0 else f"killed by signal {-failed}"
        return State(ENDED, f"FAILED, {reason}")
    return State(RUNNING, "RUNNING") if None in statuses else State(ENDED, SUCCESS)


def _stop(run: _Run) -> None:
    alive = [process for process in run.processes if process.poll() is None]
    for process in alive:
        process.terminate()
    until = time.monotonic() + KILL_WAIT_S
    for process in alive:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        process.kill()
        process.wait()


PYTHON = (sys.executable, "-m", "blink.apps.cli")
"""The ``blink`` command for subprocesses."""
