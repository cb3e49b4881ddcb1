"""The results of an evaluation: metrics as JSON, a row per text, and a report for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.data.records import Sample
from blink.evaluation.counts import EvaluatedText, Prediction
from blink.evaluation.report import evaluate, format_report, prediction_records
from blink.evaluation.strata import SampleStrata, format_strata, stratum_scores
from blink.evaluation.usage import format_usage, usage_of
from blink.files import write_json, write_json_lines
from blink.model.execution import EXECUTION_KEY, Execution, execution_line


@dataclass(frozen=True)
class Results:
    """What an evaluation writes.

    Attributes:
        figures: metrics as a JSON object.
        rows: an object per text, for a file of JSON lines.
        report: text for a terminal.
    """

    figures: Mapping[str, Any]
    rows: Iterable[Mapping[str, Any]]
    report: str

    def write(self, figures: str | Path, rows: str | Path) -> None:
        """Write the figures as JSON, and the rows as JSON lines."""
        write_json(figures, self.figures)
        write_json_lines(rows, self.rows)


@dataclass(frozen=True)
class RunFigures:
    """The threshold of the results, the speed of the model, and how it ran; None if these are not known."""

    threshold: float
    questions_per_s: float | None
    execution: Execution | None

    def lines(self) -> str:
        """The lines of the report."""
        speed = [] if self.questions_per_s is None else [f"questions per second = {self.questions_per_s:.1f}"]
        return "\n".join([f"threshold = {self.threshold:g}", *speed, execution_line(self.execution)])

    def to_json(self) -> dict[str, Any]:
        """What of it results have as JSON in addition to those of `Report.to_json`."""
        return {EXECUTION_KEY: None if self.execution is None else self.execution.to_json()}

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows that say how the model ran."""
        execution = None if self.execution is None else str(self.execution)
        return ({**row, EXECUTION_KEY: execution} for row in rows)


def labelled_results(
    texts: Sequence[EvaluatedText],
    strata: Sequence[SampleStrata],
    run: RunFigures,
    cluster: str = "none",
    *,
    more: Mapping[str, Any] | None = None,
    before: str = "",
    after: str = "",
) -> Results:
    """Results of texts with gold.

    Args:
        texts: with gold and predictions.
        strata: of their gold mentions; empty if not known.
        run: threshold and speed.
        cluster: unit of resampling, ``none`` (texts) or ``paraphrase`` (groups of texts).
        more: further figures.
        before: text above the report.
        after: text below its tables.
    """
    report = evaluate(texts, by_group=cluster == "paraphrase")
    by_stratum = stratum_scores(texts, strata) if strata else {}
    figures = report.to_json(threshold=run.threshold, questions_per_s=run.questions_per_s)
    figures |= run.to_json() | {"cluster": cluster, "slices": {name: scores.to_json() for name, scores in by_stratum.items()}}
    sections = [before, format_report(report), format_strata(by_stratum) if by_stratum else "", after, run.lines()]
    return Results(figures | dict(more or {}), run.rows(prediction_records(texts)), _joined(sections))


def usage_results(
    samples: Sequence[Sample],
    predictions: Sequence[Sequence[Prediction]],
    run: RunFigures,
    *,
    more: Mapping[str, Any] | None = None,
    before: str = "",
) -> Results:
    """Results of texts without gold: numbers of links and their scores. Arguments are those of `labelled_results`."""
    usage = usage_of(predictions)
    figures = usage.to_json(threshold=run.threshold, questions_per_s=run.questions_per_s) | run.to_json()
    rows = run.rows(_usage_row(*pair) for pair in zip(samples, predictions, strict=True))
    return Results(figures | dict(more or {}), rows, _joined([before, f"{format_usage(usage)}\n{run.lines()}"]))


def _usage_row(sample: Sample, predictions: Sequence[Prediction]) -> dict[str, Any]:
    mentions = [
        {"id": p.id, "start": p.start, "end": p.end, "mention": sample.text[p.start : p.end], "score": p.score}
        for p in predictions
    ]
    return {"id": sample.id, "text": sample.text, "predicted": mentions}


def _joined(sections: Iterable[str]) -> str:
    return "\n\n".join(section for section in sections if section)
