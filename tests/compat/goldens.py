"""What the original ELQ itself made of the small model in the folder of golden files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "elq-tiny"
SETS = {"labelled": "questions_labelled", "unlabelled": "questions_unlabelled", "long0": "questions_long"}
"""Set of questions -> file."""


def runs() -> list[Any]:
    """Parameters of a test, one for each golden run; a skipped one where the files are absent."""
    summary = SHARED / "golden" / "summary.json"
    if not summary.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason="needs the folder 'shared' beside the checkout"))]
    return [pytest.param(run, id=f"{run['set']}-{run['run']}") for run in json.loads(summary.read_text())]


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
