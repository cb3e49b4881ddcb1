"""Expected calibration error, Brier score and reliability tables: known values, and what holds for any predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import DataError, SettingsError, ShapeError
from blink.evaluation.calibration import (
    BINNINGS,
    Binning,
    brier_score,
    calibration_of,
    expected_calibration_error,
    reliability_table,
)

pytestmark = pytest.mark.quick

predictions = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40)


def test_a_table_worked_by_hand() -> None:
    p, right = [0.1, 0.3, 0.35, 0.9, 0.9, 0.8], [0, 0, 1, 1, 1, 0]
    low, middle, high = reliability_table(p, right, bins=3)
    assert (low.low, low.high, low.count, low.confidence, low.accuracy) == (0, 1 / 3, 2, pytest.approx(0.2), 0)
    assert (middle.count, middle.confidence, middle.accuracy) == (1, pytest.approx(0.35), 1)
    assert (high.count, high.confidence, high.accuracy) == (3, pytest.approx(2.6 / 3), pytest.approx(2 / 3))
    assert expected_calibration_error(p, right, 3) == pytest.approx((2 * 0.2 + 1 * 0.65 + 3 * 0.2) / 6)
    assert brier_score(p, right) == pytest.approx((0.01 + 0.09 + 0.4225 + 0.01 + 0.01 + 0.64) / 6)


def test_bins_of_equal_mass() -> None:
    p, right = [0.01, 0.02, 0.03, 0.04, 0.5, 0.99], [0, 0, 0, 1, 1, 1]
    table = reliability_table(p, right, 3, "mass")
    assert [(row.low, row.high, row.count) for row in table] == [(0.01, 0.02, 2), (0.03, 0.04, 2), (0.5, 0.99, 2)]
    assert [row.accuracy for row in table] == [0, 0.5, 1]
    together = reliability_table([0.5] * 5 + [0.9], [1] * 6, 3, "mass")
    assert [row.count for row in together] == [5, 1]


@pytest.mark.parametrize(("p", "bin_index"), [(0.0, 0), (0.1, 0), (0.10001, 1), (0.2, 1), (0.3, 2), (0.7, 6), (1.0, 9)])
def test_a_bin_holds_its_upper_bound(p: float, bin_index: int) -> None:
    (row,) = reliability_table([p], [True])
    assert row.low == bin_index / 10


@pytest.mark.parametrize(("p", "right", "ece", "brier"), [(1.0, 1, 0, 0), (1.0, 0, 1, 1), (0.5, 1, 0.5, 0.25), (0, 0, 0, 0)])
def test_sure_predictors(p: float, right: int, ece: float, brier: float) -> None:
    for binning in BINNINGS:
        assert expected_calibration_error([p] * 7, [right] * 7, binning=binning) == ece
    assert brier_score([p] * 7, [right] * 7) == brier


def test_a_calibrated_predictor_comes_near_zero() -> None:
    generator = np.random.default_rng(0)
    p = generator.random(20_000)
    right = generator.random(20_000) < p
    calibration = calibration_of(p, right)
    assert calibration.ece < 0.02
    assert calibration.ece_mass < 0.02
    assert calibration.brier == pytest.approx(1 / 6, abs=0.01)
    assert calibration_of(np.sqrt(p), right).ece > 0.1
    assert calibration.to_json()["bins"][3]["count"] == calibration.bins[3].count


@given(predictions, st.integers(1, 20), st.sampled_from(BINNINGS))
def test_tables_add_up(pairs: list[tuple[float, bool]], bins: int, binning: Binning) -> None:
    p, right = map(list, zip(*pairs, strict=True))
    table = reliability_table(p, right, bins, binning)
    assert len(table) <= bins
    assert sum(row.count for row in table) == len(pairs)
    assert sum(row.count * row.accuracy for row in table) == pytest.approx(sum(right))
    assert sum(row.count * row.confidence for row in table) == pytest.approx(sum(p))
    assert all(row.low - 1e-12 <= row.confidence <= row.high + 1e-12 for row in table)
    assert 0 <= expected_calibration_error(p, right, bins, binning) <= 1 + 1e-12


@given(predictions, st.integers(1, 20), st.sampled_from(BINNINGS), st.randoms(use_true_random=False))
def test_order_does_not_matter(pairs: list[tuple[float, bool]], bins: int, binning: Binning, random: object) -> None:
    p, right = map(list, zip(*pairs, strict=True))
    random.shuffle(pairs)  # type: ignore[attr-defined]
    q, other = map(list, zip(*pairs, strict=True))
    one, two = (expected_calibration_error(*both, bins, binning) for both in ((p, right), (q, other)))
    assert math.isclose(one, two, abs_tol=1e-9)


@given(predictions)
def test_one_bin_compares_the_means(pairs: list[tuple[float, bool]]) -> None:
    p, right = map(list, zip(*pairs, strict=True))
    assert expected_calibration_error(p, right, 1) == pytest.approx(abs(np.mean(p) - np.mean(right)), abs=1e-9)


@pytest.mark.parametrize(
    ("p", "right", "bins", "error"),
    [
        ([0.5], [1, 0], 10, ShapeError),
        ([[0.5]], [[1]], 10, ShapeError),
        ([], [], 10, DataError),
        ([1.5], [1], 10, DataError),
        ([math.nan], [1], 10, DataError),
        ([0.5], [0.5], 10, DataError),
        ([0.5], [1], 0, SettingsError),
    ],
)
def test_what_is_no_probability(p: list, right: list, bins: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        expected_calibration_error(p, right, bins)


def test_an_unknown_binning() -> None:
    with pytest.raises(SettingsError, match="width, mass"):
        reliability_table([0.5], [1], 10, "height")  # type: ignore[arg-type]
