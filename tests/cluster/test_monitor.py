"""What is submitted, what is left alone, when it is over, and what a failure says; the cluster is a table of states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from blink.cluster.jobs import JobFolder, Plan
from blink.cluster.monitor import JobFailedError, JobMonitor, JobStatus
from blink.cluster.script import Job
from blink.cluster.submit import ENDED, PENDING, RUNNING, SUCCESS, State, Task
from blink.errors import SettingsError

pytestmark = pytest.mark.quick

PLAN = Plan("encode", {}, {}, ((0, 4), (4, 8), (8, 10)), "entity")
DONE, AT_WORK, WAITING = State(ENDED, SUCCESS), State(RUNNING, "RUNNING"), State(PENDING, "Priority")


class Table:
    """A cluster whose states are set by the test, look by look."""

    poll_s = (0.0, 0.0)
    settle_s = 0.0

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.cancelled: list[str] = []
        self.now: dict[Task, State] = {}
        self.looks: list[Callable[[], None]] = []
        self.silent = 0

    def submit(self, job: Job) -> str:
        self.jobs.append(job)
        name = str(len(self.jobs))
        self.now |= {(name, n): WAITING for n in job.array or (None,)}
        return name

    def states(self, ids: Sequence[str]) -> Mapping[Task, State]:
        if self.silent:
            self.silent -= 1
            raise SettingsError("squeue does not answer")
        if self.looks:
            self.looks.pop(0)()
        return {task: state for task, state in self.now.items() if task[0] in ids}

    def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        self.now = {task: State(ENDED, "CANCELLED") if task[0] == job else state for task, state in self.now.items()}

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "kb" / "slurm")
    folder.begin(PLAN)
    return folder


def finish(job: JobFolder, *shards: int) -> None:
    for shard in shards:
        start, end = PLAN.shards[shard]
        job.finish(shard, end - start, [])


class TestSubmission:
    def test_all_and_what_follows(self, job: JobFolder) -> None:
        table = Table()
        new = JobMonitor(job, table).submit()
        assert [(s.id, s.shards) for s in new] == [("1", (0, 1, 2)), ("2", ())]
        assert [j.array for j in table.jobs] == [(0, 1, 2), ()]
        assert table.jobs[1].after == ("1",)
        assert table.jobs[0].command[-3:] == ("slurm", "task", str(job.path))
        assert table.jobs[1].command[-1] == "--merge"
        assert not table.jobs[1].gpus

    def test_only_what_is_missing(self, job: JobFolder) -> None:
        finish(job, 1)
        table = Table()
        JobMonitor(job, table, nodes=3).submit()
        assert (table.jobs[0].array, table.jobs[0].nodes) == ((0, 2), 3)

    def test_what_waits_or_runs_is_left_alone(self, job: JobFolder) -> None:
        table = Table()
        JobMonitor(job, table).submit()
        table.now["1", 0] = AT_WORK
        assert JobMonitor(job, table).submit() == []
        assert len(table.jobs) == 2
        assert table.cancelled == []

    def test_a_dead_shard_is_submitted_again_and_what_follows_waits_for_all(self, job: JobFolder) -> None:
        table = Table()
        JobMonitor(job, table).submit()
        table.now |= {("1", 0): AT_WORK, ("1", 1): State(ENDED, "OUT_OF_MEMORY"), ("1", 2): DONE}
        finish(job, 2)
        new = JobMonitor(job, table).submit()
        assert [(s.id, s.shards) for s in new] == [("3", (1,)), ("4", ())]
        assert table.cancelled == ["2"]
        assert table.jobs[3].after == ("1", "3")

    def test_only_the_merge_is_left(self, job: JobFolder) -> None:
        finish(job, 0, 1, 2)
        table = Table()
        assert [s.shards for s in JobMonitor(job, table).submit()] == [()]
        assert table.jobs[0].after == ()

    def test_without_merge(self, job: JobFolder) -> None:
        table = Table()
        assert [s.shards for s in JobMonitor(job, table, merge=False).submit()] == [(0, 1, 2)]
        finish(job, 0, 1, 2)
        table.now.clear()
        assert JobMonitor(job, table, merge=False).submit() == []


class TestWaiting:
    def wait(self, job: JobFolder, table: Table, *looks: Callable[[], None], merge: bool = True) -> list[JobStatus]:
        watch = JobMonitor(job, table, merge=merge)
        watch.submit()
        table.looks[:] = looks
        statuses: list[JobStatus] = []
        watch.wait(statuses.append)
        return statuses

    def test_to_the_end(self, job: JobFolder) -> None:
        table = Table()

        def begin() -> None:
            table.now["1", 0] = AT_WORK
            job.note(0, 3)
            job.log_file("1", 0).write_text("shard 0\nhalf way\n")

        def first_done() -> None:
            finish(job, 0)
            table.now |= {("1", 0): DONE, ("1", 1): AT_WORK, ("1", 2): AT_WORK}

        def all_done() -> None:
            finish(job, 1, 2)
            table.now |= {("1", 1): DONE, ("1", 2): DONE, ("2", None): AT_WORK}

        statuses = self.wait(job, table, lambda: None, begin, first_done, all_done, lambda: job.merged([]))
        assert statuses == [
            JobStatus(3, 0, 0, 0, 0, 10, "waiting: Priority"),
            JobStatus(2, 1, 0, 0, 3, 10, "half way"),
            JobStatus(0, 2, 1, 0, 4, 10, ""),
            JobStatus(0, 0, 3, 0, 10, 10, "", merging=True),
            JobStatus(0, 0, 3, 0, 10, 10, "", merging=True),
        ]

    def test_a_shard_that_failed_shows_its_log(self, job: JobFolder) -> None:
        table = Table()

        def fail() -> None:
            finish(job, 0, 2)
            job.log_file("1", 1).write_text(
                "shard 1\nblink: kb/x is damaged; encode again\nsrun: error: Exited with exit code 1\n"
            )
            table.now |= {
                ("1", 0): DONE, ("1", 1): State(ENDED, "FAILED"), ("1", 2): DONE, ("2", None): State(ENDED, "CANCELLED"),
            }  # fmt: skip

        with pytest.raises(JobFailedError) as error:
            self.wait(job, table, fail)
        log = job.log_file("1", 1)
        assert str(error.value) == (
            f"shard 1 (entities 4 to 8) failed (FAILED): kb/x is damaged; encode again; its log is {log}"
        )
        assert error.value.last_lines[0] == "shard 1"
        assert error.value.log == log

    def test_the_others_are_waited_for(self, job: JobFolder) -> None:
        table = Table()

        def one_fails() -> None:
            table.now |= {("1", 0): State(ENDED, "TIMEOUT"), ("1", 1): AT_WORK, ("1", 2): AT_WORK}

        def others_end() -> None:
            finish(job, 2)
            table.now |= {("1", 1): State(ENDED, "FAILED"), ("1", 2): DONE, ("2", None): State(ENDED, "CANCELLED")}

        with pytest.raises(
            JobFailedError, match=r"shard 0 .* and 1 more failed \(TIMEOUT\): it wrote no log: is the disk full"
        ):
            self.wait(job, table, one_fails, others_end)

    def test_the_merge_failed_and_named_a_shard(self, job: JobFolder) -> None:
        table = Table()

        def merge_fails() -> None:
            finish(job, 0, 2)  # the record of shard 1 is gone: it is to be made anew
            job.log_file("1", 1).write_text("all well\n")
            job.log_file("2", None).write_text("blink: shard 1 (entities 4 to 8) is not sound: x.npy is missing\n")
            table.now |= {("1", 0): DONE, ("1", 1): DONE, ("1", 2): DONE, ("2", None): State(ENDED, "FAILED")}

        with pytest.raises(
            JobFailedError, match=r"the merge of 3 shards failed \(FAILED\): shard 1 .* x\.npy is missing; its log"
        ):
            self.wait(job, table, merge_fails)

    def test_a_job_that_vanished(self, job: JobFolder) -> None:
        table = Table()
        with pytest.raises(JobFailedError, match=r"failed \(not in the queue any more\)"):
            self.wait(job, table, table.now.clear)

    def test_what_is_written_late_is_waited_for(self, job: JobFolder) -> None:
        table = Table()
        table.settle_s = 5.0

        def ended() -> None:
            table.now |= dict.fromkeys([("1", n) for n in range(3)], DONE)

        statuses = self.wait(job, table, ended, lambda: finish(job, 0, 1), lambda: finish(job, 2), merge=False)
        assert [s.done for s in statuses] == [0, 2, 3]

    def test_a_queue_that_is_silent_for_a_while(self, job: JobFolder) -> None:
        table = Table()
        watch = JobMonitor(job, table, merge=False)
        watch.submit()
        table.silent = 9
        finish(job, 0, 1, 2)
        watch.wait(lambda status: None)
        table.silent = 10
        with pytest.raises(SettingsError, match="squeue does not answer"):
            watch.wait(lambda status: None)
