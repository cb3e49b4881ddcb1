"""Monitor a job until it ends: submit missing shards, wait, and report failures with their logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.cluster.jobs import JobFolder, Plan, Submission, tail
from blink.cluster.links import write_manifest
from blink.cluster.script import Job
from blink.cluster.submit import ENDED, PENDING, PYTHON, RUNNING, State, Submitter, Task
from blink.errors import BlinkError, SettingsError

MAX_FAILED_POLLS = 10
"""Maximum number of failed polls of the queue in a row; its server may be restarting."""


class JobFailedError(BlinkError):
    """A job ended without its result.

    Attributes:
        log: log file of the job.
        last_lines: last lines of the log.
    """

    def __init__(self, message: str, log: Path, last_lines: list[str]) -> None:
        super().__init__(message)
        self.log, self.last_lines = log, last_lines


@dataclass(frozen=True)
class JobStatus:
    """The state of a job.

    Attributes:
        pending: number of shards in the queue.
        running: number of running shards.
        done: number of finished shards.
        failed: number of shards that ended without a result.
        units: number of processed units.
        total: number of units of all shards.
        note: reason why the first shard is pending, or the last line of a log.
        merging: whether all shards are done and the merge is not.
    """

    pending: int
    running: int
    done: int
    failed: int
    units: int
    total: int
    note: str = ""
    merging: bool = False


def array_job(folder: JobFolder, plan: Plan, shards: tuple[int, ...], nodes: int = 1) -> Job:
    """The job array of some shards."""
    return Job(f"blink-{plan.kind}", folder.path, (*PYTHON, "slurm", "task", str(folder.path)), shards, nodes=nodes)


def merge_job(folder: JobFolder, plan: Plan, after: tuple[str, ...]) -> Job:
    """The job that merges all shards; it starts after the jobs ``after``."""
    command = (*PYTHON, "slurm", "task", str(folder.path), "--merge")
    return Job(f"blink-{plan.kind}-merge", folder.path, command, after=after, gpus=False)


class JobMonitor:
    """Submits and monitors a job.

    Args:
        folder: folder of a job with a plan.
        submitter: submits to Slurm, or runs the job on this machine.
        nodes: number of nodes per shard.
        merge: merge the shards if the plan has a merge.
    """

    def __init__(self, folder: JobFolder, submitter: Submitter, *, nodes: int = 1, merge: bool = True) -> None:
        self._folder, self._submitter, self._nodes = folder, submitter, nodes
        self._plan = folder.plan()
        self._merge = merge and self._plan.merges
        self._manifest: Any = None

    def submit(self) -> list[Submission]:
        """Submit shards that are neither done nor in the queue, and the merge; returns the new submissions."""
        before = self._folder.submissions()
        states = self._submitter.states([s.id for s in before])
        alive = [s for s in before if any(_alive(states, s.id, n) for n in s.shards or (None,))]
        queued = {n for s in alive for n in s.shards if _alive(states, s.id, n)}
        todo = tuple(n for n in self._folder.missing() if n not in queued)
        new = [self._submit(array_job(self._folder, self._plan, todo, self._nodes), todo)] if todo else []
        merging = [s.id for s in alive if not s.shards]
        if self._merge and not self._folder.has_merged() and (new or not merging):
            for job in merging:  # it does not wait for the new shards
                self._submitter.cancel(job)
            after = tuple(s.id for s in (*alive, *new) if s.shards)
            new.append(self._submit(merge_job(self._folder, self._plan, after), ()))
        return new

    def wait(self, show: Callable[[JobStatus], None]) -> None:
        """Wait until the job ends.

        Args:
            show: called after each poll.

        Raises:
            JobFailedError: work is missing, and no job that could do it is in the queue.
            SettingsError: the cluster does not respond.
        """
        first, longest = self._submitter.poll_s
        began = quiet_since = time.monotonic()
        while True:
            states = self._poll()
            show(self._status(states))
            if self._is_over():
                return
            now = time.monotonic()
            if any(state.name != ENDED for state in states.values()):
                quiet_since = now
            elif now - quiet_since >= self._submitter.settle_s:
                raise self._failure(states)
            time.sleep(min(longest, max(first, (now - began) / 20)))

    def _submit(self, job: Job, shards: tuple[int, ...]) -> Submission:
        submission = Submission(self._submitter.submit(job), shards)
        self._folder.submitted(submission)
        return submission

    def _poll(self) -> Mapping[Task, State]:
        ids = [s.id for s in self._folder.submissions()]
        for _ in range(MAX_FAILED_POLLS - 1):
            try:
                return self._submitter.states(ids)
            except SettingsError:
                time.sleep(self._submitter.poll_s[1])
        return self._submitter.states(ids)

    def _is_over(self) -> bool:
        return not self._folder.missing() and (not self._merge or self._folder.has_merged())

    def _status(self, states: Mapping[Task, State]) -> JobStatus:
        missing = set(self._folder.missing())
        tasks_in: dict[str, list[Task]] = {PENDING: [], RUNNING: []}
        for task, state in states.items():
            if state.name in tasks_in and (task[1] in missing or task[1] is None):
                tasks_in[state.name].append(task)
        by_state = {n: {task[1] for task in tasks if task[1] is not None} for n, tasks in tasks_in.items()}
        self._note_manifest({n: name for name, shards in by_state.items() for n in shards})
        lost = missing - by_state[PENDING] - by_state[RUNNING]
        return JobStatus(
            pending=len(by_state[PENDING]),
            running=len(by_state[RUNNING]),
            done=len(self._plan.shards) - len(missing),
            failed=len(lost),
            units=sum(self._folder.noted(n) for n in range(len(self._plan.shards))),
            total=sum(end - start for start, end in self._plan.shards),
            note=self._note(tasks_in, states),
            merging=not missing and self._merge,
        )

    def _note_manifest(self, states: Mapping[int, str]) -> None:
        known = (dict(states), tuple(self._folder.missing()), self._folder.has_merged())
        if self._plan.kind == "link" and known != self._manifest:
            write_manifest(self._folder, self._plan, states)
            self._manifest = known

    def _note(self, tasks_in: Mapping[str, list[Task]], states: Mapping[Task, State]) -> str:
        if tasks_in[RUNNING]:
            return "".join(tail(self._folder.log_file(*tasks_in[RUNNING][0]), 1))
        reason = states[tasks_in[PENDING][0]].reason if tasks_in[PENDING] else "None"  # Slurm's text for no reason yet
        return "" if reason == "None" else f"waiting: {reason}"

    def _failure(self, states: Mapping[Task, State]) -> JobFailedError:
        missing, submissions = self._folder.missing(), self._folder.submissions()
        job = submissions[-1].id
        merged = not submissions[-1].shards and self._folder.log_file(job, None).is_file()
        shard = None if merged or not missing else missing[0]
        if shard is not None:
            job = next(s.id for s in reversed(submissions) if shard in s.shards)
        work = f"the merge of {len(self._plan.shards)} shards" if shard is None else self._plan.name(shard)
        others = f" and {len(missing) - 1} more" if shard is not None and len(missing) > 1 else ""
        state = states.get((job, shard))
        reason = "not in the queue any more" if state is None else state.reason
        log = self._folder.log_file(job, shard)
        lines = tail(log)
        error = next((line.removeprefix("blink: ") for line in reversed(lines) if line.startswith("blink: ")), None)
        cause = error or (lines[-1] if lines else "it wrote no log: is the disk full, or not to be seen from there?")
        return JobFailedError(f"{work}{others} failed ({reason}): {cause}; its log is {log}", log, lines)


def _alive(states: Mapping[Task, State], job: str, shard: int | None) -> bool:
    state = states.get((job, shard))
    return state is not None and state.name != ENDED
