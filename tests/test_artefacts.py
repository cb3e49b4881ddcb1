"""Damaged files of every kind: noticed in one line, made again, or without effect; never a traceback, never another result."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blink.errors import BlinkError
from tests.artefacts import ARTEFACTS, Artefact, Instance
from tests.damage import KINDS, Damage

LIMIT_S = 60
ROUNDS = int(os.environ.get("BLINK_DAMAGES", "1"))
"""Damages of each kind, of every artefact; the default tests try one of them."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail where the block takes longer."""

    def expired(*_: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(use: Callable[[Path], Any], folder: Path) -> str | None:
    """The result; None where it is refused in one line."""
    try:
        with within(LIMIT_S):
            return repr(use(folder))
    except BlinkError as error:
        if "\n" in str(error):
            raise
        return None


def require_noticed(instance: Instance, kinds: tuple[str, ...], seed: int) -> int:
    """Damage a file of each kind of change; returns how many were refused."""
    artefact, rng, refused = instance.artefact, random.Random(f"{instance.artefact.name} {seed}"), 0
    for number, kind in enumerate(kinds):
        file = rng.choice(instance.files)
        folder = instance.fresh()
        if not Damage(kind, seed).apply(folder / file, instance.sibling(file, seed + number)):
            continue
        result = outcome(artefact.use, folder)
        refused += result is None
        if not artefact.may_differ(file, kind, len(instance.files)):
            assert result in (None, instance.result), f"{artefact.name}: {kind} of {file} with seed {seed} changed the result"
    return refused


@pytest.mark.parametrize("artefact", ARTEFACTS, ids=lambda artefact: artefact.name)
def test_damage_is_noticed_or_has_no_effect(artefact: Artefact, tmp_path: Path) -> None:
    instance = Instance(artefact, tmp_path)
    assert instance.files
    assert repr(artefact.use(instance.fresh())) == instance.result
    refused = sum(require_noticed(instance, KINDS, seed) for seed in range(ROUNDS))
    assert refused or artefact.name in ("chunks of a build", "mention store", "offsets of a catalogue", "checkpoints")


@pytest.mark.slow
@pytest.mark.parametrize("artefact", ARTEFACTS, ids=lambda artefact: artefact.name)
def test_much_damage_is_noticed_or_has_no_effect(artefact: Artefact, tmp_path: Path) -> None:
    instance = Instance(artefact, tmp_path)
    for seed in range(1000, 1010):
        require_noticed(instance, KINDS, seed)
