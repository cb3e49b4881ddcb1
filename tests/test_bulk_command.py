"""``blink link --out``: the links of ``--json``, errors in their places; killed again and again with the starter."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toys import ROOT, knowledge_base, model, rows

torch.set_num_threads(1)

Blink = Callable[..., tuple[int, str, str]]
TEXTS = [f"What is near {name} and {other}?" for name in ("Oslo", "Java", "Turing") for other in ("Georgia", "Lake Garda")]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Flags of a random model that links everything."""
    folder = tmp_path_factory.mktemp("toy")
    biencoder = model()
    biencoder.save_pretrained(folder / "model")
    knowledge_base(folder / "kb", biencoder, rows())
    return (
        "--model",
        folder / "model",
        "--kb",
        folder / "kb",
        "--no-rank",
        "--threshold",
        -20,
        "--backend",
        "torch",
        "--device",
        "cpu",
    )


def one_line(result: tuple[int, str, str], *words: str) -> None:
    status, out, err = result
    assert (status != 0, out, err.count("\n")) == (True, "", 1)
    assert all(word in err for word in words), err


def test_the_rows_are_the_lines_of_json(toy: tuple[object, ...], tmp_path: Path, blink: Blink) -> None:
    file, out = tmp_path / "texts.txt", tmp_path / "links.jsonl"
    file.write_text("\n".join(TEXTS))
    status, printed, err = blink("link", "--file", file, "--out", out, "--descriptions", *toy)
    assert (status, printed) == (0, "")
    assert f"{out}: 6 texts, " in err
    _, printed, _ = blink("link", "--file", file, "--json", *toy)
    assert out.read_text() == printed
    assert blink("link", "--file", file, "--out", out, "--descriptions", *toy)[0] == 0  # nothing is left to do
    again = blink("link", "--file", file, "--out", out, "--descriptions", *toy, "--no-text")
    one_line(again, "was begun with other keep_text")


def test_fields_and_errors(toy: tuple[object, ...], tmp_path: Path, blink: Blink) -> None:
    file, out = tmp_path / "texts.jsonl", tmp_path / "links.jsonl"
    lines = [json.dumps({"doc": f"d{i}", "body": text, "day": i, "more": 0}) for i, text in enumerate(TEXTS)]
    file.write_text("\n".join([*lines[:3], "{", *lines[3:]]))
    words = ("link", "--file", file, *toy, "--text-key", "body", "--id-key", "doc", "--carry", "day")
    status, _, err = blink(*words, "--out", out, "--no-text", "--no-candidates")
    assert status == 0
    assert "1 of 7 records have an error instead of links (1 not JSON); first: " in err
    written = [json.loads(line) for line in out.open()]
    assert written[3].keys() == {"line", "error"}
    assert [row["id"] for row in written if "id" in row] == [f"d{i}" for i in range(6)]
    assert [row["fields"] for row in written if "id" in row] == [{"day": i} for i in range(6)]
    assert all({"text", "candidates"}.isdisjoint({*row, *link}) for row in written for link in row.get("links", ()))
    status, _, err = blink(*words, "--out", tmp_path / "strict.jsonl", "--strict")
    assert (status, "--strict does not allow" in err.splitlines()[-1]) == (1, True)
    assert len((tmp_path / "strict.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a text", "--out", "x.jsonl"), "leave the texts out"),
        (("--file", "f", "--json", "--out", "x.jsonl"), "leave --json out"),
        (("--file", "f", "--format", "csv", "--digits", "3", "--out", "x.jsonl"), "leave --format and --digits out"),
        (("--file", "f", "--text-key", "body"), "need --out"),
        (("--file", "f", "--file", "g"), "several files"),
        (("--file", "f", "--workers", "2"), "need --out"),
        (("--file", "f", "--out", "x.jsonl"), "f does not exist"),
        (("--file", "f", "--out", "x.jsonl", "--workers", "none"), "a number from 1 to 1024, or auto"),
        (("--file", "f.txt", "--out", "x.jsonl", "--carry", "day"), "--carry is given, and lines of text have no fields"),
    ],
)
def test_mistakes(blink: Blink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    one_line(blink("link", *words), message)


@pytest.mark.slow
@pytest.mark.parametrize(("n_workers", "ending"), [(1, ".jsonl"), (2, ".jsonl.gz"), (1, ".parquet")])
def test_killed_ten_times_with_the_starter(tmp_path: Path, n_workers: int, ending: str) -> None:
    """Also with two workers, and with the conversion to Parquet."""
    texts = [json.loads(line)["text"] for line in (ROOT / "tests" / "data" / "everyday.jsonl").open()]
    source, chance = tmp_path / "in.jsonl", random.Random(n_workers)
    source.write_text("".join(json.dumps({"id": i, "text": chance.choice(texts)}) + "\n" for i in range(1500)))
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    command = [sys.executable, "-m", "blink.apps.cli", "link", "--file", str(source), "--workers", str(n_workers), "--out"]
    env = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(whole)], cwd=ROOT, env=env, check=True)
    for kill in range(10):
        process = subprocess.Popen([*command, str(out)], cwd=ROOT, env=env)
        try:
            process.wait(chance.uniform(1, 15))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL if kill % 2 else signal.SIGTERM)
        process.wait(60)
    subprocess.run([*command, str(out)], cwd=ROOT, env=env, check=True)
    assert out.read_bytes() == whole.read_bytes()
