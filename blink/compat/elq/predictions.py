"""Prediction records of rows, and counts of hits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from blink.compat.elq.rows import Gold, Row
from blink.evaluation.counts import Counts
from blink.evaluation.matching import EntitySpan, count_matches
from blink.linking.decoder import Decision
from blink.linking.scoring import ScoredSpans


@dataclass(frozen=True)
class RowPrediction:
    """What is predicted of a row.

    Attributes:
        record: the line of ``biencoder_outs.jsonl``.
        overall: counts against the reported gold.
        window: counts against the gold inside the window.
    """

    record: dict[str, Any]
    overall: Counts
    window: Counts

    @property
    def flawless(self) -> bool:
        """Whether every gold mention was hit and nothing else predicted."""
        return self.overall.weak == self.overall.gold == self.overall.predicted


def row_prediction(
    row: Row,
    spans: ScoredSpans,
    decisions: Sequence[Decision],
    title: Callable[[int], str],
    decode: Callable[[Sequence[int]], str],
) -> RowPrediction:
    """Report the links of a row and count its hits.

    Args:
        row: the row.
        spans: its scored spans, in positions of ``row.ids``.
        decisions: the links among them.
        title: title of a catalogue row.
        decode: text of tokens.
    """
    shift = row.offset - row.start
    predicted = [(int(spans.start[d.span]) + shift, int(spans.end[d.span]) + 1 + shift, d.row) for d in decisions]

    def strings(mentions: Sequence[Gold], name: Callable[[int], str]) -> list[list[str]]:
        return [[name(r), decode(row.ids[s:e])] for s, e, r in mentions]

    record: dict[str, Any] = {"id": row.sample.id, "text": row.sample.text, "scores": [d.score for d in decisions]}
    record["pred_tuples_string"] = strings(predicted, title)
    if row.gold is not None:
        record["gold_tuples_string"] = strings(row.gold, lambda r: title(r) if r >= 0 else "")
    record["pred_triples"] = _lists(predicted)
    if row.gold is not None:
        record["gold_triples"] = _lists(row.gold)
    record["tokens"] = list(row.tokens)
    in_window = [(s - row.offset, e - row.offset, r) for s, e, r in predicted]
    return RowPrediction(record, _counts(row.gold or (), predicted), _counts(row.gold_in_window, in_window))


def _lists(mentions: Sequence[Gold]) -> list[list[Any]]:
    return [[str(row), start, end] for start, end, row in mentions]


def _counts(gold: Sequence[Gold], predicted: Sequence[Gold]) -> Counts:
    matches = count_matches(_spans(gold), _spans(predicted))
    return Counts(matches.weak, matches.strong, len(predicted), len(gold))


def _spans(mentions: Sequence[Gold]) -> list[EntitySpan]:
    return [EntitySpan(str(row), start, end) for start, end, row in mentions]


class Totals:
    """Sums over the rows of a file.

    Attributes:
        overall: counts against all gold mentions.
        window: counts against the gold mentions inside the model's windows.
        labelled: whether any row has labels.
        seconds: spent on linking.
    """

    def __init__(self) -> None:
        self.overall = Counts()
        self.window = Counts()
        self.labelled = False
        self.seconds = 0.0

    def add(self, row: Row, prediction: RowPrediction) -> None:
        """Add a row. One without labels counts nowhere: its predictions are neither right nor wrong."""
        if row.gold is None:
            return
        self.labelled = True
        self.overall = _sum(self.overall, prediction.overall)
        self.window = _sum(self.window, prediction.window)


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(*map(sum, zip(astuple(one), astuple(other), strict=True)))
