"""`blink kb build` as a process: its progress in a pipe, and what signals and a kill leave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.manifest import CHUNKS_FOLDER, WORK_FOLDER
from tests import toys

ROWS, CHUNK_ROWS = 60, 5
PROGRAM = """
import sys, time, types
import numpy as np
import blink.progress
from blink.kb.vectors import CandidateEncoder

blink.progress.INTERVAL_S = 0.1
delay_s = float(sys.argv.pop(1))
calls = []

def encode(entities):
    calls.append(len(entities))
    time.sleep(delay_s)
    return np.array([[len(e.title), sum(map(ord, e.title + e.text))] for e in entities], np.float32)

opening = types.ModuleType("blink.linking.opening")
opening.open_encoder_for_builds = lambda *options: CandidateEncoder(encode, "fingerprint")
sys.modules["blink.linking.opening"] = opening
from blink.apps.cli import main

try:
    main(sys.argv[1:])
finally:
    print(sum(calls))
"""
"""The command with a slow encoder that needs no model; it prints how many entities it encoded."""


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows(ROWS))


def start(catalogue: Path, delay_s: float) -> subprocess.Popen[str]:
    arguments = ["kb", "build", str(catalogue), "--out", str(catalogue.parent / "kb"), "--chunk-rows", str(CHUNK_ROWS)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(delay_s), *arguments],
        cwd=toys.ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_chunks(catalogue: Path, count: int) -> None:
    folder = catalogue.parent / "kb" / WORK_FOLDER / CHUNKS_FOLDER
    for _ in range(1200):
        if len(list(folder.glob("[0-9]*.npy"))) >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the build made no chunks within a minute")


def test_progress_in_a_pipe(catalogue: Path) -> None:
    process = start(catalogue, 0.06)
    _, written = process.communicate(timeout=120)
    assert process.returncode == 0
    lines = written.splitlines()
    running = [line for line in lines if re.fullmatch(r"encoding: \d+ of 60 entities \(\d+%\), [\d.]+/s, 0:0\d left", line)]
    assert running, lines
    assert [line for line in lines if re.fullmatch(r"encoding: 60 entities in 0:0\d, [\d.]+/s", line)], lines
    assert lines[-1].endswith("60 entities, vectors of dimension 2, index flat, 0 lines skipped")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_stopped_build_continues_with_its_chunks(catalogue: Path, number: signal.Signals) -> None:
    process = start(catalogue, 0.3)
    wait_for_chunks(catalogue, 2)
    process.send_signal(number)
    _, written = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        last = written.splitlines()[-1]
        match = re.fullmatch(
            r"blink: stopped while encoding; the vectors of (\d+) entities are kept; continue with: (.*)", last
        )
        assert match, written
        assert int(match[1]) >= 2 * CHUNK_ROWS
        assert match[2] == f"blink kb build {catalogue} --out {catalogue.parent / 'kb'} --chunk-rows {CHUNK_ROWS}"
        assert "Traceback" not in written
    chunks = len(list((catalogue.parent / "kb" / WORK_FOLDER / CHUNKS_FOLDER).glob("[0-9]*.npy")))

    process = start(catalogue, 0)
    encoded, written = process.communicate(timeout=120)
    assert process.returncode == 0, written
    assert int(encoded) == ROWS - CHUNK_ROWS * chunks
    base = KnowledgeBase.open(catalogue.parent / "kb")
    expected = [[len(e.title), sum(map(ord, e.title + e.text))] for e in base.catalogue]
    np.testing.assert_array_equal(np.asarray(base.vectors), np.array(expected, np.float32))
