"""Plots of an evaluation as PNG files. matplotlib is imported when a plot is drawn; no window is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink import drawing
from blink.cells import figure_text
from blink.evaluation.calibration import Calibration
from blink.evaluation.matching import Matching
from blink.evaluation.sweep import CurvePoint
from blink.files import atomic_open

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_FILE, THRESHOLD_FILE, RELIABILITY_FILE = "precision_recall.png", "threshold.png", "reliability.png"
COLOURS: dict[Matching, str] = {"weak": "#0072b2", "strong": "#d55e00"}
"""Colours of the curves, distinguishable for colour-blind readers. The strong curve is dashed, for prints in grey."""
LINES: dict[Matching, str] = {"weak": "-", "strong": "--"}
DOTS_PER_INCH = 130


def draw_curves(folder: Path, points: Sequence[CurvePoint], selected: CurvePoint, title: str, source: str) -> list[Path]:
    """Draw precision against recall, and scores against the threshold, over covered questions, weak and strong.

    Args:
        folder: output folder, which must exist.
        points: in order of their thresholds.
        selected: the threshold to mark.
        title: of each plot.
        source: data that the threshold was selected on, for the legend.

    Returns:
        the written files.
    """
    covered = any(p.covered.gold for p in points)
    title += ", covered questions" if covered else ", all questions"
    return [
        _precision_recall(folder / CURVE_FILE, points, selected, title, source, covered),
        _by_threshold(folder / THRESHOLD_FILE, points, selected, title, source, covered),
    ]


def _precision_recall(
    path: Path, points: Sequence[CurvePoint], selected: CurvePoint, title: str, source: str, covered: bool
) -> Path:
    figure, axes = _figure(title, "recall", "precision")
    for matching, colour in COLOURS.items():
        # Precision is undefined without predictions; such points would draw a line down to 0.
        curve = [p.point(matching, covered=covered) for p in points if (p.covered if covered else p.overall).predicted]
        axes.plot([p.recall for p in curve], [p.precision for p in curve], LINES[matching], color=colour, label=matching)
        point = selected.point(matching, covered=covered)
        label = f"{matching} F1 {point.f1:.3f} at {selected.threshold:g} ({figure_text(source)})"
        axes.plot([point.recall], [point.precision], "o", color=colour, markersize=8, markeredgecolor="white", label=label)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    return _saved(figure, path)


def _by_threshold(
    path: Path, points: Sequence[CurvePoint], selected: CurvePoint, title: str, source: str, covered: bool
) -> Path:
    figure, axes = _figure(title, "threshold", "score")
    for matching, colour in COLOURS.items():
        curve = [p.point(matching, covered=covered) for p in points]
        thresholds = [p.threshold for p in points]
        axes.plot(thresholds, [p.f1 for p in curve], LINES[matching], color=colour, linewidth=2.2, label=f"F1, {matching}")
        axes.plot(thresholds, [p.precision for p in curve], LINES[matching], color=colour, alpha=0.45, linewidth=1)
        axes.plot(thresholds, [p.recall for p in curve], LINES[matching], color=colour, alpha=0.45, linewidth=1)
    weak = [p.point("weak", covered=covered) for p in points]
    for name, value, above in (("precision", weak[0].precision, -14), ("recall", weak[0].recall, 4)):
        at_left = (points[0].threshold, value)
        axes.annotate(name, at_left, xytext=(4, above), textcoords="offset points", fontsize=8, color="#555")
    label = f"threshold {selected.threshold:g} ({figure_text(source)})"
    axes.axvline(selected.threshold, color="#555", linestyle=":", label=label)
    axes.set(ylim=(0, 1.01))
    axes.legend(loc="lower center", frameon=False, fontsize=8)
    return _saved(figure, path)


def draw_reliability(path: Path, report: Calibration, title: str) -> Path:
    """Draw a reliability diagram: accuracy against confidence per bin, the diagonal, and the number of predictions per bin."""
    figure, axes = _figure(title, "probability", "share that is right")
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1, label="calibrated")
    for row in report.bins:
        width = row.high - row.low
        axes.bar(row.low, row.accuracy, width, align="edge", color=COLOURS["weak"], alpha=0.25 + 0.6 * row.count / report.count)
        axes.bar(
            row.low, row.confidence - row.accuracy, width, row.accuracy, align="edge", fill=False,
            edgecolor=COLOURS["strong"], hatch="//", linewidth=0,
        )  # fmt: skip
        label_at = (row.low + width / 2, max(row.accuracy, row.confidence))
        axes.annotate(str(row.count), label_at, xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1.06))
    text = f"ECE {report.ece:.3f} ({report.ece_mass:.3f} equal mass)\nBrier {report.brier:.3f}\n{report.count} predictions"
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=9)
    return _saved(figure, path)


def _figure(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure: Any = drawing.figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(figure_text(title), fontsize=10)
    axes.set(xlabel=across, ylabel=up)
    axes.grid(visible=True, color="#ddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _saved(figure: Figure, path: Path) -> Path:
    with atomic_open(path, "wb") as f:
        figure.savefig(f, format="png", dpi=DOTS_PER_INCH)
    return path
