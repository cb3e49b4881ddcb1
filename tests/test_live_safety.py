"""Edits when the disk fails or the process is killed: what was acknowledged is there, and nothing is half done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys

from blink.errors import BlinkError
from blink.kb.building import build_knowledge_base
from blink.kb.health import check_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase

N = 12
ENCODE = toys.letter_counts()
SCRIPT = toys.ROOT / "benchmarks" / "live_safety.py"


def opened(folder: Path) -> KnowledgeBase:
    base = KnowledgeBase.open(folder)
    base.encode = ENCODE
    return base


class Disk:
    """Calls of the system that change files, of which one fails.

    Attributes:
        calls: how many there were.
    """

    def __init__(self, patch: pytest.MonkeyPatch, failing: int, code: int) -> None:
        self.calls, self._failing, self._code = 0, failing, code
        for name in ("pwrite", "fsync", "ftruncate", "replace", "mkdir"):
            patch.setattr(os, name, self._counted(getattr(os, name), name))

    def _counted(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls != self._failing:
                return None if name == "fsync" else real(*arguments, **options)
            if self._code:
                raise OSError(self._code, os.strerror(self._code))
            if name == "pwrite":  # a short write
                handle, content, offset = arguments
                return real(handle, content[: len(content) // 2], offset)
            return real(*arguments, **options)

        return call


STEPS: dict[str, Callable[[KnowledgeBase], Any]] = {
    "the first edit": lambda kb: kb.add({"title": "Zorblax", "kb_idx": "X1"}),
    "several": lambda kb: kb.add_all([{"title": f"Many {i}"} for i in range(3)]),
    "an undo": lambda kb: kb.undo(),
    "a compaction": lambda kb: kb.compact(),
    "an edit after it": lambda kb: kb.update("X1", text="a moon"),
    "a second compaction": lambda kb: kb.compact(),
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, 0], ids=["full", "broken", "short"])
def test_every_call_may_fail(tmp_path: Path, code: int) -> None:
    folder, before = tmp_path / "kb", tmp_path / "before"
    build_knowledge_base(toys.write_catalogue(tmp_path / "kb.jsonl", toys.rows(N)), folder, ENCODE, "toy")
    for name, step in STEPS.items():
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(folder, before)
        base = opened(folder)
        states = [(base.digest(), base.changes.number)]
        with pytest.MonkeyPatch.context() as patch:
            n_calls = Disk(patch, 0, 0)
            step(base)
        states.append((base.digest(), base.changes.number))
        # All of an edit; of a compaction some that write files, and all that put them in place.
        numbers = range(1, n_calls.calls + 1)
        is_compaction = len(numbers) > 10
        if is_compaction and code != errno.EIO:  # left to the slow test below
            continue
        for failing in {*numbers[:: 60 if is_compaction else 1], *numbers[-4:]}:
            shutil.rmtree(folder)
            shutil.copytree(before, folder)
            base, error = opened(folder), None
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, failing, code)
                try:
                    step(base)
                except (OSError, BlinkError) as caught:
                    error = caught
            assert (error is None) <= (code == 0 or n_calls.calls > 2), name
            reader = KnowledgeBase.open(folder)
            state = (reader.digest(), reader.changes.number)
            assert state in (states[1:] if error is None else states), f"{name} was half done"
            base.refresh()
            if error is not None and (state != states[1] or states[0] == states[1]):
                step(base)
            assert (base.digest(), base.changes.number) == states[1]
        assert check_knowledge_base(folder).problems == []


def test_another_process_sees_an_edit_within_a_second(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    build_knowledge_base(toys.write_catalogue(tmp_path / "kb.jsonl", toys.rows(N)), folder, ENCODE, "toy")
    code = (
        "import sys, time\nfrom blink.kb.knowledge_base import KnowledgeBase\n"
        f"kb = KnowledgeBase.open({str(folder)!r})\nprint('ready', flush=True)\n"
        "while not kb.refresh(): time.sleep(0.01)\n"
        "print(time.time(), kb.changes.number, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        opened(folder).add({"title": "Zorblax"})
        acknowledged = time.time()
        seen, number = reader.stdout.readline().split()
    assert float(seen) - acknowledged < 1
    assert number == "1"


@pytest.mark.slow
def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    subprocess.run([sys.executable, SCRIPT, "kills", "--edits", "400", "--times", "4", "--out", out], check=True)
    assert json.loads(out.read_text())["kills"]["kills"] == 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_calls_of_all_libraries_may_fail(tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    subprocess.run([sys.executable, SCRIPT, "faults", "--out", out], check=True)
    assert all(of["calls"] > 100 for of in json.loads(out.read_text())["faults"].values())
