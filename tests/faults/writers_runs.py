"""Writers of runs, jobs, vectors and the examples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blink.bulk.outputs import merge_outputs
from blink.cluster.encoding import write_t7
from blink.cluster.jobs import JobFolder, Plan
from blink.data.arrays import array_writer, offsets_writer, save_array
from blink.errors import MissingFileError
from blink.kglm.text_init.vectors import read_tsv, write_tsv
from blink.runs.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from blink.runs.folder import RunFolder
from blink.runs.trace import Trace
from tests.faults.trial import Work, Writer
from tests.faults.writers_graphs import space


def require(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(f"no {path}")
    return path


def checkpoint(work: Work, version: int) -> None:
    save_checkpoint(work.root / "checkpoints", 10 + version, {"weights": torch.full((5000,), float(version))})


def of_checkpoint(work: Work) -> Any:
    state = load_checkpoint(work.root / "checkpoints")
    if state is None:
        raise MissingFileError("none")
    return state["step"], set(state["weights"].tolist()), len(checkpoints(work.root / "checkpoints")) < 3


def trace(work: Work, version: int) -> None:
    """A run that is continued: rows of later steps are dropped."""
    kept = Trace(work.root / "trace.jsonl")
    if not version:
        kept.begin({"seed": 1})
        for step in range(200):
            kept.add("step", {"step": step, "loss": 1.0})
    else:
        kept.resume(100, {"seed": 1}, pending=False)


def of_trace(work: Work) -> Any:
    rows = Trace(require(work.root / "trace.jsonl")).rows()
    return len(rows), rows[0]["seed"]


def run(work: Work, version: int) -> None:
    folder = RunFolder(work.root / "run", {"lr": 0.1})
    if not version:
        folder.begin({"seed": 1})
        return
    folder.add_metrics("test", {"f1": list(range(2000))})


def of_run(work: Work) -> Any:
    folder = RunFolder(require(work.root / "run"), {"lr": 0.1})
    return folder.stored_identity(), folder.metrics()


def job(work: Work, version: int) -> None:
    """A shard is done, and has a record."""
    folder = JobFolder(work.root / "job")
    folder.begin(Plan("link", {"model": "m"}, {}, ((0, 3), (3, 6)), "line"))
    if version:
        file = work.inputs / "rows"
        file.write_text("a\nb\nc\n")
        folder.finish(0, 3, [file])


def of_job(work: Work) -> Any:
    folder = JobFolder(require(work.root / "job" / "job.json").parent)
    return folder.missing(), [path.name for path in folder.check(0)] if folder.is_done(0) else None


def shards(work: Work, version: int) -> None:
    for i in range(3):
        (work.inputs / f"{i}.jsonl").write_text(f'{{"version": {version}}}\n' * 4000)
    merge_outputs([work.inputs / f"{i}.jsonl" for i in range(3)], work.root / "links.jsonl")


def of_text(work: Work) -> Any:
    return hashlib.sha256(require(work.root / "links.jsonl").read_bytes()).hexdigest()


def tensor(work: Work, version: int) -> None:
    write_t7(work.root / "vectors.t7", np.full((300, 8), version, np.float32))


def of_tensor(work: Work) -> Any:
    return torch.load(require(work.root / "vectors.t7"), weights_only=True).unique().tolist()


def array(work: Work, version: int) -> None:
    save_array(work.root / "array.npy", np.full((3000, 4), version))


def blocks(work: Work, version: int) -> None:
    with array_writer(work.root / "array.npy", np.float32, 4) as write:
        for _ in range(3):
            write(np.full((1000, 4), version))


def bounds(work: Work, version: int) -> None:
    with offsets_writer(work.root / "array.npy") as write:
        for _ in range(3):
            write(np.full(1000, version + 1))


def of_array(work: Work) -> Any:
    values = np.load(require(work.root / "array.npy"), allow_pickle=False)
    return values.shape, hashlib.sha256(values.tobytes()).hexdigest()


def vectors_table(work: Work, version: int) -> None:
    write_tsv(space(version), work.root / "vectors.tsv")


def of_table(work: Work) -> Any:
    return np.unique(read_tsv(require(work.root / "vectors.tsv")).vectors).tolist()


WRITERS: Sequence[Writer] = (
    Writer("checkpoint", checkpoint, of_checkpoint),
    Writer("trace of a continued run", trace, of_trace, repeats=False),
    Writer("metrics of a run", run, of_run),
    Writer("record of a shard", job, of_job),
    Writer("merged shards", shards, of_text),
    Writer("vectors of the original", tensor, of_tensor),
    Writer("array", array, of_array),
    Writer("array in blocks", blocks, of_array),
    Writer("bounds of ranges", bounds, of_array),
    Writer("table of vectors", vectors_table, of_table),
)
