"""The same links in forked and spawned processes, in threads and in DataLoaders, before and after the parent has linked."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from pathlib import Path

import pytest

from blink.forking import OpenedByProcess
from tests.process_pairs import HOWS, SOURCES, WHEN, run

PAIRS = list(itertools.product(HOWS, WHEN, SOURCES, ("torch", "onnx")))
SHORT = [
    ("fork", "after", "inherited", "torch"),
    ("fork", "after", "inherited", "onnx"),
    ("loader-fork", "after", "inherited", "torch"),
]
"""All that hung for ever."""


@pytest.mark.parametrize("pair", SHORT, ids="-".join)
def test_forked_workers_link_the_same(pair: tuple[str, str, str, str], starter: Path) -> None:
    assert run(*pair) == "same"


@pytest.mark.slow
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair not in SHORT], ids="-".join)
def test_all_pairs_link_the_same(pair: tuple[str, str, str, str], starter: Path) -> None:
    assert run(*pair) == "same"


def test_a_forked_process_opens_its_own() -> None:
    calls = []

    def opens(is_forked: bool) -> int:
        calls.append(is_forked)
        return os.getpid()

    opened = OpenedByProcess(opens)
    assert (opened.get(), opened.get(), calls) == (os.getpid(), os.getpid(), [False])
    results = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(
        target=lambda: results.put((opened.get(), opened.get(), os.getpid(), calls))
    )
    child.start()
    first, again, process, of_child = results.get()
    child.join()
    assert (first, again, of_child) == (process, process, [False, True])
