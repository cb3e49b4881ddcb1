"""Signals end every program quietly, after whole lines, with the status of the convention."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from toys import ROOT, knowledge_base, model, rows

from blink.data.text_lines import in_whole_lines

PYTHON = sys.executable
BLINK = [PYTHON, "-m", "blink"]
ENTRIES = {
    "blink": [*BLINK, "link", "--help"],
    "blink.apps.cli": [PYTHON, "-m", "blink.apps.cli", "kb", "show", "nowhere", "Q1"],
    "blink serve": [*BLINK, "serve", "--kb", "nowhere"],
    "main_dense": [PYTHON, "blink/main_dense.py", "--help"],
    "main_dense_all_ents": [PYTHON, "blink/main_dense_all_ents.py", "--help"],
    "train_lm": [PYTHON, "-m", "blink.kglm.train_lm", "--help"],
    "gen_embeddings": [PYTHON, "-m", "blink.kglm.gen_embeddings", "--help"],
    "slurm": [PYTHON, "-m", "blink.compat.slurm", "train"],
    "examples": [PYTHON, "-m", "examples.cli", "ner", "--help"],
    "download_models.sh": ["bash", "download_models.sh", "--list"],
}
ENDED_BY = {signal.SIGINT: {130, -2}, signal.SIGTERM: {143, -15}, signal.SIGHUP: {129, -1}}
"""Statuses that a shell shows as 130, 143 and 129: of the process itself, or of the system that ended it."""


def run(command: Sequence[object], number: int, after_s: float) -> tuple[int, str]:
    """Status and standard error of a program that gets a signal after some time, unless it ends before."""
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def began(err: str) -> bool:
    """Whether a traceback goes through a program of ours; others are of Python's own start, before it runs one."""
    return bool(re.search('(stopping|common).py", line [0-9]+, in (program|guarded)|Exception ignored', err))


def check_quiet(entry: str, after_s: float) -> None:
    status, err = run(ENTRIES[entry], signal.SIGINT, after_s)
    if not re.search("Traceback|KeyboardInterrupt|Exception ignored", err):
        assert status in {0, 1, 2} | ENDED_BY[signal.SIGINT]
        assert err.count("\n") <= 2, err
        if status == 130:
            assert "interrupted" in err
    assert not began(err), f"after {after_s:.3f} s:\n{err}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_is_quiet_at_any_moment(entry: str) -> None:
    for share in (0.3, 0.8):
        check_quiet(entry, share * random.Random(entry).uniform(0.2, 0.6))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_is_quiet_at_thirty_moments(entry: str) -> None:
    chance = random.Random(entry)
    for _ in range(30):
        check_quiet(entry, chance.uniform(0, 1))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A file for the code of a program."""
    (tmp_path / "swallows.py").write_text(
        "import time\nprint('importing', flush=True)\nfor _ in range(600):\n    try:\n        time.sleep(0.1)\n"
        "    except BaseException:\n        pass\n"
    )
    return tmp_path / "script.py"


def started(script: Path, code: str, **options: object) -> subprocess.Popen[str]:
    script.write_text("import sys, time\nfrom blink.stopping import *\n" + textwrap.dedent(code))
    command, environment = [PYTHON, str(script)], os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("number", ENDED_BY)
def test_an_import_cannot_swallow_a_signal(script: Path, number: int) -> None:
    process = started(script, "with signals_raise(program='prog'):\n    import swallows")
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err == f"prog: {['', 'hung up', 'interrupted'][number] if number < 3 else 'terminated'}\n"


WRITES = """
from blink.apps.common import guarded
def write():
    print("ready", file=sys.stderr, flush=True)
    for i in range(10000):
        with whole_output():
            sys.stdout.write(f"{i}" * 400_000 + "\\n")
            sys.stdout.flush()
sys.exit(guarded(write, "prog"))
"""


@pytest.mark.parametrize("number", ENDED_BY)
def test_a_slow_reader_gets_whole_lines(script: Path, number: int) -> None:
    process = started(script, WRITES)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.readline()
    received = process.stdout.read(1_000_003)
    process.send_signal(number)
    while piece := process.stdout.read(50_000):
        received += piece
        time.sleep(0.01)
    assert process.wait(20) == 128 + number
    assert received.endswith("\n")
    assert received.splitlines() == [f"{i}" * 400_000 for i in range(received.count("\n"))]


def test_a_reader_that_stands_still_is_not_waited_for(script: Path) -> None:
    process = started(script, WRITES)
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert process.stderr.read() == "prog: terminated\n"
    process.communicate()


def test_signals_that_are_ignored_stay_ignored(script: Path) -> None:
    code = """
    import signal
    from blink.runs.signals import stop_signals
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_raise(), stop_signals() as signals:
        signal.raise_signal(signal.SIGHUP)
        print(signals.received)
        signal.raise_signal(signal.SIGTERM)
        print(signals.received)
    """
    out, err = started(script, code).communicate(timeout=20)
    assert (out, err) == ("0\n15\n", "")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Flags of a random model that links everything."""
    folder = tmp_path_factory.mktemp("toy")
    biencoder = model()
    biencoder.save_pretrained(folder / "model")
    knowledge_base(folder / "kb", biencoder, rows())
    flags = ["--model", folder / "model", "--kb", folder / "kb", "--no-rank", "--threshold", -20, "--backend", "onnx"]
    return [*flags, "--batch-size", 1]


@pytest.mark.parametrize("number", ENDED_BY)
def test_links_on_standard_output_are_whole_lines(toy: list[object], tmp_path: Path, number: int) -> None:
    texts, out = tmp_path / "texts", tmp_path / "links.jsonl"
    texts.write_text("What is near Oslo and Georgia?\n" * 200_000)
    with out.open("w") as output:
        command = list(map(str, [*BLINK, "link", "--json", "--file", texts, *toy]))
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True)
        while not out.stat().st_size:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(random.Random(number).uniform(0, 0.2))
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    lines = out.read_text().split("\n")
    assert lines.pop() == ""
    assert all(json.loads(line)["text"] == "What is near Oslo and Georgia?" for line in lines)


PRINTING = {
    "help": [*BLINK, "--help"],
    "help of a command": [*BLINK, "train", "--help"],
    "link": [*BLINK, "link", "Oslo", "Georgia"],
    "slurm settings": [*BLINK, "slurm", "settings"],
    "version": [*BLINK, "--version"],
    "main_dense": [PYTHON, "blink/main_dense.py", "--help"],
    "train_lm": [PYTHON, "-m", "blink.kglm.train_lm", "--help"],
    "examples": [PYTHON, "-m", "examples.cli", "--help"],
    "download_models.sh": ["bash", "download_models.sh", "--list"],
}


@pytest.mark.parametrize("name", PRINTING)
def test_without_a_reader(name: str, toy: list[object]) -> None:
    command = [*PRINTING[name], *(toy if name == "link" else ())]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(list(map(str, command)), cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_pieces_are_joined_to_lines() -> None:
    assert list(in_whole_lines(["a", "b\n", "c\nd", "e\n", "f"])) == ["ab\n", "c\nde\n", "f"]
    assert list(in_whole_lines(["aaa", "bbb", "c\n"], longest=5)) == ["aaabbb", "c\n"]
