"""Pictures: they are there, of a sensible size, and show something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blink.evaluation.calibration import calibration_of, format_calibration
from blink.evaluation.counts import Counts
from blink.evaluation.plots import draw_curves, draw_reliability
from blink.evaluation.sweep import CurvePoint

pytestmark = pytest.mark.quick


def shows_something(path: Path) -> bool:
    from matplotlib.image import imread

    picture = imread(path)[..., :3]
    inked = (picture.min(2) < 0.9).mean()
    return min(picture.shape[:2]) > 400 and 0.01 < inked < 0.6 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def points(gold: int) -> list[CurvePoint]:
    rows = [(50, 45, 90), (48, 43, 70), (45, 40, 50), (20, 18, 20), (0, 0, 0)]
    counts = [Counts(weak, strong, predicted, gold) if gold else Counts() for weak, strong, predicted in rows]
    everything = [Counts(weak, strong, predicted, 60) for weak, strong, predicted in rows]
    return [CurvePoint(-5.0 + i, of_all, covered) for i, (of_all, covered) in enumerate(zip(everything, counts, strict=True))]


@pytest.mark.parametrize("gold", [55, 0])
def test_curves(tmp_path: Path, gold: int) -> None:
    pictures = draw_curves(tmp_path, points(gold), points(gold)[2], "dev.jsonl, joint", "dev.npz")
    assert [path.name for path in pictures] == ["precision_recall.png", "threshold.png"]
    assert all(shows_something(path) for path in pictures)


@pytest.mark.parametrize("n", [1, 500])
def test_reliability(tmp_path: Path, n: int) -> None:
    generator = np.random.default_rng(0)
    p = generator.random(n)
    calibration = calibration_of(p, generator.random(n) < p**2)
    assert shows_something(draw_reliability(tmp_path / "r.png", calibration, "dev.jsonl"))
    assert f"ECE = {calibration.ece:.4f}" in format_calibration(calibration)
