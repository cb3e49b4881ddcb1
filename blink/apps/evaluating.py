"""``blink eval``."""

from __future__ import annotations

import sys
import time
from typing import Any

from blink.apps.common import bar
from blink.apps.linking import open_linker
from blink.apps.outputs import check_outputs, write_figures, write_rows
from blink.data.mention_files import bind, read_samples, require_rows
from blink.errors import DataError


def evaluate_file(
    file: str, json_out: str | None, rows_out: str | None, batch_size: int, cluster: str = "none", **options: Any
) -> None:
    """Link the texts of a mention file, compare with its gold, and report."""
    from blink.evaluation.report import evaluate, format_report, question_from, question_rows

    samples = list(read_samples(file))
    unlabelled = next((s.id for s in samples if s.mentions is None), None)
    if unlabelled is not None:
        raise DataError(
            f"{file}: {unlabelled!r} has no gold mentions in characters; "
            "evaluation needs 'mentions' with 'label_id' or 'wikidata_id'"
        )
    check_outputs(json_out, rows_out)
    linker = open_linker(**options)
    samples = list(bind(samples, linker.catalogue))
    require_rows(samples, len(linker.catalogue))
    started = time.perf_counter()
    with bar("linking", len(samples), "question") as shown:
        linked = list(linker.link([s.text for s in samples], batch_size=batch_size, progress=shown.advance))
    speed = len(samples) / (time.perf_counter() - started)
    questions = [question_from(s, found) for s, found in zip(samples, linked, strict=True)]
    report = evaluate(questions, by_group=cluster == "paraphrase")
    figures = report.to_json(threshold=linker.cut.score, questions_per_s=speed)
    if rows_out is not None:
        write_rows(rows_out, question_rows(questions))
    if json_out is not None:
        write_figures(json_out, figures)
    if "-" in (json_out, rows_out):
        return
    sys.stdout.write(f"{format_report(report)}\nthreshold = {linker.cut.score:g}\nquestions per second = {speed:.1f}\n")
