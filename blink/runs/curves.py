"""Curves of a run, drawn from its trace: losses and learning rate over the steps, scores of the validations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blink import drawing
from blink.files import atomic_open

SMOOTHED_OVER = 25
"""Window of the moving mean of a loss, in rows of the trace."""


def draw_curves(rows: Sequence[dict[str, Any]], losses: Sequence[str], scores: Sequence[str], path: Path) -> None:
    """Draw columns of a trace as a PNG, written atomically.

    Args:
        rows: of a trace.
        losses: columns of its ``step`` rows, drawn on a log scale if all values are above 0.
        scores: columns of its ``validation`` rows.
        path: the PNG.
    """
    figure = drawing.figure(figsize=(7, 8))
    above, middle, below = figure.subplots(3, 1, sharex=True)
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.06, top=0.98, hspace=0.08)  # a layout engine takes twice the time
    lowest = min((_line(above, rows, name) for name in losses), default=1.0)
    above.set_yscale("log" if lowest > 0 else "linear")
    for name in scores:
        steps, values = _column(rows, "validation", name)
        if len(values):
            middle.plot(steps, values, marker="o", markersize=3, label=name)
    steps, rates = _column(rows, "step", "rate")
    below.plot(steps, rates, color="tab:green", label="learning rate")
    below.set_xlabel("step")
    for axes in (above, middle, below):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="best", fontsize=8)
    with atomic_open(path, "wb") as f:
        figure.savefig(f, format="png")


def _column(rows: Sequence[dict[str, Any]], kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a column. *Shapes:* (n,) both."""
    points = [(row["step"], row[name]) for row in rows if row.get("kind") == kind and row.get(name) is not None]
    steps, values = zip(*points, strict=True) if points else ((), ())
    return np.array(steps, dtype=np.int64), np.array(values, dtype=float)


def _line(axes: Any, rows: Sequence[dict[str, Any]], name: str) -> float:
    """Draw a loss and its moving mean, and return its smallest value."""
    steps, values = _column(rows, "step", name)
    if not len(values):
        return 1.0
    faint = axes.plot(steps, values, alpha=0.25, linewidth=0.8)[0]
    axes.plot(steps, smooth(values), color=faint.get_color(), label=name)
    return float(values.min())


def smooth(values: np.ndarray) -> np.ndarray:
    """Mean of each value with those before it, at most `SMOOTHED_OVER`. *Shape:* (n,) both."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    first = np.maximum(np.arange(len(values)) + 1 - SMOOTHED_OVER, 0)
    return (sums[1:] - sums[first]) / (np.arange(len(values)) + 1 - first)
