"""Batches of inputs of similar length, and their forward passes on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

TOKENS_PER_BATCH = 1024
"""Most tokens of a batch on a CPU, so that its activations stay in the cache of a core."""


def batches_by_length(lengths: Sequence[int], most_rows: int, most_tokens: int | None = None) -> list[list[int]]:
    """Batches of inputs of similar length, longest first.

    Args:
        lengths: tokens of each input.
        most_rows: of a batch.
        most_tokens: of a batch with its padding; one input may have more. None for no limit.

    Returns:
        the numbers of the inputs of each batch.
    """
    batches: list[list[int]] = []
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        n_rows = most_rows if most_tokens is None else min(most_rows, max(1, most_tokens // max(1, lengths[order[0]])))
        batches.append(order[:n_rows])
        del order[:n_rows]
    return batches


def for_each_on_cpu(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Call ``work`` for each item, in as many threads as torch has, each computing with one.

    Threads that share every matrix product wait for each other at its end, and wait longest on a busy machine. With an
    item each they never do.

    Args:
        work: must be safe to call at the same time for two items.
        items: short, so that all threads end at about the same time.
    """
    import torch

    n_threads = torch.get_num_threads()
    items = list(items)
    if n_threads < 2 or len(items) < 2:
        for item in items:
            work(item)
        return
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(min(n_threads, len(items)), initializer=torch.set_num_threads, initargs=(1,))
    try:
        for _ in pool.map(work, items):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)
