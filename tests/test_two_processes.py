"""A folder that a run writes to is locked: a second run ends in one line, and does nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from shell_toys import weighing
from toys import base_folder, knowledge_base, model, rows

from blink.apps.cli import cli
from blink.apps.common import guarded
from blink.errors import BusyError
from blink.files import locked
from blink.model.loading import load_model
from blink.runs.folder import locked_run

torch.set_num_threads(1)

QUICK = ("--epochs", "1", "--batch-size", "8", "--precision", "fp32", "--device", "cpu")


@contextlib.contextmanager
def another_process(folder: Path) -> Iterator[None]:
    """Lock a folder or a file as another process would."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a knowledge base to train from, another pair to link with, and files for all commands."""
    where = tmp_path_factory.mktemp("home")
    encoder = load_model(base_folder(where / "base"), context=False, candidate=True)
    kb = knowledge_base(where / "kb", encoder, rows(24))
    trained = model()
    trained.reranker = weighing(-3.0, alias=3.0, dice=4.0)
    trained.save_pretrained(where / "model")
    knowledge_base(where / "model-kb", trained, rows(24))
    titles = [kb.catalogue.title(i) for i in range(24)]
    lines = [
        {"id": str(i), "text": f"where is {t}?", "mentions": [[9, 9 + len(t)]], "label_id": [i]} for i, t in enumerate(titles)
    ]
    (where / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (where / "records.jsonl").write_text('{"name": "Oslo"}\n')
    (where / "graph.tsv").write_text("".join(f"a{i}\tr\ta{i + 1}\n" for i in range(30)))
    (where / "graph.yaml").write_text("kind: graph\ndata: {graph: graph.tsv, valid_share: 0.2}\nmodel: {name: distmult}\n")
    return where


COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("run", "train --train texts.jsonl --dev texts.jsonl --kb kb --model base --out run"),
    "rank": ("model", "rank model --kb model-kb --train texts.jsonl"),
    "rank --update": ("model", "rank model --kb model-kb --train texts.jsonl --update"),
    "calibrate": ("model", "calibrate model --on model-kb texts.jsonl"),
    "kb build": ("kb", "kb build kb/entity.jsonl --model base --out kb"),
    "kb index": ("kb", "kb index kb --index flat"),
    "resolve": ("model-kb/manifest.json", "resolve run model-kb records.jsonl --model model"),
    "kglm train": ("run", "kglm train graph.yaml --out run"),
}
"""What another process writes to, and a command that would."""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_ends_in_one_line(
    name: str, home: Path, blink: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, command = COMMANDS[name]
    monkeypatch.chdir(home)
    if folder == "run":
        Path(folder).mkdir(exist_ok=True)
    before = {file: file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}
    with another_process(Path(folder)):
        status, out, err = blink(*command.split())
    assert (status, out) == (1, "")
    assert f"another process is writing to {folder}" in err.splitlines()[-1]
    assert {file: file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()} == before


def forked(command: list[str], printed: Path) -> int:
    """Begin a ``blink`` command in a process that has its libraries already; its number. What it prints goes into a file."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        for stream in (1, 2):
            os.dup2(os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        status = guarded(lambda: cli.main(command, prog_name="blink", standalone_mode=False), "blink")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 98
    finally:
        sys.stderr.flush()
        os._exit(status)


def test_of_two_trainings_one_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "train",
        "--train",
        "texts.jsonl",
        "--dev",
        "texts.jsonl",
        "--kb",
        "kb",
        "--model",
        "base",
        "--out",
        tmp_path / "run",
    ]
    monkeypatch.chdir(home)
    command = [*map(str, words), *QUICK, "--log-steps", "1", "--epochs", "100000"]
    first = forked(command, tmp_path / "first")
    trace = tmp_path / "run" / "trace.jsonl"
    while not trace.is_file():
        assert os.waitpid(first, os.WNOHANG) == (0, 0), (tmp_path / "first").read_text()
        time.sleep(0.05)
    second = forked(command, tmp_path / "second")
    refused_with = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
    os.kill(first, signal.SIGTERM)
    saved_with = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    saved, refused = ((tmp_path / name).read_text() for name in ("first", "second"))
    assert [saved_with, refused_with] == [143, 1], (saved, refused)
    assert "another process is writing to" in refused.splitlines()[-1]
    assert "--resume" in saved
    kinds = [json.loads(line)["kind"] for line in trace.read_text().splitlines()]
    steps = [
        json.loads(line)["step"] for line in trace.read_text().splitlines() if '"step"' in line and '"kind": "step"' in line
    ]
    assert kinds.count("run") == 1
    assert steps == sorted(set(steps))


def test_locks_are_nested_and_exclude_others(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path):
        handle = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    with another_process(tmp_path):  # released
        with pytest.raises(BusyError), locked(tmp_path):
            pass
        with pytest.raises(BusyError), locked(tmp_path, wait=0.05):
            pass
    with locked(tmp_path):
        pass


def test_the_folder_of_a_run_that_never_began_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), locked_run(tmp_path / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()
    with another_process(tmp_path):
        with pytest.raises(BusyError), locked_run(tmp_path):
            pass
        monkeypatch.setenv("RANK", "1")
        with locked_run(tmp_path):  # of the run whose first process has the lock
            pass
