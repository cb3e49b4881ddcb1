"""Damaged names: near the name, reproducible, and never empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.training.data.noise import AUGMENTATIONS, augmented, initials, plural

pytestmark = pytest.mark.quick

NAMES = ("New York Public Library", "Barack Obama", "vitamin", "Islam", "John F. Kerry", "AIDS", "Ō", "Panama Canal", "fox")


@given(name=st.text(min_size=1, max_size=30).filter(str.strip), seed=st.integers(0, 99))
def test_any_name_stays_a_name(name: str, seed: int) -> None:
    other = augmented(name, np.random.default_rng(seed))
    assert other.strip()
    assert other == augmented(name, np.random.default_rng(seed))


@pytest.mark.parametrize("name", NAMES)
def test_every_way_that_fits_works(name: str) -> None:
    for misspell, fits in AUGMENTATIONS.items():
        if fits(name):
            assert misspell(name, np.random.default_rng(0)).strip()


def test_the_ways_differ() -> None:
    random = np.random.default_rng(0)
    assert len({augmented("New York Public Library", random) for _ in range(60)}) > 12


def test_initials_leave_small_words_out() -> None:
    random = np.random.default_rng(0)
    assert initials("University of the West Indies", random) == "UWI"
    assert plural("fox", random) == "foxes"


def test_what_is_too_short_to_damage_stays() -> None:
    assert augmented("AI", np.random.default_rng(0)) == "AI"
