"""Whatever call of a writer fails, and whenever the power is lost: a reader has the old or the new state, never neither."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blink.errors import DataError, MissingFileError
from blink.files import append_at, atomic_open, write_json
from tests.faults.disk import FAULTS, Op, Watch, forked, library, recorded
from tests.faults.table import WRITERS
from tests.faults.trial import Outcome, Trial, Work, Writer

pytestmark = pytest.mark.skipif(library() is None, reason="needs Linux on x86-64 and a C compiler")

SAMPLED = ("kb build over an older one", "kb add", "kb index")
"""Writers of the default run; the others are tried with ``-m slow``."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for trials, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "trial"


# -- the tester is tested ------------------------------------------------------------------------------------------


def text_of(work: Work) -> str:
    """A file of one number, many times; half of it is damaged."""
    file = work.root / "text"
    if not file.is_file():
        raise MissingFileError("no text")
    numbers = set(file.read_text().split(","))
    if len(numbers) != 1 or file.stat().st_size != 19_999:
        raise DataError("damaged")
    return numbers.pop()


def content(version: int) -> str:
    return ",".join([f"{version:07}"] * 2500)


def atomic(work: Work, version: int) -> None:
    with atomic_open(work.root / "text") as f:
        f.write(content(version))


def without_sync(work: Work, version: int) -> None:
    new = work.root / "text.new"
    new.write_text(content(version))
    new.replace(work.root / "text")


def in_place(work: Work, version: int) -> None:
    (work.root / "text").write_text(content(version))


def removed_first(work: Work, version: int) -> None:
    (work.root / "text").unlink(missing_ok=True)
    atomic(work, version)


def errors_hidden(work: Work, version: int) -> None:
    try:
        atomic(work, version)
    except OSError:
        return


def unnamed(work: Work, version: int) -> None:
    try:
        atomic(work, version)
    except OSError as error:
        raise OSError(error.errno, error.strerror) from error


BAD: dict[str, tuple[Callable[[Work, int], None], str, str]] = {
    "without sync": (without_sync, "power", "neither old nor new"),
    "in place": (in_place, "faults", "neither old nor new"),
    "removed first": (removed_first, "power", "neither old nor new"),
    "errors hidden": (errors_hidden, "faults", "reported as done, and is not"),
    "unnamed": (unnamed, "faults", "no line that names the path"),
}
"""Writers with a fault: what finds it, and what is found."""


@pytest.mark.parametrize("name", BAD)
def test_a_writer_with_a_fault_is_found(folder: Path, name: str) -> None:
    write, kind, what = BAD[name]
    outcome: Outcome = getattr(Trial(Writer(name, write, text_of), folder), kind)(12)
    assert what in {finding.what for finding in outcome.findings}


def test_a_sound_writer_passes_every_fault_and_every_loss_of_power(folder: Path) -> None:
    trial = Trial(Writer("atomic", atomic, text_of), folder)
    for outcome in (trial.faults(), trial.power(again=1.0)):
        assert outcome.findings == []
        assert outcome.states["old"] > 0
        assert outcome.states["new"] > 0


def test_calls_of_all_kinds_are_seen_and_fail(tmp_path: Path) -> None:
    def act() -> None:
        root = tmp_path / "root"
        write_json(root / "a.json", {"a": 1})
        append_at(root / "log", 0, b"line\n")
        np.arange(9).tofile(root / "c.bin")  # by C's stdio
        mapped = np.lib.format.open_memmap(root / "m.npy", mode="w+", dtype=np.float32, shape=(2, 2))
        mapped[:] = 1
        mapped.flush()
        (root / "d").mkdir()
        os.link(root / "log", root / "d" / "log")
        (root / "d" / "log").unlink()
        (root / "d").rmdir()
        os.truncate(root / "log", 2)

    (tmp_path / "root").mkdir()
    assert forked(act, Watch(tmp_path / "root", record=tmp_path / "calls")).status == 0
    calls = recorded(tmp_path / "calls")
    assert {call.op for call in calls} == set(Op) - {Op.SYMLINK}
    written = [call.data for call in calls if call.op is Op.WRITE and call.path.endswith("c.bin")]
    assert b"".join(written) == np.arange(9).tobytes()
    synced = [call.data for call in calls if call.op is Op.SYNC and call.path.endswith("m.npy")]
    assert synced[-1][-16:] == np.ones(4, "f4").tobytes()
    for fault in FAULTS:
        places = [i for i, call in enumerate(calls, 1) if call.op in FAULTS[fault][1] and call.op is Op.WRITE]
        forked(act, Watch(tmp_path / "root", places[0], fault, tmp_path / "failed"))
        results = [call.result for call in recorded(tmp_path / "failed") if call.op is Op.WRITE]
        half = (calls[places[0] - 1].result + 1) // 2
        expected = {"disk full": -errno.ENOSPC, "I/O error": -errno.EIO, "short write": half, "interrupted": -errno.EINTR}
        assert results[0] == expected[fault]


# -- all writers ---------------------------------------------------------------------------------------------------


def find(name: str) -> Writer:
    return next(writer for writer in WRITERS if writer.name == name)


@pytest.mark.parametrize("name", SAMPLED)
def test_some_calls_of_a_writer_fail(folder: Path, name: str) -> None:
    trial = Trial(find(name), folder)
    outcomes = [trial.faults(4), trial.power(6, again=0.2)]
    assert [str(finding) for outcome in outcomes for finding in outcome.findings] == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [writer.name for writer in WRITERS])
def test_every_writer_leaves_old_or_new(folder: Path, name: str) -> None:
    """A seeded sample of 60 faults and 120 losses of power each; ``python -m tests.faults`` tries all."""
    trial = Trial(find(name), folder)
    outcomes = [trial.faults(60), trial.power(120)]
    assert [str(finding) for outcome in outcomes for finding in outcome.findings] == []


def test_names_of_writers_differ() -> None:
    assert len({writer.name for writer in WRITERS}) == len(WRITERS)
