"""Shards of lines: each is processed in blocks, so that a kill loses at most one block. Shards are merged in order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from blink.errors import MismatchError
from blink.files import atomic_open, locked

BLOCK_LINES = 1024
"""Lines per block. The result of a line depends on its block alone, so resumed shards have the same results."""


def count_lines(path: str | Path) -> int:
    """Lines of a file, the last one with or without its end."""
    count, last = 0, b"\n"
    with Path(path).open("rb") as f:
        while block := f.read(1 << 20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def process_lines(
    lines: Iterator[str],
    out: Path,
    transform: Callable[[Sequence[str]], Iterable[str]],
    progress: Callable[[int], None] = lambda done: None,
    block_lines: int = BLOCK_LINES,
) -> int:
    """Write the transformed lines, one per input line. After a kill, the same call continues.

    Args:
        lines: all lines of the shard.
        out: the file; it is ``<out>.part`` until it is complete.
        transform: maps the lines of a block.
        progress: called with the number of lines done so far.
        block_lines: lines per block.

    Returns:
        number of lines.

    Raises:
        SettingsError: another process is working on the same shard.
    """
    partial = out.with_name(out.name + ".part")
    with partial.open("ab+") as f, locked(partial):
        done = _keep_blocks(f.fileno(), partial, block_lines)
        for _ in islice(lines, done):
            pass
        progress(done)
        while block := list(islice(lines, block_lines)):
            f.write("".join(line + "\n" for line in transform(block)).encode("utf-8"))
            f.flush()
            os.fsync(f.fileno())
            done += len(block)
            progress(done)
    partial.replace(out)
    return done


def _keep_blocks(handle: int, partial: Path, block_lines: int) -> int:
    """Truncate the block that a kill left unfinished; returns the lines that remain."""
    end, position, lines = 0, 0, 0
    with partial.open("rb") as f:
        for line in f:
            if not line.endswith(b"\n"):
                break
            position, lines = position + len(line), lines + 1
            if lines % block_lines == 0:
                end = position
    os.ftruncate(handle, end)
    return lines // block_lines * block_lines


def merge_lines(files: Sequence[tuple[Path, int]], out: Path) -> None:
    """Concatenate files.

    Args:
        files: each file with its expected number of lines.
        out: the file to write.

    Raises:
        MismatchError: a file is missing, or has an unexpected number of lines.
    """
    for path, lines in files:
        count = count_lines(path) if path.is_file() else None
        if count != lines:
            fault = "is missing" if count is None else f"has {count} lines, expected {lines}"
            raise MismatchError(f"{path} {fault}; remove its record in the folder shards and give the same command again")
    with atomic_open(out, "wb") as f:
        for path, _ in files:
            with path.open("rb") as source:
                shutil.copyfileobj(source, f, 1 << 20)
