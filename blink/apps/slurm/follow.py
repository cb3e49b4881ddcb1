"""Submits the plan of a command and follows it to its end, with its progress."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from blink.apps.common import Bar, one_line, say
from blink.cluster.jobs import JobFolder, Plan
from blink.cluster.monitor import JobFailedError, JobMonitor, JobStatus, array_job, merge_job
from blink.cluster.script import sbatch_script
from blink.cluster.settings import ClusterSettings
from blink.cluster.submit import Local, submitter
from blink.errors import SettingsError
from blink.files import locked


@dataclass(frozen=True)
class FollowOptions:
    """How far a command follows its plan.

    Attributes:
        dry_run: print the scripts, and do nothing.
        detach: submit, and do not wait.
        merge: merge the shards when all are done.
    """

    dry_run: bool = False
    detach: bool = False
    merge: bool = True


def follow(
    job: JobFolder,
    plan: Plan,
    settings: ClusterSettings,
    options: FollowOptions,
    *,
    nodes: int = 1,
    prepare: Callable[[], None] = lambda: None,
) -> bool:
    """Submit missing shards and wait for the end, with a bar.

    Args:
        job: the folder.
        plan: the shards, and the work of each.
        settings: of the cluster.
        options: see `FollowOptions`.
        nodes: that each shard runs on, at once.
        prepare: called before anything is submitted.

    Returns:
        whether all is done.

    Raises:
        JobFailedError: a job failed; its last log lines were printed.
        BlinkError: the folder holds another job, or the cluster refuses.
    """
    if options.dry_run:
        _print_scripts(job, plan, settings, options, nodes)
        return False
    job.path.mkdir(parents=True, exist_ok=True)
    with locked(job.path), submitter(settings) as cluster:
        if options.detach and isinstance(cluster, Local):
            raise SettingsError("--detach leaves jobs to Slurm, and this machine runs them itself; leave it out")
        job.begin(plan)
        prepare()
        if job.is_merged() or (not job.missing() and not (plan.merges and options.merge)):
            say(f"{job.path.parent}: all is done already")
            return True
        monitor = JobMonitor(job, cluster, nodes=nodes, merge=options.merge)
        for submission in monitor.submit():
            work = f"{len(submission.shards)} of {len(plan.shards)} shards" if submission.shards else "the merge"
            say(f"submitted {work} as job {submission.id}; logs: {job.log}")
        if options.detach:
            say("not waiting for the jobs; the same command shows their state")
            return False
        _wait(monitor, plan, local=isinstance(cluster, Local))
    return True


def _wait(monitor: JobMonitor, plan: Plan, *, local: bool) -> None:
    try:
        with closing(_Board(plan)) as board:
            monitor.wait(board.show)
    except JobFailedError as error:
        for line in error.last_lines:
            say(f"  | {one_line(line, 200)}")
        raise
    except KeyboardInterrupt:
        say(f"{'finished shards are kept' if local else 'the jobs continue'}; the same command continues")
        raise


def _print_scripts(job: JobFolder, plan: Plan, settings: ClusterSettings, options: FollowOptions, nodes: int) -> None:
    jobs = [array_job(job, plan, tuple(range(len(plan.shards))), nodes)]
    if plan.merges and options.merge:
        jobs.append(merge_job(job, plan, ("ARRAY",)))
    sys.stdout.write("\n".join(sbatch_script(submitted, settings.slurm) for submitted in jobs))


class _Board:
    """Shows the state of a job: a bar on a terminal, elsewhere a line whenever a shard begins or ends."""

    def __init__(self, plan: Plan) -> None:
        self._kind, self._units, self._counts = plan.kind, 0, ""
        self._bar = Bar(plan.kind, sum(end - start for start, end in plan.shards), plan.unit)

    def show(self, status: JobStatus) -> None:
        """Show a new state."""
        counts = f"{status.pending} pending, {status.running} running, {status.done} done"
        counts += f", {status.failed} failed" if status.failed else ""
        counts += ", merging" if status.merging else ""
        note = one_line(status.note, 60)
        self._bar.advance(status.units - self._units)
        self._bar.note(f"{counts} | {note}")
        if counts != self._counts and not sys.stderr.isatty():
            say(f"{self._kind}: {counts}; {status.units:,} of {status.total:,}{f'; {note}' if note else ''}")
        self._units, self._counts = status.units, counts

    def close(self) -> None:
        """Finish the bar."""
        self._bar.close()
