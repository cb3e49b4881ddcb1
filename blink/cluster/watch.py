"""From a plan to its end: what is missing is submitted, the rest is waited for, and a failure shows what the log says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blink.cluster.jobs import JobFolder, Plan, Submission, tail
from blink.cluster.script import Job
from blink.cluster.submit import ENDED, PENDING, PYTHON, RUNNING, State, Submitter, Task
from blink.errors import BlinkError, SettingsError

MOST_SILENCE = 10
"""Looks at the queue that may fail, one after the other: its server may be starting anew."""


class JobFailedError(BlinkError):
    """A job has ended without having done its work.

    Attributes:
        log: its log.
        last: the last lines of it.
    """

    def __init__(self, message: str, log: Path, last: list[str]) -> None:
        super().__init__(message)
        self.log, self.last = log, last


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
        pending: shards that wait.
        running: shards that are worked at.
        done: shards that are done.
        failed: shards that ended without being done.
        units: that are done.
        total: units of all shards.
        note: why the first waits, or what a log said last.
        merging: whether all shards are done, and the rest is being done.
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
    """The job of shards."""
    return Job(f"blink-{plan.kind}", folder.path, (*PYTHON, "slurm", "task", str(folder.path)), shards, nodes=nodes)


def merge_job(folder: JobFolder, plan: Plan, after: tuple[str, ...]) -> Job:
    """The job that makes one whole of all shards, when the jobs ``after`` have done them."""
    command = (*PYTHON, "slurm", "task", str(folder.path), "--merge")
    return Job(f"blink-{plan.kind}-merge", folder.path, command, after=after, gpus=False)


class Watch:
    """A job in the hands of a submitter.

    Args:
        folder: of the job, begun.
        submitter: who runs it.
        nodes: that each shard runs on, at once.
        merge: make one whole of the shards, where the plan has that.
    """

    def __init__(self, folder: JobFolder, submitter: Submitter, *, nodes: int = 1, merge: bool = True) -> None:
        self._folder, self._submitter, self._nodes = folder, submitter, nodes
        self._plan = folder.plan()
        self._merge = merge and self._plan.merges

    def submit(self) -> list[Submission]:
        """Submit shards that are neither done nor in the queue, and what is to follow; returns what is new."""
        before = self._folder.submissions()
        states = self._submitter.states([s.id for s in before])
        alive = [s for s in before if any(_alive(states, s.id, n) for n in s.shards or (None,))]
        queued = {n for s in alive for n in s.shards if _alive(states, s.id, n)}
        todo = tuple(n for n in self._folder.missing() if n not in queued)
        new = [self._hand_over(array_job(self._folder, self._plan, todo, self._nodes), todo)] if todo else []
        merging = [s.id for s in alive if not s.shards]
        if self._merge and not self._folder.has_merged() and (new or not merging):
            for job in merging:  # it waits for less than there is now
                self._submitter.cancel(job)
            after = tuple(s.id for s in (*alive, *new) if s.shards)
            new.append(self._hand_over(merge_job(self._folder, self._plan, after), ()))
        return new

    def wait(self, show: Callable[[Standing], None]) -> None:
        """Wait for the end.

        Args:
            show: called at each look.

        Raises:
            JobFailedError: a job ended without having done its work, and none is left that could do it.
            SettingsError: the cluster does not answer.
        """
        first, longest = self._submitter.poll_s
        began = quiet_since = time.monotonic()
        while True:
            states = self._look()
            show(self._standing(states))
            if self._is_over():
                return
            now = time.monotonic()
            if any(state.name != ENDED for state in states.values()):
                quiet_since = now
            elif now - quiet_since >= self._submitter.settle_s:
                raise self._failure(states)
            time.sleep(min(longest, max(first, (now - began) / 20)))

    def _hand_over(self, job: Job, shards: tuple[int, ...]) -> Submission:
        submission = Submission(self._submitter.submit(job), shards)
        self._folder.submitted(submission)
        return submission

    def _look(self) -> Mapping[Task, State]:
        ids = [s.id for s in self._folder.submissions()]
        for _ in range(MOST_SILENCE - 1):
            try:
                return self._submitter.states(ids)
            except SettingsError:
                time.sleep(self._submitter.poll_s[1])
        return self._submitter.states(ids)

    def _is_over(self) -> bool:
        return not self._folder.missing() and (not self._merge or self._folder.has_merged())

    def _standing(self, states: Mapping[Task, State]) -> Standing:
        missing = set(self._folder.missing())
        named: dict[str, list[Task]] = {PENDING: [], RUNNING: []}
        for task, state in states.items():
            if state.name in named and (task[1] in missing or task[1] is None):
                named[state.name].append(task)
        at_work = {n: {task[1] for task in tasks if task[1] is not None} for n, tasks in named.items()}
        lost = missing - at_work[PENDING] - at_work[RUNNING]
        return Standing(
            pending=len(at_work[PENDING]),
            running=len(at_work[RUNNING]),
            done=len(self._plan.shards) - len(missing),
            failed=len(lost),
            units=sum(self._folder.noted(n) for n in range(len(self._plan.shards))),
            total=sum(end - start for start, end in self._plan.shards),
            note=self._note(named, states),
            merging=not missing and self._merge,
        )

    def _note(self, named: Mapping[str, list[Task]], states: Mapping[Task, State]) -> str:
        if named[RUNNING]:
            return "".join(tail(self._folder.log_file(*named[RUNNING][0]), 1))
        reason = states[named[PENDING][0]].reason if named[PENDING] else "None"  # Slurm's own word for none yet
        return "" if reason == "None" else f"waiting: {reason}"

    def _failure(self, states: Mapping[Task, State]) -> JobFailedError:
        missing, submissions = self._folder.missing(), self._folder.submissions()
        job = submissions[-1].id
        merged = not submissions[-1].shards and self._folder.log_file(job, None).is_file()
        shard = None if merged or not missing else missing[0]
        if shard is not None:
            job = next(s.id for s in reversed(submissions) if shard in s.shards)
        what = f"the merge of {len(self._plan.shards)} shards" if shard is None else self._plan.name(shard)
        others = f" and {len(missing) - 1} more" if shard is not None and len(missing) > 1 else ""
        state = states.get((job, shard))
        how = "not in the queue any more" if state is None else state.reason
        log = self._folder.log_file(job, shard)
        last = tail(log)
        said = next((line.removeprefix("blink: ") for line in reversed(last) if line.startswith("blink: ")), None)
        cause = said or (last[-1] if last else "it wrote no log: is the disk full, or not to be seen from there?")
        return JobFailedError(f"{what}{others} failed ({how}): {cause}; its log is {log}", log, last)


def _alive(states: Mapping[Task, State], job: str, shard: int | None) -> bool:
    state = states.get((job, shard))
    return state is not None and state.name != ENDED
