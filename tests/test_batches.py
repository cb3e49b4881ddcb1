"""Batches of inputs of similar length, and forward passes in several threads."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blink.model.batches import batches_by_length, for_each_on_cpu

pytestmark = pytest.mark.quick


@given(st.lists(st.integers(0, 200)), st.integers(1, 64), st.none() | st.integers(1, 2000))
def test_batches_hold_each_input_once_within_their_limits(lengths: list[int], most_rows: int, most_tokens: int | None) -> None:
    batches = batches_by_length(lengths, most_rows, most_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= most_rows
        assert most_tokens is None or len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= most_tokens
    by_length = [lengths[i] for batch in batches for i in batch]
    assert by_length == sorted(lengths, reverse=True)


@pytest.fixture(params=[1, 3])
def n_threads(request: pytest.FixtureRequest) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_item_is_worked_on_and_torch_keeps_its_threads(n_threads: int) -> None:
    finished, threads = [], set()

    def work(item: int) -> None:
        finished.append(item)
        threads.add((threading.get_ident(), torch.get_num_threads() if n_threads > 1 else 1))

    for_each_on_cpu(work, range(50))
    assert sorted(finished) == list(range(50))
    assert {n for _, n in threads} == {1}
    assert torch.get_num_threads() == n_threads


def test_a_failure_ends_the_work_and_torch_keeps_its_threads(n_threads: int) -> None:
    started = []

    def work(item: int) -> None:
        started.append(item)
        if item == 2:
            raise ValueError("item 2 is broken")

    with pytest.raises(ValueError, match="item 2 is broken"):
        for_each_on_cpu(work, range(10_000))
    assert len(started) < 10_000
    assert torch.get_num_threads() == n_threads
