"""Measures what runs the context encoder of a model: time, and difference to PyTorch in fp32, of each backend and precision."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import BlinkError, SettingsError
from blink.evaluation.speed.machine import machine
from blink.extras import install_command, is_installed
from blink.linking.starter import starter_model
from blink.machine import multiplies_bf16
from blink.model.backends.exported import export_to, exported, unexportable
from blink.model.backends.layout import GRAPHS
from blink.model.backends.onnx_backend import OnnxBackend, n_threads
from blink.model.backends.protocol import Backend
from blink.model.folder import require_model
from blink.model.linking_model import LinkingModel
from blink.model.tokenizer import Tokenizer, pad
from blink.progress import Bars, no_bars

BATCH = 64
SENTENCES = (
    "who painted Guernica?",
    "where was Marie Curie born",
    "What is the capital of Australia?",
    "Ada Lovelace wrote notes on the engine that Charles Babbage designed.",
    "the river Danube flows through Vienna, Bratislava, Budapest and Belgrade",
    "which films did Akira Kurosawa direct after Seven Samurai?",
    "In 1969 Apollo 11 landed on the Moon.",
    "Paris, Texas is a film by Wim Wenders, and a town.",
)
"""Texts that are encoded: short ones, as questions are."""
SIDES = (("torch", "fp32"), ("torch", "bf16"), ("onnx", "fp32"), ("onnx", "int8"))
"""Backend and precision of each side; the first is what the others are compared with."""
INT8_COST = "of the starter it changes about one link in a hundred: try `blink eval` with it"
BUDGET_S = 5.0
"""Seconds of measurement, by default, without the opening of the sides."""


@dataclass(frozen=True)
class Encoded:
    """What a side makes of the texts.

    Attributes:
        scores: of tokens as bounds of mentions; None without a mention head. *Shape:* (tokens, 3), float32.
        vectors: of each token as a mention. *Shape:* (tokens, entity_size), float32.
    """

    scores: np.ndarray | None
    vectors: np.ndarray


def compare_backends(
    model: Path,
    *,
    sides: Sequence[tuple[str, str]] = SIDES,
    budget_s: float = BUDGET_S,
    bf16: bool = True,
    bars: Bars = no_bars,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """Measure the sides; their runs alternate, so that what else the machine does touches all of them.

    Args:
        model: see `blink.model.loading.load_model`.
        sides: backend and precision of each.
        budget_s: seconds of measurement.
        bf16: whether the hardware multiplies bfloat16; where it does not, that side takes minutes.
        bars: for opening the sides, which exports the encoder once.
        clock: seconds.

    Returns:
        a row for each side: ``backend``, ``precision``, ``open_s``, ``single_ms`` (median), ``texts_per_s`` in batches of
        `BATCH` (median), ``score_difference`` and ``least_cosine``; or ``skipped``, the reason.

    Raises:
        BlinkError: no side can be opened.
    """
    rows: list[dict[str, Any]] = []
    running: list[tuple[dict[str, Any], Backend, Tokenizer]] = []
    errors: list[BlinkError] = []
    with bars("opening backends", len(sides), "backend") as progress:
        for backend, precision in sides:
            row: dict[str, Any] = {"backend": backend, "precision": precision}
            rows.append(row)
            progress.advance()
            if precision == "bf16" and not bf16:
                row["skipped"] = "the processor has no bfloat16"
                continue
            began = clock()
            try:
                opened = LinkingModel.open(model, backend=backend, precision=precision, device="cpu", bars=bars)
            except BlinkError as error:
                row["skipped"] = str(error)
                errors.append(error)
                continue
            row["open_s"] = round(clock() - began, 2)
            running.append((row, opened.backend, opened.tokenizer))
    if not running:
        raise errors[0]
    reference = None
    for row, runner, tokenizer in running:
        encoded = encode(runner, tokenizer, SENTENCES)
        reference = reference or encoded
        row |= difference(encoded, reference)
    _measure(running, budget_s, clock)
    return rows


def _measure(running: Sequence[tuple[dict[str, Any], Backend, Tokenizer]], budget_s: float, clock: Callable[[], float]) -> None:
    singles: list[list[float]] = [[] for _ in running]
    batches: list[list[float]] = [[] for _ in running]
    began = clock()
    rounds = 0
    while rounds < 2 or clock() - began < budget_s:
        for (_, backend, tokenizer), single, batch in zip(running, singles, batches, strict=True):
            one, many = _inputs(tokenizer, SENTENCES[rounds % len(SENTENCES) :][:1]), _inputs(tokenizer, SENTENCES * 8)
            for inputs, seconds, repeats in ((one, single, 4), (many, batch, 1)):
                for _ in range(repeats):
                    start = clock()
                    _ = backend.encode(*inputs).token_scores if backend.has_mention_head else backend.encode(*inputs)
                    seconds.append(clock() - start)
        rounds += 1
    for (row, _, _), single, batch in zip(running, singles, batches, strict=True):
        row["single_ms"] = round(1000 * statistics.median(single[4:]), 2)  # without the round that warms up
        row["texts_per_s"] = round(BATCH / statistics.median(batch[1:]), 1)


def encode(backend: Backend, tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
    """Scores and vectors of all tokens of texts."""
    codes, mask = _inputs(tokenizer, texts)
    batch = backend.encode(codes, mask)
    text, token = np.nonzero(mask)
    scores = batch.token_scores[mask] if backend.has_mention_head else None
    return Encoded(scores, batch.mention_vectors(text, token, token))


def _inputs(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = [[tokenizer.cls_id, *of.codes.tolist(), tokenizer.sep_id] for of in tokenizer.tokenize(list(texts))]
    return pad(rows, tokenizer.pad_id)


def difference(encoded: Encoded, reference: Encoded) -> dict[str, Any]:
    """How far scores and vectors are from others of the same texts."""
    a, b = encoded.vectors, reference.vectors
    cosines = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    known = encoded.scores is not None and reference.scores is not None
    largest = float(np.abs(encoded.scores - reference.scores).max()) if known else None  # type: ignore[operator]
    return {"score_difference": largest, "least_cosine": min(1.0, float(cosines.min()))}


def advice(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to use for questions one by one, and for many texts, and why."""
    measured = [row for row in rows if "skipped" not in row]
    exact = [row for row in measured if row["precision"] != "int8"]
    lines = []
    for use, key, better, unit in (
        ("one text at a time", "single_ms", min, "{:g} ms a text"),
        ("many texts", "texts_per_s", max, "{:g} texts a second"),
    ):
        best, fastest = (better(of, key=lambda row: row[key]) for of in (exact, measured))
        line = f"{use}: {_flags(best)} ({unit.format(best[key])}"
        if best is not exact[0]:
            ratio = best[key] / exact[0][key]
            line += f", {max(ratio, 1 / ratio):.1f} times as fast as {exact[0]['backend']} {exact[0]['precision']}"
        lines.append(line + ")")
        if fastest is not best:
            ratio = fastest[key] / best[key]
            lines.append(f"  or {_flags(fastest)}: {max(ratio, 1 / ratio):.1f} times as fast as that; {INT8_COST}")
    return lines


def _flags(row: Mapping[str, Any]) -> str:
    return f"--backend {row['backend']} --precision {row['precision']}"


def as_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The rows as lines of text."""
    yield "backend  precision  ms a text   texts/s  score diff.  least cosine  opened in"
    for row in rows:
        name = f"{row['backend']:8} {row['precision']:9}"
        if "skipped" in row:
            yield f"{name} skipped: {row['skipped']}"
            continue
        score = "-" if row["score_difference"] is None else f"{row['score_difference']:.2g}"
        speeds = f"{row['single_ms']:10.2f} {row['texts_per_s']:9.1f}"
        yield f"{name} {speeds} {score:>12} {row['least_cosine']:13.6f} {row['open_s']:8.1f} s"
    yield f"texts/s in batches of {BATCH} texts; difference of mention scores and vectors from the first line"


def examine(model: str | None, *, budget_s: float = BUDGET_S, bars: Bars = no_bars) -> dict[str, Any]:
    """Measure all backends on a model, the starter by default: ``machine``, ``threads``, ``model``, ``rows`` and ``advice``."""
    path = starter_model() if model is None else require_model(model)
    about = machine()
    rows = compare_backends(path, budget_s=budget_s, bf16=multiplies_bf16(), bars=bars)
    return {"machine": about, "threads": n_threads(), "model": str(path), "rows": rows, "advice": advice(rows)}


def as_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What `examine` returns, as lines of text."""
    about = found["machine"]
    features = ", ".join(about["features"]) or "none of the instruction sets that matter"
    yield f"{found['model']} on {about['processor']}, {found['threads']} threads ({features})"
    yield from as_table(found["rows"])
    yield from found["advice"]


def export_and_compare(model: str | None, out: str | None, int8: bool, bars: Bars = no_bars) -> Iterator[str]:
    """Export a model for ONNX Runtime, and compare what was written with PyTorch on a few sentences.

    Args:
        model: folder or name of a model; None for the starter.
        out: folder to write; None for where linking looks for it.
        int8: write a graph in 8 bits too.
        bars: for the export.

    Yields:
        lines of a report: files, their sizes, and differences.

    Raises:
        SettingsError: the model cannot be exported.
    """
    path = starter_model() if model is None else require_model(model)
    problem = unexportable(path)
    if problem is not None:
        raise SettingsError(f"{path} cannot be exported: {problem}")
    folder = exported(path, bars, int8=int8) if out is None else export_to(path, Path(out), bars, int8=int8)
    yield f"exported {path} into {folder}"
    yield from (f"  {file.name:20} {file.stat().st_size / 1e6:8.2f} MB" for file in sorted(folder.iterdir()))
    if not is_installed("torch"):
        yield f"not compared with the model in PyTorch, which is not installed: {install_command('torch')}"
        return
    opened = LinkingModel.open(path, backend="torch", precision="fp32", device="cpu")
    reference = encode(opened.backend, opened.tokenizer, SENTENCES)
    for precision in [name for name, graph in GRAPHS.items() if (folder / graph).is_file()]:
        of = difference(encode(OnnxBackend(folder, precision), opened.tokenizer, SENTENCES), reference)
        scores = "" if of["score_difference"] is None else f"mention scores by {of['score_difference']:.2g} at most, "
        yield f"{precision} differs from PyTorch: {scores}vectors have a cosine of at least {of['least_cosine']:.6f}"
