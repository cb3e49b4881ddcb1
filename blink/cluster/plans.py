"""Plans of jobs that encode, link, evaluate or train: their parameters, their shards, and hashes of their inputs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from blink.bulk.linkers import linker_hashes
from blink.bulk.outputs import output_format
from blink.bulk.run import layout_of
from blink.bulk.shards import count_lines
from blink.bulk.shards import split_into_shards as split_lines
from blink.bulk.sources import Input
from blink.cluster.encoding import Encoding
from blink.cluster.jobs import JOB_FOLDER, JobFolder, Plan, split_into_shards
from blink.cluster.tasks import OFFSETS_FILE, run_task
from blink.data.prior_file import NO_PRIOR
from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import require_file, sha256
from blink.kb.manifest import CATALOGUE_FILE
from blink.kb.sources.conversion import SourceOptions, open_source
from blink.kb.sources.formats import ALLOWED
from blink.linking.opening import open_candidate_encoder

# --- training -------------------------------------------------------------------------------------------------------


def training_plan(arguments: Sequence[str], out: Path) -> Plan:
    """The plan of a training, which has one shard; ``arguments`` are those of ``blink train``."""
    return Plan("train", {"arguments": list(arguments), "out": str(out)}, {}, ((0, 1),), "run", merges=False)


# --- encoding -------------------------------------------------------------------------------------------------------


def encoding_of(
    catalogue: str, out: str, encoder: Mapping[str, Any], shard_rows: int, *, job: Path | None, **options: Any
) -> Encoding:
    """The encoding of a catalogue. The catalogue is read once.

    Args:
        catalogue: path of the ``entity.jsonl``, or of a file that `blink kb build` reads.
        out: output folder.
        encoder: model, precision, device and batch size, see `open_candidate_encoder`.
        shard_rows: rows per shard.
        job: folder of the job, which stores the offsets of the catalogue for the shards, and the catalogue made of another
            file; None to write no file and open no model.
        **options: layout, index, dtype and skip_bad, see `Encoding`.
    """
    source = require_file(catalogue, f"give entities: {ALLOWED}").resolve()
    opened, rows, digest = _scan(source, job, skip_bad=options["skip_bad"])
    model = "" if job is None else open_candidate_encoder(encoder["model"], "fp32", "cpu", 1).fingerprint
    target = str(Path(out).resolve())
    return Encoding(str(opened), target, shard_rows=shard_rows, rows=rows, catalogue_sha256=digest, model=model, **options)


def _scan(source: Path, job: Path | None, *, skip_bad: bool) -> tuple[Path, int, str]:
    """Catalogue of a source, its number of rows and its hash; writes its offsets into the folder of the job for the shards."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if job is None else job
        folder.mkdir(parents=True, exist_ok=True)
        options = SourceOptions(skip_bad=skip_bad)
        with open_source(source, folder / CATALOGUE_FILE, options, sidecar=folder / OFFSETS_FILE) as catalogue:
            return source if job is None else catalogue.path, len(catalogue), catalogue.sha256


def encoding_plan(encoding: Encoding, encoder: Mapping[str, Any], shards: tuple[tuple[int, int], ...]) -> Plan:
    """The plan of an encoding with the given shards of rows."""
    values = asdict(encoding)
    inputs = {"catalogue": values.pop("catalogue_sha256"), "model": values.pop("model")}
    work = {"shard_rows": values.pop("shard_rows"), "encoding": values, "encoder": dict(encoder)}
    return Plan("encode", work, inputs, shards, "entity")


def prepare_encoding(job: JobFolder, plan: Plan, encoding: Encoding) -> None:
    """Create the output folders, and reuse shards that `encode_chunk` has encoded."""
    if job.missing():
        encoding.prepare()
    for shard in job.missing():
        chunk = JobFolder(job.path / encoding.file(*plan.shards[shard]).stem)
        if encoding.layout == "t7" and chunk.has_plan() and chunk.plan().is_shard_of(plan, shard) and chunk.is_done(0):
            start, end = plan.shards[shard]
            job.finish(shard, end - start, chunk.check(0))


def encode_chunk(
    encoding: Encoding, chunk: tuple[int, int], encoder: Mapping[str, Any], *, dry_run: bool, say: Callable[[str], None]
) -> str:
    """Encode rows ``[start, end)`` in this process, as a job of one shard in its own folder.

    Args:
        encoding: encoding of the whole catalogue, in the layout ``t7``.
        chunk: start and end; an end of -1 is the number of rows.
        encoder: see `encoding_of`.
        dry_run: do not encode, only return the message.
        say: see `run_task`.

    Returns:
        a message about the file.

    Raises:
        SettingsError: the layout is not ``t7``, or the catalogue does not have these rows.
    """
    start, requested_end = chunk[0], encoding.rows if chunk[1] == -1 else chunk[1]
    if encoding.layout != "t7":
        raise SettingsError("--chunk makes one file of the original's layout; give --layout t7 too")
    if not 0 <= start < min(requested_end, encoding.rows):
        bounds = f"the chunk is {start} to {requested_end}; the catalogue has rows 0 to {encoding.rows}"
        raise SettingsError(f"{bounds}; give a range of these rows")
    encoding = replace(encoding, shard_rows=requested_end - start)
    end = min(requested_end, encoding.rows)
    file = encoding.file(start, end)
    if dry_run:
        return f"encodes rows {start} to {end} of {encoding.rows} into {file}"
    job = JobFolder(Path(encoding.out) / JOB_FOLDER / file.stem)
    encoding.prepare()
    job.begin(encoding_plan(encoding, encoder, ((start, end),)))
    if job.is_done(0):
        job.check(0)
    run_task(str(job.path), 0, merge=False, say=say)
    return f"{file}: {end - start:,} entities"


# --- linking and evaluation -----------------------------------------------------------------------------------------


def linking_plan(
    files: Sequence[str], out: str, shards: int, options: Mapping[str, Any], records: Mapping[str, Any], *, hashes: bool
) -> tuple[Plan, Path]:
    """The plan of linking the lines of files, which are read once to split them.

    Args:
        files: files of texts or JSON Lines, plain or compressed.
        out: output file.
        shards: maximum number of shards.
        options: options of `open_linker`, and ``batch_size``.
        records: see `blink.bulk.run.layout_of`.
        hashes: whether to hash the model and the knowledge base; not needed for a dry run.

    Returns:
        the plan and the path of ``out``.

    Raises:
        BlinkError: a file is missing or empty, or ``out`` cannot be written.
    """
    target, layout = Path(out).resolve(), layout_of(files, **records)
    if target.is_dir() or not target.parent.is_dir():
        fault = "is a folder" if target.is_dir() else f"cannot be written: {target.parent} does not exist"
        raise MissingFileError(f"{out} {fault}; name a file to write")
    output_format(target)
    inputs = [Input.of(file) for file in files]
    if any(item.size is None for item in inputs):
        raise SettingsError("standard input and pipes cannot be split into shards; give files, or use blink link --out")
    work_shards = split_lines(inputs, shards)
    if not work_shards:
        raise DataError(f"{', '.join(files)} is empty; give one text or JSON object a line")
    ends = list(accumulate(map(count_lines, work_shards), initial=0))
    lines = [[asdict(item) for item in shard] for shard in work_shards]
    work = {"files": [item.path for item in inputs], "out": str(target), "layout": asdict(layout), "lines": lines}
    texts = hashlib.sha256("".join(sha256(item.path) for item in inputs).encode()).hexdigest() if hashes else ""
    hashed = {"texts": texts, **linker_hashes(options)} if hashes else {}
    return Plan("link", work | {"options": _plain(options)}, hashed, tuple(pairwise(ends)), "text"), target


def evaluation_plan(files: Sequence[str], out: str, options: Mapping[str, Any], *, hashes: bool) -> tuple[Plan, Path]:
    """The plan of an evaluation on several mention files, with a shard per file.

    Args:
        files: mention files.
        out: output folder.
        options: options of `evaluate_file`.
        hashes: whether to hash the inputs; not needed for a dry run.

    Returns:
        the plan and the path of ``out``.

    Raises:
        BlinkError: a file is missing, or the results of two files would have the same name.
    """
    paths = [require_file(file, "give a mention file").resolve() for file in files]
    folder = Path(out).resolve()
    work = {"files": [str(p) for p in paths], "names": _names(paths), "out": str(folder), "options": _plain(options)}
    inputs = {**{str(p): sha256(p) for p in paths}, **linker_hashes(options)} if hashes else {}
    return Plan("eval", work, inputs, split_into_shards(len(paths), 1), "file"), folder


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON values, with absolute paths."""
    paths = {name: str(Path(options[name]).resolve()) for name in ("model", "kb") if options.get(name) is not None}
    if options.get("prior") not in (None, NO_PRIOR):
        paths["prior"] = str(Path(options["prior"]).resolve())
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()} | paths


def _names(paths: Sequence[Path]) -> list[str]:
    """Name of each file's results: its stem, or ``FOLDER_STEM`` if stems are not unique.

    Raises:
        SettingsError: these names are not unique either.
    """
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [f"{path.parent.name}_{path.stem}" for path in paths]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"several files would write {repeated}.json; evaluate them into different folders (--out)")
    return names
