"""What the commands ``blink slurm ...`` do: a plan of shards is made, submitted, watched to its end."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from blink.apps.common import Bar, one_line, say
from blink.apps.linking import prior_of
from blink.apps.slurm_tasks import run_task
from blink.cluster.encoding import Encoding
from blink.cluster.jobs import JobFolder, Plan, cut, cut_into
from blink.cluster.script import sbatch_script, sbatch_variables
from blink.cluster.settings import FLAG_KINDS, ClusterSettings
from blink.cluster.submit import Local, submitter
from blink.cluster.texts import count_lines
from blink.cluster.watch import JobFailedError, Standing, Watch, array_job, merge_job
from blink.data.prior_file import NO_PRIOR
from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import locked, require_file, sha256
from blink.kb.catalogue import Catalogue

JOB_FOLDER = "slurm"
JOB_SUFFIX = ".slurm"


@dataclass(frozen=True)
class How:
    """How a command goes about its plan.

    Attributes:
        dry_run: print the scripts, and do nothing.
        detach: submit, and do not wait.
        merge: make one whole of the shards when all are done.
    """

    dry_run: bool = False
    detach: bool = False
    merge: bool = True


def carry_out(
    job: JobFolder,
    plan: Plan,
    settings: ClusterSettings,
    how: How,
    *,
    nodes: int = 1,
    prepare: Callable[[], None] = lambda: None,
) -> bool:
    """Submit what is missing and wait for the end, with a bar.

    Args:
        job: the folder.
        plan: what is to be done.
        settings: of the cluster.
        how: see `How`.
        nodes: that each shard runs on, at once.
        prepare: called before anything is submitted.

    Returns:
        whether all is done.

    Raises:
        JobFailedError: a job failed; its last log lines were printed.
        BlinkError: the folder holds another job, or the cluster refuses.
    """
    if how.dry_run:
        _print_scripts(job, plan, settings, how, nodes)
        return False
    job.path.mkdir(parents=True, exist_ok=True)
    with locked(job.path), submitter(settings) as runs:
        if how.detach and isinstance(runs, Local):
            raise SettingsError("--detach leaves jobs to Slurm, and this machine runs them itself; leave it out")
        job.begin(plan)
        prepare()
        if job.is_merged() or (not job.missing() and not (plan.merges and how.merge)):
            say(f"{job.path.parent}: all is done already")
            return True
        watch = Watch(job, runs, nodes=nodes, merge=how.merge)
        for submission in watch.submit():
            what = f"{len(submission.shards)} of {len(plan.shards)} shards" if submission.shards else "the merge"
            say(f"submitted {what} as job {submission.id}; logs: {job.log}")
        if how.detach:
            say("not waiting for the jobs; the same command shows how they stand")
            return False
        _wait(watch, plan, local=isinstance(runs, Local))
    return True


def _wait(watch: Watch, plan: Plan, *, local: bool) -> None:
    try:
        with closing(_Board(plan)) as board:
            watch.wait(board.show)
    except JobFailedError as error:
        for line in error.last:
            say(f"  | {one_line(line, 200)}")
        raise
    except KeyboardInterrupt:
        say(f"{'what is done is kept' if local else 'the jobs go on'}; the same command goes on with it")
        raise


def _print_scripts(job: JobFolder, plan: Plan, settings: ClusterSettings, how: How, nodes: int) -> None:
    jobs = [array_job(job, plan, tuple(range(len(plan.shards))), nodes)]
    if plan.merges and how.merge:
        jobs.append(merge_job(job, plan, ("ARRAY",)))
    sys.stdout.write("\n".join(sbatch_script(each, settings.slurm) for each in jobs))


class _Board:
    """Shows how a job stands: a bar on a terminal, elsewhere a line whenever a shard begins or ends."""

    def __init__(self, plan: Plan) -> None:
        self._kind, self._units, self._counts = plan.kind, 0, ""
        self._bar = Bar(plan.kind, sum(end - start for start, end in plan.shards), plan.unit)

    def show(self, standing: Standing) -> None:
        """Show it anew."""
        counts = f"{standing.pending} pending, {standing.running} running, {standing.done} done"
        counts += f", {standing.failed} failed" if standing.failed else ""
        counts += ", merging" if standing.merging else ""
        note = one_line(standing.note, 60)
        self._bar.advance(standing.units - self._units)
        self._bar.note(f"{counts} | {note}")
        if counts != self._counts and not sys.stderr.isatty():
            say(f"{self._kind}: {counts}; {standing.units:,} of {standing.total:,}{f'; {note}' if note else ''}")
        self._units, self._counts = standing.units, counts

    def close(self) -> None:
        """Finish the bar."""
        self._bar.close()


# -- encode -------------------------------------------------------------------------------------------------------------


def encode_catalogue(
    catalogue: str,
    out: str,
    settings: ClusterSettings,
    how: How,
    *,
    chunk: tuple[int, int] | None,
    encoder: Mapping[str, Any],
    **options: Any,
) -> None:
    """``blink slurm encode``.

    Args:
        catalogue: path of the ``entity.jsonl``.
        out: folder of the result.
        settings: of the cluster.
        how: see `How`.
        chunk: rows ``[start, end)`` to encode here, alone, without a merge.
        encoder: model, precision, device and batch size.
        options: layout, index, dtype and skip_bad, see `Encoding`.
    """
    from blink.apps.building import load_encoder

    source = require_file(catalogue, "give a catalogue: one JSON object with a title a line").resolve()
    where = Path(out).resolve()
    job = JobFolder(where / JOB_FOLDER)
    rows, digest = _scanned(source, None if how.dry_run else job.path, skip_bad=options["skip_bad"])
    loaded = None if how.dry_run else load_encoder(encoder["model"], "fp32", "cpu", 1)
    shard_rows = settings.slurm.shard_rows
    made = Encoding(
        str(source), str(where), shard_rows=shard_rows, rows=rows, catalogue_sha256=digest,
        model="" if loaded is None else loaded.fingerprint, **options,
    )  # fmt: skip
    if chunk is not None:
        _encode_chunk(made, chunk, encoder, how)
        return
    plan = _encoding_plan(made, encoder, cut(rows, shard_rows))
    done = carry_out(job, plan, settings, how, prepare=lambda: _prepare(job, plan, made))
    if done and how.merge:
        say(f"{where}: {rows:,} entities" + (f", all in {where / 'all.t7'}" if made.layout == "t7" else ""))


def _scanned(source: Path, folder: Path | None, *, skip_bad: bool) -> tuple[int, str]:
    """Rows of a catalogue, and its hash; what was found out on the way is kept for the shards."""
    with tempfile.TemporaryDirectory() as elsewhere:
        place = Path(elsewhere) if folder is None else folder
        place.mkdir(parents=True, exist_ok=True)
        with Catalogue.open(source, skip_bad=skip_bad, sidecar=place / "entity.offsets") as catalogue:
            if not len(catalogue):
                raise DataError(f"{source} has no entities; a catalogue has one JSON object with a title a line")
            return len(catalogue), catalogue.sha256


def _encoding_plan(made: Encoding, encoder: Mapping[str, Any], shards: tuple[tuple[int, int], ...]) -> Plan:
    values = asdict(made)
    inputs = {"catalogue": values.pop("catalogue_sha256"), "model": values.pop("model")}
    work = {"shard_rows": values.pop("shard_rows"), "encoding": values, "encoder": dict(encoder)}
    return Plan("encode", work, inputs, shards, "entity")


def _prepare(job: JobFolder, plan: Plan, made: Encoding) -> None:
    if job.missing():
        made.prepare()
    for shard in job.missing():
        chunk = JobFolder(job.path / made.file(*plan.shards[shard]).stem)
        if made.layout == "t7" and chunk.has_plan() and chunk.plan().is_part_of(plan, shard) and chunk.is_done(0):
            start, end = plan.shards[shard]
            job.finish(shard, end - start, chunk.check(0))


def _encode_chunk(made: Encoding, chunk: tuple[int, int], encoder: Mapping[str, Any], how: How) -> None:
    """Encode one chunk here, as a job of one shard in a folder of its own."""
    start, asked = chunk[0], made.rows if chunk[1] == -1 else chunk[1]
    if made.layout != "t7":
        raise SettingsError("--chunk makes one file of the original's layout; give --layout t7 too")
    if not 0 <= start < min(asked, made.rows):
        raise SettingsError(f"the chunk is {start} to {asked}; the catalogue has rows 0 to {made.rows}: give a part of them")
    made = replace(made, shard_rows=asked - start)
    end = min(asked, made.rows)
    job = JobFolder(Path(made.out) / JOB_FOLDER / made.file(start, end).stem)
    if how.dry_run:
        say(f"encodes rows {start} to {end} of {made.rows} into {made.file(start, end)}")
        return
    made.prepare()
    job.begin(_encoding_plan(made, encoder, ((start, end),)))
    if job.is_done(0):
        job.check(0)
    run_task(str(job.path), 0, merge=False)
    say(f"{made.file(start, end)}: {end - start:,} entities")


# -- link and eval ------------------------------------------------------------------------------------------------------


def link_file(file: str, out: str, shards: int, settings: ClusterSettings, how: How, options: Mapping[str, Any]) -> None:
    """``blink slurm link``; ``options`` are those of `open_linker`, and the batch size."""
    source = require_file(file, "give a file with one text per line").resolve()
    lines = count_lines(source)
    if not lines:
        raise DataError(f"{source} is empty; give one text per line")
    target = Path(out).resolve()
    if target.is_dir() or not target.parent.is_dir():
        found = "is a folder" if target.is_dir() else f"cannot be made: {target.parent} does not exist"
        raise MissingFileError(f"{out} {found}; name a file to write")
    work = {"file": str(source), "out": str(target), **_plain(options)}
    inputs = {} if how.dry_run else {"texts": sha256(source), **_linker_hashes(options)}
    plan = Plan("link", work, inputs, cut_into(lines, shards), "text")
    if carry_out(JobFolder(f"{target}{JOB_SUFFIX}"), plan, settings, how) and how.merge:
        say(f"{target}: {lines:,} texts linked")


def evaluate_files(files: Sequence[str], out: str, settings: ClusterSettings, how: How, options: Mapping[str, Any]) -> None:
    """``blink slurm eval``; ``options`` are those of `evaluate_file`."""
    paths = [require_file(file, "give a mention file").resolve() for file in files]
    where = Path(out).resolve()
    work = {"files": [str(p) for p in paths], "names": _names(paths), "out": str(where), "options": _plain(options)}
    inputs = {} if how.dry_run else {**{str(p): sha256(p) for p in paths}, **_linker_hashes(options)}
    plan = Plan("eval", work, inputs, cut(len(paths), 1), "file")
    if carry_out(JobFolder(where / JOB_FOLDER), plan, settings, how) and how.merge:
        say(f"{where / 'scores.json'}: the figures of {len(paths)} files")


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they can be stored; files and folders by their whole path."""
    paths = {name: str(Path(options[name]).resolve()) for name in ("model", "kb") if options.get(name) is not None}
    if options.get("prior") not in (None, NO_PRIOR):
        paths["prior"] = str(Path(options["prior"]).resolve())
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()} | paths


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each file: its own, with its folder's where several bear the same.

    Raises:
        SettingsError: that does not tell them apart either.
    """
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [f"{path.parent.name}_{path.stem}" for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"several files would write {twice}.json; evaluate them into different folders (--out)")
    return names


def _linker_hashes(options: Mapping[str, Any]) -> dict[str, str]:
    """What tells one linker from another; a missing model or knowledge base is told before anything is submitted."""
    from blink.apps.starter import starter_kb, starter_model
    from blink.evaluation.saved import kb_hash, model_hash
    from blink.model.loading import require_model

    model, kb = options["model"], options["kb"]
    if model is not None and kb is None:
        raise SettingsError("--model is given without --kb; name the knowledge base built with that model (blink kb build)")
    model = starter_model() if model is None else model
    require_model(model)
    hashes = {"model": model_hash(model), "kb": kb_hash(starter_kb() if kb is None else kb)}
    prior = prior_of(options["model"], kb, options)
    if prior is not None:
        hashes["prior"] = sha256(require_file(prior, "give a file that `blink kglm prior` wrote"))
    return hashes


# -- train --------------------------------------------------------------------------------------------------------------


def train_on_cluster(train: click.Command, arguments: Sequence[str], settings: ClusterSettings, how: How) -> None:
    """``blink slurm train``; ``train`` is the command ``blink train``, which checks the arguments."""
    out = read_train_out(train, arguments)
    plan = Plan("train", {"arguments": list(arguments), "out": str(out)}, {}, ((0, 1),), "run", merges=False)
    if carry_out(JobFolder(out / JOB_FOLDER), plan, settings, how, nodes=settings.slurm.nodes):
        say(f"the best model is in {out / 'best'}")


def read_train_out(train: click.Command, arguments: Sequence[str]) -> Path:
    """The folder of a run, from the arguments of ``blink train``, all of which are checked.

    Raises:
        click.UsageError: an argument is unknown or its value not allowed.
        SettingsError: no folder is named.
    """
    from blink.apps.options import take_settings
    from blink.training.settings import TrainSettings

    context = train.make_context("blink slurm train", list(arguments))
    options = dict(context.params)
    take_settings(TrainSettings, options)
    if options["out"] is None:
        raise SettingsError("a training on a cluster needs a folder that all its machines see; give --out DIR")
    return Path(options["out"]).resolve()


# -- settings -----------------------------------------------------------------------------------------------------------


def print_settings(settings: ClusterSettings, export: bool) -> None:
    """``blink slurm settings``: each setting, its value and where it comes from; or lines for a shell."""
    if export:
        sys.stdout.writelines(f"export {name}={shlex.quote(text)}\n" for name, text in sbatch_variables(settings.slurm).items())
        return
    rows = [(section, *row) for section in ("slurm", "paths") for row in getattr(settings, section).to_dict().items()]
    rows += [(section, name, text) for section in ("data", "sizes") for name, text in getattr(settings, section).items()]
    rows += [("flags", kind, settings.flags.get(kind, "")) for kind in FLAG_KINDS]
    for section, name, value in rows:
        shown = "-" if value in (None, "") else one_line(str(value))
        sys.stdout.write(f"{section}.{name:<14} {shown:<28} {settings.origin(f'{section}.{name}')}\n")
