"""Shards of a job that links files: the lines of each, the file of its rows, and the manifest of all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blink.bulk.journal import read_state
from blink.bulk.outputs import output_format
from blink.bulk.records import RecordLayout
from blink.bulk.rows import Counts
from blink.bulk.run import BulkJob
from blink.bulk.sources import Input
from blink.cluster.jobs import JobFolder, Plan
from blink.files import write_json

PARTS_FOLDER, MANIFEST_FILE = "parts", "manifest.json"
DONE, MISSING = "done", "missing"


def bulk_job(plan: Plan, shard: int, out: Path, batch_size: int) -> BulkJob:
    """The bulk run of one shard."""
    layout = {**plan.work["layout"], "carry": tuple(plan.work["layout"]["carry"])}
    lines = tuple(Input(**values) for values in plan.work["lines"][shard])
    files = tuple(dict.fromkeys(item.path for item in lines))
    several = len(plan.work["files"]) > 1
    return BulkJob(files, out, RecordLayout(**layout), batch_size=batch_size, shard=lines, several=several)


def links_file(job: JobFolder, plan: Plan, shard: int) -> Path:
    """The file of a shard's rows."""
    return job.path / PARTS_FOLDER / f"{shard:05d}{output_format(Path(plan.work['out'])).ending}"


def shard_counts(job: JobFolder, plan: Plan, shard: int) -> Counts:
    """What is committed of a shard."""
    state = read_state(links_file(job, plan, shard))
    return Counts() if state is None else state.counts


def write_manifest(job: JobFolder, plan: Plan, states: Mapping[int, str]) -> None:
    """Write `MANIFEST_FILE`: the lines, state, counts and hashes of each shard, and of all together.

    Args:
        job: folder of the job.
        plan: of the job.
        states: of shards in the queue, such as ``running``; others are `DONE` or `MISSING`.
    """
    rows, counts = [], Counts()
    for shard, (start, end) in enumerate(plan.shards):
        done, of_shard = job.is_done(shard), shard_counts(job, plan, shard)
        counts += of_shard
        lines = [{key: item[key] for key in ("path", "start", "end")} for item in plan.work["lines"][shard]]
        row = {"shard": shard, "state": DONE if done else states.get(shard, MISSING), "lines": end - start, "inputs": lines}
        rows.append(row | _figures(of_shard) | {"files": dict(job.record(shard).files) if done else {}})
    summary: dict[str, Any] = {"out": plan.work["out"], "merged": job.has_merged(), "lines": plan.shards[-1][1]}
    write_json(job.path / MANIFEST_FILE, summary | _figures(counts) | {"hashes": dict(plan.inputs), "shards": rows})


def _figures(counts: Counts) -> dict[str, Any]:
    return {"records": counts.records, "links": counts.links, "errors": dict(counts.errors), "first_error": counts.first_error}
