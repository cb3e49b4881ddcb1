"""Links the same texts in forked and spawned processes, in threads and in DataLoaders, and says whether links agree.

``python -m tests.process_pairs torch onnx`` prints the table of all pairs. A process that hangs is ended after a time.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

HOWS = ("fork", "spawn", "threads", "loader-fork", "loader-spawn")
WHEN = ("before", "after")
"""Whether the parent has linked before its workers start."""
SOURCES = ("inherited", "opened")
"""Whether workers get the parent's linker, or open one."""
TEXTS = ["Who was born in Paris, Texas?", "Angela Merkel met Obama in Berlin.", "The Nile flows through Egypt."] * 8
LIMIT_S = 120.0

_linker: Any = None


def opened(backend: str) -> Any:
    """A linker over the starter."""
    from blink.linking.linker import Linker

    return Linker.from_pretrained(backend=backend)


def links(linker: Any) -> list[Any]:
    """Links of the texts as plain values."""
    return [[(link.start, link.end, link.kb_id, round(link.score, 4)) for link in linked.links] for linked in linker(TEXTS)]


def work(get: Callable[[], Any], results: Any) -> None:
    """What a process or a thread does."""
    results.put(links(get()))


def inherited() -> Any:
    """The linker of the process that this one was forked from."""
    return _linker


class Texts:
    """A data set whose items are links, so that the workers of a DataLoader link."""

    def __init__(self, get: Callable[[], Any]) -> None:
        self.get = get

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> str:
        return json.dumps(links(self.get()))


def in_processes(how: str, get: Callable[[], Any]) -> Iterator[Any]:
    """Links of two workers.

    Raises:
        queue.Empty: a worker hangs, or died.
    """
    if how.startswith("loader"):
        from torch.utils.data import DataLoader

        loader = DataLoader(
            Texts(get), batch_size=1, num_workers=2, multiprocessing_context=how.removeprefix("loader-"), timeout=LIMIT_S
        )
        yield from (json.loads(row) for (row,) in loader)
        return
    context = multiprocessing.get_context("spawn" if how == "threads" else how)
    results = context.Queue()
    kind: Any = partial(threading.Thread, daemon=True) if how == "threads" else partial(context.Process, daemon=True)
    workers = [kind(target=work, args=(get, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in workers:
        yield results.get(timeout=LIMIT_S)


def outcome(how: str, when: str, source: str, backend: str) -> str:
    """``same`` links, or what went wrong."""
    global _linker
    linker = opened(backend)
    if when == "after":
        links(linker)
    _linker = linker
    get = (
        partial(opened, backend)
        if source == "opened"
        else inherited
        if "fork" in how or how == "threads"
        else partial(same, linker)
    )
    try:
        actual = json.loads(json.dumps(list(in_processes(how, get))))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    expected = json.loads(json.dumps(links(linker)))
    if not any(expected):
        return "no links"
    return "same" if actual == [expected] * 2 else "different"


def same(linker: Any) -> Any:
    """The linker itself: it is pickled on its way into a spawned process."""
    return linker


def run(how: str, when: str, source: str, backend: str) -> str:
    """The outcome in a fresh process with two threads."""
    command = [sys.executable, "-m", "tests.process_pairs", "--one", how, when, source, backend]
    environment = {key: value for key, value in os.environ.items() if "_NUM_THREADS" not in key} | {"OMP_NUM_THREADS": "2"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=2 * LIMIT_S,
            check=False,
            cwd=Path(__file__).parents[1],
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else done.stderr[-2000:]


def main() -> None:
    """Print one outcome, or the table."""
    if sys.argv[1:2] == ["--one"]:
        how, when, source, backend = sys.argv[2:]
        sys.stdout.write(outcome(how, when, source, backend) + "\n")
        sys.stdout.flush()
        os._exit(0)  # workers that hang are not waited for
    table = [("workers", "linked", "linker", *sys.argv[1:])]
    for how, when, source in itertools.product(HOWS, WHEN, SOURCES):
        table.append((how, when, source, *(run(how, when, source, backend) for backend in sys.argv[1:])))
    sys.stdout.writelines("".join(f"{cell:14}" for cell in row).rstrip() + "\n" for row in table)


if __name__ == "__main__":
    main()
