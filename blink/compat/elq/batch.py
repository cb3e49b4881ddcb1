"""Links a mention file and writes the predictions."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from blink.apps.common import bar, say
from blink.compat.elq.flags import GOLD, JOINT
from blink.compat.elq.plan import Plan
from blink.compat.elq.predictions import RowPrediction, Totals, row_prediction
from blink.compat.elq.results import Results
from blink.compat.elq.rows import Row, RowMaker
from blink.data.records import Sample
from blink.data.windows import Window, owning_windows, window_around_gold, window_overlap
from blink.errors import DataError
from blink.evaluation.report import format_console_metrics
from blink.linking.decoder import PROBABILITY, Decision, decide
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans, joint_scores

ROWS_A_ROUND = 1024
"""Rows read ahead, so that batches hold inputs of like length."""


def link_file(plan: Plan, linker: Linker, samples: Iterable[Sample]) -> None:
    """Link the rows of a mention file, write or print the predictions, and print the metrics where there are labels."""
    totals = Totals()
    with Results.open(plan.save_to, sys.stdout) as results, bar("linking", None, "text") as progress:
        for _ in link_rows(plan, linker, samples, results, totals):
            progress.advance()
    if totals.labelled:
        print_metrics(totals)
    else:
        say(f"biencoder runtime = {totals.seconds:.3f}")


def print_metrics(totals: Totals) -> None:
    """Print precision, recall and F1, as the original does."""
    sys.stdout.write(format_console_metrics(totals.overall, totals.window, runtime_s=totals.seconds) + "\n")


def link_rows(
    plan: Plan, linker: Linker, samples: Iterable[Sample], results: Results, totals: Totals
) -> Iterator[RowPrediction]:
    """Link samples, write the predictions and add them to the totals.

    Yields:
        the prediction of each sample, in order.
    """
    rows = RowLinker(plan, linker)
    ready = rows.make(samples)
    while chunk := list(itertools.islice(ready, ROWS_A_ROUND)):
        started = time.perf_counter()
        scored = rows.score(chunk)
        done = [rows.decide(row, spans) for row, spans in zip(chunk, scored, strict=True)]
        totals.seconds += time.perf_counter() - started
        for row, spans, prediction in zip(chunk, scored, done, strict=True):
            results.add(row, spans, prediction)
            totals.add(row, prediction)
            yield prediction
    results.finish(totals.seconds)


class RowLinker:
    """Turns samples into rows, rows into scored spans, and these into links, as a plan says."""

    def __init__(self, plan: Plan, linker: Linker) -> None:
        self._plan = plan
        self._linker = linker
        self._model = linker.model
        self._length = plan.context_length or self._model.config.max_context_length
        self._maker = RowMaker(
            self._model.tokenizer,
            linker.catalogue,
            context_length=self._length,
            overlap=window_overlap(self._length - 2, self._model.config.max_mention_length),
            position_limit=linker.stages.detector.positions,
            # Names are compared in the text itself; where the model weighs them, tokens alone do not suffice.
            from_text=linker.stages.reranker is not None,
            insist=plan.stored_tokens,
            whole=plan.detector != JOINT,
            truncates=plan.truncates,
        )

    def make(self, samples: Iterable[Sample]) -> Iterator[Row]:
        """Yield rows ready for `score`."""
        labelled: bool | None = None
        for sample in samples:
            if self._plan.elq:
                labelled = sample.labelled if labelled is None else labelled
                row = self._maker.row_like_elq(sample, labelled)
            else:
                row = self._maker.row(sample)
            if self._plan.detector == GOLD and row.gold is None:
                raise DataError(f"row {sample.id!r} has no gold mentions, which -n none links; use -n joint")
            yield row

    def score(self, rows: Sequence[Row]) -> list[ScoredSpans]:
        """Run the model: tokens of the file are read as they are, texts go through the linker.

        Returns:
            scored spans, in positions of each row's tokens.
        """
        as_they_stand = self._propose if self._plan.detector == JOINT else self._score_given
        scored: dict[int, ScoredSpans] = {}
        for stored, run in ((True, as_they_stand), (False, self._score_texts)):
            indices = [i for i, row in enumerate(rows) if (row.stored or self._plan.elq) == stored]
            scored.update(zip(indices, run([rows[i] for i in indices]), strict=True))
        return [scored[i] for i in range(len(rows))]

    def decide(self, row: Row, spans: ScoredSpans) -> RowPrediction:
        """Decode the links of a row, and count its hits."""
        joint = self._plan.detector == JOINT
        links = decide(spans, self._linker.mode, self._linker.thresholds) if joint else _every(spans, self._linker.mode)
        return row_prediction(row, spans, links, self._linker.catalogue.title, self._model.tokenizer.decode)

    def _propose(self, rows: Sequence[Row]) -> list[ScoredSpans]:
        elq = self._plan.elq
        detector, least = self._linker.stages.detector, self._min_mention_log_prob()
        options = replace(detector.options, min_mention_log_prob=least, keep_all_if_none=elq, special_tokens=elq)
        inputs = [self._input(row, window.start, window.end) for row in rows for window in row.windows]
        mentions = detector.detect(inputs, self._plan.batch_size, options)
        scored = iter(self._linker.stages.candidates.retrieve(mentions))
        results = []
        for row in rows:
            windows = [next(scored).shift(window.start - 1) for window in row.windows]
            results.append(_merged(windows, row.windows) if windows else ScoredSpans.none(self._plan.entities))
        return results

    def _min_mention_log_prob(self) -> float:
        # A joint score is never above the mention's, so no link is lost.
        joint = self._linker.mode == "joint" and not self._plan.elq
        return max(self._plan.min_mention_log_prob, self._linker.thresholds.score) if joint else self._plan.min_mention_log_prob

    def _score_given(self, rows: Sequence[Row]) -> list[ScoredSpans]:
        # Every mention has a window of its own, so none is left out.
        cuts = [[window_around_gold(len(row.ids), [span], self._length) for span in self._given_spans(row)] for row in rows]
        inputs = [
            self._input(row, cut.window.start, cut.window.end) for row, of_row in zip(rows, cuts, strict=True) for cut in of_row
        ]
        bounds = [list(cut.bounds) for of_row in cuts for cut in of_row]
        mentions = self._linker.stages.detector.embed(inputs, bounds, self._plan.batch_size)
        scored = iter(self._linker.stages.candidates.retrieve(mentions))
        return [self._joined([next(scored).shift(cut.window.start - 1) for cut in of_row]) for of_row in cuts]

    def _given_spans(self, row: Row) -> list[tuple[int, int]]:
        if self._plan.detector == GOLD:
            return [(start, end) for start, end, _ in row.gold or ()]
        return [(0, len(row.ids))] if row.ids else []

    def _score_texts(self, rows: Sequence[Row]) -> list[ScoredSpans]:
        spans: list[list[tuple[int, int]]] | None = None
        if self._plan.detector == GOLD:
            spans = [[(m.start, m.end) for m in row.sample.mentions or ()] for row in rows]
        elif self._plan.detector != JOINT:
            spans = [[(0, len(row.sample.text))] if row.ids else [] for row in rows]
        texts = [row.sample.text for row in rows]
        size, least = self._plan.batch_size, self._min_mention_log_prob()
        analyses = self._linker.analyze(texts, spans=spans, batch_size=size, min_mention_log_prob=least)
        return [analysis.spans for analysis in analyses]

    def _input(self, row: Row, start: int, end: int) -> list[int]:
        return [self._model.tokenizer.cls_id, *row.ids[start:end], self._model.tokenizer.sep_id]

    def _joined(self, spans: Sequence[ScoredSpans]) -> ScoredSpans:
        return ScoredSpans.concatenate([ScoredSpans.none(self._plan.entities), *spans])


def _every(spans: ScoredSpans, mode: str) -> list[Decision]:
    """Given mentions are all linked, each to its best entity, whose probability among its candidates is the score."""
    best = joint_scores(spans)[:, 0]
    best = np.exp(best) if mode == PROBABILITY else best
    order = np.argsort(-best, kind="stable").tolist()
    return [Decision(i, int(spans.rows[i, 0]), float(best[i])) for i in order if spans.rows[i, 0] >= 0]


def _merged(spans: Sequence[ScoredSpans], windows: Sequence[Window]) -> ScoredSpans:
    """The spans of a row from those of its windows, each span from the window that owns it."""
    if len(spans) == 1:
        return spans[0]
    owned = [s.select(owning_windows(windows, s.start, s.end + 1) == i) for i, s in enumerate(spans)]
    return ScoredSpans.concatenate(owned)
