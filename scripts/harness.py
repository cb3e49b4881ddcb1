"""What the scripts that make tables share: rows that are made once and resume, their commands, JSON and Markdown.

A row has a name and what makes it: a function, or commands of ``blink``. `make_rows` makes rows and writes the results after
each, so that a kill loses one row at the most, and continues behind a row that fails. `CommandRows` stores each row in a folder
with its commands, the hashes of their inputs, a log and a report; complete rows are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn, Protocol, TypeAlias, TypeVar

import click

from blink.apps.common import guarded, say
from blink.errors import BlinkError, MismatchError, SettingsError
from blink.files import atomic_open, read_json, write_json
from blink.runs.provenance import git_revision

ROOT = Path(__file__).resolve().parents[1]
REPORT, REQUEST, LOG = "report.json", "asked.json", "log.txt"

Arguments: TypeAlias = tuple[str, ...]
Runner: TypeAlias = Callable[[Arguments, Path], None]
"""Runs ``blink`` with arguments; its output goes to the end of a file. Raises `RowFailed`."""


class RowFailed(BlinkError):
    """A command of a row failed."""


class Row(Protocol):
    """A line of a table."""

    @property
    def name(self) -> str:
        """Of the row and its folder."""


R = TypeVar("R", bound=Row)
RowIn = TypeVar("RowIn", bound=Row, contravariant=True)


# -- rows


def make_rows(
    rows: Sequence[R],
    make: Callable[[R, str], None],
    write: Callable[[], None],
    *,
    jobs: int = 0,
    stop: threading.Event | None = None,
) -> None:
    """Make rows, some at a time, and write the results after each.

    Args:
        rows: in the order in which they begin.
        make: makes a row; its second argument says which row of how many it is.
        write: writes the results of the rows that are complete.
        jobs: rows at a time, in threads; 0: one after the other in this thread, which alone can handle signals.
        stop: set when an error ends the work, so that no further command begins.

    Raises:
        RowFailed: rows failed; the others are complete.
    """
    failed: list[str] = []
    for row, error in _in_threads(rows, make, jobs, stop) if jobs else _in_turn(rows, make):
        if error is None:
            write()
        else:
            say(f"{row.name} failed: {error}")
            failed.append(row.name)
    if failed:
        names = ", ".join(failed)
        raise RowFailed(f"{len(failed)} of {len(rows)} rows failed ({names}); the same command continues with them")


def _in_turn(rows: Sequence[R], make: Callable[[R, str], None]) -> Iterator[tuple[R, BlinkError | None]]:
    for number, row in enumerate(rows, 1):
        try:
            make(row, f"row {number} of {len(rows)}")
        except BlinkError as error:
            yield row, error
        else:
            yield row, None


def _in_threads(
    rows: Sequence[R], make: Callable[[R, str], None], jobs: int, stop: threading.Event | None
) -> Iterator[tuple[R, BlinkError | None]]:
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(make, row, f"row {number} of {len(rows)}"): row for number, row in enumerate(rows, 1)}
        try:
            for future in as_completed(futures):
                error = future.exception()
                if error is not None and not isinstance(error, BlinkError):
                    raise error
                yield futures[future], error
        except BaseException:
            if stop is not None:
                stop.set()
            pool.shutdown(cancel_futures=True)
            raise


class Experiment(Protocol[RowIn]):
    """How the rows of a table are made by commands."""

    def folder(self, name: str) -> Path:
        """Of a row."""

    def commands(self, row: RowIn) -> list[Arguments]:
        """Arguments of ``blink`` that make a row, in order."""

    def inputs(self, row: RowIn) -> dict[str, str]:
        """Hashes of what a row reads; raises `MissingFileError`."""

    def before(self, row: RowIn) -> str | None:
        """The row that must be complete before this one."""

    def report(self, row: RowIn) -> dict[str, Any]:
        """What a complete row reports, beyond its cost and commands."""

    def summary(self, report: Mapping[str, Any]) -> str:
        """One line for the terminal."""


class CommandRows(Generic[R]):
    """Makes rows by commands.

    Args:
        plan: how.
        run: runs commands.
    """

    def __init__(self, plan: Experiment[R], run: Runner) -> None:
        self.plan, self.run = plan, run
        self.stop = threading.Event()
        self._started = time.monotonic()

    def request(self, row: R) -> dict[str, Any]:
        """Commands and inputs of a row, which decide its figures."""
        return {"commands": [list(c) for c in self.plan.commands(row)], "inputs": self.plan.inputs(row)}

    def is_complete(self, name: str) -> bool:
        """Whether a row has its report."""
        return (self.plan.folder(name) / REPORT).is_file()

    def check(self, rows: Sequence[R]) -> None:
        """Say now what would fail, or mix figures of different things, later.

        Raises:
            MismatchError: the folder of a row was started with other options or files.
        """
        for row in rows:
            file, request = self.plan.folder(row.name) / REQUEST, self.request(row)
            if file.is_file() and (before := read_json(file)) != request:
                what = "options" if before.get("commands") != request["commands"] else "files"
                raise MismatchError(
                    f"{file.parent} was started with other {what}; give the same ones, another folder by --out, or remove it"
                )

    def make(self, row: R, progress: str) -> None:
        """Run the commands of a row and write its report.

        Raises:
            RowFailed: a command failed, or the row that this one begins with is not complete.
        """
        before, folder, began = self.plan.before(row), self.plan.folder(row.name), time.monotonic()
        if before is not None and not self.is_complete(before):
            raise RowFailed(f"it begins with the model of row {before}, which is not complete; make that first")
        folder.mkdir(parents=True, exist_ok=True)
        request, revision = self.request(row), git_revision(ROOT)
        write_json(folder / REQUEST, request)
        for number, arguments in enumerate(request["commands"], 1):
            if self.stop.is_set():
                return
            say(f"{progress} {row.name}: {arguments[0]} ({number} of {len(request['commands'])}), {self.elapsed()}")
            self.run(tuple(arguments), folder / LOG)
        report = {"git": revision, "seconds": round(time.monotonic() - began, 1), **self.plan.report(row)}
        commands = [["blink", *arguments] for arguments in request["commands"]]
        write_json(folder / REPORT, {**report, "commands": commands, "inputs": request["inputs"]})
        say(f"{progress} {row.name}: {self.plan.summary(report)}")

    def dry_run(self, rows: Sequence[R]) -> None:
        """Print the commands of rows, for a shell."""
        for row in rows:
            lines = (shlex.join(["blink", *arguments]) for arguments in self.plan.commands(row))
            print(f"# {row.name}", *lines, sep="\n")  # noqa: T201

    def elapsed(self) -> str:
        """Since the script began."""
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        return f"{minutes} min {seconds:02d} s"

    @contextlib.contextmanager
    def stops_at_termination(self) -> Iterator[None]:
        """A polite kill reaches this process alone, as Ctrl-C does not: pass it to the commands, then stop as by Ctrl-C."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def terminate(number: int, frame: FrameType | None) -> NoReturn:
            self.stop.set()
            if isinstance(self.run, Processes):
                self.run.terminate()
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


class Processes:
    """Runs commands as separate processes; a `Runner`.

    Args:
        threads: that each may use.
    """

    def __init__(self, threads: int) -> None:
        number = str(threads)
        self._env = {**os.environ, "OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number}
        self._running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, arguments: Arguments, log: Path) -> None:
        """Run ``blink`` with arguments; see `Runner`."""
        command = [sys.executable, "-m", "blink.apps.cli", *arguments]
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._env)
            self._running.add(process)
            try:
                status = process.wait()
            finally:
                self._running.discard(process)
        if status:
            raise RowFailed(f"{last_line(log)} (exit status {status}; all of it in {log})")

    def terminate(self) -> None:
        """Ask all to stop; training saves its state first."""
        for process in list(self._running):
            process.terminate()


def last_line(log: Path) -> str:
    """The last line of an output that is not empty."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing was said").rsplit("\r", 1)[-1]


# -- results


def write_results(stem: Path, content: Any, page: str) -> None:
    """Write STEM.json and STEM.md."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_json(stem.with_name(f"{stem.name}.json"), content)
    write_page(stem.with_name(f"{stem.name}.md"), page)


def write_page(file: Path, page: str) -> None:
    """Write Markdown."""
    with atomic_open(file) as f:
        f.write(page)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int | None = None) -> str:
    """A table.

    Args:
        head: one title a column.
        rows: one cell a column.
        text_columns: columns that are text; those behind are aligned to the right. None: all are text.
    """
    texts = len(head) if text_columns is None else text_columns
    rule = "|" + " --- |" * texts + " ---: |" * (len(head) - texts)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation over seeds; a dash where there is nothing."""
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def print_json(result: Mapping[str, Any], out: Path | None = None) -> None:
    """Print a result, and write it where a file is named."""
    print(json.dumps(result, indent=2))  # noqa: T201
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)


def alternate(
    sides: Mapping[str, Callable[[], Any]], runs: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each side in each run: the sides run in turn, so that what slows the machine down slows all of them.

    The run before the first warms up and does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, action in sides.items():
            began = clock()
            action()
            if run:
                seconds[name].append(clock() - began)
    return seconds


# -- command lines


def data_option(help_text: str = "Folder of the data.") -> Callable[[Any], Any]:
    """The option ``--data DIR``, by default ``$BLINK_DATA``."""
    return click.option(
        "--data", envvar="BLINK_DATA", required=True, metavar="DIR", help=f"{help_text}  [default: $BLINK_DATA]"
    )


def as_help(text: str | None) -> str:
    """A docstring as the help of a command, its paragraphs as they are."""
    return (text or "").replace("\n\n", "\n\n\b\n")


def parse_seeds(text: str) -> list[int]:
    """Seeds of ``--seeds``.

    Raises:
        SettingsError: they are not whole numbers.
    """
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise SettingsError(f"--seeds is {text!r}; give whole numbers such as 0,1,2") from error


def run_script(command: click.Command, name: str) -> NoReturn:
    """Run a script's command; errors are one line."""
    raise SystemExit(guarded(lambda: command.main(prog_name=name, standalone_mode=False), name))
