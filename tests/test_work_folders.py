"""Nothing is written or removed through a link that somebody planted, and what killed processes left is removed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blink import left_overs, work_folders
from blink.errors import BlinkError, SettingsError
from blink.files import atomic_open
from blink.left_overs import TEMPORARY, held, temporary_file, temporary_folder
from blink.work_folders import (
    MARKER,
    own_files,
    plain_folder,
    remove_work_folder,
    replace_folder,
    require_plain,
    work_folder,
)
from tests.artefacts import ARTEFACTS, Artefact

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links of POSIX systems")


def digest(folder: Path) -> str:
    """Of names, kinds and contents of everything in a folder."""
    hashed = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        hashed.update(f"{path.relative_to(folder)} {path.lstat().st_mode}\0".encode())
        hashed.update(path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
    return hashed.hexdigest()


# -- the folders ---------------------------------------------------------------------------------------------------------


def outside(tmp_path: Path) -> Path:
    """A folder of somebody, with files of the names that work has."""
    folder = tmp_path / "outside"
    for name in ("00000000_00000008.npy", "plan.json", "step-000000001-0123456789abcdef.pt", "deep/precious.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"precious {name}")
    return folder


def plant(path: Path, kind: str, target: Path) -> None:
    """Put a link of a kind at a path, in place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    targets = {
        "folder": target,
        "file": target / "plan.json",
        "dangling": target / "missing",
        "loop": path,
    }
    path.symlink_to(targets[kind])


KINDS = ("folder", "file", "dangling", "loop")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [work_folder, plain_folder])
@pytest.mark.parametrize("place", [".", "a", "chunks/a", MARKER])
def test_a_folder_of_work_is_no_link_and_has_none(tmp_path: Path, make: Callable[[Path], Path], place: str, kind: str) -> None:
    victim, work = outside(tmp_path), tmp_path / "kb" / ".build"
    before = digest(victim)
    if place != ".":
        make(work)
        if place == MARKER:
            (work / MARKER).unlink(missing_ok=True)
    plant(work / place, kind, victim)
    with pytest.raises(SettingsError, match=r"is a link to .*move it away, or remove it"):
        make(work)
    remove_work_folder(work)
    assert digest(victim) == before


def test_a_folder_of_work_may_be_anybodys_only_if_it_is_marked_empty_or_known(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    work_folder(tmp_path / "theirs")
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "progress.json").touch()
    work_folder(tmp_path / "known", ("progress.json",))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "novel.txt").write_text("once")
    with pytest.raises(SettingsError, match=r"other exists, holds novel.txt, and was not made for unfinished work"):
        work_folder(tmp_path / "other", ("progress.json",))
    remove_work_folder(tmp_path / "other")
    assert (tmp_path / "other" / "novel.txt").read_text() == "once"
    remove_work_folder(tmp_path / "known")
    assert not (tmp_path / "known").exists()


def test_a_file_is_no_folder_of_work(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "work", tmp_path / "pipe"):
        with pytest.raises(SettingsError, match=r"is a (file|pipe).*folder of its own"):
            work_folder(path)
    work_folder(tmp_path / "good")
    os.mkfifo(tmp_path / "good" / "pipe")
    with pytest.raises(SettingsError, match="a pipe, a socket or a device"):
        work_folder(tmp_path / "good")


def test_the_folder_that_a_user_names_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "kb").symlink_to(tmp_path / "disk")
    work_folder(tmp_path / "kb" / ".build")
    assert (tmp_path / "disk" / ".build" / MARKER).is_file()


def test_own_files_are_regular_and_of_the_pattern(tmp_path: Path) -> None:
    for name in ("1.npy", "2.npy.bak", "x.npy"):
        (tmp_path / name).touch()
    (tmp_path / "3.npy").symlink_to(tmp_path / "x.npy")
    (tmp_path / "4.npy").mkdir()
    os.mkfifo(tmp_path / "5.npy")
    assert own_files(tmp_path, re.compile(r"\d+\.npy")) == [tmp_path / "1.npy"]
    (tmp_path / "link").symlink_to(tmp_path)
    assert own_files(tmp_path / "link", re.compile(".*")) == []


def test_siblings_of_an_output_are_regular(tmp_path: Path) -> None:
    (tmp_path / "regular").touch()
    require_plain(tmp_path / "regular", tmp_path / "missing")
    for kind in KINDS:
        plant(tmp_path / kind, kind, outside(tmp_path))
        with pytest.raises(SettingsError, match="is a link to"):
            require_plain(tmp_path / "regular", tmp_path / kind)


def test_a_folder_is_replaced_only_if_it_is_ours(tmp_path: Path) -> None:
    def put(target: Path) -> None:
        with temporary_folder(target) as work:
            (work / "settings.json").write_text("new")
            replace_folder(work, target, ("settings.json",))

    put(tmp_path / "new")
    put(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    assert (tmp_path / "new").stat().st_mode & 0o700 == 0o700
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "novel.txt").write_text("once")
    before = digest(tmp_path)
    with pytest.raises(SettingsError, match=r"holds novel\.txt, which would be removed"):
        put(tmp_path / "theirs")
    assert digest(tmp_path) == before
    for kind in KINDS:
        victim = outside(tmp_path)
        plant(tmp_path / kind, kind, victim)
        before = digest(victim)
        with pytest.raises(SettingsError, match="is a link to"):
            put(tmp_path / kind)
        assert digest(victim) == before


# -- every place of every writer -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def recorded(root: Path) -> Iterator[set[str]]:
    """The paths below a folder that are opened to write, made or renamed to in the block, without temporaries."""
    paths: set[str] = set()

    def note(path: Any) -> None:
        with contextlib.suppress(TypeError, ValueError):
            relative = Path(os.fsdecode(path)).resolve().relative_to(root.resolve())
            if not any(TEMPORARY.fullmatch(part) for part in relative.parts) and relative.parts:
                paths.add(str(relative))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not active[0] or threading.current_thread() is not threading.main_thread():
            return
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            mode, flags = arguments[1], arguments[2]
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                note(arguments[0])
        elif event == "os.mkdir":
            note(arguments[0])
        elif event == "os.rename":
            note(arguments[1])

    active = [True]
    sys.addaudithook(hook)
    try:
        yield paths
    finally:
        active[0] = False


WRITERS: dict[str, tuple[str, ...]] = {
    "knowledge base": (r"kb/\.build(/.*)?", r"kb/compacted-.*"),
    "knowledge base, edited": (r"kb/\.build(/.*)?", r"kb/compacted-.*"),
    "chunks of a build": (r"kb/\.build(/.*)?",),
    "shards of an encoding": (r"kb/\.build(/.*)?", r"work/[^/]+(/.*)?", r"slurm/(logs|log|shards|progress)(/.*)?"),
    "shards of .t7": (r"work/[^/]+(/.*)?", r"slurm/(logs|log|shards|progress)(/.*)?"),
    "bulk run": (r"out\.jsonl\.(part|run\.json)",),
    "bulk run, gzip": (r"out\.jsonl\.gz\.(part|run\.json)",),
    "pass over a dump": (r"out/\.dump(/.*)?",),
    "checkpoints": (r"checkpoints(/.*)?",),
}
"""Artefact -> the places of its unfinished work, where a link is never followed. Elsewhere a link is the user's."""


@pytest.mark.parametrize("kinds", [1, pytest.param(len(KINDS), marks=pytest.mark.slow)])
@pytest.mark.parametrize("artefact", [a for a in ARTEFACTS if a.name in WRITERS], ids=lambda a: a.name)
def test_links_planted_at_every_place_of_every_writer(artefact: Artefact, kinds: int, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    with recorded(clean) as paths:
        artefact.make(clean, 0)
        artefact.use(clean)
    places = sorted(path for path in paths if any(re.fullmatch(pattern, path) for pattern in WRITERS[artefact.name]))
    assert places, sorted(paths)
    for number, place in enumerate(places):
        for kind in (KINDS[number % len(KINDS) :] + KINDS)[:kinds]:
            root, victim = tmp_path / f"{number}-{kind}", outside(tmp_path / f"{number}-{kind}-outside")
            root.mkdir()
            before = digest(victim)
            plant(root / place, kind, victim)
            with contextlib.suppress(BlinkError, OSError):
                artefact.make(root, 0)
            with contextlib.suppress(BlinkError, OSError):
                artefact.use(root)
            assert digest(victim) == before, (place, kind)


def embed(folder: Path) -> None:
    from blink.kglm.text_init.encode import encode_into

    encode_into(lambda texts: np.ones((len(texts), 3), np.float32), ["a", "b"], 3, folder / "out", "digest")


def copy(folder: Path) -> None:
    from blink.compat.slurm.run import copy_model

    (folder / "model.bin").write_text("weights")
    copy_model([folder / "model.bin"], folder / "out")


def join(folder: Path) -> None:
    from blink.cluster.encoding import merge_t7, write_t7

    (folder / "out").mkdir(exist_ok=True)
    write_t7(folder / "0_2.t7", np.ones((2, 3), np.float32))
    merge_t7([(folder / "0_2.t7", 2)], folder / "out" / "all.t7")


def note(folder: Path) -> None:
    from blink.cluster.jobs import JobFolder, Plan

    job = JobFolder(folder / "out")
    job.begin(Plan("encode", {}, {}, ((0, 5),), "entity"))
    job.note(0, 3)
    assert job.noted(0) == 3


def keep_best(folder: Path) -> None:
    from blink.training.validation import _replace_folder

    (folder / "last").mkdir(exist_ok=True)
    (folder / "last" / "manifest.json").write_text("{}")
    for _ in range(2):
        _replace_folder(folder / "last", folder / "out")


OTHERS: dict[Callable[[Path], None], str] = {
    embed: r"out/\.part(/.*)?",
    copy: r"out/\..*",
    join: r"out/\..*",
    note: r"out/(logs?|shards|progress)(/.*)?",
    keep_best: r"out|\.out.*",
}
"""Writers without an artefact -> the places of their unfinished work."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", OTHERS, ids=lambda write: write.__name__)
def test_links_planted_for_other_writers(write: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    with recorded(clean) as paths:
        write(clean)
    known = ("out/.model.bin.part", "out/.all.t7.joined", ".out.part", ".out.old")  # names of earlier versions
    places = [path for path in sorted({*paths, *known}) if re.fullmatch(OTHERS[write], path)]
    assert places
    for number, place in enumerate(places):
        root, victim = tmp_path / f"{number}", outside(tmp_path / f"{number}-outside")
        root.mkdir()
        before = digest(victim)
        plant(root / place, kind, victim)
        with contextlib.suppress(BlinkError, OSError, AssertionError):
            write(root)
        assert digest(victim) == before, place


# -- what killed processes left ------------------------------------------------------------------------------------------

KILLED = """
import os, pathlib, signal, sys
from blink.files import atomic_open
from blink.left_overs import temporary_folder
target = pathlib.Path(sys.argv[1])
if sys.argv[2] == "file":
    with atomic_open(target) as f:
        f.write("half"); f.flush()
        os.kill(os.getpid(), signal.SIGKILL)
with temporary_folder(target) as work:
    (work / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def fresh_process() -> None:
    """Every test is the first write of a process into a folder."""
    left_overs._temporaries.cache_clear()


def age(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - 60,) * 2, follow_symlinks=False)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "model[1].json"
    subprocess.run([sys.executable, "-c", KILLED, str(target), kind], check=False)
    assert [TEMPORARY.fullmatch(path.name) is not None for path in tmp_path.iterdir()] == [True]
    age(tmp_path)
    with atomic_open(tmp_path / "another.json") as f:
        f.write("{}")
    assert len(list(tmp_path.iterdir())) == 2  # of another target
    with atomic_open(target) as f:
        f.write("{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another.json", "model[1].json"]


def test_what_is_not_ours_or_in_use_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    precious = outside(tmp_path)
    (tmp_path / ".out.aaaaaaaa.part").symlink_to(precious)
    (tmp_path / ".out.bbbbbbbb.part").symlink_to(precious / "plan.json")
    os.mkfifo(tmp_path / ".out.cccccccc.part")
    for name in (".out.part", ".out.dddddddd.part.bak", "out.eeeeeeee.part", ".out.SHORT.part", ".other.ffffffff.part"):
        (tmp_path / name).touch()
    (tmp_path / ".out.gggggggg.part").touch()
    age(tmp_path)
    before = digest(tmp_path)
    with held(tmp_path / ".out.gggggggg.part"), atomic_open(target) as f:
        f.write("new")
    target.unlink()
    assert digest(tmp_path) == before


def test_a_fresh_temporary_stays_since_its_lock_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / ".out.aaaaaaaa.part").touch()
    with atomic_open(tmp_path / "out") as f:
        f.write("x")
    assert len(list(tmp_path.iterdir())) == 2


def test_threads_that_write_one_file_do_not_remove_what_the_others_write(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                with atomic_open(tmp_path / "out") as f:
                    f.write(str(number) * 1000)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(set((tmp_path / "out").read_text())) == 1


def test_temporaries_have_names_that_nobody_can_guess_and_are_gone_at_the_end(tmp_path: Path) -> None:
    names = set()
    for make in (temporary_file, temporary_folder):
        for _ in range(3):
            with make(tmp_path / "out") as path:
                names.add(path.name)
                assert TEMPORARY.fullmatch(path.name)
    assert len(names) == 6
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_a_loop_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=r"loop|symbolic"), atomic_open(tmp_path / "loop"):
        pass


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_a_folder_is_replaced_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, fails: bool) -> None:
    """Whether the system exchanges two folders by one call or not, and where the last rename fails."""
    work, target = tmp_path / "work", tmp_path / "target"
    for folder, text in ((work, "new"), (target, "old")):
        folder.mkdir()
        (folder / "ours.txt").write_text(text)
    rename = Path.rename

    def failing(self: Path, name: Path) -> Path:
        if fails and self == work:
            raise OSError(errno.EIO, "broken")
        return rename(self, name)

    monkeypatch.setattr(Path, "rename", failing)
    if not exchanges:
        monkeypatch.setattr(work_folders, "_exchanged", lambda one, other: False)
    if fails and not exchanges:
        with pytest.raises(OSError, match="broken"):
            replace_folder(work, target, ("ours.txt",))
    else:
        replace_folder(work, target, ("ours.txt",))
    assert (target / "ours.txt").read_text() == ("old" if fails and not exchanges else "new")
    assert sorted(path.name for path in tmp_path.iterdir()) in (["target"], ["target", "work"])
