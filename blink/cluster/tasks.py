"""Tasks of jobs: process a shard and merge all shards, for each kind of job."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from blink.bulk.journal import JOURNAL_SUFFIX, discard_unless_growing
from blink.bulk.rows import Counts
from blink.cluster.jobs import JobFolder, Plan
from blink.cluster.links import bulk_job, links_file, shard_counts
from blink.cluster.ranks import STOPPED, here, requeue, run_processes
from blink.cluster.settings import SHARD_VARIABLE, ClusterSettings, load_settings
from blink.cluster.submit import PYTHON
from blink.errors import SettingsError
from blink.files import disk_full_named, read_json, write_json
from blink.runs.signals import Interrupted, stop_signals

if TYPE_CHECKING:
    from blink.cluster.encoding import Encoding

logger = logging.getLogger(__name__)

NOTE_EVERY_S = 1.0
MAX_WAIT_S = 600.0
"""Time that a task waits for Slurm to end it after SIGTERM."""
CHUNKS_FOLDER, OFFSETS_FILE = "chunks", "entity.offsets"
SCORES_FILE = "scores.json"

Say = Callable[[str], None]
Run = Callable[[JobFolder, Plan, int, Say], list[Path]]
"""Processes a shard; returns the files that it wrote."""
Merge = Callable[[JobFolder, Plan], list[Path]]
"""Merges verified shards; returns the files that it wrote."""


def run_task(folder: str, shard: int | None, merge: bool, say: Say = logger.info) -> None:
    """Process one shard of a job, or merge all; called by the scripts of the cluster.

    Args:
        folder: folder of the job.
        shard: number of the shard; None takes it from the environment.
        merge: merge all shards instead.
        say: called with messages for the log.

    Raises:
        SystemExit: a signal stopped the task. Its progress is saved, and at the time limit Slurm is asked to requeue it.
        BlinkError: the task failed.
    """
    job, settings = JobFolder(folder), load_settings()
    plan = job.plan()
    number = None if merge else _shard(shard, plan)
    if settings.slurm.cpus is not None and plan.kind != "train":  # the processes of a training share the CPUs
        os.environ.setdefault("OMP_NUM_THREADS", str(settings.slurm.cpus))
    say(f"{'merging' if number is None else plan.name(number)}: {plan.kind} {job.path.parent}")
    with _stopped_by_signals(settings, say), disk_full_named(job.path.parent):
        if number is None:
            for index in range(len(plan.shards)):
                job.check(index)
            job.merged(TASKS[plan.kind][1](job, plan))
        elif not job.is_done(number):
            start, end = plan.shards[number]
            files = TASKS[plan.kind][0](job, plan, number, say)
            if here(1).node == 0:
                job.finish(number, end - start, files)


def _shard(requested: int | None, plan: Plan) -> int:
    text = next((t for t in (os.environ.get(SHARD_VARIABLE), os.environ.get("SLURM_ARRAY_TASK_ID")) if t), None)
    number = requested if requested is not None else int(text) if text is not None and text.isdecimal() else 0
    if not 0 <= number < len(plan.shards):
        raise SettingsError(f"the shard is {number}; this job has {len(plan.shards)}, from 0")
    return number


@contextlib.contextmanager
def _stopped_by_signals(settings: ClusterSettings, say: Say) -> Iterator[None]:
    """Exit after a signal; progress is on disk already. At the time limit, Slurm is asked to requeue the job."""
    with stop_signals() as signals:
        signals.urgent = True
        try:
            yield
        except Interrupted as stop:
            signals.urgent = False  # Slurm may send the same signal twice, directly and through srun
            again = stop.signal == signal.SIGUSR1 and requeue(settings.slurm.requeues)
            say("time is up: what is done is kept, and the job is queued again" if again else "stopped; what is done is kept")
            if stop.signal == signal.SIGTERM and "SLURM_JOB_ID" in os.environ:
                # Slurm requeues a pre-empted job only if the job is still running when Slurm ends it.
                time.sleep(MAX_WAIT_S)
            raise SystemExit(128 + stop.signal) from stop


def _noting(job: JobFolder, shard: int, *, sums: bool) -> Callable[[int], None]:
    """A hook that records the progress of a shard every `NOTE_EVERY_S`; called with increments, or with totals if ``sums``."""
    done, last = 0, 0.0

    def note(count: int) -> None:
        nonlocal done, last
        done = count if sums else done + count
        if time.monotonic() - last >= NOTE_EVERY_S:
            job.note(shard, done)
            last = time.monotonic()

    return note


# -- encoding -----------------------------------------------------------------------------------------------------------


def _encode(job: JobFolder, plan: Plan, shard: int, say: Say) -> list[Path]:
    from blink.kb.catalogue import Catalogue
    from blink.linking.opening import open_candidate_encoder

    encoding = _encoding(plan)
    encoder = open_candidate_encoder(**plan.work["encoder"])
    if encoder.fingerprint != encoding.model:
        model = plan.work["encoder"]["model"] or "the starter"
        raise SettingsError(f"{model} has changed since the job was started; remove {job.path} and start again")
    start, end = plan.shards[shard]
    with Catalogue.open(encoding.catalogue, skip_bad=encoding.skip_bad, sidecar=job.path / OFFSETS_FILE) as catalogue:
        if catalogue.sha256 != encoding.catalogue_sha256:
            raise SettingsError(f"{catalogue.path} has changed since the job was started; remove {job.path} and start again")
        chunks = job.path / CHUNKS_FOLDER / f"{shard:05d}"
        note = _noting(job, shard, sums=False)
        return [encoding.encode(catalogue, encoder.encode, start, end, chunks, note, say)]


def _merge_encoded(job: JobFolder, plan: Plan) -> list[Path]:
    return [_encoding(plan).merge(plan.shards)]


def _encoding(plan: Plan) -> Encoding:
    from blink.cluster.encoding import Encoding

    work, inputs = plan.work, plan.inputs
    return Encoding(
        **work["encoding"], shard_rows=work["shard_rows"], catalogue_sha256=inputs["catalogue"], model=inputs["model"]
    )


# -- linking ------------------------------------------------------------------------------------------------------------


def _link(job: JobFolder, plan: Plan, shard: int, say: Say) -> list[Path]:
    from blink.bulk.linkers import LinkerSource
    from blink.bulk.run import link_files

    options = dict(plan.work["options"])
    batch_size = options.pop("batch_size")
    source = LinkerSource(options | {"without": tuple(options["without"])})
    links = links_file(job, plan, shard)
    links.parent.mkdir(exist_ok=True)
    discard_unless_growing(links)  # a shard with a record is not processed again
    note = _noting(job, shard, sums=False)
    link_files(bulk_job(plan, shard, links, batch_size), source, warn=say, bars=lambda *stage: nullcontext(_Noted(note)))
    return [links, links.with_name(links.name + JOURNAL_SUFFIX)]


class _Noted:
    """Progress that is noted in the folder of the job."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def advance(self, count: int = 1) -> None:
        """``count`` more texts are linked."""
        self._advance(count)

    def note(self, text: str) -> None:
        """The board of the job shows its own."""


def _merge_linked(job: JobFolder, plan: Plan) -> list[Path]:
    from blink.bulk.outputs import merge_outputs
    from blink.bulk.run import require_links

    out, shards = Path(plan.work["out"]), range(len(plan.shards))
    merge_outputs([links_file(job, plan, n) for n in shards], out)
    require_links(sum((shard_counts(job, plan, n) for n in shards), Counts()))
    return [out]


# -- evaluation ---------------------------------------------------------------------------------------------------------


def _evaluate(job: JobFolder, plan: Plan, shard: int, say: Say) -> list[Path]:
    from blink.evaluation.run import evaluate_file

    name, out, options = plan.work["names"][shard], Path(plan.work["out"]), dict(plan.work["options"])
    figures, rows = out / f"{name}.json", out / f"{name}.rows.jsonl"
    predictions = str(out / f"{name}.npz") if options.pop("save_preds") else None
    options["without"] = tuple(options["without"])
    results = evaluate_file(plan.work["files"][shard], save_preds=predictions, warn=say, **options)
    results.write(figures, rows)
    return [figures, rows, *([Path(predictions)] if predictions else [])]


def _merge_evaluated(job: JobFolder, plan: Plan) -> list[Path]:
    out = Path(plan.work["out"])
    write_json(out / SCORES_FILE, {name: read_json(out / f"{name}.json") for name in plan.work["names"]})
    return [out / SCORES_FILE]


# -- training -----------------------------------------------------------------------------------------------------------


def _train(job: JobFolder, plan: Plan, shard: int, say: Say) -> list[Path]:
    _train_processes(plan.work["arguments"], load_settings(), say)
    best = Path(plan.work["out"]) / "best.json"
    return [best] if best.is_file() else []


def train_here(arguments: Sequence[str], settings: ClusterSettings, say: Say) -> None:
    """Run ``blink train`` in the processes of this node; an existing run is resumed.

    At the time limit, the run saves a checkpoint, and a job of Slurm is requeued.

    Raises:
        SystemExit: a signal stopped the run, or it failed and has printed an error.
    """
    with _stopped_by_signals(settings, say):
        _train_processes(arguments, settings, say)


def _train_processes(arguments: Sequence[str], settings: ClusterSettings, say: Say) -> None:
    slurm, rank = settings.slurm, here(settings.slurm.processes_per_node)
    arguments = [*arguments, *([] if "--resume" in arguments else ["--resume"])]
    threads = None if slurm.cpus is None else max(1, slurm.cpus // slurm.processes_per_node)
    status = run_processes((*PYTHON, "train", *arguments), rank, threads)
    if status == STOPPED and rank.node and "SLURM_JOB_ID" in os.environ:
        # The first node asks Slurm to requeue the job; another node that fails could make Slurm end the job before that.
        raise SystemExit(0)
    if status - 128 in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        raise Interrupted("the training was stopped", status - 128)
    if status:
        if status > 128:
            say(f"the training was killed by signal {status - 128}; out of memory, perhaps")
        raise SystemExit(status)


TASKS: dict[str, tuple[Run, Merge]] = {
    "encode": (_encode, _merge_encoded),
    "link": (_link, _merge_linked),
    "eval": (_evaluate, _merge_evaluated),
    "train": (_train, lambda job, plan: []),
}
"""Kind of job -> the functions that process a shard and merge all."""
