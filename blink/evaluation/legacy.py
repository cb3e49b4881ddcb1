"""Reads folders of predictions in the original's format (``--save_preds_dir``) for threshold sweeps.

Such a folder has ``biencoder_outs.jsonl`` and either ``predictions.npz``, as `blink.main_dense_all_ents` writes, or the
original's five ``biencoder_*.npy``. The latter can be read if all rows have equally many mentions; otherwise they are arrays
of pickled objects, which are never opened, since unpickling can run any code.

Predictions below the threshold that the folder was written with are incomplete, since the original prunes them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.arrays import DAMAGED_ARRAY, read_archive
from blink.data.records import Mention, Sample
from blink.errors import MALFORMED, BlinkError, DataError, MissingFileError
from blink.evaluation.saved import Provenance, SavedPredictions
from blink.files import read_json_lines, sha256
from blink.input_files import read_text, require_file
from blink.linking.analysis import Analysis
from blink.linking.scoring import ScoredSpans, joint_scores

OUTS_FILE, ARRAYS_FILE, RUNTIME_FILE = "biencoder_outs.jsonl", "predictions.npz", "runtime.txt"
ARRAYS = {
    "mention_bounds": "biencoder_mention_bounds.npy",
    "mention_scores": "biencoder_mention_scores.npy",
    "nns": "biencoder_nns.npy",
    "cand_scores": "biencoder_cand_scores.npy",
}
"""Array of ``predictions.npz`` -> the original's file. Joint scores are computed from these, as in the original's tuning."""
_REMEDY = "make the folder again: blink/main_dense_all_ents.py --save_preds_dir"
_MOST_TOKENS = 1 << 20
"""Of a text: offsets beyond it are damaged."""
_LEAST_MENTIONS = 50  # the original's default; the folder does not record the number


def is_legacy(folder: str | Path) -> bool:
    """Whether a folder has the original's format."""
    return (Path(folder) / OUTS_FILE).is_file()


def read_legacy(folder: str | Path) -> SavedPredictions:
    """Read a folder of predictions.

    The folder has tokens and no characters. Each text becomes one ``x`` per token, with ``[CLS]`` at position 0, so that
    character offsets are token offsets. Matching needs only those.

    Raises:
        MissingFileError: a file is missing.
        DataError: a file is damaged or holds pickled objects, or the files do not belong together.
    """
    folder = Path(folder)
    rows = [row for _, row in read_json_lines(folder / OUTS_FILE, _REMEDY)]
    spans = list(_spans_of_rows(folder))
    if len(rows) != len(spans):
        raise DataError(f"{folder} has {len(rows)} rows in {OUTS_FILE} and arrays of {len(spans)}; {_REMEDY}")
    try:
        pairs = [_sample_and_analysis(row, of_row) for row, of_row in zip(rows, spans, strict=True)]
    except MALFORMED as error:
        raise DataError(f"{folder / OUTS_FILE} is malformed ({type(error).__name__}: {error}); {_REMEDY}") from error
    most = max((len(s) for s in spans), default=0)
    width = spans[0].rows.shape[1] if spans else 0
    provenance = Provenance(
        data=str(folder),
        data_sha256=sha256(folder / OUTS_FILE),
        model="an unrecorded model",
        model_sha256="",
        kb="an unrecorded catalogue",
        kb_sha256="",
        parameters={"mode": "joint", "entities": width, "mentions": max(most, _LEAST_MENTIONS)},
        threshold=None,
        seconds=_seconds(folder),
    )
    return SavedPredictions([sample for sample, _ in pairs], [reading for _, reading in pairs], provenance)


def _spans_of_rows(folder: Path) -> Iterator[ScoredSpans]:
    if (folder / ARRAYS_FILE).is_file():
        arrays = _loaded(folder / ARRAYS_FILE)
        try:
            starts, columns = arrays["offsets"].tolist(), {name: arrays[name] for name in ARRAYS}
        except KeyError as error:
            raise DataError(f"{folder / ARRAYS_FILE} lacks {error}; {_REMEDY}") from error
        try:
            rows_by_text = [{name: column[a:b] for name, column in columns.items()} for a, b in pairwise(starts)]
        except (TypeError, IndexError) as error:
            raise DataError(f"{folder / ARRAYS_FILE} is malformed ({error}); {_REMEDY}") from error
    else:
        dense = {name: _dense(folder / file) for name, file in ARRAYS.items()}
        if not all(column.ndim for column in dense.values()):
            raise DataError(f"an array in {folder} is a single value; {_REMEDY}")
        counts = {len(column) for column in dense.values()}
        if len(counts) != 1:
            raise DataError(f"the arrays in {folder} are of different lengths; {_REMEDY}")
        rows_by_text = [{name: column[row] for name, column in dense.items()} for row in range(counts.pop())]
    try:
        yield from map(_spans, rows_by_text)
    except MALFORMED as error:
        raise DataError(f"the arrays in {folder} are no predictions ({error}); {_REMEDY}") from error


def _spans(columns: Mapping[str, np.ndarray]) -> ScoredSpans:
    """Spans of one row, with candidates sorted by score as `ScoredSpans` requires."""
    logits = _numbers(columns["cand_scores"], np.float32)
    order = np.argsort(-logits, axis=1, kind="stable")
    bounds = _numbers(columns["mention_bounds"], np.int64).reshape(-1, 2)
    return ScoredSpans(
        bounds[:, 0],
        bounds[:, 1],
        _numbers(columns["mention_scores"], np.float32),
        np.take_along_axis(_numbers(columns["nns"], np.int64), order, 1),
        np.take_along_axis(logits, order, 1),
    )


def _numbers(values: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
    """Values as another type, which are finite in it.

    Raises:
        ValueError: they are not.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = values.astype(dtype) if values.dtype.kind in "iuf" else None
    if numbers is None or not np.isfinite(values).all() or not np.isfinite(numbers).all():
        raise ValueError(f"values of type {values.dtype}, or not all of them finite")
    return numbers


def _dense(path: Path) -> np.ndarray:
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist (folders of older versions lack it); {_REMEDY}")
    arrays = _loaded(path)
    assert isinstance(arrays, np.ndarray)
    return arrays


def _loaded(path: Path) -> Any:
    if path.suffix == ".npz":
        return read_archive(path, _REMEDY)
    require_file(path, _REMEDY)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except DAMAGED_ARRAY as error:
        pickled = "Python objects" in str(error)
        what = "holds pickled objects, which could run any program and are not opened" if pickled else f"is damaged ({error})"
        raise DataError(f"{path} {what}; {_REMEDY}") from error


def _sample_and_analysis(row: Mapping[str, Any], spans: ScoredSpans) -> tuple[Sample, Analysis]:
    offset = _shift(row, spans)
    shifted = spans.shift(offset)
    gold = row.get("gold_triples")
    # Positions of spans count [CLS], those of gold triples do not.
    mentions = None if gold is None else tuple(Mention(int(s) + 1, int(e) + 1, int(r)) for r, s, e in gold)
    if gold is not None and any(int(e) > _MOST_TOKENS for _, _, e in gold):
        raise ValueError(f"a gold mention ends beyond token {_MOST_TOKENS:,}")
    length = max([len(row["tokens"]) + 2 + offset, *(m.end for m in mentions or ()), *(int(e) + 1 for e in shifted.end)])
    offsets = np.stack([np.arange(length), np.arange(1, length + 1)], axis=1)
    text = "x" * length
    return Sample(str(row["id"]), text, mentions), Analysis(text, offsets, shifted)


def _shift(row: Mapping[str, Any], spans: ScoredSpans) -> int:
    """Offset of the window in the text: spans are relative to the window, triples of labelled rows to the text."""
    if row.get("gold_triples") is None or not row["scores"] or not len(spans):
        return 0
    best = int(np.abs(joint_scores(spans)[:, 0] - row["scores"][0]).argmin())
    return int(row["pred_triples"][0][1]) + 1 - int(spans.start[best])


def _seconds(folder: Path) -> float:
    with contextlib.suppress(BlinkError, OSError, ValueError):
        return float(read_text(folder / RUNTIME_FILE))
    return 0.0
