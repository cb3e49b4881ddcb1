"""The folder of a job: its plan, records of finished shards, progress of the others, and logs."""

from __future__ import annotations

import contextlib
import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blink.checksums import read_hashed_json, write_hashed_json
from blink.cluster.script import LOG_FOLDER
from blink.errors import BlinkError, DataError, MismatchError, MissingFileError
from blink.files import atomic_open, for_this_process, parse_json_line, sha256
from blink.input_files import has_file, open_file, read_bytes
from blink.work_folders import plain_folder, require_plain_folder

JOB_FOLDER, JOB_SUFFIX = "slurm", ".slurm"
"""Name of a job's folder in the folder of its result, or suffix to the name of its result."""
PLAN_FILE = "job.json"
SUBMISSIONS_FILE = "submitted.jsonl"
_REMOVE_SUBMISSIONS = "remove it if none of its jobs is queued or runs"
MERGED_FILE = "merged.json"
RECORDS_FOLDER, PROGRESS_FOLDER = "shards", "progress"
FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """Plan of a job. The same command gives the same plan, and so resumes the job.

    Attributes:
        kind: ``train``, ``encode``, ``eval`` or ``link``.
        work: parameters that determine the result, as plain values.
        inputs: hashes of the inputs by name.
        shards: bounds ``[start, end)`` of each shard in units; jobs that cannot be split have one shard.
        unit: unit of the bounds, such as ``entity``.
        merges: whether the shards are merged at the end.
    """

    kind: str
    work: Mapping[str, Any]
    inputs: Mapping[str, str]
    shards: tuple[tuple[int, int], ...]
    unit: str
    merges: bool = True

    def name(self, shard: int) -> str:
        """Name of a shard in messages."""
        start, end = self.shards[shard]
        plural = self.unit[:-1] + "ies" if self.unit.endswith("y") else self.unit + "s"
        return f"shard {shard} ({plural} {start} to {end})"

    def is_shard_of(self, plan: Plan, shard: int) -> bool:
        """Whether this plan does the work of one shard of another plan."""
        other = replace(plan, shards=(plan.shards[shard],))
        return set(_differing(self, other)) <= {"shard_rows"}


def split_into_shards(count: int, size: int) -> tuple[tuple[int, int], ...]:
    """Shards of ``size`` units; the last one may be smaller."""
    return tuple((start, min(start + size, count)) for start in range(0, count, size))


def split_evenly(count: int, n_shards: int) -> tuple[tuple[int, int], ...]:
    """At most ``n_shards`` shards of nearly the same size, none of them empty."""
    n_shards = max(1, min(n_shards, count))
    return tuple((count * i // n_shards, count * (i + 1) // n_shards) for i in range(n_shards))


@dataclass(frozen=True)
class Record:
    """Record of a finished shard.

    Attributes:
        rows: number of units processed.
        files: SHA-256 of each file of its result, by path relative to the job's folder.
    """

    rows: int
    files: Mapping[str, str]


@dataclass(frozen=True)
class Submission:
    """A job that was submitted to the cluster; ``shards`` is empty for the merging job."""

    id: str
    shards: tuple[int, ...]


class JobFolder:
    """The folder of a job, shared by the submitting command and the tasks.

    Args:
        path: the folder; it may not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self._plan: Plan | None = None

    @property
    def log(self) -> Path:
        """The folder of logs."""
        return self.path / LOG_FOLDER

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.log, self.path / RECORDS_FOLDER, self.path / PROGRESS_FOLDER

    # -- the plan ------------------------------------------------------------------------------------------------

    def begin(self, plan: Plan) -> None:
        """Create the folder for a plan, or resume the same plan.

        Raises:
            MismatchError: the folder has another plan; the message lists the differences.
        """
        for folder in self._folders:
            if os.path.lexists(folder):
                require_plain_folder(folder)
        if self.has_plan():
            differing = _differing(self.plan(), plan)
            if differing:
                fault = f"{self.path} was started with other {', '.join(differing)}"
                raise MismatchError(f"{fault}; give the same ones, another --out, or remove that folder to start again")
            return
        for folder in self._folders:
            plain_folder(folder)
        write_hashed_json(self.path / PLAN_FILE, {"format": FORMAT, **asdict(plan)})

    def has_plan(self) -> bool:
        """Whether the folder has a plan."""
        return (self.path / PLAN_FILE).is_file()

    def plan(self) -> Plan:
        """The plan, which is read once.

        Raises:
            MissingFileError: the folder has no plan.
            DataError: the plan is damaged.
        """
        if self._plan is not None:
            return self._plan
        if not self.has_plan():
            raise MissingFileError(f"{self.path} is no folder of a job (no {PLAN_FILE}); create one: blink slurm --help")
        values = read_hashed_json(self.path / PLAN_FILE, f"remove {self.path} and start again")
        try:
            if values.pop("format") != FORMAT:
                raise TypeError("of another version")
            self._plan = Plan(**{**values, "shards": tuple((int(a), int(b)) for a, b in values["shards"])})
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DataError(f"{self.path / PLAN_FILE} is damaged ({error}); remove {self.path} and start again") from error
        return self._plan

    # -- shards --------------------------------------------------------------------------------------------------

    def is_done(self, shard: int) -> bool:
        """Whether a shard has a record, which is written last."""
        return self._record_file(shard).is_file()

    def missing(self) -> list[int]:
        """Numbers of the shards without a record."""
        # On network file systems, a listing shows files of other machines earlier than a check of each file.
        done = set((self.path / RECORDS_FOLDER).iterdir())
        return [n for n in range(len(self.plan().shards)) if self._record_file(n) not in done]

    def finish(self, shard: int, rows: int, files: Iterable[Path]) -> None:
        """Write the record of a shard, with the hashes of its files."""
        hashes = {os.path.relpath(file.resolve(), self.path): sha256(file) for file in files}
        write_hashed_json(self._record_file(shard), asdict(Record(rows, hashes)))

    def check(self, shard: int) -> list[Path]:
        """Verify the hashes of a shard's files, and return the files.

        If they are wrong, the record is removed, so that the same command processes the shard again.

        Raises:
            MismatchError: a file or rows are missing, or a file has changed; the message names it.
        """
        plan = self.plan()
        start, end = plan.shards[shard]
        wrong = None if self.is_done(shard) else "it left no record"
        files: list[Path] = []
        if wrong is None:
            record = self.record(shard)
            files = [self.path / name for name in record.files]
            wrong = next(filter(None, map(_fault, files, record.files.values())), None)
            if wrong is None and record.rows != end - start:
                wrong = f"it has {record.rows} rows, expected {end - start}"
        if wrong is not None:
            for stale in (self._record_file(shard), self._progress_file(shard)):
                stale.unlink(missing_ok=True)
            raise MismatchError(
                f"{plan.name(shard)} is not sound: {wrong}; give the same command again, it processes this shard again"
            )
        return files

    def record(self, shard: int) -> Record:
        """The record of a finished shard.

        Raises:
            DataError: it is damaged.
        """
        values = read_hashed_json(self._record_file(shard), "remove it and give the same command again")
        try:
            return Record(int(values["rows"]), dict(values["files"]))
        except (TypeError, KeyError, ValueError) as error:
            remedy = "remove it and give the same command again"
            raise DataError(f"{self._record_file(shard)} is no record of a shard; {remedy}") from error

    def _record_file(self, shard: int) -> Path:
        return self.path / RECORDS_FOLDER / f"{shard:05d}.json"

    # -- progress -----------------------------------------------------------------------------------------------

    def note(self, shard: int, done: int) -> None:
        """Write the number of processed units of a shard. Only progress bars read it, so errors are ignored."""
        file = self._progress_file(shard)
        with contextlib.suppress(OSError), for_this_process(), atomic_open(file) as f:
            f.write(str(done))

    def noted(self, shard: int) -> int:
        """Last known number of processed units of a shard."""
        start, end = self.plan().shards[shard]
        if self.is_done(shard):
            return end - start
        with contextlib.suppress(OSError, ValueError):
            return min(int(self._progress_file(shard).read_text(encoding="ascii")), end - start)
        return 0

    def _progress_file(self, shard: int) -> Path:
        return self.path / PROGRESS_FOLDER / f"{shard:05d}"

    # -- submissions ---------------------------------------------------------------------------------------------

    def submitted(self, submission: Submission) -> None:
        """Append a submission."""
        with (self.path / SUBMISSIONS_FILE).open("ab+") as f:
            f.seek(max(f.tell() - 1, 0))
            begin = "\n" if f.read() not in (b"", b"\n") else ""  # the last line was not written whole
            f.write(f"{begin}{json.dumps(asdict(submission))}\n".encode())

    def submissions(self) -> list[Submission]:
        """All submissions to the cluster, oldest first; a line that was not written whole is none.

        Raises:
            DataError: a line is damaged.
        """
        file = self.path / SUBMISSIONS_FILE
        if not has_file(file, _REMOVE_SUBMISSIONS):
            return []
        lines = enumerate(read_bytes(file, _REMOVE_SUBMISSIONS).split(b"\n"), 1)
        return [_submission(file, number, line) for number, line in lines if line.endswith(b"}")]

    def log_file(self, job: str, shard: int | None) -> Path:
        """Log file of a task."""
        return self.log / (f"{job}.out" if shard is None else f"{job}_{shard}.out")

    # -- merge ---------------------------------------------------------------------------------------------------

    def merged(self, files: Sequence[Path]) -> None:
        """Write the record of the merge, with the hashes of its files."""
        hashes = {os.path.relpath(file.resolve(), self.path): sha256(file) for file in files}
        write_hashed_json(self.path / MERGED_FILE, {"files": hashes})

    def has_merged(self) -> bool:
        """Whether the merge has a record; `is_merged` also verifies its files."""
        return (self.path / MERGED_FILE).is_file()

    def is_merged(self) -> bool:
        """Whether the merge has a record and its files are unchanged.

        Raises:
            MismatchError: a file was changed or removed; the message names it.
        """
        if not self.has_merged():
            return False
        for name, digest in read_hashed_json(self.path / MERGED_FILE, f"remove {self.path} and start again")["files"].items():
            if wrong := _fault(self.path / name, digest):
                raise MismatchError(f"{wrong} since it was made; remove {self.path} and give the same command again")
        return True


def _submission(file: Path, number: int, line: bytes) -> Submission:
    row = parse_json_line(line, file, number)
    try:
        shards = tuple(operator.index(shard) for shard in row["shards"])
        return Submission(str(row["id"]), shards)
    except (KeyError, TypeError) as error:
        fault = f"{file}, line {number}: damaged ({type(error).__name__}: {error})"
        raise DataError(f"{fault}; {_REMOVE_SUBMISSIONS}") from error


def _fault(file: Path, digest: str) -> str | None:
    """What is wrong with a file, or None if it has the hash ``digest``."""
    file = Path(os.path.normpath(file))
    if not file.is_file():
        return f"{file} is missing"
    return None if sha256(file) == digest else f"{file} has changed ({file.stat().st_size:,} bytes)"


def _differing(old: Plan, new: Plan) -> list[str]:
    """Names of the values in which two plans differ."""
    was, now = _comparable(old), _comparable(new)
    return sorted(k for k in was.keys() | now.keys() if was.get(k) != now.get(k))


def _comparable(plan: Plan) -> dict[str, Any]:
    values = {**plan.work, **plan.inputs, "kind": plan.kind, "shards": plan.shards}
    return json.loads(json.dumps(values))  # as on disk, where tuples are lists


def tail(file: Path, lines: int = 10) -> list[str]:
    """Last lines of a log; empty if it does not exist."""
    try:
        with open_file(file) as f:
            f.seek(max(0, file.stat().st_size - (1 << 16)))
            text = f.read().decode("utf-8", errors="replace")
    except (BlinkError, OSError):
        return []
    # A progress bar overwrites its line with carriage returns.
    return [line.split("\r")[-1].rstrip() for line in text.split("\n") if line.strip()][-lines:]
