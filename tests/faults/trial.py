"""Tries a writer: every call failed in every way, and the power lost after every call. Afterwards a reader sees old or new."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blink.errors import MissingFileError
from tests.faults.disk import FAULTS, Call, Ended, Op, Watch, forked, recorded
from tests.faults.power import CrashState, crash_states

ABSENT = "absent"
"""What is read where there is nothing, which is complete too: the state before the first call."""


@dataclass(frozen=True)
class Work:
    """Folders of a trial.

    Attributes:
        inputs: what the writer reads, and does not change.
        root: what it writes; its calls are watched.
    """

    inputs: Path
    root: Path


_UNFINISHED = re.compile(r"(^|/)\.[^/]+\.[a-z0-9_]{8}\.part(/|$)")
"""A file or folder that was being written: the first writer of its name, in another process and a second later, removes it."""


def nothing(work: Work) -> None:
    """No inputs."""


@dataclass(frozen=True)
class Writer:
    """A writer of the product.

    Attributes:
        name: for the table.
        write: writes below the root: 0 the old state, 1 the new one.
        read: what the reader of the product has of it, whole; MissingFileError where there is nothing.
        prepare: writes the inputs.
        old: whether there is an old state.
        required: whether it matters; else a fault may cost the new state without an error, as that of a history.
        repeats: whether the same call may be given again where it succeeded; else it is only after an error that left the old.
    """

    name: str
    write: Callable[[Work, int], Any]
    read: Callable[[Work], Any]
    prepare: Callable[[Work], None] = nothing
    old: bool = True
    repeats: bool = True
    required: bool = True


@dataclass(frozen=True)
class Finding:
    """Something that must not be.

    Attributes:
        writer: its name.
        what: which rule was broken.
        where: the fault and the call, or the loss of power.
        detail: what was seen.
    """

    writer: str
    what: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.writer}: {self.what}; {self.where}: {self.detail}"


@dataclass
class Outcome:
    """What came of the trials of one writer.

    Attributes:
        calls: of the writer, when nothing fails.
        tried: number of trials.
        states: of what the reader had afterwards: ``old``, ``new``, ``neither``.
        findings: what must not be.
    """

    writer: str
    calls: int
    tried: int = 0
    states: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def _read(writer: Writer, work: Work) -> Any:
    try:
        return writer.read(work)
    except MissingFileError:
        return ABSENT


def _imported(act: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What a function returns, and the modules that it imports."""
    before = set(sys.modules)
    value = act()
    return value, [name for name in sys.modules if name not in before]


def _import(names: list[str]) -> None:
    """Import what a trial imported, so that the trials to come need not: they are forked from this process."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class Trial:
    """Trials of one writer in a folder.

    Args:
        writer: the writer.
        folder: a new folder.

    Attributes:
        calls: what the writer does when nothing fails.
    """

    def __init__(self, writer: Writer, folder: Path) -> None:
        self.writer, self.folder = writer, folder
        self.work = Work(folder / "inputs", folder / "root")
        for path in (self.work.inputs, self.work.root):
            path.mkdir(parents=True)
        self._before, self._after = folder / "before", folder / "after"
        self._require(forked(self._prepare), "cannot be prepared")
        self.work.root.rename(self._before)
        self._restore()
        self.old = self._value("the old state cannot be read")
        record = folder / "calls"
        watch = Watch(self.work.root, record=record)
        ended = self._require(forked(lambda: _imported(lambda: writer.write(self.work, 1))[1], watch), "fails without a fault")
        _import(ended.value)
        self.calls: list[Call] = recorded(record)
        record.unlink()
        self.new = self._value("the new state cannot be read")
        if self.old == self.new:
            raise AssertionError(f"{writer.name}: the new state is the old one")
        self._left = _names(self.work.root)
        self._crash_states: list[CrashState] | None = None
        self._crash_states = crash_states(self.calls, self.work.root, self._before)

    def _prepare(self) -> None:
        self.writer.prepare(self.work)
        if self.writer.old:
            self.writer.write(self.work, 0)

    def _require(self, ended: Ended, problem: str) -> Ended:
        if ended.status:
            raise AssertionError(f"{self.writer.name} {problem} ({ended.status}): {ended.printed[-2000:]}")
        return ended

    def _value(self, problem: str) -> Any:
        value, imported = self._require(forked(lambda: _imported(lambda: _read(self.writer, self.work))), problem).value
        _import(imported)
        return value

    def _restore(self) -> None:
        shutil.rmtree(self.work.root, ignore_errors=True)
        shutil.copytree(self._before, self.work.root, symlinks=True)

    # -- faults --------------------------------------------------------------------------------------------------

    def places(self) -> list[tuple[int, str]]:
        """Every call with every fault that it can have."""
        numbered = list(enumerate(self.calls, 1))
        return [(at, name) for name, (_, ops) in FAULTS.items() for at, call in numbered if call.op in ops]

    def faults(self, sample: int | None = None, seed: int = 0) -> Outcome:
        """Fail calls, all of them or a sample."""
        outcome, places = Outcome(self.writer.name, len(self.calls)), self.places()
        if sample is not None and sample < len(places):
            places = sorted(random.Random(seed).sample(places, sample))
        for at, fault in places:
            self._fail(at, fault, outcome)
        return outcome

    def _fail(self, at: int, fault: str, outcome: Outcome) -> None:
        self._restore()
        ended = forked(lambda: self.writer.write(self.work, 1), Watch(self.work.root, at, fault))
        call = self.calls[at - 1]
        where = f"{fault} at call {at}, {call.op.name.lower()} of {os.path.relpath(call.other or call.path, self.folder)}"

        def found(what: str, detail: str) -> None:
            outcome.findings.append(Finding(self.writer.name, what, where, detail))

        again = forked(lambda: self._again(ended.status != 0 or self.writer.repeats))
        outcome.tried += 1
        if again.value is None:
            outcome.states["neither"] += 1
            found("cannot be read, or given again", again.printed[-1500:])
            return
        state = self._state(again.value[0])
        outcome.states[state] += 1
        if state == "neither" or (ended.status == 0 and state != "new" and self.writer.required):
            found("neither old nor new" if state == "neither" else "reported as done, and is not", again.value[0])
        if ended.status not in (0, 1):
            found("no error of a command", f"{ended.status}: {ended.printed[-1500:]}")
        elif ended.status == 1:
            lines = ended.error_lines
            if len(lines) != 1 or str(self.folder) not in lines[0]:
                found("no line that names the path", ended.printed[-300:])
        # What the disk does not remove may stay: it must not be in the way.
        self._check_again(again.value, found, unremoved=call.op in (Op.UNLINK, Op.RMDIR))

    def _again(self, failed: bool) -> tuple[Any, Any, str]:
        """What is read after a fault, and after the same command again, with its error."""
        state = _described(self.writer, self.work)
        if not failed or (state == self.new and not self.writer.repeats):
            return state, state, ""
        try:
            self.writer.write(self.work, 1)
        except Exception as error:
            return state, _described(self.writer, self.work), f"{type(error).__name__}: {error}"
        return state, _described(self.writer, self.work), ""

    def _check_again(self, value: tuple[Any, Any, str], found: Callable[[str, str], None], *, unremoved: bool = False) -> None:
        _, last, error = value
        if error:
            found("the same command again fails", error)
        elif last != self.new:
            found("the same command again gives something else", str(last)[:300])
        elif not unremoved and (left := [name for name in _names(self.work.root) - self._left if not _UNFINISHED.search(name)]):
            found("left over", ", ".join(sorted(left))[:200])

    def _state(self, value: Any) -> str:
        return "new" if value == self.new else "old" if value == self.old else "neither"

    # -- loss of power -------------------------------------------------------------------------------------------

    def crash_states(self) -> list[CrashState]:
        """The different states of the disk in which a loss of power may leave it."""
        return list(self._crash_states or ())

    def power(self, sample: int | None = None, seed: int = 0, again: float = 0.1) -> Outcome:
        """Lose the power, in all states or a sample; in a share of them the command is given again."""
        outcome, states, chance = Outcome(self.writer.name, len(self.calls)), self.crash_states(), random.Random(seed)
        if sample is not None and sample < len(states):
            states = [states[i] for i in sorted(chance.sample(range(len(states)), sample))]
        for state in states:
            self._lose(state, outcome, chance.random() < again)
        return outcome

    def _lose(self, state: CrashState, outcome: Outcome, again: bool) -> None:
        state.restore(self.work.root)
        read = forked(lambda: self._again(again))
        where = f"power lost after call {state.after} of {len(self.calls)}, {state.about}"
        outcome.tried += 1

        def found(what: str, detail: str) -> None:
            outcome.findings.append(Finding(self.writer.name, what, where, detail))

        if read.value is None:
            outcome.states["neither"] += 1
            found("cannot be read, or given again", read.printed[-1500:])
            return
        kind = self._state(read.value[0])
        outcome.states[kind] += 1
        if kind == "neither":
            found("neither old nor new", str(read.value[0])[:300])
        if again:
            self._check_again(read.value, found)


def _described(writer: Writer, work: Work) -> Any:
    """What is read; an error as text."""
    try:
        return _read(writer, work)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def table(outcomes: Iterator[Outcome] | list[Outcome]) -> str:
    """Outcomes as a table in Markdown, with their sums."""
    rows, total = list(outcomes), Counter[str]()
    lines = ["| writer | calls | trials | old | new | neither | other findings |", f"| --- |{' ---: |' * 6}"]
    for row in rows:
        other = sum(finding.what != "neither old nor new" for finding in row.findings)
        states = {state: row.states[state] for state in ("old", "new", "neither")}
        values = {"calls": row.calls, "tried": row.tried, **states, "other": other}
        total.update(values)
        lines.append(f"| {row.writer} | " + " | ".join(f"{n:,}" for n in values.values()) + " |")
    lines.append(f"| **{len(rows)} writers** | " + " | ".join(f"{n:,}" for n in total.values()) + " |")
    return "\n".join(lines)
