"""The files of predictions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from blink.compat.elq.predictions import RowPrediction
from blink.compat.elq.rows import Row
from blink.files import atomic_open, locked
from blink.linking.scoring import ScoredSpans, joint_scores

OUTS_FILE, ERRORS_FILE = "biencoder_outs.jsonl", "biencoder_errors.jsonl"
ARRAYS_FILE, RUNTIME_FILE = "predictions.npz", "runtime.txt"


class Results:
    """Writes a folder of predictions; without a folder, prints those of rows that have no labels, if anywhere.

    ``biencoder_outs.jsonl`` has a line for every row, ``biencoder_errors.jsonl`` those whose links are not just the gold,
    ``runtime.txt`` the seconds spent. ``predictions.npz`` has the arrays (the original's five files of pickled arrays), row
    after row and in order of position; ``offsets[i]:offsets[i + 1]`` are those of row i:

    | array | shape | meaning | the original's file |
    | --- | --- | --- | --- |
    | ``offsets`` | (rows + 1,) | where each row begins | |
    | ``mention_bounds`` | (m, 2) | first and last position in ``tokens``; 0 is ``[CLS]`` | ``biencoder_mention_bounds.npy`` |
    | ``mention_scores`` | (m,) | raw mention scores | ``biencoder_mention_scores.npy`` |
    | ``nns`` | (m, k) | catalogue rows, best first, or -1 | ``biencoder_nns.npy`` |
    | ``cand_scores`` | (m, k) | inner products, or the reranker's log-odds | ``biencoder_cand_scores.npy`` |
    | ``dists`` | (m, k) | joint scores, made of these | ``biencoder_dists.npy`` |
    """

    def __init__(self, folder: Path | None, outs: IO[str] | None, errors: IO[str] | None) -> None:
        self._folder = folder
        self._outs = outs
        self._errors = errors
        self._spans: list[ScoredSpans] = []

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path | None, printed_to: IO[str] | None = None) -> Iterator[Results]:
        """Results whose files are there when the block succeeds; without a folder, rows go to ``printed_to``."""
        if folder is None:
            yield cls(None, printed_to, None)
            return
        with locked(folder), atomic_open(folder / OUTS_FILE) as outs, atomic_open(folder / ERRORS_FILE) as errors:
            yield cls(folder, outs, errors)

    def add(self, row: Row, spans: ScoredSpans, prediction: RowPrediction) -> None:
        """Add a row."""
        line = json.dumps(prediction.record) + "\n"
        if self._outs is not None and (self._folder is not None or row.gold is None):
            self._outs.write(line)
        if self._errors is not None and row.gold is not None and not prediction.flawless:
            self._errors.write(line)
        if self._folder is not None:
            self._spans.append(spans.shift(1 - row.start))

    def finish(self, seconds: float) -> None:
        """Write the files of the whole run."""
        if self._folder is None:
            return
        spans = ScoredSpans.concatenate(self._spans)
        arrays: dict[str, Any] = {
            "offsets": np.cumsum([0, *map(len, self._spans)]),
            "mention_bounds": np.stack([spans.start, spans.end], axis=1),
            "mention_scores": spans.mention_logits,
            "nns": spans.rows,
            "cand_scores": spans.entity_logits,
            "dists": joint_scores(spans),
        }
        with atomic_open(self._folder / ARRAYS_FILE, "wb") as f:
            np.savez(f, **arrays)
        with atomic_open(self._folder / RUNTIME_FILE) as f:
            f.write(f"{seconds}\n")
