"""Sorts more records than memory should hold: sorted runs in a temporary file, merged by ranges of keys."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

RUN_RECORDS = 1 << 22
_SAMPLES_PER_RUN = 256


class ExternalSorter:
    """Sorts records of a 64-bit key, with or without a value, in limited memory.

    Records are collected; ``run_records`` of them are sorted and written to a temporary file without a name.
    Runs are merged by ranges of keys, each of which is read from all runs and sorted again: no heap, no loop over records.

    Args:
        folder: of the temporary file.
        with_values: whether records have a value (uint64) besides their key; equal keys are sorted by value.
        group_bits: last bits of keys that do not tell groups apart; a block holds whole groups.
        run_records: records in memory; about 50 bytes each at the peak.
    """

    def __init__(
        self, folder: str | Path, *, with_values: bool = False, group_bits: int = 0, run_records: int = RUN_RECORDS
    ) -> None:
        self._width, self._group_bits, self._run_records = 2 if with_values else 1, np.uint64(group_bits), run_records
        self._blocks: list[np.ndarray] = []
        self._in_blocks = 0
        self._runs: list[int] = []
        self._folder = folder
        self._file: IO[bytes] | None = None

    def __enter__(self) -> ExternalSorter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return sum(self._runs) + self._in_blocks

    def add(self, *columns: np.ndarray) -> None:
        """Add records: their keys and, if they have any, values. *Shape:* (n,), uint64, each."""
        block = np.stack(columns, axis=0).astype(np.uint64, copy=False)
        assert len(block) == self._width
        self._blocks.append(block)
        self._in_blocks += block.shape[1]
        if self._in_blocks >= self._run_records:
            run = self._collected()
            self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by __exit__
            self._file.write(np.ascontiguousarray(run).data)
            self._runs.append(run.shape[1])

    def blocks(self) -> Iterator[tuple[np.ndarray, ...]]:
        """All records by ascending key, in blocks of whole groups of keys. *Shape:* (n,), uint64, each column."""
        rest = self._collected() if self._in_blocks else None
        if not self._runs:
            yield from [] if rest is None else [tuple(rest)]
            return
        runs = [*self._stored_runs(), *([] if rest is None else [_Run(rest)])]
        samples = np.sort(np.concatenate([run.keys[:: max(1, run.records // _SAMPLES_PER_RUN)] for run in runs]))
        n_ranges = -(-sum(run.records for run in runs) // self._run_records)
        splitters = samples[[len(samples) * i // n_ranges for i in range(1, n_ranges)]]
        splitters = np.unique(splitters >> self._group_bits << self._group_bits)
        bounds = [np.concatenate([[0], np.searchsorted(run.keys, splitters), [run.records]]).tolist() for run in runs]
        for i in range(len(splitters) + 1):
            merged = _sorted([run.read(bound[i], bound[i + 1]) for run, bound in zip(runs, bounds, strict=True)])
            if merged.shape[1]:
                yield tuple(merged)

    def _collected(self) -> np.ndarray:
        run = _sorted(self._blocks)
        self._blocks, self._in_blocks = [], 0
        return run

    def _stored_runs(self) -> list[_Run]:
        assert self._file is not None
        self._file.flush()
        starts = np.cumsum([0, *self._runs]).tolist()
        return [_StoredRun(self._file, self._width, start, records) for start, records in zip(starts, self._runs, strict=False)]


class _Run:
    """A sorted run in memory."""

    def __init__(self, columns: np.ndarray) -> None:
        self.columns, self.keys, self.records = columns, columns[0], columns.shape[1]

    def read(self, begin: int, end: int) -> np.ndarray:
        return self.columns[:, begin:end]


class _StoredRun(_Run):
    """A sorted run in a file. It is mapped to look keys up, and read, since pages of a map would count as memory in use."""

    def __init__(self, file: IO[bytes], width: int, start: int, records: int) -> None:
        super().__init__(np.memmap(file, np.uint64, "r", start * 8 * width, (width, records)))
        self._file, self._first = file, start * width

    def read(self, begin: int, end: int) -> np.ndarray:
        columns = np.empty((len(self.columns), end - begin), dtype=np.uint64)
        for i, column in enumerate(columns):
            self._file.seek(8 * (self._first + i * self.records + begin))
            self._file.readinto(memoryview(column))  # type: ignore[attr-defined, arg-type]
        return columns


def _sorted(blocks: list[np.ndarray]) -> np.ndarray:
    together = np.concatenate(blocks, axis=1)
    if len(together) == 1:
        together[0].sort()
        return together
    ordered: np.ndarray = together[:, np.lexsort((together[1], together[0]))]
    return ordered
