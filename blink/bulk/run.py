"""A bulk run: files of texts in, a file of rows out; killed at any moment, the same call continues."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blink.bulk.journal import BulkOutput
from blink.bulk.progress import Pace
from blink.bulk.records import RecordLayout
from blink.bulk.rows import Counts, LinkedChunk, TextLinker, link_chunk
from blink.bulk.sources import Chunk, Input, read_chunks
from blink.errors import DataError, MismatchError, SettingsError
from blink.progress import Bars, no_bars
from blink.runs.signals import Interrupted, stop_signals
from blink.workers import Hooks, Opener, WorkerPool, results_here

logger = logging.getLogger(__name__)

ChunkLinker = Callable[[Chunk], LinkedChunk]
LinkerOpener = Callable[[Callable[[str], None]], TextLinker]
"""Opens a linker; its argument is called with warnings. It is pickled for worker processes."""
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
MANY_RECORDS = 256
"""A run ends at once if so many records at the beginning are wrong."""
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
DEFAULT_TEXT_KEY = "text"


@dataclass(frozen=True)
class BulkJob:
    """What a bulk run does.

    Attributes:
        files: paths, or ``-`` for standard input.
        out: the file to write: one of `blink.bulk.outputs.FORMATS`.
        layout: of lines and rows.
        settings: what the links depend on, as plain values: hashes of model and knowledge base, thresholds.
        batch_size: texts per forward pass.
        chunk_lines: see `read_chunks`; a kill loses at most a chunk for each worker.
        shard: the inputs, where they are a shard of a larger job: it may hold no record that can be linked.
        several: whether rows name their file; by default where there are several.
    """

    files: tuple[str, ...]
    out: Path
    layout: RecordLayout
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    chunk_lines: int | None = None
    shard: tuple[Input, ...] | None = None
    several: bool | None = None

    def __post_init__(self) -> None:
        repeated = next((file for file in self.files if self.files.count(file) > 1), None)
        if repeated is not None:
            raise SettingsError(f"{repeated} is given twice; give each file once")
        if not self.files:
            raise SettingsError("there is no file to link; give one with --file")

    def inputs(self) -> list[Input]:
        """The files as they are now.

        Raises:
            MissingFileError: one is not there.
            MismatchError: one has changed since its shard was made.
        """
        if self.shard is None:
            return [Input.of(file) for file in self.files]
        for lines in self.shard:
            now = Input.of(lines.path)
            if (now.size, now.sample) != (lines.size, lines.sample):
                raise MismatchError(
                    f"{lines.name} has changed since the job was started; remove the job's folder to start again"
                )
        return list(self.shard)


def layout_of(
    files: Sequence[str],
    *,
    text_key: str | None = None,
    id_key: str | None = None,
    carry: str | None = None,
    no_text: bool = False,
    no_candidates: bool = False,
    descriptions: bool = False,
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
    parts = {"keep_text": not no_text, "candidates": not no_candidates, "descriptions": descriptions}
    return RecordLayout(text_key, id_key, fields, **parts)


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
    output = BulkOutput(job.out, {**job.settings, **asdict(job.layout)}, inputs)
    with stop_signals() as signals, output.opened():

        def stop() -> None:
            # Between chunks alone: an exception out of a signal in the midst of an import may be taken for an error of it.
            if signals.received:
                raise Interrupted("interrupted", signals.received)

        try:
            if not output.state.complete:
                _link(job, inputs, output, opener, workers, warn, bars, stop)
                _require_records(output, inputs, job)
            signals.urgent = True
            output.publish(bars)
        except Interrupted as interrupted:
            done = f"{output.state.counts.records:,} texts are linked and kept"
            raise Interrupted(f"stopped; {done}, and the same command continues", interrupted.signal) from interrupted
    if job.shard is None:
        require_links(output.state.counts)
    return output.state.counts


def require_links(counts: Counts) -> None:
    """Check that a finished run has linked something.

    Raises:
        DataError: every record has an error.
    """
    if counts.n_errors == counts.records:
        raise DataError(f"no record could be linked: {counts.describe()}")


def _link(
    job: BulkJob,
    inputs: Sequence[Input],
    output: BulkOutput,
    opener: LinkerOpener,
    workers: int,
    warn: Callable[[str], None],
    bars: Bars,
    stop: Callable[[], None],
) -> None:
    chunks = read_chunks(inputs, output.state.position, chunk_lines=job.chunk_lines)
    names = tuple(item.name for item in inputs)
    several = len(names) > 1 if job.several is None else job.several
    chunk_opener = functools.partial(_open_chunk_linker, opener, job.layout, names, several, job.batch_size)
    pace = Pace(inputs, output.state.counts, output.state.position)
    with bars("linking", None, "text") as progress:
        for chunk, linked in _linked(chunk_opener, chunks, workers, Hooks(warn, pace.begin, stop)):
            _require_some_links(chunk, linked.counts, job)
            output.commit(linked.content, chunk.end, linked.counts, pace.lap())
            progress.advance(linked.counts.records)
            progress.note(pace.remark(output.state.counts, chunk.end))
            stop()


def _linked(
    opener: Opener[Chunk, LinkedChunk], chunks: Iterator[Chunk], workers: int, hooks: Hooks
) -> Iterator[tuple[Chunk, LinkedChunk]]:
    if workers == 1:
        return results_here(opener, chunks, hooks)
    remedy = "out of memory, perhaps: give fewer --workers or a smaller --batch-size; the same command continues"
    return WorkerPool(opener, workers, hooks, _lines, remedy).results(chunks)


def _lines(chunk: Chunk) -> str:
    return f"linked lines {chunk.first_line:,} to {chunk.end.line:,}"


def _open_chunk_linker(
    opener: LinkerOpener,
    layout: RecordLayout,
    names: tuple[str, ...],
    several: bool,
    batch_size: int,
    warn: Callable[[str], None],
) -> ChunkLinker:
    """Opens a linker of chunks; runs in each worker."""
    linker = opener(warn)

    def link(chunk: Chunk) -> LinkedChunk:
        name = names[chunk.file]
        file = name if several else None
        return link_chunk(chunk.lines, chunk.first_line, linker, layout, name=name, file=file, batch_size=batch_size)

    return link


def _require_some_links(chunk: Chunk, counts: Counts, job: BulkJob) -> None:
    """Stop at the first chunk if all of it is wrong: then the key is, rather than so many records in a row.

    Raises:
        DataError: it is.
    """
    is_first = chunk.file == 0 and chunk.first_line == 1
    if is_first and counts.records >= (job.chunk_lines or MANY_RECORDS) and counts.n_errors == counts.records:
        key = "" if job.layout.text_key is None else f" (--text-key is {job.layout.text_key!r})"
        fault = f"none of the first {counts.records:,} records can be linked; first: {counts.first_error}"
        raise DataError(f"{fault}; check the file and what its lines hold{key}, or remove these records")


def _require_records(output: BulkOutput, inputs: Sequence[Input], job: BulkJob) -> None:
    if job.shard is None and not output.state.counts.records:
        output.discard()
        names = ", ".join(item.name for item in inputs)
        raise DataError(f"{names} {'has' if len(inputs) == 1 else 'have'} no record; give one text or JSON object a line")
