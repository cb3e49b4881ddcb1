"""The fuzzer: a share of its cases, the corpus of damaged files, and that it notices what it is there for."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz import cases, content, text_kinds, work_kinds
from tests.fuzz.cases import BAD, Cases, numbered
from tests.fuzz.corpus import FOLDER, READERS, REFUSED, entries, read
from tests.fuzz.kinds import Kind
from tests.fuzz.mutations import SPECIAL
from tests.fuzz.processes import Server

SEED = 7
LIGHT = {kind.name: kind for kind in (*text_kinds.KINDS, *work_kinds.KINDS) if kind.needs == "light"}
"""Kinds that need no PyTorch; the others are of ``python -m tests.fuzz`` alone."""


def _outcomes(wide: bool, count: int, folder: Path) -> Counter[str]:
    runner = Cases(LIGHT, folder, None, wide=wide)
    results = [runner.run({"kind": kind, "case": case}) for kind, case in itertools.islice(numbered(LIGHT, SEED), count)]
    assert [r for r in results if r["outcome"] in BAD] == []
    return Counter(r["outcome"] for r in results)


@pytest.mark.timeout(280)
@pytest.mark.parametrize(("wide", "count"), [(False, 24), (True, 12)])
def test_a_share_of_the_cases_ends_well(wide: bool, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLINK_FUZZ_SHARED", str(tmp_path / "shared"))
    assert _outcomes(wide, count, tmp_path)[cases.REFUSED] > count / 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("wide", [False, True])
def test_more_of_the_cases_end_well(wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLINK_FUZZ_SHARED", str(tmp_path / "shared"))
    assert _outcomes(wide, 240, tmp_path)[cases.REFUSED] > 240 / 4


@pytest.mark.parametrize("reader", READERS)
def test_each_file_of_the_corpus_is_read_or_refused_as_the_table_says(reader: str, tmp_path: Path) -> None:
    expected = [entry for entry in entries() if entry.reader == reader]
    assert expected
    for number, entry in enumerate(expected):
        work = tmp_path / str(number)
        work.mkdir()
        found = read(entry.name, reader, work)
        assert (found.name, found.outcome) == (entry.name, entry.outcome), found.message
        assert found.message.startswith(entry.message)
        assert found.outcome != REFUSED or 10 < len(found.message) < 5000


def test_the_table_lists_the_files_of_the_corpus() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sorted(entry.name for entry in entries()) == sorted(sizes)
    assert max(sizes.values()) < 4096
    assert sum(sizes.values()) < 200_000


# --- what the fuzzer notices ----------------------------------------------------------------------------------------


def _print(folder: Path, file: Path) -> None:
    sys.stdout.write(repr(file.read_bytes() if file.is_file() else "nothing"))


def _refuse(folder: Path, file: Path) -> None:
    if not file.is_file() or file.read_bytes() != b"content":
        raise cases_error(f"{file} was changed; write it again")


def cases_error(text: str) -> Exception:
    from blink.errors import DataError

    return DataError(text)


def _raise(folder: Path, file: Path) -> None:
    if not file.is_file() or file.read_bytes() != b"content":
        raise ZeroDivisionError


def _escape(folder: Path, file: Path) -> None:
    if not file.is_file() or file.read_bytes() != b"content":
        os.write(2, b"blink: \x1b[31mred\n")  # past the stream, which escapes it
        raise SystemExit(1)


def _crash(folder: Path, file: Path) -> None:
    if not file.is_file() or file.read_bytes() != b"content":
        ctypes.string_at(0)


def _wait(folder: Path, file: Path) -> None:
    if not file.is_file() or file.read_bytes() != b"content":
        time.sleep(60)


def _compute(folder: Path, file: Path) -> None:
    while not file.is_file() or file.read_bytes() != b"content":
        pass


def _fill(folder: Path, file: Path) -> None:
    held = []
    while not file.is_file() or file.read_bytes() != b"content":
        held.append(bytearray(b"x") * (1 << 24))
        time.sleep(0.002)


def _note(folder: Path, file: Path) -> None:
    if not file.is_file() or file.read_bytes() != b"content":
        sys.stderr.write("one value was left out\n")
    _print(folder, file)


@pytest.mark.parametrize(
    ("use", "verified", "outcome"),
    [
        (_print, (), cases.UNVERIFIED), (_print, ("file",), cases.SILENT), (_refuse, ("file",), cases.REFUSED),
        (_raise, (), cases.CRASH), (_crash, (), cases.CRASH), (_escape, (), cases.UNCLEAR), (_wait, (), cases.HANG),
        (_compute, (), cases.HANG), (_fill, (), cases.MEMORY), (_note, ("file",), cases.NOTED),
    ],
)  # fmt: skip
def test_each_outcome_is_recognised(
    use: object, verified: tuple[str, ...], outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fuzz import processes

    monkeypatch.setattr(processes, "IDLE_S", 1.0)
    monkeypatch.setattr(processes, "CPU_S", 0.3 if use is _compute else 20.0)  # the others may be slow on a busy machine
    monkeypatch.setattr(processes, "RSS_BYTES", 1 << 27)
    kind = Kind("toy", lambda folder: (folder / "file").write_bytes(b"content"), (use,), verified=verified)  # type: ignore[arg-type]
    outcomes = {Cases({"toy": kind}, tmp_path, None).run({"kind": "toy", "case": f"0:{i}"})["outcome"] for i in range(3)}
    assert outcome in outcomes
    assert outcomes <= {outcome, cases.SAME}


@pytest.mark.timeout(60)
def test_servers_end_together() -> None:
    servers = [Server((), lambda request: {"answer": request["number"] + 1}) for _ in range(3)]
    assert [server.run({"number": i})["answer"] for i, server in enumerate(servers)] == [1, 2, 3]
    Server.close(servers)
    with pytest.raises(ChildProcessError):
        os.waitpid(servers[0].pid, 0)


def test_the_same_seed_damages_the_same() -> None:
    sample = b'{"a": [1, 2.5, "text"], "b": {"c": null}}\n' * 3
    for name in ("x.json", "x.jsonl", "x.csv", "x.yaml", "x.npy", "x.safetensors", "x.txt", "x.jsonl.gz"):
        one, other = ([content.damaged(name, sample, random.Random(i)) for i in range(40)] for _ in range(2))
        assert one == other
        assert sum(damage != sample for damage in one) > 30


def test_what_is_no_file_is_tried_too(tmp_path: Path) -> None:
    for name, replace in SPECIAL.items():
        replace(tmp_path / name.replace("/", "-"))
    assert (tmp_path / "a pipe").is_fifo()
    assert (tmp_path / "a dangling link").is_symlink()
    assert not (tmp_path / "removed").exists()
