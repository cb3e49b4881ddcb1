"""Inputs split into shards of whole chunks, so that the rows of all shards are those of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from blink.bulk.sources import Input, read_chunks


def split_into_shards(inputs: Sequence[Input], n_shards: int, chunk_lines: int | None = None) -> list[tuple[Input, ...]]:
    """Split the lines of inputs; each is read once.

    Args:
        inputs: whole files.
        n_shards: most shards, of nearly as many chunks each.
        chunk_lines: see `read_chunks`.

    Returns:
        the inputs of each shard, which are ranges of lines; none where there is no line.

    Raises:
        DataError: a compressed file is damaged.
    """
    ranges, offset, file = [], 0, 0
    for chunk in read_chunks(inputs, chunk_lines=chunk_lines):
        offset, file = (offset if chunk.file == file else 0), chunk.file
        ranges.append((file, chunk.first_line - 1, chunk.end.line, offset))
        offset = chunk.end.offset
    n_shards = max(1, min(n_shards, len(ranges)))
    shards = []
    for n in range(n_shards):
        in_shard = ranges[len(ranges) * n // n_shards : len(ranges) * (n + 1) // n_shards]
        shards.append(tuple(_joined(inputs[number], list(group)) for number, group in groupby(in_shard, lambda r: r[0])))
    return [shard for shard in shards if shard]


def _joined(source: Input, ranges: Sequence[tuple[int, int, int, int]]) -> Input:
    return replace(source, start=ranges[0][1], end=ranges[-1][2], offset=ranges[0][3])


def count_lines(shard: Sequence[Input]) -> int:
    """Lines of a shard."""
    return sum((lines.end or 0) - lines.start for lines in shard)
