"""``trace.jsonl``: what a run did, a JSON line at a time; its first line says where the run comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blink.files import atomic_open


class Trace:
    """The trace of a run.

    Every row has a ``kind``: ``run`` (provenance), ``step`` (losses and learning rate), ``epoch`` (mean losses),
    ``validation`` (scores on the development texts).

    Args:
        path: the file.
        active: whether rows are written at all: of several processes, the first writes.
    """

    def __init__(self, path: Path, active: bool = True) -> None:
        self.path, self._active = path, active

    def begin(self, first: dict[str, Any]) -> None:
        """Start anew with a row about the run."""
        if self._active:
            self._write([{"kind": "run", **first}])

    def go_on(self, step: int, first: dict[str, Any], *, pending: bool) -> None:
        """Drop what is beyond ``step``, which is done again, and note that the run went on from there.

        ``pending``: the validation after that step is done again too.
        """

        def kept(row: dict[str, Any]) -> bool:
            at = row.get("step", 0)
            return at < step or (at == step and not (pending and row["kind"] == "validation"))

        if self._active:
            rows = [row for row in read_trace(self.path) if kept(row)]
            self._write([*rows, {"kind": "run", "step": step, **first}])

    def add(self, kind: str, row: dict[str, Any]) -> None:
        """Append a row."""
        if self._active:
            with self.path.open("a", encoding="utf-8") as f:
                f.write(json.dumps({"kind": kind, **row}) + "\n")

    def first(self) -> dict[str, Any]:
        """The row about the run; empty where there is none."""
        return next(iter(read_trace(self.path)), {})

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with atomic_open(self.path) as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The rows of a trace; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
