"""Mistakes that people make at the command line: each ends in one clear line, never in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys
from outcomes import refused

from blink.errors import SettingsError
from blink.files import locked
from blink.kb.building import build_knowledge_base
from blink.model.backends.exported import exported

Run = Callable[..., tuple[int, str, str]]
QUESTION = {"text": "Georgia 0 is old", "mentions": [[0, 9]], "label_id": [0]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy model, its knowledge base and a labelled question."""
    folder = tmp_path_factory.mktemp("home")
    model = toys.model(0)
    model.save_pretrained(folder / "model")
    exported(folder / "model")  # processes of their own start with ONNX Runtime, in a tenth of the time
    toys.knowledge_base(folder / "kb", model, toys.rows(12))
    (folder / "dev.jsonl").write_text(json.dumps(QUESTION) + "\n")
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


OPEN = ("--model", "model", "--kb", "kb")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "dev.jsonl", "--kb", "kb"), ("dev.jsonl", "no model folder")),
        (("--model", "kb", "--kb", "kb"), ("config.json", "blink train")),
        (("--model", "", "--kb", "kb"), ("config.json",)),
        (("--model", "model", "--kb", ""), ("not a knowledge base",)),
        (("--model", "model", "--kb", "dev.jsonl"), ("not a knowledge base",)),
        (("--model", "model", "--kb", "model"), ("not a knowledge base",)),
        (("--model", "x" * 300, "--kb", "kb"), ("too long",)),
        ((*OPEN, "--device", "banana"), ("banana", "cuda")),
        ((*OPEN, "--device", ""), ("device",)),
        ((*OPEN, "--device", "meta"), ("meta",)),
        ((*OPEN, "--device", "hpu"), ("hpu",)),
        ((*OPEN, "--threshold", "nan"), ("threshold", "-inf")),
    ],
)
def test_wrong_places_and_settings(blink: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(blink("link", "Georgia", *arguments), *words)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_context_length": "long"}, {"max_mention_length": 2.5}, {"threshold": "high"}, {"threshold": None},
        {"cosine": 1}, {"base": 5}, {"aggregation": []}, {"context_encoder": 5}, {"candidate_encoder": []},
    ],
)  # fmt: skip
def test_settings_of_a_wrong_type(blink: Run, home: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in filter(Path.is_file, (home / "model").iterdir()):
        (model / file.name).write_bytes(file.read_bytes())
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(values | changes))
    (model / "checksums.json").unlink()
    refused(blink("link", "Georgia", "--model", model, "--kb", "kb"))


@pytest.mark.parametrize("changes", [{"samples": 5}, {"skipped": "none"}, {"entities": "many"}, {"dim": None}, {"index": []}])
def test_a_manifest_of_wrong_types(blink: Run, home: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    base = tmp_path / "kb"
    base.mkdir()
    for file in (home / "kb").iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    values = json.loads((base / "manifest.json").read_text())
    (base / "manifest.json").write_text(json.dumps(values | changes))
    refused(blink("link", "Georgia", "--model", "model", "--kb", base), "build")


def test_files_of_texts(blink: Run) -> None:
    refused(blink("link", *OPEN, "--file", "kb"), "is a folder")
    refused(blink("link", *OPEN, "--file", "/dev/null"), "is empty")
    refused(blink("link", *OPEN, "--file", "nowhere.txt"), "does not exist")


def test_a_pipe_for_a_file(blink: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("Georgia\nOslo\n",))
    writer.start()
    status, out, _ = blink("link", *OPEN, "--file", pipe, "--json")
    writer.join()
    assert status == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["Georgia", "Oslo"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label_id": [12]}, ("row 12", "12 entities")),
        ({"label_id": None, "wikidata_id": [58.5]}, ("line 1", "wikidata_id", "58.5")),
    ],
)
def test_gold_of_another_catalogue(blink: Run, tmp_path: Path, row: dict[str, Any], words: tuple[str, ...]) -> None:
    file = tmp_path / "dev.jsonl"
    file.write_text(json.dumps(QUESTION | row) + "\n")
    refused(blink("eval", file, *OPEN), *words)


def test_places_of_output(blink: Run, home: Path) -> None:
    refused(blink("eval", "dev.jsonl", *OPEN, "--json", "kb"), "is a folder")
    refused(blink("eval", "dev.jsonl", *OPEN, "--rows", "no/rows.jsonl"), "does not exist")
    refused(blink("eval", "dev.jsonl", *OPEN, "--json", "-", "--rows", "-"), "standard output")
    assert blink("eval", "dev.jsonl", *OPEN, "--json", "/dev/null", "--rows", "/dev/null")[0] == 0
    status, out, _ = blink("eval", "dev.jsonl", *OPEN, "--rows", "-")
    assert status == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == [QUESTION["text"]]
    assert not (home / "-").exists()


def test_a_cut_off_encoder(blink: Run, tmp_path: Path) -> None:
    encoder = toys.base_folder(tmp_path / "encoder")
    weights = encoder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(blink("kb", "build", "kb.jsonl", "--out", tmp_path / "out", "--model", encoder), "model.safetensors is damaged")
    assert not (tmp_path / "out").exists()


def test_two_builds_at_once(home: Path, tmp_path: Path) -> None:
    """A process of its own holds the folder: the second build is refused and the first one's work is left alone."""
    out = tmp_path / "kb"
    out.mkdir()
    code = "import sys\nfrom blink.files import locked\nwith locked(sys.argv[1]):\n    print('held', flush=True)\n    input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=toys.ROOT
    )
    assert other.stdout is not None
    other.stdout.readline()
    try:
        with pytest.raises(SettingsError, match="another process"):
            build_knowledge_base(home / "kb.jsonl", out, toys.letter_counts(), "m")
    finally:
        other.communicate(b"\n")
    assert build_knowledge_base(home / "kb.jsonl", out, toys.letter_counts(), "m").entities == 12
    with locked(out, wait=True):
        pass


@pytest.mark.parametrize(
    ("shell", "status", "words"),
    [
        ("{blink} link Georgia --model model --kb kb >&-", 0, ""),
        ("{blink} link --model model --kb kb <&-", 1, "is empty"),
        ("{blink} link Georgia --model model --kb kb > /dev/full", 1, "space"),
        ("PYTHONIOENCODING=ascii {blink} link 'Georgia ŁÓDŹ' --model model --kb kb", 0, ""),
    ],
)
def test_streams(home: Path, shell: str, status: int, words: str) -> None:
    env = os.environ | {"PYTHONPATH": str(toys.ROOT), "OMP_NUM_THREADS": "1", "BLINK_BACKEND": "onnx"}
    command = shell.format(blink=f"{sys.executable} -m blink.apps.cli")
    done = subprocess.run(["bash", "-c", command], cwd=home, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == bool(words), done.stderr


def test_json_survives_an_output_that_lacks_characters(home: Path) -> None:
    env = os.environ | {
        "PYTHONPATH": str(toys.ROOT),
        "OMP_NUM_THREADS": "1",
        "PYTHONIOENCODING": "ascii",
        "BLINK_BACKEND": "onnx",
    }
    command = [sys.executable, "-m", "blink.apps.cli", "link", "Łódź", *OPEN, "--json"]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, timeout=120, check=True)
    assert json.loads(done.stdout)["text"] == "Łódź"
