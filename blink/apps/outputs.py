"""Where results go: files, or standard output for ``-``; and for people, a report on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.errors import MissingFileError, SettingsError
from blink.files import write_json, write_json_lines


@dataclass(frozen=True)
class Outputs:
    """Where the results of an evaluation go.

    Attributes:
        figures: file of JSON.
        rows: file with a JSON line per question.
    """

    figures: str | None = None
    rows: str | None = None

    def check(self) -> None:
        """Check the outputs before the work begins.

        Raises:
            SettingsError: an output is a folder, or both are standard output.
            MissingFileError: the folder of an output is not there.
        """
        if self.figures == self.rows == "-":
            raise SettingsError("--json and --rows both go to standard output; give one of them a file")
        for output in (self.figures, self.rows):
            if output not in (None, "-"):
                _check_path(Path(str(output)))

    def write(self, figures: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], report: str) -> None:
        """Write figures and rows, and print the report unless standard output is one of them."""
        if self.rows is not None:
            _write_rows(self.rows, rows)
        if self.figures is not None:
            _write_figures(self.figures, figures)
        if "-" not in (self.figures, self.rows):
            sys.stdout.write(report + "\n")


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; name a file to write")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent} does not exist; make the folder, or write elsewhere")


def _write_figures(path: str, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON: one line on standard output, indented in a file."""
    if path == "-":
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        write_json(path, figures)


def _write_rows(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON line for each row."""
    if path == "-":
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        write_json_lines(path, rows)
