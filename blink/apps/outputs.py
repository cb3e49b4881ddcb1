"""Where results go: a file, or standard output for ``-``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blink.errors import MissingFileError, SettingsError
from blink.files import atomic_open, write_json


def check_outputs(*outputs: str | None) -> None:
    """Say now what would fail when all the work is done; None is no output.

    Raises:
        SettingsError: one is a folder, or two are standard output.
        MissingFileError: the folder of one is not there.
    """
    if sum(out == "-" for out in outputs) > 1:
        raise SettingsError("--json and --rows both go to standard output; give one of them a file")
    for out in outputs:
        if out not in (None, "-"):
            _check_place(Path(str(out)))


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; name a file to write")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent} does not exist; make the folder, or write elsewhere")


def write_figures(path: str, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON: one line on standard output, indented in a file."""
    if path == "-":
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        write_json(path, figures)


def write_rows(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON line for each row."""
    if path == "-":
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        return
    with atomic_open(path) as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
