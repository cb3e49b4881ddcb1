"""Edits of a knowledge base while it links: through the shell, and after thousands of others.

On a copy of the knowledge base, an entity that no model was trained on is added at the prompt, and a sentence with it is
linked; then it is removed, and the removal is undone. A second opening of the folder, as another process has it, links the
sentence too. After that many entities are added, with invented vectors, and an edit and a link are timed again.

    python benchmarks/live_edits.py --kb DIR [--model MODEL] [--many 5000] [--out OUT.json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blink.apps.shell.session import Session
from blink.data.records import Entity
from blink.evaluation.speed.machine import machine
from blink.explaining.render import Fragments
from blink.files import write_json
from blink.linking.linker import Linker
from blink.linking.opening import open_linker

SENTENCE = "Yesterday the Zorblax Quantum Drive was shown in Berlin."
TITLE, DESCRIPTION = "Zorblax Quantum Drive", "An engine for spaceships, made by the company Zorblax."
REPEATS = 5


class Typed:
    """A console whose user types nothing: lines are given to the session one by one."""

    width, colour, hyperlinks = 100, False, False

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """Nobody answers."""
        raise EOFError

    def show(self, fragments: Fragments) -> None:
        """Nobody reads."""


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result of a call, and its wall and CPU time in milliseconds."""
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, (time.perf_counter() - start) * 1e3, (time.process_time() - cpu) * 1e3


def titles(linker: Linker) -> list[str | None]:
    """Titles of the links of the sentence."""
    return [link.title for link in linker(SENTENCE).links]


def at_the_prompt(linker: Linker, reader: Linker) -> list[dict[str, Any]]:
    """Adds, removes and undoes an entity; a row for each step, with what both linkers link then.

    Raises:
        AssertionError: an edit is not seen, or is seen too long.
    """
    session, rows = Session(linker, Typed()), []
    session.handle(SENTENCE)
    steps: Sequence[tuple[str, Callable[[], Any], bool]] = [
        (":add", lambda: session.handle(f":add {TITLE} | {DESCRIPTION}"), True),
        ("remove", lambda: linker.kb.remove(linker.kb.changes.rows - 1), False),
        (":undo", lambda: session.handle(":undo"), True),
        (":undo of :undo", lambda: session.handle(":undo"), False),
        (":add again", lambda: session.handle(f":add {TITLE} | {DESCRIPTION}"), True),
    ]
    for name, step, is_linked in steps:
        _, ms, cpu_ms = timed(step)
        (own, own_ms, _), (other, other_ms, _) = timed(lambda: titles(linker)), timed(lambda: titles(reader))
        assert (TITLE in own) == (TITLE in other) == is_linked, (name, own, other)
        times = {"ms": ms, "cpu_ms": cpu_ms, "next_link_ms": own_ms, "other_link_ms": other_ms}
        rows.append({"step": name} | {name: round(time, 1) for name, time in times.items()})
        print(rows[-1], flush=True)
    return rows


def after_many(linker: Linker, many: int) -> dict[str, Any]:
    """Times of an edit and of the link after it, when many edits are there."""
    kb, encode, random = linker.kb, linker.kb.encode, np.random.default_rng(0)

    def invented(entities: Sequence[Entity]) -> np.ndarray:
        vectors = random.standard_normal((len(entities), kb.index.dim)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    kb.encode = invented
    names = [
        {"title": f"Thing number {i}", "aliases": [f"Gizmo {i}", f"the {i}th gizmo"], "kb_idx": f"T{i}"} for i in range(many)
    ]
    _, all_ms, _ = timed(lambda: kb.add_all(names))
    _, first_ms, _ = timed(lambda: linker(SENTENCE))
    kb.encode = encode
    add_ms, link_ms, again_ms = [], [], []
    for i in range(REPEATS):
        add_ms.append(timed(lambda i=i: kb.add({"title": f"Zorb {i}", "text": DESCRIPTION}))[1])  # type: ignore[misc]
        link_ms.append(timed(lambda: linker(SENTENCE))[1])
        again_ms.append(timed(lambda: linker(SENTENCE))[1])
    assert TITLE in titles(linker)
    median = {"add": add_ms, "link_after": link_ms, "link_again": again_ms}
    row = {"edits": kb.changes.number, "add_all_ms": round(all_ms), "first_link_ms": round(first_ms)}
    return row | {f"{name}_ms": round(statistics.median(times), 1) for name, times in median.items()}


def main() -> None:
    """Measure, and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kb", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--many", type=int, default=5_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(args.kb, Path(folder) / "kb")
        linker, reader = (open_linker(args.model, str(Path(folder) / "kb")) for _ in range(2))
        titles(linker)
        facts = {"machine": machine(), "entities": len(linker.catalogue), "index": linker.kb.manifest.index}  # type: ignore[union-attr]
        result = {**facts, "prompt": at_the_prompt(linker, reader), "after_many": after_many(linker, args.many)}
        result["torch_imported"] = "torch" in sys.modules
    print(json.dumps(result["after_many"]))
    if args.out is not None:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
