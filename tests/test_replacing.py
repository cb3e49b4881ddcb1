"""Files that are replaced together: whatever stops the process, the folder holds the old ones or the new ones."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blink import replacing
from blink.checksums import CHECKSUMS_FILE, Checksums, checksums_of, faults
from blink.errors import DataError
from blink.replacing import current_checksums

OLD = {"a.txt": "old a", "b.txt": "old b", "gone.txt": "old"}
NEW = {"a.txt": "new a", "b.txt": "new b", "more.txt": "new"}
FULL = {**OLD, "kept.txt": "kept"}


class Stopped(BaseException):
    """As a signal stops a process: nothing after it runs."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FULL.items():
        (tmp_path / name).write_text(content)
    Checksums.of(tmp_path, FULL).write(tmp_path)
    return tmp_path


def replace_all(folder: Path) -> None:
    with replacing.replacing(folder, retained=["kept.txt", "never.txt"]) as new:
        for name, content in NEW.items():
            (new / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    """Files without the checksums, which must be theirs, once the folder was opened."""
    stored = current_checksums(folder, "copy it")
    assert stored is not None
    assert list(faults(folder, stored.files, whole=True)) == []
    actual = {path.name: path.read_text() for path in folder.iterdir() if path.is_file() and CHECKSUMS_FILE not in path.name}
    assert actual.keys() == stored.files.keys()
    return actual


def test_new_files_replace_the_old_ones_and_nothing_is_left(folder: Path) -> None:
    replace_all(folder)
    assert contents(folder) == {**NEW, "kept.txt": "kept"}
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NEW, "kept.txt", CHECKSUMS_FILE])


def test_an_error_in_the_block_leaves_the_old_files(folder: Path) -> None:
    def fail() -> None:
        with replacing.replacing(folder) as new:
            (new / "a.txt").write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert contents(folder) == FULL
    assert not list(folder.glob(".blink-*"))


def calls_until_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Any], stop_at: int) -> int:
    """Replace the files where the call of the system with a number fails; the number of calls that were made."""
    count, dead = 0, False

    def patch(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **how: Any) -> Any:
            nonlocal count, dead
            count += 1
            if dead or count == stop_at:
                dead = fault is stopped
                fault()
            return original(*arguments, **how)

        monkeypatch.setattr(os, name, call)

    for name in ("replace", "fsync", "unlink", "rmdir", "chmod", "open"):
        patch(name)
    try:
        replace_all(folder)
    except (Stopped, OSError):
        pass
    finally:
        monkeypatch.undo()
    return count


def stopped() -> None:
    raise Stopped


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", [stopped, full])
def test_whatever_call_fails_old_or_new_files_are_there(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None]
) -> None:
    outcomes, stop_at = set(), 0
    while True:
        stop_at += 1
        copied = tmp_path_factory.mktemp("copied")
        for path in folder.iterdir():
            (copied / path.name).write_bytes(path.read_bytes())
        count = calls_until_the_end(copied, monkeypatch, fault, stop_at)
        actual = contents(copied)
        assert actual in (FULL, {**NEW, "kept.txt": "kept"}), stop_at
        outcomes.add(actual["a.txt"])
        replace_all(copied)  # and what was left is removed, but for temporary files, by later processes
        names = sorted(path.name for path in copied.iterdir() if path.suffix != ".part")
        assert names == sorted([*NEW, "kept.txt", CHECKSUMS_FILE])
        if count < stop_at:
            break
    assert outcomes == {"old a", "new a"}
    assert stop_at > 15


def test_files_of_a_damaged_folder_can_be_replaced(folder: Path) -> None:
    (folder / CHECKSUMS_FILE).write_text("nonsense")
    replace_all(folder)
    (folder / "gone.txt").unlink()  # it is unknown whose it is
    assert contents(folder) == {**NEW, "kept.txt": "kept"}


def test_damage_of_kept_files_is_not_made_right(folder: Path) -> None:
    (folder / "kept.txt").write_text("kepT")
    replace_all(folder)
    stored = current_checksums(folder, "copy it")
    assert stored is not None
    assert len(list(faults(folder, stored.files))) == 1


def test_a_subfolder_of_another_name_or_a_link_is_left_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "mine.txt").write_text("mine")
    (folder / ".blink-new-link").symlink_to(other)
    replace_all(folder)
    assert (other / "mine.txt").read_text() == "mine"


def test_an_interrupted_replacement_that_cannot_be_completed_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "_complete", lambda *_: stopped())
    with pytest.raises(Stopped):
        replace_all(folder)
    monkeypatch.setattr(replacing, "_complete", lambda *_: full())
    with pytest.raises(DataError, match="stopped while it replaced files"):
        current_checksums(folder, "copy it")
    monkeypatch.undo()
    assert contents(folder) == {**NEW, "kept.txt": "kept"}


def test_checksums_are_those_of_files(folder: Path) -> None:
    assert checksums_of(folder, ["a.txt"])["a.txt"].size == 5
