"""Files: a write either happens wholly or not at all, and a bad file is named with its line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import DataError, MissingFileError
from blink.files import (
    atomic_open,
    parse_json_line,
    read_json,
    read_json_lines,
    require_file,
    sha256,
    write_json,
)

pytestmark = pytest.mark.quick

DEEP = "[" * 200_000
LONG_NUMBER = "1" * 20_000


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- atomic_open ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "content"), [("w", "neu: é\n"), ("wb", b"\x00\xff\n")])
def test_a_finished_write_takes_the_place_of_the_old_file(tmp_path: Path, mode: str, content: str | bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_open(path, mode) as f:
        f.write(content)
        assert path.read_text() == "old"
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("old", ["old", None])
def test_a_failed_write_leaves_everything_as_it_was(tmp_path: Path, error: BaseException, old: str | None) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)

    def write() -> None:
        with atomic_open(path) as f:
            f.write("half of the n")
            raise error

    with pytest.raises(type(error)):
        write()
    assert names(tmp_path) == ([] if old is None else ["a.txt"])
    assert old is None or path.read_text() == old


def test_a_disk_that_fills_up_only_at_the_end_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"a": 1})
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("mode", ["w", "wb"])
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_full_disk_is_named_by_the_file_that_is_written(tmp_path: Path, mode: str, size: int) -> None:
    """Whether the buffer is written at once or at the end; an error of what is read in the block names nothing of ours."""
    path, full = tmp_path / "a.txt", os.open("/dev/full", os.O_WRONLY)

    def write() -> None:
        with atomic_open(path, mode) as f:
            os.dup2(full, f.fileno())
            f.writelines(["x" * size if mode == "w" else b"x" * size])

    with pytest.raises(OSError, match="No space") as caught:
        write()
    os.close(full)
    assert caught.value.filename == str(path)
    assert names(tmp_path) == []
    with pytest.raises(OSError, match="not ours") as other, atomic_open(path, mode):
        raise OSError(errno.EIO, "not ours", "input")
    assert other.value.filename == "input"


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import sys, time\n"
        "from blink.files import atomic_open\n"
        f"with atomic_open({str(path)!r}) as f:\n"
        "    f.write('new' * 100000); f.flush()\n"
        "    print('written', flush=True); time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"


def test_files_get_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_open(pipe) as f:
        f.write("through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with atomic_open(tmp_path / "link") as f:
        f.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_link_keeps_pointing_where_it_does(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.txt").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "a.txt")
    with atomic_open(tmp_path / "link") as f:
        f.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "a.txt").read_text() == "new"
    assert names(tmp_path / "far") == ["a.txt"]


def test_a_device_is_written_to_and_not_replaced() -> None:
    before = Path(os.devnull).stat().st_rdev
    with atomic_open(os.devnull) as f:
        f.write("gone")
    assert Path(os.devnull).stat().st_rdev == before


def test_a_missing_folder_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_open(tmp_path / "no" / "a.txt"):
        pass


# --- JSON -----------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


@given(value=VALUES)
def test_what_is_written_is_read_again(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert read_json(path) == value


def test_text_is_written_as_people_read_it(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"city": "Zürich"})
    assert "Zürich" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == 1


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", DEEP.encode(), LONG_NUMBER.encode()])
def test_a_file_that_is_no_json_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(path, "make it again")
    assert str(path) in str(caught.value)
    assert "make it again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_missing_files_come_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no\.json does not exist; get it"):
        read_json(tmp_path / "no.json", "get it")
    with pytest.raises(MissingFileError, match="is a folder, not a file; get it"):
        require_file(tmp_path, "get it")


def test_lines_are_counted_from_one_with_the_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\r\n  \n[2]')
    assert list(read_json_lines(path)) == [(1, {"a": 1}), (4, [2])]


@pytest.mark.parametrize("bad", [b"{'a': 1}", b"\xe9", b"{", DEEP.encode(), LONG_NUMBER.encode()])
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + bad + b"\n")
    lines = read_json_lines(path)
    assert next(lines) == (1, {"a": 1})
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: not ") as caught:
        next(lines)
    assert len(str(caught.value)) < 400


@given(line=st.binary(max_size=30))
def test_any_bytes_are_json_or_a_clear_error(line: bytes) -> None:
    try:
        value = parse_json_line(line, Path("f"), 7)
    except DataError as error:
        assert str(error).startswith("f, line 7: not ")  # noqa: PT017 - both outcomes are right
    else:
        assert value == json.loads(line.decode("utf-8")) or value != value


# --- hashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256_is_that_of_the_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_two_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_open(path) as one:
        one.write("one")
        with atomic_open(path) as other:
            other.write("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]
    assert time.time() - path.stat().st_mtime < 60


FILLS_THE_DISK = """
import resource, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from blink.files import atomic_open

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tensor, path = torch.zeros(1_000_000), Path(sys.argv[1])
save = {"torch": lambda f: torch.save({"a": tensor}, f), "safetensors": lambda f: save_file({"a": tensor}, f.name)}[sys.argv[2]]
try:
    with atomic_open(path, "wb") as f:
        save(f)
except OSError as error:
    print(error.errno, error.filename == str(path))
"""


@pytest.mark.parametrize("writer", ["torch", "safetensors"])
def test_a_full_disk_is_an_error_of_the_disk_whoever_writes(tmp_path: Path, writer: str) -> None:
    """A limit on the size of files replaces a full disk; a process that ignores SIGXFSZ, as Python does, gets the same."""
    path = tmp_path / "weights"
    path.write_text("old")
    command = [sys.executable, "-c", FILLS_THE_DISK, str(path), writer]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(errno.EFBIG), "True"], done.stderr[-300:]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
