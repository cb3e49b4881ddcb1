"""Curves of a run, drawn from its trace: losses, validation scores and learning rate over the steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blink.files import atomic_open

CURVES_FILE = "curves.png"
SMOOTHED_OVER = 25
"""Rows of losses that a smooth curve is the mean of, at most."""


def draw_curves(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rows of a trace into a PNG, which takes the place of an earlier one when it is complete."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [r for r in rows if r.get("kind") == "step"]
    points = [r for r in rows if r.get("kind") == "validation"]
    figure = Figure(figsize=(7, 8))
    losses, scores, rates = figure.subplots(3, 1, sharex=True)
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.06, top=0.98, hspace=0.08)  # a layout engine takes twice the time
    for name, colour in (("entity", "tab:blue"), ("span", "tab:orange")):
        values = np.array([r[name] for r in steps], dtype=float)
        losses.plot([r["step"] for r in steps], values, color=colour, alpha=0.25, linewidth=0.8)
        losses.plot([r["step"] for r in steps], smooth(values), color=colour, label=f"{name} loss")
    losses.set_yscale("log")
    for name in ("f1", "precision", "recall"):
        style = {"linewidth": 2.0, "marker": "o"} if name == "f1" else {"linewidth": 0.8}
        scores.plot([r["step"] for r in points], [r[name] for r in points], markersize=3, label=name, **style)
    rates.plot([r["step"] for r in steps], [r["rate"] for r in steps], color="tab:green", label="learning rate")
    rates.set_xlabel("step")
    for axes in (losses, scores, rates):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="best", fontsize=8)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    with atomic_open(path, "wb") as f:
        f.write(buffer.getvalue())


def smooth(values: np.ndarray) -> np.ndarray:
    """Mean of each value with those before it, at most `SMOOTHED_OVER`. *Shape:* (n,) both."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    first = np.maximum(np.arange(len(values)) + 1 - SMOOTHED_OVER, 0)
    return (sums[1:] - sums[first]) / (np.arange(len(values)) + 1 - first)
