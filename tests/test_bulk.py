"""Bulk runs: whatever the lines hold and wherever a run is killed, each record has one row, in its place."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bulk_toys
import pytest
import zstandard
from bulk_toys import ROOT, ToyLinker, broken_linker, job, rows, write_records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from locks import locked_elsewhere

from blink import workers
from blink.bulk import sources
from blink.bulk.journal import JOURNAL_SUFFIX, PARTIAL_SUFFIX
from blink.bulk.progress import Pace, duration
from blink.bulk.records import RecordLayout
from blink.bulk.rows import Counts
from blink.bulk.run import layout_of, link_files
from blink.bulk.shards import count_lines, split_into_shards
from blink.bulk.sources import BEGINNING, Input, Position, read_chunks
from blink.errors import BlinkError, DataError, MismatchError, MissingFileError, SettingsError
from blink.workers import WorkerError, worker_count

pytestmark = pytest.mark.quick
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
number = itertools.count()


@pytest.fixture(autouse=True)
def _no_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in this process leaves all that was written, whether forced to the disk or not."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """Makes an empty folder at each call."""

    def make() -> Path:
        path = tmp_path / str(next(number))
        path.mkdir()
        return path

    return make


# -- what lines hold -----------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), WORDS, st.lists(st.integers(), max_size=2))
SOUND = st.builds(
    lambda text, identity, more: {"text": text, "id": identity, **more},
    WORDS,
    VALUES,
    st.dictionaries(st.sampled_from(["date", "links", "error", "line", "\ud800"]), VALUES, max_size=2),
)
BROKEN = {
    b"{broken": "not JSON",
    b"[1, 2]": "not a JSON object but a list",
    b'{"id": 3}': "no key 'text'",
    b'{"text": null}': "'text' is null, not a string",
    b'{"text": 5}': "'text' is a number",
    b'{"text": "\\ud83d"}': "a lone surrogate",
    b'{"text": "\\u0000"}': "a NUL",
    b'{"text": "caf\xe9"}': "not UTF-8 (byte 13)",
    b"[" * 100_000: "nested too deep",
    b'{"text": "x", "n": 1' + b"0" * 5000 + b"}": "a number too long",
    b'{"text": "cannot"}': "the text could not be linked (ValueError: this text cannot be linked)",
}
LINES = st.one_of(SOUND, st.sampled_from([*BROKEN, b"", b"  "]))


@given(st.lists(LINES, min_size=1, max_size=14), st.integers(1, 5), st.booleans(), st.booleans(), st.sampled_from(ENDINGS))
@shared_folder
def test_every_record_has_its_row(
    folder: Callable[[], Path], lines: list[Any], chunk: int, ends: bool, bom: bool, ending: str
) -> None:
    where = folder()
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    end = b"\r\n" if bom else b"\n"
    (where / "in.jsonl").write_bytes((b"\xef\xbb\xbf" if bom else b"") + end.join(encoded) + (end if ends else b""))
    out = where / f"out{ending}"
    sound = [line for line in lines if isinstance(line, dict)]
    expected = [(n, line) for n, line in enumerate(lines, 1) if isinstance(line, dict) or line.strip()]
    work = job(where / "in.jsonl", out, chunk_lines=chunk)
    if not expected or not sound:
        with pytest.raises(BlinkError, match=r"has no record|no record could be linked|none of the first"):
            link_files(work, ToyLinker())
        return
    try:
        counts = link_files(work, ToyLinker())
    except DataError:
        assert not any(isinstance(line, dict) for line in lines[:chunk])  # all of the first chunk is wrong
        return
    written = rows(out)
    assert (counts.records, counts.n_errors) == (len(expected), len(expected) - len(sound))
    assert len(written) == len(expected)
    for (line, value), row in zip(expected, written, strict=True):
        if isinstance(value, dict):
            carried = {k: v for k, v in value.items() if k not in ("text", "id")}
            assert row["text"] == value["text"]
            if ending != ".parquet":
                assert row.get("id") == value["id"]
                assert row.get("fields", {}) == carried
            elif value["id"] is not None:
                assert row["id"] == (value["id"] if isinstance(value["id"], str) else json.dumps(value["id"]))
                assert json.loads(row.get("fields", "{}")) == carried
            assert [link["title"] for link in row["links"]] == ([value["text"][:1]] if value["text"] else [])
        else:
            assert row["line"] == line
            assert BROKEN[value] in row["error"]
            assert "links" not in row


@given(st.lists(WORDS.map(lambda w: w.replace("\n", " ")), min_size=1, max_size=9), st.integers(1, 4))
@shared_folder
def test_lines_of_text_are_texts(folder: Callable[[], Path], texts: list[str], chunk: int) -> None:
    where = folder()
    texts = [text.removeprefix("\ufeff").rstrip("\r") for text in texts] + ["end"]
    (where / "in.txt").write_bytes("\n".join(texts).encode())
    link_files(job(where / "in.txt", where / "out.jsonl", RecordLayout(), chunk_lines=chunk), ToyLinker())
    written = rows(where / "out.jsonl")
    assert [row["text"] for row in written] == texts
    assert {tuple(row) for row in written} == {("text", "links")}


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_inputs(tmp_path: Path, name: str) -> None:
    content = write_records(tmp_path / "plain.jsonl", 40).read_bytes()
    half = content.index(b"\n", len(content) // 2) + 5  # members need not end with lines
    compressed = COMPRESSIONS[name](content[:half]) + COMPRESSIONS[name](content[half:])
    (tmp_path / "in").write_bytes(compressed)
    link_files(job(tmp_path / "plain.jsonl", tmp_path / "a.jsonl"), ToyLinker())
    link_files(job(tmp_path / "in", tmp_path / "b.jsonl"), ToyLinker())
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("fault", ["cut off", "damaged"])
def test_a_damaged_file_is_named_and_what_precedes_is_linked(tmp_path: Path, name: str, fault: str) -> None:
    noise = random.Random(0)
    lines = [json.dumps({"text": "".join(noise.choices("abcdefghij", k=400))}) + "\n" for _ in range(600)]
    compressed = bytearray(COMPRESSIONS[name]("".join(lines[:300]).encode()))
    compressed += COMPRESSIONS[name]("".join(lines[300:]).encode())
    if fault == "cut off":
        del compressed[-20:]
    else:
        place = len(compressed) * 3 // 4
        compressed[place : place + 8] = b"\xff" * 8
    (tmp_path / "in").write_bytes(compressed)
    with pytest.raises(DataError, match=r"/in is damaged or cut off behind line [\d,]+ \("):
        link_files(job(tmp_path / "in", tmp_path / "out.jsonl"), ToyLinker())
    journal = json.loads((tmp_path / f"out.jsonl{JOURNAL_SUFFIX}").read_text())
    assert journal["counts"]["records"] == journal["position"]["line"] >= 300
    assert len(rows(tmp_path / f"out.jsonl{PARTIAL_SUFFIX}")) == journal["counts"]["records"]


def test_a_line_that_is_too_long_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLINK_LIMITS", "line=100")
    (tmp_path / "in.txt").write_bytes(b"a\n" + b"x" * 100 + b"\n" + b"y" * 99 + b"\n" + b"z" * 5_000_000 + b"\nb")
    link_files(job(tmp_path / "in.txt", tmp_path / "out.jsonl", RecordLayout()), ToyLinker())
    written = rows(tmp_path / "out.jsonl")
    assert [row.get("error") for row in written] == [None, fault := "the line is longer than 100 bytes", None, fault, None]
    assert [row["line"] for row in written if "line" in row] == [2, 4]


def test_several_files(tmp_path: Path) -> None:
    files = [write_records(tmp_path / f"{name}.jsonl", n) for name, n in (("a", 9), ("b", 6))]
    link_files(job(files, tmp_path / "out.jsonl"), ToyLinker())
    assert [row["file"] for row in rows(tmp_path / "out.jsonl")] == [str(files[0])] * 9 + [str(files[1])] * 6


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same text must come again; what is behind already is skipped."""
    content = write_records(tmp_path / "in.jsonl", 30).read_bytes()
    link_files(job(tmp_path / "in.jsonl", tmp_path / "a.jsonl"), ToyLinker())

    def link_again(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        link_files(job("-", tmp_path / "b.jsonl"), ToyLinker())

    with pytest.raises(Killed), killed_at(20):
        link_again(content)
    with pytest.raises(MismatchError, match="of standard input are not those that were linked before"):
        link_again(b"other" + content)
    link_again(content)
    assert [row.get("id") for row in rows(tmp_path / "b.jsonl")] == [row.get("id") for row in rows(tmp_path / "a.jsonl")]


# -- kills ---------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What stands for a kill in this process."""


class killed_at:
    """Raises `Killed` at an event: before or behind a write that is forced to the disk, or a file that gets its name."""

    def __init__(self, event: int) -> None:
        self.event, self.count = event, 0
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> killed_at:
        for name in ("fsync", "replace", "unlink"):
            self._patch.setattr(os, name, self._counted(getattr(os, name)))
        return self

    def __exit__(self, *error: object) -> None:
        self._patch.undo()

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._event()
            result = function(*arguments, **options)
            self._event()
            return result

        return call

    def _event(self) -> None:
        self.count += 1
        if self.count == self.event:
            raise Killed


@given(st.lists(st.integers(1, 40), max_size=6), st.integers(1, 5), st.sampled_from((*ENDINGS, ".csv")), st.integers(0, 50))
@shared_folder
def test_killed_anywhere_it_ends_the_same(
    folder: Callable[[], Path], events: list[int], chunk: int, ending: str, torn: int
) -> None:
    """Kills at any event of any call, and bytes of a write that was torn by the last one."""
    where = folder()
    source = write_records(where / "in.jsonl", 23)
    undisturbed, out = where / f"whole{ending}", where / f"killed{ending}"
    link_files(job(source, undisturbed, chunk_lines=chunk), ToyLinker())
    for event in events:
        with killed_at(event):
            try:
                link_files(job(source, out, chunk_lines=chunk), ToyLinker())
            except Killed:
                partial = out.with_name(out.name + PARTIAL_SUFFIX)
                if partial.exists():
                    with partial.open("ab") as f:
                        f.write(os.urandom(torn))
    counts = link_files(job(source, out, chunk_lines=chunk), ToyLinker())
    assert counts == Counts(23, 21, (("not JSON", 1), ("no text", 1)), f"{source}, line 8: {rows(out)[7]['error']}")
    assert rows(out) == rows(undisturbed)
    if ending != ".parquet":
        assert out.read_bytes() == undisturbed.read_bytes()
    names = {file.name for file in where.iterdir()}
    assert names == {"in.jsonl", *(f"{name}{ending}{more}" for name in ("whole", "killed") for more in ("", JOURNAL_SUFFIX))}


def test_a_finished_run_is_not_linked_again(tmp_path: Path) -> None:
    source = write_records(tmp_path / "in.jsonl", 23)
    first = link_files(job(source, tmp_path / "out.jsonl"), ToyLinker())
    assert link_files(job(source, tmp_path / "out.jsonl"), broken_linker) == first


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_signal_ends_the_run_behind_a_chunk(tmp_path: Path, n_workers: int) -> None:
    source, out = write_records(tmp_path / "in.jsonl", 400), tmp_path / "out.jsonl"
    arguments = [str(word) for word in (bulk_toys.__file__, source, out, n_workers, 0.02)]
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (journal := out.with_name(out.name + JOURNAL_SUFFIX)).exists() or json.loads(journal.read_text())["size"] == 0:
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    records = json.loads(journal.read_text())["counts"]["records"]
    assert 0 < records < 400
    assert err.splitlines()[-1].endswith(f"stopped; {records} texts are linked and kept, and the same command continues")


def kill_repeatedly(command: list[str], out: Path, kills: int, seed: int, longest_s: float) -> list[int]:
    """Run a command, killed at random moments by SIGKILL or SIGTERM, until it ends; returns its statuses."""
    chance, statuses = random.Random(seed), []
    for kill in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        try:
            process.wait(chance.uniform(0.1, longest_s))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL if kill % 2 else signal.SIGTERM)
        statuses.append(process.wait(60))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return [*statuses, 0]


@pytest.mark.parametrize(
    ("n_workers", "kills"),
    [(1, 5), pytest.param(1, 20, marks=pytest.mark.slow), pytest.param(2, 20, marks=pytest.mark.slow)],
)
def test_killed_processes_end_the_same(tmp_path: Path, n_workers: int, kills: int) -> None:
    source = write_records(tmp_path / "in.jsonl", 400)
    link_files(job(source, tmp_path / "whole.jsonl"), ToyLinker())
    command = [
        sys.executable,
        bulk_toys.__file__,
        source,
        tmp_path / "out.jsonl",
        n_workers,
        0.008 * n_workers**2,
    ]
    statuses = kill_repeatedly([str(word) for word in command], tmp_path / "out.jsonl", kills, n_workers, 1.2)
    assert -signal.SIGKILL in statuses
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


# -- what a later call needs ---------------------------------------------------------------------------------------------


@pytest.fixture
def unfinished(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An input, and an output that was killed half-way."""
    source, out = write_records(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    with pytest.raises(Killed), killed_at(20):
        link_files(job(source, out), ToyLinker())
    assert (tmp_path / f"out.jsonl{PARTIAL_SUFFIX}").stat().st_size > 0
    yield source, out
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": {"threshold": 0.5}}, "was begun with other threshold (None, now 0.5); give the same, or another --out"),
        ({"layout": RecordLayout("body")}, "carry (['all'], now []), text_key (text, now body)"),
        ({"layout": RecordLayout("text", carry=("all",), candidates=False)}, "candidates (True, now False)"),
    ],
)
def test_other_settings_are_refused(unfinished: tuple[Path, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(MismatchError) as refused:
        link_files(job(*unfinished, **options), ToyLinker())
    assert message in str(refused.value)
    assert "to start again, remove out.jsonl.part and out.jsonl.run.json" in str(refused.value)


def test_another_input_is_refused(unfinished: tuple[Path, Path]) -> None:
    source, out = unfinished
    content = source.read_bytes()
    source.write_bytes(content + b'{"text": "more"}\n')
    with pytest.raises(MismatchError, match=rf"other {source} \({len(content):,} bytes, now {len(content) + 17:,}\)"):
        link_files(job(source, out), ToyLinker())
    source.write_bytes(content.replace(b"day 1", b"day 7"))
    with pytest.raises(MismatchError, match="its content, now another"):
        link_files(job(source, out), ToyLinker())
    source.write_bytes(content)
    with pytest.raises(MismatchError, match=r"other inputs \(.*in\.jsonl, now .*more\.jsonl\)"):
        link_files(job(write_records(source.with_name("more.jsonl"), 40), out), ToyLinker())


def test_a_change_between_the_samples_is_noticed_where_it_was_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "sample_hash", lambda path: "the same")
    source, out = write_records(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    with pytest.raises(Killed), killed_at(20):
        link_files(job(source, out), ToyLinker())
    source.write_bytes(source.read_bytes().replace(b"day 1", b"day 7"))
    with pytest.raises(MismatchError, match=r"the first \d+ lines of .* are not those that were linked before"):
        link_files(job(source, out), ToyLinker())


def test_two_processes_at_once(unfinished: tuple[Path, Path]) -> None:
    source, out = unfinished
    with (
        locked_elsewhere(out.with_name(out.name + PARTIAL_SUFFIX)),
        pytest.raises(SettingsError, match="another process is writing"),
    ):
        link_files(job(source, out), ToyLinker())


def test_a_shortened_output_is_refused(unfinished: tuple[Path, Path]) -> None:
    source, out = unfinished
    os.truncate(out.with_name(out.name + PARTIAL_SUFFIX), 10)
    with pytest.raises(MismatchError, match=r"has 10 bytes, and [\d,]+ are committed: something else changed it"):
        link_files(job(source, out), ToyLinker())


def test_a_damaged_journal_is_named(unfinished: tuple[Path, Path]) -> None:
    source, out = unfinished
    journal = out.with_name(out.name + JOURNAL_SUFFIX)
    for content in ("{", "[]", "{}", '{"format": 2}', json.dumps(json.loads(journal.read_text()) | {"size": "x", "y": 1})):
        journal.write_text(content)
        with pytest.raises(DataError, match=r"out\.jsonl\.run\.json is (damaged|not valid JSON)"):
            link_files(job(source, out), ToyLinker())


def test_outputs_that_are_refused(tmp_path: Path) -> None:
    source = write_records(tmp_path / "in.jsonl", 40)
    (tmp_path / "mine.jsonl").write_text("mine")
    cases: list[tuple[Path, type[BlinkError], str]] = [
        (tmp_path / "mine.jsonl", SettingsError, "exists and is not of this command; remove it, or give another --out"),
        (tmp_path, SettingsError, "is a folder; name a file to write"),
        (Path("/dev/null"), SettingsError, "is a device or a pipe"),
        (tmp_path / "no" / "out.jsonl", MissingFileError, "no does not exist; make the folder"),
        (tmp_path / "out.jsonl.bz2", SettingsError, "would be .bz2; the output is one of .jsonl, .jsonl.gz"),
    ]
    for out, kind, message in cases:
        with pytest.raises(kind) as refused:
            link_files(job(source, out), ToyLinker())
        assert message in str(refused.value)
    assert (tmp_path / "mine.jsonl").read_text() == "mine"


def test_inputs_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    for files, message in (
        ([tmp_path / "none.jsonl"], "none.jsonl does not exist"),
        ([tmp_path], "is a folder, not a file"),
        ([tmp_path / "empty.jsonl"], "empty.jsonl has no record"),
        ([tmp_path / "a", tmp_path / "a"], "is given twice"),
        ([], "there is no file to link"),
    ):
        with pytest.raises(BlinkError) as refused:
            link_files(job(files, tmp_path / "out.jsonl"), ToyLinker())
        assert message in str(refused.value)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "empty.jsonl"]


def test_a_wrong_key_stops_at_the_first_chunk(tmp_path: Path) -> None:
    source, out = write_records(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    with pytest.raises(DataError) as refused:
        link_files(job(source, out, RecordLayout("body")), ToyLinker())
    assert "none of the first 4 records can be linked" in str(refused.value)
    assert "line 1: no key 'body' (keys: 'id', 'text', 'date'); check" in str(refused.value)
    link_files(job(source, out), ToyLinker())  # nothing was committed, so that another key is no mismatch


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_records(tmp_path / "in.jsonl", 40)
    (tmp_path / "in.zst").write_bytes(COMPRESSIONS["zst"](source.read_bytes()))
    for library, file, out in (
        ("zstandard", "in.jsonl", "out.jsonl.zst"),
        ("zstandard", "in.zst", "out.jsonl"),
        ("pyarrow.parquet", "in.jsonl", "out.parquet"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(SettingsError, match=r"pip install 'blink-linker\[bulk\]'"):
                link_files(job(tmp_path / file, tmp_path / out), ToyLinker())


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    source, out = write_records(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    original, count = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal count
        count += 1
        if count == 9:
            raise OSError(28, "No space left on device")
        original(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(SettingsError, match=r"the disk of .* is full .*; make room and give the same command again"):
            link_files(job(source, out), ToyLinker())
    link_files(job(source, out), ToyLinker())
    link_files(job(source, tmp_path / "whole.jsonl"), ToyLinker())
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


# -- worker processes ----------------------------------------------------------------------------------------------------


def test_workers_give_the_same_rows_in_order(tmp_path: Path) -> None:
    """One worker is killed over a chunk, which another links."""
    source = write_records(tmp_path / "in.jsonl", 60)
    link_files(job(source, tmp_path / "one.jsonl"), ToyLinker())
    toy = ToyLinker(deadly="Q text 16", survivor=str(tmp_path / "killed once"))
    link_files(job(source, tmp_path / "two.jsonl"), toy, workers=2)
    assert (tmp_path / "killed once").exists()
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    source, out = write_records(tmp_path / "in.jsonl", 4000), tmp_path / "out.jsonl"
    arguments = [str(word) for word in (bulk_toys.__file__, source, out, 2, 0.01)]
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT)
    while not (journal := out.with_name(out.name + JOURNAL_SUFFIX)).exists() or json.loads(journal.read_text())["size"] == 0:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while any(is_running(child) for child in children):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(children) >= 2


def is_running(pid: str) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_text_that_always_kills_its_worker_ends_the_run(tmp_path: Path) -> None:
    source = write_records(tmp_path / "in.jsonl", 60)
    with pytest.raises(WorkerError, match=r"linked lines 17 to 20 were killed by signal 9 2 times; out of memory, perhaps"):
        link_files(job(source, tmp_path / "out.jsonl"), ToyLinker(deadly="Q text 16"), workers=1 + 1)
    link_files(job(source, tmp_path / "out.jsonl"), ToyLinker())


def test_texts_that_all_fail_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("fine\n" * 20 + "cannot\n" * 20 + "fine\n" * 20)
    work = job(tmp_path / "in.txt", tmp_path / "out.jsonl", RecordLayout(), chunk_lines=20)
    with pytest.raises(DataError, match=r"none of the 20 texts from line 21 to 40 can be linked \(ValueError: this text"):
        link_files(work, ToyLinker())


def test_a_linker_that_cannot_be_opened(tmp_path: Path) -> None:
    source = write_records(tmp_path / "in.jsonl", 60)
    with pytest.raises(WorkerError, match="a worker process failed: MemoryError: no room for a linker"):
        link_files(job(source, tmp_path / "out.jsonl"), broken_linker, workers=2)


def test_a_failing_input_ends_behind_what_precedes(tmp_path: Path) -> None:
    content = write_records(tmp_path / "in.jsonl", 60).read_bytes()
    (tmp_path / "in.gz").write_bytes(gzip.compress(content) + gzip.compress(os.urandom(4000))[:-9])
    with pytest.raises(DataError, match="cut off behind line"):
        link_files(job(tmp_path / "in.gz", tmp_path / "out.jsonl"), ToyLinker(), workers=2)
    assert len(rows(tmp_path / f"out.jsonl{PARTIAL_SUFFIX}")) >= 60


@pytest.mark.parametrize(
    ("text", "device", "free", "count"),
    [
        ("3", None, 0, 3),
        ("auto", None, 1 << 62, 4),
        ("auto", "cpu", 2 << 30, 2),
        ("auto", None, 0, 1),
        ("auto", "cuda", 1 << 62, 1),
    ],
)
def test_number_of_workers(monkeypatch: pytest.MonkeyPatch, text: str, device: str | None, free: int, count: int) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 4)
    monkeypatch.setattr(workers, "free_bytes", lambda: free)
    assert worker_count(text, device) == count


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "99999", ""])
def test_numbers_of_workers_that_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--workers is .*; give a number from 1 to 1024, or auto"):
        worker_count(text)


# -- chunks and progress -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), min_size=1, max_size=3), st.integers(1, 7), st.data())
@shared_folder
def test_chunks_continue_at_any_end(folder: Callable[[], Path], sizes: list[int], chunk: int, data: st.DataObject) -> None:
    where = folder()
    inputs = []
    for n, size in enumerate(sizes):
        (where / str(n)).write_text("".join(f"{n} {i}\n" for i in range(size)))
        inputs.append(Input.of(str(where / str(n))))
    chunks = list(read_chunks(inputs, chunk_lines=chunk))
    assert [line for c in chunks for line in c.lines] == [
        f"{n} {i}\n".encode() for n, size in enumerate(sizes) for i in range(size)
    ]
    start = data.draw(st.integers(0, len(chunks)))
    position = chunks[start - 1].end if start else BEGINNING
    assert list(read_chunks(inputs, position, chunk_lines=chunk)) == chunks[start:]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=3), st.integers(1, 7), st.integers(1, 9), st.booleans())
@shared_folder
def test_shards_are_made_of_the_chunks_of_the_whole(
    folder: Callable[[], Path], sizes: list[int], chunk: int, n_shards: int, compressed: bool
) -> None:
    where = folder()
    inputs = []
    for n, size in enumerate(sizes):
        content = "".join(f"{n} {i}\n" for i in range(size)).encode()
        (where / str(n)).write_bytes(gzip.compress(content) if compressed else content)
        inputs.append(Input.of(str(where / str(n))))
    chunks = list(read_chunks(inputs, chunk_lines=chunk))
    shards = split_into_shards(inputs, n_shards, chunk)
    assert len(shards) == min(n_shards, len(chunks))
    in_shards = [c for shard in shards for c in read_chunks(shard, chunk_lines=chunk)]
    assert [(c.first_line, c.lines) for c in in_shards] == [(c.first_line, c.lines) for c in chunks]
    assert sum(map(count_lines, shards)) == sum(sizes)


def test_long_lines_make_short_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK_BYTES", 100)
    (tmp_path / "f").write_text("".join("x" * 40 + "\n" for _ in range(10)))
    assert [len(chunk.lines) for chunk in read_chunks([Input.of(str(tmp_path / "f"))])] == [3, 3, 3, 1]


def test_share_and_time_left() -> None:
    clock = iter([0.0, 10.0, 30.0])
    pace = Pace([Input("a", 600, ""), Input("b", 400, "")], Counts(5), Position(0, 5, 100, "", 100), lambda: next(clock))
    pace.begin()
    remark = pace.remark(Counts(45, 80, (("not JSON", 2),)), Position(1, 3, 100, "", 100))
    assert remark == "45 in all, 70.0% of the input, 10 s left, 2 errors"
    assert [duration(s) for s in (59.4, 61, 3600, 90_000)] == ["59 s", "1 min 01 s", "1 h 00 min", "25 h 00 min"]


@pytest.mark.parametrize(
    ("files", "key", "expected"),
    [
        (["a.jsonl"], None, "text"),
        (["a.ndjson.gz", "b.jsonl"], None, "text"),
        (["a.txt", "-"], None, None),
        (["a.txt"], "body", "body"),
        (["a.txt", "b.jsonl"], "body", "body"),
    ],
)
def test_names_of_files_say_what_they_hold(files: list[str], key: str | None, expected: str | None) -> None:
    assert layout_of(files, text_key=key).text_key == expected


def test_layouts_that_are_refused() -> None:
    with pytest.raises(SettingsError, match="link them one kind at a time"):
        layout_of(["a.txt", "b.jsonl"])
    with pytest.raises(SettingsError, match="--carry is given, and lines of text have no fields"):
        layout_of(["a.txt"], carry="x")
    with pytest.raises(SettingsError, match="--id-key is given"):
        layout_of(["-"], id_key="x")
