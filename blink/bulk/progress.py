"""How far a bulk run is, in words: the share of the input, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from blink.bulk.rows import Counts
from blink.bulk.sources import Input, Position


class Pace:
    """Measures the pace of a run from its first commit on, without the time that opening a linker takes.

    Args:
        inputs: the inputs.
        counts: of the rows of earlier calls.
        start: position where this call begins.
        clock: seconds.
    """

    def __init__(
        self, inputs: Sequence[Input], counts: Counts, start: Position, clock: Callable[[], float] = time.monotonic
    ) -> None:
        sizes = [item.size for item in inputs]
        self._total = None if None in sizes else sum(size or 0 for size in sizes)
        self._before = [sum(size or 0 for size in sizes[:n]) for n in range(len(sizes))]
        self._clock, self._counts, self._start = clock, counts, start
        self._began = self._last = clock()

    def begin(self) -> None:
        """Note that the linker is open."""
        self._began = self._last = self._clock()

    def lap(self) -> float:
        """Seconds since the last call, or since the linker was open."""
        last, self._last = self._last, self._clock()
        return self._last - last

    def remark(self, counts: Counts, position: Position) -> str:
        """How far the run is at a position, where ``counts`` rows are committed: what a bar without a total does not show."""
        seconds = self._clock() - self._began
        items = [f"{counts.records:,} in all"] if self._counts.records else []
        if self._total:
            done, before = self._stored(position), self._stored(self._start)
            items.append(f"{min(done / self._total, 1.0):.1%} of the input")
            if done > before:
                items.append(f"{duration((self._total - done) / (done - before) * seconds)} left")
        if counts.n_errors:
            items.append(f"{counts.n_errors:,} errors")
        return ", ".join(items)

    def _stored(self, position: Position) -> int:
        return self._before[position.file] + position.stored


def duration(seconds: float) -> str:
    """A duration, such as ``2 h 10 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
