"""Calibration of probabilities: reliability tables, expected calibration error, Brier score.

A predictor is calibrated if, of the predictions with probability p, a share p is right. Predictions are put into bins by
their probability. In each bin the mean probability (*confidence*) is compared with the share that is right (*accuracy*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blink.errors import DataError, SettingsError, ShapeError

Binning = Literal["width", "mass"]
BINNINGS: tuple[Binning, ...] = ("width", "mass")
"""Bins of equal width in probability, or of (nearly) equally many predictions."""

BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One row of a reliability table.

    Attributes:
        low: lower bound (of bins of equal mass: the smallest probability).
        high: upper bound (the largest probability).
        count: number of predictions, at least one.
        confidence: mean probability of the predictions.
        accuracy: share of the predictions that is right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float

    @property
    def gap(self) -> float:
        """Accuracy minus confidence; negative where the predictor is overconfident."""
        return self.accuracy - self.confidence


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration metrics of one set of predictions.

    Attributes:
        count: number of predictions.
        ece: expected calibration error over bins of equal width.
        ece_mass: the same over bins of equal mass.
        brier: Brier score.
        bins: the reliability table, bins of equal width.
    """

    count: int
    ece: float
    ece_mass: float
    brier: float
    bins: tuple[ReliabilityBin, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object of these metrics in a report."""
        return asdict(self) | {"bins": [asdict(row) for row in self.bins]}


def calibration_of(probabilities: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS) -> Calibration:
    """Compute all metrics. Arguments and errors are those of `reliability_table`."""
    p, right = _checked(probabilities, correct, bins)
    table = tuple(reliability_table(p, right, bins))
    ece_mass = expected_calibration_error(p, right, bins, "mass")
    return Calibration(len(p), _weighted_gap(table, len(p)), ece_mass, brier_score(p, right), table)


def reliability_table(
    probabilities: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS, binning: Binning = "width"
) -> list[ReliabilityBin]:
    """Confidence and accuracy per bin. Empty bins are omitted.

    With equal width, bin m of M holds the probabilities in ((m - 1) / M, m / M], and the first bin also holds 0 (Guo et al.
    2017, section 2). With equal mass (Nguyen and O'Connor 2015), predictions are sorted and split into M bins. Equal
    probabilities share a bin, so the table does not depend on the order of the predictions and may have fewer than M bins.

    Args:
        probabilities: of each prediction to be right, from 0 to 1. *Shape:* (n,).
        correct: whether each prediction is right. *Shape:* (n,), bool.
        bins: number of bins M.
        binning: ``width`` or ``mass``.

    Raises:
        ShapeError: the arrays are not one-dimensional and of equal length.
        DataError: there are no predictions, or a probability is not from 0 to 1.
        SettingsError: the binning is unknown, or ``bins`` is below 1.
    """
    p, right = _checked(probabilities, correct, bins)
    if binning not in BINNINGS:
        raise SettingsError(f"binning is {binning!r}; allowed are {', '.join(BINNINGS)}")
    bin_ids = _bins_of_width(p, bins) if binning == "width" else _bins_of_mass(p, bins)
    rows = []
    for bin_id in np.unique(bin_ids):
        inside = bin_ids == bin_id
        some = p[inside]
        low, high = (bin_id / bins, (bin_id + 1) / bins) if binning == "width" else (some.min(), some.max())
        means = float(some.mean()), float(right[inside].mean())
        rows.append(ReliabilityBin(float(low), float(high), len(some), *means))
    return rows


def expected_calibration_error(
    probabilities: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS, binning: Binning = "width"
) -> float:
    """ECE: sum over bins of (share of the predictions in the bin) x |accuracy - confidence| (Naeini et al. 2015).

    0 is perfectly calibrated; 1 is always wrong with probability 1. Arguments and errors are those of `reliability_table`.
    """
    table = reliability_table(probabilities, correct, bins, binning)
    return _weighted_gap(table, sum(row.count for row in table))


def brier_score(probabilities: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Mean of (probability - correct)^2 (Brier 1950). It measures calibration and sharpness; a constant 1/2 scores 1/4.
    Arguments and errors are those of `reliability_table`.
    """
    p, right = _checked(probabilities, correct, 1)
    return float(np.mean((p - right) ** 2))


def format_calibration(calibration: Calibration) -> str:
    """Format a reliability table for a terminal, with the metrics below it."""
    lines = [f"{'probability':>13}  {'links':>6}  {'mean':>6}  {'right':>6}"]
    for row in calibration.bins:
        lines.append(f"{f'{row.low:.2f} - {row.high:.2f}':>13}  {row.count:>6}  {row.confidence:>6.4f}  {row.accuracy:>6.4f}")
    figures = (
        f"ECE = {calibration.ece:.4f} (bins of equal mass: {calibration.ece_mass:.4f}), Brier score = {calibration.brier:.4f}"
    )
    return "\n".join([*lines, figures])


def _checked(
    probabilities: npt.ArrayLike, correct: npt.ArrayLike, bins: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    p, right = np.asarray(probabilities, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if p.ndim != 1 or p.shape != right.shape:
        raise ShapeError(f"probabilities have shape {p.shape}, correctness {right.shape}; give two lists of one length")
    if not len(p):
        raise DataError("there are no predictions whose calibration could be measured; lower the threshold, or give more texts")
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError("a probability is not from 0 to 1; turn scores into probabilities first")
    if not np.isin(right, (0.0, 1.0)).all():
        raise DataError("correctness must be 0 or 1 for every prediction")
    if bins < 1:
        raise SettingsError(f"{bins} bins requested; use 1 or more, say {BINS}")
    return p, right


def _bins_of_width(p: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    return np.clip(np.searchsorted(np.arange(1, bins) / bins, p, side="left"), 0, bins - 1).astype(np.int64)


def _bins_of_mass(p: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    """Bin by rank; equal probabilities get the bin of their mean rank."""
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - counts / 2
    return np.minimum((middles * bins / len(p)).astype(np.int64), bins - 1)[inverse]


def _weighted_gap(table: Sequence[ReliabilityBin], total: int) -> float:
    return sum(row.count * abs(row.gap) for row in table) / total
