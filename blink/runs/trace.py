"""``trace.jsonl``: the rows of a run as JSON lines. The first line is its provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blink.errors import DataError
from blink.files import atomic_open
from blink.input_files import read_bytes


class Trace:
    """The trace of a run.

    Every row has a ``kind``: ``run`` (provenance), ``step`` (losses and learning rate), ``epoch`` (mean losses),
    ``validation`` (scores on the development data).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, first: Mapping[str, Any]) -> None:
        """Replace the file by one row about the run."""
        self._write([{"kind": "run", **first}])

    def resume(self, step: int, first: Mapping[str, Any], *, pending: bool) -> None:
        """Drop the rows of steps after ``step``, which are repeated, and add a row for the continuation.

        With ``pending``, the validation after that step is repeated too.
        """

        def stays(row: Mapping[str, Any]) -> bool:
            of = row.get("step", 0)
            return of < step or (of == step and not (pending and row["kind"] == "validation"))

        self._write([*filter(stays, self.rows()), {"kind": "run", "step": step, **first}])

    def add(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append a row."""
        with self.path.open("a", encoding="utf-8") as f:
            f.write(json.dumps({"kind": kind, **row}) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All rows, see `read_trace`."""
        return read_trace(self.path)

    def first(self) -> dict[str, Any]:
        """The provenance of the run; empty without a trace."""
        return next(iter(self.rows()), {})

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        with atomic_open(self.path) as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The rows of a trace, without a last line that was cut off by a kill. There are none without the file.

    Raises:
        DataError: another line is damaged.
    """
    lines = read_bytes(path).split(b"\n") if path.exists() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(filter(None, lines), 1):
        try:
            rows.append(_row(line))
        except ValueError as error:
            if number == len(lines):
                break
            fix = "remove the line: the trace alone has it, no state of the run does"
            raise DataError(f"{path}, line {number}: no row of a trace ({error}); {fix}") from error
    return rows


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str) or not isinstance(row.get("step", 0), int):
        raise ValueError("no object with a kind and a step")
    return row
