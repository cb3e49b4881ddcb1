"""Threads of libraries in a server: they leave the cores to whoever has work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from serving_toys import client_of, toy_linker

from blink.machine import SERVER_THREADS, set_server_threads

PROGRAM = """
import json, os, sys, types
run = types.ModuleType("blink.serving.run")
run.serve = lambda *_: print(json.dumps([dict(os.environ), "numpy" in sys.modules]))
sys.modules["blink.serving.run"] = run
from blink.apps.serve import serve
serve([], standalone_mode=False)
"""


def test_server_sets_them_before_the_libraries_are_loaded() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SERVER_THREADS}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    variables, numpy_is_loaded = json.loads(done.stdout)
    assert {name: variables.get(name) for name in SERVER_THREADS} == SERVER_THREADS
    assert not numpy_is_loaded


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    set_server_threads()
    assert (os.environ["OPENBLAS_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("3", "ACTIVE")


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_long_texts_go_after_short_ones(tmp_path: Path) -> None:
    with client_of(toy_linker(tmp_path), batch_characters=10) as client:
        for text in ("Oslo 7", "Oslo 7 is longer than a batch"):
            assert client.post("/link", json={"text": text}).status_code == 200
        niceness = {
            thread.name: os.getpriority(os.PRIO_PROCESS, thread.native_id or 0)
            for thread in threading.enumerate()
            if thread.name in ("blink-short", "blink-long")
        }
    assert niceness["blink-short"] == os.getpriority(os.PRIO_PROCESS, 0) < niceness["blink-long"]
