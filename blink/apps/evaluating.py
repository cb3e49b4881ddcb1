"""``blink eval``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blink.apps.common import bar
from blink.apps.linking import open_linker
from blink.data.mention_files import bind, read_samples, require_rows
from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import atomic_open, write_json


def evaluate_file(file: str, json_out: str | None, rows_out: str | None, batch_size: int, **options: Any) -> None:
    """Link the texts of a mention file, compare with its gold, and report."""
    from blink.evaluation.report import evaluate, format_report, question_from, question_rows

    samples = list(read_samples(file))
    unlabelled = next((s.id for s in samples if s.mentions is None), None)
    if unlabelled is not None:
        raise DataError(
            f"{file}: {unlabelled!r} has no gold mentions in characters; "
            "evaluation needs 'mentions' with 'label_id' or 'wikidata_id'"
        )
    for out in (json_out, rows_out):
        if out not in (None, "-"):
            _check_out(Path(str(out)))
    if json_out == rows_out == "-":
        raise SettingsError("--json and --rows both go to standard output; give one of them a file")
    linker = open_linker(**options)
    samples = list(bind(samples, linker.catalogue))
    require_rows(samples, len(linker.catalogue))
    started = time.perf_counter()
    with bar("linking", len(samples), "question") as shown:
        linked = list(linker.link([s.text for s in samples], batch_size=batch_size, progress=shown.advance))
    speed = len(samples) / (time.perf_counter() - started)
    questions = [question_from(s, found) for s, found in zip(samples, linked, strict=True)]
    report = evaluate(questions)
    figures = report.to_json(threshold=linker.cut.score, questions_per_s=speed)
    if rows_out is not None:
        _write_rows(rows_out, question_rows(questions))
    if json_out == "-":
        sys.stdout.write(json.dumps(figures) + "\n")
    elif json_out is not None:
        write_json(json_out, figures)
    if "-" in (json_out, rows_out):
        return
    sys.stdout.write(f"{format_report(report)}\nthreshold = {linker.cut.score:g}\nquestions per second = {speed:.1f}\n")


def _check_out(path: Path) -> None:
    """Say now what would fail when all the work is done."""
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; name a file to write")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent} does not exist; make the folder, or write elsewhere")


def _write_rows(path: str, rows: Iterable[dict[str, Any]]) -> None:
    if path == "-":
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        return
    with atomic_open(path) as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
