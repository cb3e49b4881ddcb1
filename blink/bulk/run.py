"""A bulk run: files of texts in, a file of rows out; killed at any moment, the same call continues."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blink.bulk.journal import BulkOutput
from blink.bulk.progress import Pace
from blink.bulk.records import RecordLayout
from blink.bulk.rows import Counts, LinkedChunk, TextLinker, link_chunk
from blink.bulk.sources import BEGINNING, CHUNK_LINES, Chunk, Input, read_chunks
from blink.bulk.workers import ChunkLinker, Opener, WorkerPool, linked_here
from blink.errors import DataError, SettingsError
from blink.progress import Bars, no_bars
from blink.runs.signals import Interrupted, stop_signals

logger = logging.getLogger(__name__)

LinkerOpener = Callable[[Callable[[str], None]], TextLinker]
"""Opens a linker; its argument is called with warnings. It is pickled for worker processes."""
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
DEFAULT_TEXT_KEY = "text"


@dataclass(frozen=True)
class BulkJob:
    """What a bulk run does.

    Attributes:
        files: paths, or ``-`` for standard input.
        out: the file to write: ``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst`` or ``.parquet``.
        layout: of lines and rows.
        settings: what the links depend on, as plain values: hashes of model and knowledge base, thresholds.
        batch_size: texts per forward pass.
        chunk_lines: most lines that are linked at once; a kill loses at most these for each worker.
    """

    files: tuple[str, ...]
    out: Path
    layout: RecordLayout
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    chunk_lines: int = CHUNK_LINES

    def __post_init__(self) -> None:
        repeated = next((file for file in self.files if self.files.count(file) > 1), None)
        if repeated is not None:
            raise SettingsError(f"{repeated} is given twice; give each file once")
        if not self.files:
            raise SettingsError("there is no file to link; give one with --file")

    def inputs(self) -> list[Input]:
        """The files as they are now."""
        return [Input.of(file) for file in self.files]


def layout_of(
    files: Sequence[str],
    *,
    text_key: str | None = None,
    id_key: str | None = None,
    carry: str | None = None,
    no_text: bool = False,
    no_candidates: bool = False,
) -> RecordLayout:
    """The layout that options ask for: files named as JSON Lines have their texts under ``text`` by default.

    Raises:
        SettingsError: an option does not fit the files, or they are of different kinds.
    """
    kinds = {_is_json(file) for file in files}
    if text_key is None and len(kinds) > 1:
        raise SettingsError("some files are JSON Lines and others text by their names; link them one kind at a time")
    text_key = DEFAULT_TEXT_KEY if text_key is None and True in kinds else text_key
    fields = tuple(name.strip() for name in (carry or "").split(",") if name.strip())
    return RecordLayout(text_key, id_key, fields, keep_text=not no_text, candidates=not no_candidates)


def _is_json(file: str) -> bool:
    path = Path(file)
    return (path.with_suffix("") if path.suffix in COMPRESSIONS else path).suffix in JSON_ENDINGS


def link_files(
    job: BulkJob,
    opener: LinkerOpener,
    *,
    workers: int = 1,
    warn: Callable[[str], None] = logger.warning,
    bars: Bars = no_bars,
) -> Counts:
    """Link files; after a kill, the same call continues where the last committed chunk ended.

    Args:
        job: what to do.
        opener: opens the linker, once in each process.
        workers: number of processes; 1 links in this one.
        warn: called with warnings.
        bars: for the progress.

    Returns:
        counts of all rows of the file.

    Raises:
        DataError: an input is empty or damaged, or no record of it can be linked.
        MismatchError: an earlier call had other inputs or settings.
        SettingsError: another process writes the same file, the disk is full, or an option is not allowed.
        WorkerError: a worker failed.
        Interrupted: a signal came. What is committed is kept.
    """
    inputs = job.inputs()
    with stop_signals() as signals:
        output = BulkOutput(job.out, {**job.settings, **asdict(job.layout)}, inputs)
        signals.urgent = True
        try:
            with output.opened():
                if not output.state.complete:
                    _link(job, inputs, output, opener, workers, warn, bars)
                    _require_records(output, inputs)
                output.publish(bars)
        except Interrupted as stop:
            done = f"{output.state.counts.records:,} texts are linked and kept"
            raise Interrupted(f"stopped; {done}, and the same command continues", stop.signal) from stop
    counts = output.state.counts
    if counts.n_errors == counts.records:
        raise DataError(f"no record could be linked: {counts.describe()}")
    return counts


def _link(
    job: BulkJob,
    inputs: Sequence[Input],
    output: BulkOutput,
    opener: LinkerOpener,
    workers: int,
    warn: Callable[[str], None],
    bars: Bars,
) -> None:
    chunks = read_chunks(inputs, output.state.position, chunk_lines=job.chunk_lines)
    names = tuple(item.name for item in inputs)
    chunk_opener = functools.partial(_open_chunk_linker, opener, job.layout, names, job.batch_size)
    pace, last = Pace(inputs, output.state.counts, output.state.position), time.monotonic()
    with bars("linking", None, "text") as progress:
        for chunk, linked in _linked(chunk_opener, chunks, workers, warn, pace.begin):
            _require_some_links(linked.counts, output, job)
            now = time.monotonic()
            output.commit(linked.content, chunk.end, linked.counts, now - last)
            last = now
            progress.advance(linked.counts.records)
            progress.note(pace.remark(output.state.counts, chunk.end))


def _linked(
    opener: Opener, chunks: Iterator[Chunk], workers: int, warn: Callable[[str], None], begin: Callable[[], None]
) -> Iterator[tuple[Chunk, LinkedChunk]]:
    if workers == 1:
        return linked_here(opener, chunks, warn, begin)
    return WorkerPool(opener, workers, warn, begin).linked(chunks)


def _open_chunk_linker(
    opener: LinkerOpener, layout: RecordLayout, names: tuple[str, ...], batch_size: int, warn: Callable[[str], None]
) -> ChunkLinker:
    """Opens a linker of chunks; runs in each worker."""
    linker = opener(warn)

    def link(chunk: Chunk) -> LinkedChunk:
        name = names[chunk.file]
        file = name if len(names) > 1 else None
        return link_chunk(chunk.lines, chunk.first_line, linker, layout, name=name, file=file, batch_size=batch_size)

    return link


def _require_some_links(counts: Counts, output: BulkOutput, job: BulkJob) -> None:
    """Stop at the first chunk if all of it is wrong: the key is, rather than that many records in a row.

    Raises:
        DataError: it is.
    """
    if output.state.position == BEGINNING and counts.records >= job.chunk_lines and counts.n_errors == counts.records:
        key = "" if job.layout.text_key is None else f" (--text-key is {job.layout.text_key!r})"
        fault = f"none of the first {counts.records:,} records can be linked; first: {counts.first_error}"
        raise DataError(f"{fault}; check the file and what its lines hold{key}, or remove these records")


def _require_records(output: BulkOutput, inputs: Sequence[Input]) -> None:
    if not output.state.counts.records:
        output.discard()
        names = ", ".join(item.name for item in inputs)
        raise DataError(f"{names} {'has' if len(inputs) == 1 else 'have'} no record; give one text or JSON object a line")
