"""What long work reports to its caller, who may draw a bar of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TextIO, TypeAlias, TypeVar

from blink.terminal import escaped_line


class Progress(Protocol):
    """The progress of one stage."""

    def advance(self, count: int = 1) -> None:
        """``count`` more units are finished."""

    def note(self, text: str) -> None:
        """Replace the remark on the stage, such as a loss."""


class StageBar(Progress, Protocol):
    """A stage that ends when it is told to."""

    def reuse(self, count: int) -> None:
        """``count`` units were finished by an earlier run."""

    def close(self, *, completed: bool = True) -> None:
        """End the stage; ``completed`` is false where an error ends it."""


INTERVAL_S = 30.0
"""Seconds between two lines of a stage whose progress is written as lines."""
_WINDOW = 10


class TerminalBar:
    """The progress of a stage as a bar on a terminal; arguments and methods as of `ProgressLines`."""

    def __init__(self, name: str, total: int | None, unit: str, terminal: TextIO) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, desc=escaped_line(name), unit=unit, file=terminal, dynamic_ncols=True)

    def advance(self, count: int = 1) -> None:
        """``count`` more units are finished."""
        self._bar.update(count)

    def reuse(self, count: int) -> None:
        """``count`` units were finished by an earlier run."""
        self._bar.initial += count
        self._bar.update(count)

    def note(self, text: str) -> None:
        """Replace the remark on the stage."""
        self._bar.set_postfix_str(escaped_line(text))

    def close(self, *, completed: bool = True) -> None:
        """End the stage."""
        self._bar.close()


class ProgressLines:
    """The progress of a stage as lines, for a log or a pipe: one every `INTERVAL_S`, and one at the end of a longer stage.

    A thread writes them, so that a stage which reports nothing for minutes is not silent.

    Args:
        name: of the stage.
        total: units of the stage; None where nobody knows.
        unit: singular.
        write: writes a line, without its end.
    """

    def __init__(self, name: str, total: int | None, unit: str, write: Callable[[str], None]) -> None:
        self._name, self._total, self._unit, self._write = name, total, unit, write
        self._done = self._reused = 0
        self._remark = ""
        self._interval_s, self._start_s = INTERVAL_S, time.monotonic()
        self._samples = deque([(self._start_s, 0)], maxlen=_WINDOW)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()

    def advance(self, count: int = 1) -> None:
        """``count`` more units are finished."""
        self._done += count

    def reuse(self, count: int) -> None:
        """``count`` units were finished by an earlier run; they count for no rate."""
        self._reused += count

    def note(self, text: str) -> None:
        """Replace the remark on the stage."""
        self._remark = text

    def close(self, *, completed: bool = True) -> None:
        """End the stage; a line gives its total and rate if it took longer than `INTERVAL_S`."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        elapsed_s = time.monotonic() - self._start_s
        if elapsed_s >= self._interval_s and completed:
            self._write(self._last_line(elapsed_s))

    def _report(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._samples.append((time.monotonic(), self._done))
            self._write(self._line())

    def _line(self) -> str:
        (first_s, first), (now_s, done) = self._samples[0], self._samples[-1]
        parts = [f"{clock(now_s - self._start_s)} so far"]
        rate = (done - first) / (now_s - first_s)
        finished = done + self._reused
        if finished:
            parts = [self._count(finished, self._total)]
        if rate:
            parts.append(_rate(rate, self._unit))
            if self._total:
                parts.append(f"{clock(max(self._total - finished, 0) / rate)} left")
        return f"{self._name}: {', '.join([*parts, *filter(None, [self._remark])])}"

    def _last_line(self, elapsed_s: float) -> str:
        parts = [f"done in {clock(elapsed_s)}"]
        if self._done + self._reused:
            parts = [f"{self._count(self._done + self._reused, None)} in {clock(elapsed_s)}"]
        if self._done:
            parts.append(_rate(self._done / elapsed_s, self._unit))
        return f"{self._name}: {', '.join([*parts, *filter(None, [self._remark])])}"

    def _count(self, count: int, total: int | None) -> str:
        units = _units(total or count, self._unit)
        return f"{count:,} of {total:,} {units} ({count / total:.0%})" if total else f"{count:,} {units}"


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``, ``3675`` -> ``1:01:15``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _units(count: int, unit: str) -> str:
    if count == 1 or unit.isupper():  # such as MB
        return unit
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def _rate(per_second: float, unit: str) -> str:
    if per_second < 1:
        return f"{1 / per_second:.1f} s/{unit}"
    return f"{per_second:,.{0 if per_second >= 10 else 1}f}/s"


Bars: TypeAlias = Callable[[str, "int | None", str], AbstractContextManager[Progress]]
"""Begins a stage: its name, its number of units or None, and the unit. The stage ends with the context."""


class _NoProgress:
    def advance(self, count: int = 1) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""


def no_bars(name: str, total: int | None, unit: str) -> AbstractContextManager[Progress]:
    """A stage whose progress nobody watches."""
    return contextlib.nullcontext(_NoProgress())


Stage = TypeVar("Stage", bound=StageBar)


@contextlib.contextmanager
def ending(stage: Stage) -> Iterator[Stage]:
    """End a stage with the block."""
    try:
        yield stage
    except BaseException:
        stage.close(completed=False)
        raise
    stage.close()


class StageBars:
    """A bar for each of several stages, one after the other; the next one ends the one before.

    Args:
        open_bar: opens a bar: name, units or None, unit.
        unit: of all stages.
    """

    def __init__(self, open_bar: Callable[[str, int | None, str], StageBar], unit: str) -> None:
        self._open_bar, self._unit = open_bar, unit
        self._bar: StageBar | None = None
        self.name = ""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage; 0 units where it does not count any."""
        self.close()
        self.name, self._bar = name, self._open_bar(name, total or None, self._unit)

    def advance(self, count: int = 1) -> None:
        """``count`` more units of the present stage are finished."""
        if self._bar is not None:
            self._bar.advance(count)

    def reuse(self, count: int) -> None:
        """``count`` units of the present stage were finished by an earlier run."""
        if self._bar is not None:
            self._bar.reuse(count)

    def note(self, text: str) -> None:
        """Replace the remark on the present stage."""
        if self._bar is not None:
            self._bar.note(text)

    def close(self, *, completed: bool = True) -> None:
        """End the present stage."""
        if self._bar is not None:
            self._bar.close(completed=completed)
        self._bar = None
